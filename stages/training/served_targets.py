"""Whether a cache's targets serve a loss: not at all, exactly, or as far as its kept classes go."""

import numpy as np

from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.training.losses import DistillationLoss
from deit_pipe.store.formats import TargetFormat
from deit_pipe.store.reader import TargetReader

LOOKED_AT = 256  # slots


def check_served(cache: str, name: str, targets: TargetFormat, loss: DistillationLoss) -> None:
    """Refuse a loss that asks for what is not stored.

    Raises:
        Mismatch: says what the cache serves.
    """
    if loss.kind == "mse" and not targets.all_logits:
        raise Mismatch(
            f"{cache} cannot serve the loss mse of teacher {name!r}, which compares the logits of all classes",
            expected="--logits dense or dense8",
            got=targets.text,
            cure="use --loss hard, or make a cache with --logits dense8",
        )
    if loss.kind == "soft" and not targets.serves(loss.tau):
        serves = (
            ", ".join(f"{tau:g}" for tau in targets.taus) if targets.kind == "topk" else "none: it holds labels only"
        )
        raise Mismatch(
            f"{cache} cannot serve the soft loss of teacher {name!r} at temperature {loss.tau:g}",
            details=[f"temperatures it serves: {serves}"],
            cure="use --loss hard, or make a cache with --logits dense8 or dense (they serve all)",
        )


def lumped_line(reader: TargetReader, loss: DistillationLoss) -> str | None:
    """What a soft loss at a temperature above 1 loses with these top-k targets; None where it loses nothing of note.

    The kept classes' share of the teacher's probability is that of the first slots of the cache.
    """
    targets = reader.identity.format
    if loss.kind != "soft" or loss.tau <= 1 or targets.kind != "topk" or targets.k == targets.num_classes:
        return None
    first = reader.read(0, np.arange(min(LOOKED_AT, reader.manifest.num_samples)))
    assert first.topk_logp is not None
    assert first.lse_tau is not None
    logp = first.topk_logp / loss.tau - first.lse_tau[:, [targets.taus.index(loss.tau)]]
    kept = float(np.exp(logp.astype(np.float64)).sum(axis=1).mean())
    return (
        f"WARNING: at temperature {loss.tau:g} the {targets.k} of {targets.num_classes:,} classes that "
        f"{reader.identity.name} keeps hold {kept:.0%} of its probability; the others count as one, whatever they are\n"
        "  measured with 10 of 1,000 classes at temperature 3: a gradient whose cosine to that of all logits is 0.67 "
        "to 0.81\n"
        "  a cache with --logits dense8 has them all, at half the bytes of dense"
    )
