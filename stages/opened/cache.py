"""An opened cache: manifest, provenance, recipe, plan and the choice of its images, read once and passed down."""

from collections.abc import Mapping
from dataclasses import dataclass

from deit_pipe.pipeline.data_set import DataChoice, DataSet
from deit_pipe.pipeline.errors import ChoiceError, RecipeError
from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.stages.opened.images import absolute, open_images, say, with_other_validation
from deit_pipe.stages.opened.same_samples import check_same_samples, manifest_for
from deit_pipe.store.errors import CacheMismatch, CacheMissing
from deit_pipe.store.manifest import Manifest
from deit_pipe.store.stored_cache import StoredCache, stored_cache

# What a cache of the version before choices were recorded did: it held nothing out.
UNRECORDED = DataChoice(val_fraction=0.0)


@dataclass(frozen=True)
class OpenedCache:
    """What a cache says of its views; nothing of this changes while it is open.

    Attributes:
        stored: its small files, each read once: also its teachers and their ledgers, when they are asked for.
        choice: how its images were chosen from their data.
        recipe: which views may be drawn.
        plan: which sample sits in which slot.
    """

    stored: StoredCache
    choice: DataChoice
    recipe: Recipe
    plan: ViewPlan

    @property
    def place(self) -> str:
        """Folder or URL, as it was given."""
        return self.stored.path

    @property
    def manifest(self) -> Manifest:
        """Identity of the views."""
        return self.stored.manifest

    @property
    def provenance(self) -> Mapping[str, str]:
        """What it was made with; no identity."""
        return self.stored.provenance

    @property
    def data(self) -> str:
        """Where its images were when it was made."""
        return self.provenance.get("data") or "digits"

    def open_images(self, data: str | None = None, val_data: str | None = None) -> DataSet:
        """Open the images it was made from, and check that they are these.

        Args:
            data: where they are now; None: where they were.
            val_data: other validation images; None: the recorded ones.

        Raises:
            DataMissing: no images there. CacheMismatch: other images, or a program whose views differ.
        """
        if self.data != "digits" and data in (None, absolute(self.data)):
            say([f"images: {self.data}, where the cache says they are"])
        found = open_images(data or self.data, self.choice)
        given = manifest_for(found.train, self.recipe, self.manifest.seed, self.manifest.image_size)
        check_same_samples(self.place, self.manifest, given, found.train)
        return with_other_validation(found, val_data) if val_data else found


def open_cache(place: str | StoredCache) -> OpenedCache:
    """Read everything but teachers and images; what `place` has read already is not read again.

    Raises:
        CacheMissing: no cache there. CacheCorrupt: it is damaged. CacheMismatch: of a later format, or recipe.
    """
    stored = stored_cache(place)
    manifest, _, recorded = stored.manifest_file
    try:
        recipe = Recipe.from_json(dict(manifest.recipe))
    except RecipeError as error:
        raise CacheMismatch(f"{place} cannot be read by this program: {error}") from error
    try:
        choice = UNRECORDED if recorded is None else DataChoice.from_json(recorded)
    except (TypeError, ChoiceError) as error:
        raise CacheMismatch(f"{place} records a choice of images that this program cannot read: {error}") from error
    return OpenedCache(
        stored=stored,
        choice=choice,
        recipe=recipe,
        plan=ViewPlan.for_recipe(manifest.num_samples, recipe, manifest.seed),
    )


def open_if_there(place: str) -> OpenedCache | None:
    """The cache at a place, None where there is none yet."""
    try:
        return open_cache(place)
    except CacheMissing:
        return None
