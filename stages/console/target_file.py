"""Files that a command is asked to write."""

from pathlib import Path

from deit_pipe.stages.console.errors import UsageProblem


def check_target(target: Path, option: str) -> None:
    """Refuse a file that cannot be written, before anything is computed for it.

    Raises:
        UsageProblem: it is a folder, or in none.
    """
    if target.is_dir() or not target.parent.is_dir():
        raise UsageProblem(
            f"{option} {target} cannot be written", expected="a file in an existing folder", cure="give another name"
        )
