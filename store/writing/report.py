"""How far a teacher is, for whoever writes it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WriterReport:
    """How far a teacher is, as this job knows it."""

    blocks_committed: int
    blocks_total: int
    views_committed: int
    bytes_committed: int

    @property
    def bytes_per_view(self) -> float | None:
        """Measured over the committed blocks; None before the first."""
        return self.bytes_committed / self.views_committed if self.views_committed else None
