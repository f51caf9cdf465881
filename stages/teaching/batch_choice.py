"""How many views a teacher sees at once, where nobody says it: few of them padding.

A teacher's batches never cross a block and the last of a block is padded, so that an answer does not depend on where a
run resumed. With small blocks the padding can cost more than a smaller batch does.
"""

from deit_pipe.store.layout import blocks_of
from deit_pipe.store.manifest import list_teachers, read_teacher

DEFAULT_BATCH = 64
SMALLEST_BATCH = 16  # below it a GPU idles, and a CPU gains nothing
MOST_PADDING = 0.05


def padding(num_samples: int, block_slots: int, batch_size: int) -> float:
    """Views that are computed for nothing, as a share of those that are needed."""
    blocks = blocks_of(0, num_samples, block_slots)
    return sum(-(-block.slots // batch_size) for block in blocks) * batch_size / num_samples - 1


def choose_batch(num_samples: int, block_slots: int, mix_group: int) -> int:
    """The largest batch of whole mix groups, at most 64, whose padding stays under 5 %; else the one with the least."""
    most = max(mix_group, DEFAULT_BATCH // mix_group * mix_group)
    sizes = [size for size in range(most, 0, -mix_group) if size >= min(SMALLEST_BATCH, most)]
    for size in sizes:
        if padding(num_samples, block_slots, size) < MOST_PADDING:
            return size
    return min(sizes, key=lambda size: padding(num_samples, block_slots, size))


def recorded_batch(cache: str, name: str) -> int | None:
    """The batch that a teacher of a cache was begun with, None where there is none yet."""
    return read_teacher(cache, name).batch_size if name in list_teachers(cache) else None


def batch_lines(num_samples: int, block_slots: int, batch_size: int) -> list[str]:
    """Why a batch that nobody asked for is not the usual one; nothing where it is."""
    if batch_size == DEFAULT_BATCH:
        return []
    usual, here = (padding(num_samples, block_slots, size) for size in (DEFAULT_BATCH, batch_size))
    return [
        f"note: the teacher sees {batch_size} views at once instead of {DEFAULT_BATCH}: {num_samples:,} images in "
        f"blocks of {min(block_slots, num_samples):,} are padded by {here:.0%} instead of {usual:.0%}"
    ]
