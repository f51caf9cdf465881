"""The blocks of a teacher in the format of its cache."""

from deit_pipe.store.blocks.block_object import BlockCodec
from deit_pipe.store.blocks.objects import BlockObjects, StoredBlocks
from deit_pipe.store.earlier.blocks import ArrayObjects
from deit_pipe.store.manifest import Manifest, TeacherIdentity
from deit_pipe.store.places.location import Location


def blocks_in(place: Location, manifest: Manifest, teacher: TeacherIdentity) -> StoredBlocks:
    """The blocks of a teacher."""
    if manifest.format_version >= 3:
        return BlockObjects(place, BlockCodec(manifest, teacher))
    return ArrayObjects(place, teacher)
