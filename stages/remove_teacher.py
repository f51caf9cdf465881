"""`deit-pipe remove-teacher`: free one teacher's space in a cache."""

from dataclasses import dataclass

from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.words import human_bytes
from deit_pipe.stages.options.remove_teacher import RemoveTeacherOptions
from deit_pipe.store.manifest import list_teachers
from deit_pipe.store.removal import remove_teacher


@dataclass(frozen=True)
class RemovedTeacher(Facts):
    """Who was `removed` from which `cache`, the bytes that are free again, and the `teachers` that are left."""

    cache: str
    removed: str
    freed_bytes: int
    teachers: list[str]


def run(options: RemoveTeacherOptions) -> CommandResult[RemovedTeacher]:
    """Remove it, say what was freed and who is left."""
    freed = remove_teacher(options.cache, options.name)
    left = list_teachers(options.cache)
    facts = RemovedTeacher(options.cache, options.name, freed, left)
    others = ", ".join(left) or "no teacher"
    return CommandResult(f"{options.cache}: removed {options.name}, {human_bytes(freed)} freed; left: {others}", facts)
