"""Are these the images, and is this the program, that a cache was made with? One check for every command."""

from deit_pipe.pipeline.recipe import VIEWS_VERSION, Recipe
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.opened.changed_samples import describe_changes
from deit_pipe.store.errors import CacheMismatch, mismatch
from deit_pipe.store.manifest import Manifest, read_manifest, read_samples


def check_same_samples(cache: str, given: Manifest, table: SampleTable) -> None:
    """Refuse other images than the cached ones, or a program whose views differ.

    Args:
        cache: folder or URL of an existing cache.
        given: the manifest that a cache of `table` would have now.
        table: the training images as they are now.

    Raises:
        CacheMismatch: every differing field is named, and which files came, went or changed their label.
    """
    cached = read_manifest(cache)
    differences = cached.differences(given, Recipe.later_defaults())
    if not differences:
        return
    names = {difference.field for difference in differences}
    changes: list[str] = []
    if names & {"samples_digest", "num_samples", "num_classes"}:
        changes = describe_changes(read_samples(cache), table)
        cure = f"restore these images, name the cached ones with --data (given: {table.name}), or give a new --cache"
    elif cached.views_version != VIEWS_VERSION:
        cure = "this deit-pipe makes other views: use the one that wrote the cache, or make the cache again"
    else:
        cure = "give the cached settings, or a new folder with --cache"
    error = mismatch("was made from other views", cache, differences, "")
    raise CacheMismatch("\n".join([str(error).rstrip(), *changes, cure]), differences)
