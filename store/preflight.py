"""What a run will take, before it starts and while it runs: bytes, files, and what the disk has left."""

from dataclasses import dataclass

from deit_pipe.store.errors import DiskFull
from deit_pipe.store.formats import TargetFormat
from deit_pipe.store.layout import array_specs
from deit_pipe.store.places.location import Location

DISK_BLOCK = 4096  # a file takes whole blocks of the file system
MARGIN = 1.02


@dataclass(frozen=True)
class Preflight:
    """Needed for the blocks that are not committed yet, against what is free (None: unknown)."""

    views: int
    bytes_needed: int
    bytes_free: int | None
    files_needed: int
    files_free: int | None
    bytes_per_view: float
    measured: bool
    """True: from committed blocks; False: before compression, so at most this."""

    @property
    def problem(self) -> str | None:
        """One line if it cannot end well, else None."""
        if self.bytes_free is not None and self.bytes_needed > self.bytes_free:
            return f"needs about {self.bytes_needed:,} bytes, {self.bytes_free:,} are free"
        if self.files_free is not None and self.files_needed > self.files_free:
            return f"needs {self.files_needed:,} files, {self.files_free:,} are free"
        return None

    def require(self, place: Location) -> None:
        """Refuse to start what cannot end well.

        Raises:
            DiskFull: too few bytes or inodes.
        """
        if self.problem is not None:
            raise DiskFull(
                f"not enough space for {place.path}: {self.problem}",
                cure="free some space, or cache less: --logits topk:10, fewer --epochs",
            )


def preflight(
    place: Location, fmt: TargetFormat, views: int, blocks: int, bytes_per_view: float | None = None
) -> Preflight:
    """What a run of `views` views in `blocks` blocks takes of a place that need not exist yet.

    `bytes_per_view` is measured on committed blocks; None before there are any.
    """
    specs = array_specs(fmt)
    raw = float(sum(spec.row_bytes for spec in specs))
    per_view = raw if bytes_per_view is None else bytes_per_view
    files = blocks
    free = place.free_space()
    needed = views * per_view * MARGIN + (files * DISK_BLOCK if place.local else 0)
    return Preflight(
        views=views,
        bytes_needed=int(needed),
        bytes_free=None if free is None else free.bytes,
        files_needed=files,
        files_free=None if free is None else free.inodes,
        bytes_per_view=per_view,
        measured=bytes_per_view is not None,
    )
