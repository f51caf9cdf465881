"""Weights taken over by another student: positions resized, heads of other classes made new; all of it is said."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from deit_pipe.stages.networks.naming.timm_names import fit_positions, in_timms_names
from deit_pipe.stages.networks.starting_weights import StartingWeights, find_start, head_rows
from deit_pipe.stages.networks.student import StudentFacts
from deit_pipe.stages.networks.two_heads import head_names
from deit_pipe.stages.networks.weights import digest, load_into


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of the weights that a student starts from.

    Attributes:
        lines: for a person: what was taken, resized, made new.
        new_heads: names of heads that were made new.
    """

    lines: tuple[str, ...]
    new_heads: tuple[str, ...]


def start_from(model: nn.Module, facts: StudentFacts, start: StartingWeights | str | Path) -> Taken:
    """Load other weights into a new student.

    Args:
        model: the new student, changed in place.
        facts: of the new student.
        start: the weights, or the name of a run, export, file, folder or tag.

    Raises:
        Missing: they are not there. Mismatch: they are another network's.
    """
    if not isinstance(start, StartingWeights):
        start = find_start(str(start), facts.model)
    raw = start.read()
    state, own = in_timms_names(raw, model), model.state_dict()
    resized = fit_positions(state, model)
    known = start.knows(facts.class_names)
    heads = head_names(model)
    new = tuple(head for head in heads if not known or not any(_below(name, head) for name in state))
    for head in new:
        for name in [name for name in state if _below(name, head)]:
            del state[name]
        state |= {name: value for name, value in own.items() if _below(name, head)}
    taken = sum(name in state and not any(_below(name, head) for head in new) for name in own)
    load_into(model, state, start.source, cure=f"start from the same architecture: --student {start.model}")
    lines = [f"weights of {start.source} ({start.tag}, sha256 {digest(raw)[:12]}): {taken} tensors taken", *resized]
    if new:
        lines.append(
            f"new heads: {start.num_classes or head_rows(raw)} classes -> {facts.num_classes} other classes"
            if not known
            else f"new {', '.join(new)}: the weights have none"
        )
    elif start.class_names is None:
        lines.append(
            f"heads taken: as many classes, {facts.num_classes:,}; the weights do not name them, so their order is "
            "taken to be the data's"
        )
    return Taken(lines=tuple(lines), new_heads=new)


def _below(name: str, module: str) -> bool:
    return name.startswith(f"{module}.")
