"""Which engine renders views here, in words."""

from deit_pipe.pipeline.errors import EngineError
from deit_pipe.pipeline.native.engine import chosen_engine


def engine_words() -> str:
    """Name the engine, or say why the one asked for cannot be had: `--version` must work in any case."""
    try:
        return str(chosen_engine())
    except EngineError as error:
        return f"none: {str(error).splitlines()[0]}"
