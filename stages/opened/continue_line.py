"""The command that goes on with a cache: what is missing of a teacher, with every option that its identity needs."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.logits import logits_text
from deit_pipe.store.blocks.checks import repair_option
from deit_pipe.store.layout import block_slots_for
from deit_pipe.store.stored_cache import Source, stored_cache

OF_FOLDERS = ("run, ", "export, ", "Hugging Face, ")  # how the model of a folder that describes itself is recorded


def continue_teacher(cache: Source, name: str, *, damaged: bool = False) -> str:
    """The `cache-teacher` line that makes what is missing of a teacher, and finds what is damaged of it."""
    stored = stored_cache(cache)
    manifest, provenance = stored.manifest, stored.provenance
    teacher, epochs = stored.teacher(name).identity, stored.teacher(name).coverage.epochs
    data, recipe, size = provenance.get("data", "digits"), provenance.get("recipe"), manifest.image_size
    usual = (data == "digits" and (recipe, size) == ("small", 32)) or (recipe, size) == ("deit", 224)
    ledger = stored.teacher(name).ledger
    block = block_slots_for(
        teacher.format, teacher.num_classes, manifest.recipe.get("mix_group", 1), manifest.num_samples
    )
    runs = stored.teacher(name).runs
    said: Mapping[str, Any] = runs[-1]["provenance"] if runs else {}
    weights = weights_source(runs)
    of_folder = teacher.model.startswith(OF_FOLDERS)  # it brings its own weights
    return command_line(
        "cache-teacher",
        CacheTeacherOptions,
        teacher=(weights or teacher.model) if of_folder else teacher.model,
        data=data,
        recipe=None if usual else recipe,
        img_size=None if usual else size,
        epochs=epochs or None,
        seed=manifest.seed,
        logits=logits_text(teacher.targets, teacher.taus),
        batch_size=None if teacher.batch_size == 64 else teacher.batch_size,
        precision=teacher.precision,
        block=None if teacher.block_slots == block else teacher.block_slots,
        name=None if teacher.name == slug(teacher.model) else teacher.name,
        teacher_weights=None if of_folder else weights,
        teacher_mean=said.get("teacher-mean"),
        teacher_std=said.get("teacher-std"),
        teacher_img_size=teacher.input_size,
        cache=stored.path,
        verify="hash" if damaged and repair_option(ledger.stored_bytes, len(ledger)) else None,
    )


def slug(tag: str) -> str:
    """Name of a teacher inside a cache: its tag in lower case, with a dash for what no file name can have."""
    return re.sub(r"[^a-z0-9._-]+", "-", tag.lower()).strip("-._")


def weights_source(runs: Sequence[Mapping[str, Any]]) -> str | None:
    """`--teacher-weights` of the last writing run; None where cache-teacher finds them by itself."""
    sources = [run["provenance"].get("weights", "") for run in runs]
    source: str = sources[-1] if sources else ""
    if not source or source.startswith(("timm hub", "teacher-run", "factory")):
        return None
    return "random" if source.startswith("random") else source
