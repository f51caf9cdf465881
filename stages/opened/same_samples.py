"""Are these the images, and is this the program, that a cache was made with? One check for every command."""

from itertools import zip_longest

from deit_pipe.pipeline.recipe import VIEWS_VERSION, Recipe
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.opened.changed_samples import describe_changes, recorded_keys
from deit_pipe.store.errors import mismatch
from deit_pipe.store.manifest import Manifest, SampleIndex, read_samples


def manifest_for(table: SampleTable, recipe: Recipe, seed: int, image_size: int) -> Manifest:
    """The identity of a cache of these samples."""
    return Manifest(
        samples_digest=table.digest,
        num_samples=len(table),
        num_classes=len(table.class_names),
        recipe=recipe.to_json(),
        recipe_digest=recipe.digest,
        seed=seed,
        image_size=image_size,
        views_version=VIEWS_VERSION,
    )


def sample_index(table: SampleTable) -> SampleIndex:
    """The table as the store keeps it."""
    return SampleIndex(
        keys=recorded_keys(table),
        labels=table.labels,
        byte_sizes=table.byte_sizes,
        class_names=table.class_names,
    )


def check_same_samples(cache: str, cached: Manifest, given: Manifest, table: SampleTable) -> None:
    """Refuse other images than the cached ones, or a program whose views differ.

    Args:
        cache: its folder or URL.
        cached: its manifest.
        given: the manifest that a cache of `table` would have now.
        table: the training images as they are now.

    Raises:
        CacheMismatch: every differing field is named, and which files came, went or changed their label.
    """
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
    raise mismatch("was made from other views", cache, differences, cure, changes)


def check_same_classes(table: SampleTable, class_names: tuple[str, ...], whose: str) -> None:
    """Refuse images of other classes, or of the same classes in another order: every score would be wrong.

    Raises:
        Mismatch: the first difference is named.
    """
    if table.class_names == class_names:
        return
    pairs = zip_longest(class_names, table.class_names, fillvalue="(none)")
    place, (expected, got) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    raise Mismatch(
        f"{table.name} has other classes than {whose}",
        expected=f"{len(class_names)} classes, class {place} being {expected!r}",
        got=f"{len(table.class_names)} classes, class {place} being {got!r}",
        cure="give images of the same classes, in folders of the same names",
    )
