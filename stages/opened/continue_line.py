"""The command that goes on with a cache: what is missing of a teacher, with every option that its identity needs."""

from collections.abc import Mapping, Sequence
from typing import Any

from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.logits import logits_text
from deit_pipe.store.layout import block_slots_for
from deit_pipe.store.ledger import read_ledger
from deit_pipe.store.manifest import Manifest, TeacherIdentity, read_manifest, read_provenance, read_teacher
from deit_pipe.store.runs import read_runs


def continue_command(
    cache: str,
    manifest: Manifest,
    provenance: Mapping[str, str],
    teacher: TeacherIdentity,
    epochs: int,
    runs: Sequence[Mapping[str, Any]],
) -> str:
    """The `cache-teacher` line that makes what is missing.

    Args:
        cache: folder or URL.
        manifest: of the cache.
        provenance: of the cache.
        teacher: whose blocks are missing.
        epochs: how many are wanted; 0 is unknown.
        runs: who wrote it, oldest first; the last one's weights are given again.
    """
    data, recipe, size = provenance.get("data", "digits"), provenance.get("recipe"), manifest.image_size
    usual = (data == "digits" and (recipe, size) == ("small", 32)) or (recipe, size) == ("deit", 224)
    block = block_slots_for(
        teacher.format, teacher.num_classes, manifest.recipe.get("mix_group", 1), manifest.num_samples
    )
    return command_line(
        "cache-teacher",
        CacheTeacherOptions,
        teacher=teacher.model,
        data=data,
        recipe=None if usual else recipe,
        img_size=None if usual else size,
        epochs=epochs or None,
        seed=manifest.seed,
        logits=logits_text(teacher.targets, teacher.taus),
        batch_size=teacher.batch_size,
        precision=teacher.precision,
        block=None if teacher.block_slots == block else teacher.block_slots,
        name=None if teacher.name == teacher.model.lower() else teacher.name,
        teacher_weights=weights_source(runs),
        cache=cache,
    )


def continue_teacher(cache: str, name: str) -> str:
    """`continue_command` of a teacher by name, with everything read from the cache."""
    return continue_command(
        cache, read_manifest(cache), read_provenance(cache), read_teacher(cache, name),
        read_ledger(cache, name, tolerant=True).epochs or 0, read_runs(cache, name),
    )  # fmt: skip


def weights_source(runs: Sequence[Mapping[str, Any]]) -> str | None:
    """`--teacher-weights` of the last writing run; None where cache-teacher finds them by itself."""
    sources = [run["provenance"].get("weights", "") for run in runs]
    source: str = sources[-1] if sources else ""
    if not source or source.startswith(("timm hub", "teacher-run")):
        return None
    return "random" if source.startswith("random") else source
