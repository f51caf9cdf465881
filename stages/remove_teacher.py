"""`deit-pipe remove-teacher`: free one teacher's space in a cache."""

from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.words import human_bytes
from deit_pipe.stages.options.remove_teacher import RemoveTeacherOptions
from deit_pipe.store.manifest import list_teachers
from deit_pipe.store.removal import remove_teacher


def run(options: RemoveTeacherOptions) -> CommandResult:
    """Remove it, say what was freed and who is left."""
    freed = remove_teacher(options.cache, options.name)
    left = list_teachers(options.cache)
    data = {"cache": options.cache, "removed": options.name, "freed_bytes": freed, "teachers": left}
    others = ", ".join(left) or "no teacher"
    return CommandResult(f"{options.cache}: removed {options.name}, {human_bytes(freed)} freed; left: {others}", data)
