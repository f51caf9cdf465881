"""Which engine renders views here, in words."""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from deit_pipe.pipeline.errors import EngineError
from deit_pipe.pipeline.native.engine import chosen_engine
from deit_pipe.pipeline.native.in_threads import works_in_threads
from deit_pipe.stages.console.progress import note

if TYPE_CHECKING:  # `--version` is quick
    from deit_pipe.pipeline.loader import ViewBatch


def engine_words() -> str:
    """Name the engine, or say why the one asked for cannot be had: `--version` must work in any case."""
    try:
        return str(chosen_engine())
    except EngineError as error:
        return f"none: {str(error).splitlines()[0]}"


def worker_words(workers: int) -> str:
    """`2 threads`, `1 process`, or that there are none."""
    if not workers:
        return "in the main process"
    kind = "thread" if works_in_threads(workers) else "process"
    return f"{workers} {kind}" if workers == 1 else f"{workers} {kind}{'s' if kind == 'thread' else 'es'}"


def engine_line(workers: int) -> str:
    """The first line of a run: what renders its views, and how many do it."""
    return f"view engine {chosen_engine()}, {worker_words(workers)}"


def say_what_is_left(views: "Iterator[ViewBatch]", *, quiet: bool = False) -> "Iterator[ViewBatch]":
    """Pass batches on; at the end, or when closed, say how many views the native engine left to Pillow, if any."""
    seen = left = 0
    with closing(views):  # type: ignore[type-var]  # a generator; ends its workers
        try:
            for batch in views:
                seen, left = seen + len(batch), left + batch.left_to_pillow
                yield batch
        finally:
            if left and not quiet:
                note(
                    f"note: {left:,} of {seen:,} views were left to Pillow, the same but slower: "
                    "the native engine does not handle them"
                )
