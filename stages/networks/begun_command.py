"""The command that a run folder was begun with, for whoever goes on with it. No torch."""

import json
import shlex
from pathlib import Path

from deit_pipe.stages.networks.durable_files import open_regular
from deit_pipe.stages.networks.file_names import RUN_CONFIG


def begun_command(folder: Path) -> str:
    """The command that trains into a folder: the one that it was begun with, where that is known.

    It is shown to be pasted into a shell, and the folder may be a stranger's: what is no plain train-student command
    is not shown.
    """
    try:
        with open_regular(folder / RUN_CONFIG) as file:
            command = str(json.loads(file.read())["command"])
        words = shlex.split(command)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        words = []
    if words[:2] == ["deit-pipe", "train-student"] and shlex.join(words) == command:
        return command
    return f"deit-pipe train-student --out {shlex.quote(str(folder))}"
