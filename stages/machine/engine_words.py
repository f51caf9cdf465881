"""Which engine renders views here, in words."""

from deit_pipe.pipeline.errors import EngineError
from deit_pipe.pipeline.native.engine import chosen_engine
from deit_pipe.pipeline.native.in_threads import works_in_threads


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
