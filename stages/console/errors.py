"""What can go wrong in a stage, grouped by what the reader does next (the exit code)."""

from collections.abc import Sequence

from deit_pipe import DeitPipeError


class StageError(DeitPipeError):
    """Base of what goes wrong in a stage."""


class UsageProblem(StageError):
    """An option or argument that cannot work as given."""

    exit_code = 2


class Missing(StageError):
    """Something needed is not there: weights, a run folder, a checkpoint."""

    exit_code = 3


class Mismatch(StageError):
    """Two things that must agree do not: classes, images, recipe, cache."""

    exit_code = 4


class Corrupt(StageError):
    """Stored data is damaged, or a replayed view differs from the cached one."""

    exit_code = 5


class TrainingDiverged(StageError):
    """The loss is not finite; the last good checkpoint is kept."""

    exit_code = 7


class Terminated(StageError):
    """SIGTERM arrived; a checkpoint was saved. 143 = 128 + SIGTERM, as schedulers expect."""

    exit_code = 143


class SystemProblem(StageError):
    """The machine, not the data or the options: full, read-only, forbidden, unreachable. See `system_errors`."""

    def __init__(self, what: str, exit_code: int = 3, *, details: Sequence[str] = (), cure: str | None = None) -> None:
        super().__init__(what, details=details, cure=cure)
        self.exit_code = exit_code
