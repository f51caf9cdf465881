"""The command that a run folder was begun with, for whoever goes on with it. No torch."""

import json
import shlex
from pathlib import Path

from deit_pipe.stages.networks.file_names import RUN_CONFIG


def begun_command(folder: Path) -> str:
    """The command that trains into a folder: the one that it was begun with, where that is known."""
    try:
        config = json.loads((folder / RUN_CONFIG).read_text(encoding="utf-8"))
        return str(config["command"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"deit-pipe train-student --out {shlex.quote(str(folder))}"
