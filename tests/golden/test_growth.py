"""What comes later refuses nothing that came before: a program with one more field goes on with older work."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from golden.regenerate_cache import CACHE
from golden.regenerate_run import RUN, SETTINGS, STEPS
from stage_fakes import student_options

from deit_pipe.pipeline import recipe as recipes
from deit_pipe.pipeline.recipe import PRESETS, VIEWS_VERSION, Recipe
from deit_pipe.pipeline.recipe_fields import FIRST_FIELDS
from deit_pipe.stages import cache_teacher, inspect_cache, show_recipe, train_student
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.stages.options.show_recipe import ShowRecipeOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.store.errors import CacheCorrupt, CacheMismatch
from deit_pipe.store.identity import Manifest, TeacherIdentity, canonical_digest
from deit_pipe.store.manifest import create_cache, read_manifest, read_samples, read_teacher, write_teacher
from deit_pipe.store.places.local import LocalDirectory

# Fields that came later, with the default that means "as before". A new field gets a line; no line is ever changed.
LATER_RECIPE_FIELDS: dict[str, Any] = {
    "crop_pad": 4,
    "crop_border": "reflect",
    "repeat_step": 0,
}


@dataclass(frozen=True, kw_only=True)
class GrownRecipe(Recipe):
    sparkle: float = 0.0


@dataclass(frozen=True, kw_only=True)
class GrownManifest(Manifest):
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class GrownTeacher(TeacherIdentity):
    skill: float | None = None


def replace_everywhere(patch: pytest.MonkeyPatch, old: Any, new: Any) -> None:
    """Let every module of the program that holds `old` hold `new`."""
    for name, module in list(sys.modules.items()):
        if name.startswith("deit_pipe."):
            for attribute, value in list(vars(module).items()):
                if value is old:
                    patch.setattr(module, attribute, new)


@pytest.fixture
def later_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program whose recipes, manifests and teachers have one more field each."""
    presets = {name: GrownRecipe(**vars(preset)) for name, preset in PRESETS.items()}
    for old, new in (
        (Recipe, GrownRecipe),
        (PRESETS, presets),
        (Manifest, GrownManifest),
        (TeacherIdentity, GrownTeacher),
    ):
        replace_everywhere(monkeypatch, old, new)
    assert recipes.load_recipe("deit").numbers()["sparkle"] == 0.0


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return shutil.copytree(CACHE, tmp_path / "cache")


def join(cache: Path, recipe: str = "deit", **changed: Any) -> Any:
    """Another teacher for the views of the golden cache."""
    settings: dict[str, Any] = {
        "teacher": "test_resnet",
        "teacher_weights": "random",
        "recipe": recipe,
        "img_size": 32,
        "epochs": 1,
        "seed": 7,
        "logits": "none",
        "name": "late",
        "cache": str(cache),
        "device": "cpu",
        "workers": 0,
    }
    return cache_teacher.run(CacheTeacherOptions(**(settings | changed)))


def inspect(cache: Path, **changed: Any) -> Any:
    return inspect_cache.run(InspectCacheOptions(cache=str(cache), **changed))


def train(cache: Path, run: Path) -> Any:
    return train_student.run(
        student_options(cache, run, teacher="dense", epochs=1, batch_size=64, student="custom:16x1x2")
    )


def rewrite(cache: Path, change: Callable[[dict[str, Any]], None], *, new_digest: bool = True) -> None:
    """Change the manifest as another program would have written it: its own SHA-256 fits."""
    path = cache / "MANIFEST.json"
    document = json.loads(path.read_text())
    identity = document["identity"]
    change(identity)
    if new_digest:
        identity["recipe_digest"] = canonical_digest(identity["recipe"])
    document["sha256"] = canonical_digest({k: v for k, v in document.items() if k not in ("deit_pipe", "sha256")})
    path.write_text(json.dumps(document))


def files(place: Path) -> dict[str, str]:
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.rglob("*")
        if path.is_file()
    }


@pytest.mark.usefixtures("later_program")
def test_a_later_program_opens_replays_trains_from_and_extends_an_older_cache(cache: Path, tmp_path: Path) -> None:
    assert read_manifest(cache) == GrownManifest.from_json(read_manifest(CACHE).to_json())
    replay = inspect(cache, replay="all", teacher="dense")
    assert (replay.exit_code, replay.data["replay"]["equal"]) == (0, 1437)
    assert train(cache, tmp_path / "run").data["steps"] == 22
    assert join(cache).data["written"] == 6
    assert inspect(cache, diff=str(CACHE)).data["same_views"] is True


@pytest.mark.usefixtures("later_program")
def test_a_later_program_goes_on_with_a_run_that_was_begun_before(tmp_path: Path) -> None:
    run = shutil.copytree(RUN, tmp_path / "run")
    assert train_student.run(TrainStudentOptions(cache=str(CACHE), out=str(run), **SETTINGS)).data["steps"] == STEPS


def test_what_a_later_program_writes_without_its_new_fields_is_byte_for_byte_what_this_one_writes(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    manifest, samples, teacher = read_manifest(CACHE), read_samples(CACHE), read_teacher(CACHE, "dense")
    digests = {name: preset.digest for name, preset in PRESETS.items()}
    create_cache(tmp_path / "now", manifest, samples, {})
    write_teacher(LocalDirectory(tmp_path / "now"), teacher)
    request.getfixturevalue("later_program")
    create_cache(tmp_path / "later", GrownManifest.from_json(manifest.to_json()), samples, {})
    write_teacher(LocalDirectory(tmp_path / "later"), GrownTeacher.from_json(teacher.to_json()))
    assert files(tmp_path / "now") == files(tmp_path / "later")
    assert {name: preset.digest for name, preset in recipes.PRESETS.items()} == digests
    assert GrownManifest.from_json(manifest.to_json()).digest == manifest.digest


@pytest.mark.usefixtures("later_program")
def test_a_value_of_the_new_field_is_refused_and_named(cache: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "sparkling.toml"
    recipe.write_text('base = "deit"\nsparkle = 0.5\n')
    with pytest.raises(CacheMismatch) as caught:
        join(cache, str(recipe))
    assert caught.value.exit_code == 4
    assert caught.value.fields == (("recipe.sparkle", 0.0, 0.5),)
    assert "recipe.sparkle  cached 0.0   given 0.5" in str(caught.value)
    other = tmp_path / "other"
    join(other, str(recipe))
    assert read_manifest(other).recipe["sparkle"] == 0.5
    with pytest.raises(CacheMismatch) as caught:
        join(other)
    assert caught.value.fields == (("recipe.sparkle", 0.5, 0.0),)
    assert inspect(other, diff=str(CACHE)).data["manifest"] == [{"field": "recipe.sparkle", "here": 0.5, "there": 0.0}]


@pytest.mark.usefixtures("later_program")
def test_a_default_that_is_spelt_out_says_the_same_as_one_that_is_not(tmp_path: Path) -> None:
    cache = shutil.copytree(CACHE.with_name("cache_v1"), tmp_path / "cache")  # later records name the manifest's digest
    before = read_manifest(cache)
    rewrite(cache, lambda identity: identity["recipe"].update(sparkle=0.0))
    assert read_manifest(cache).recipe_digest != before.recipe_digest
    inspect(cache, upgrade=str(tmp_path / "new"))  # the one there is not written any more
    assert join(tmp_path / "new").data["written"] == 6
    assert inspect(tmp_path / "new", diff=str(CACHE)).data["same_views"] is True
    assert inspect(cache, replay="100", teacher="dense").exit_code == 0
    assert train(cache, tmp_path / "run").data["steps"] == 22


@pytest.mark.usefixtures("later_program")
def test_a_manifest_that_was_written_anew_is_not_the_one_that_the_records_name(cache: Path, tmp_path: Path) -> None:
    rewrite(cache, lambda identity: identity["recipe"].update(sparkle=0.0))
    for opening in (lambda: train(cache, tmp_path / "run"), lambda: join(cache, logits="dense@1,3", name="dense")):
        with pytest.raises(CacheCorrupt, match="are not its own"):
            opening()


def test_this_program_refuses_a_later_recipe_that_uses_the_new_field(cache: Path, tmp_path: Path) -> None:
    rewrite(cache, lambda identity: identity["recipe"].update(sparkle=0.5))
    for call in (lambda: join(cache), lambda: train(cache, tmp_path / "run")):
        with pytest.raises(CacheMismatch, match="does not know: sparkle") as refused:
            call()
        assert refused.value.exit_code == 4
        assert "use the deit-pipe that recorded it" in str(refused.value)


def test_this_program_refuses_later_identities_that_use_their_new_field(cache: Path) -> None:
    later = GrownTeacher.from_json(read_teacher(cache, "dense").to_json() | {"skill": 0.5, "name": "skilled"})
    write_teacher(LocalDirectory(cache), later)
    with pytest.raises(CacheMismatch, match=r"teachers/skilled\.json has other fields .*'skill'"):
        read_teacher(cache, "skilled")
    rewrite(cache, lambda identity: identity.update(note="new"))
    with pytest.raises(CacheMismatch, match=r"MANIFEST\.json has other fields than this program knows: .*'note'"):
        read_manifest(cache)


@pytest.mark.usefixtures("later_program")
def test_later_identities_are_compared_with_older_ones_by_the_default(cache: Path) -> None:
    teacher = read_teacher(cache, "dense")
    write_teacher(LocalDirectory(cache), GrownTeacher.from_json(teacher.to_json()))
    with pytest.raises(CacheMismatch) as caught:
        write_teacher(LocalDirectory(cache), GrownTeacher.from_json(teacher.to_json() | {"skill": 0.5}))
    assert caught.value.fields == (("skill", None, 0.5),)


def test_a_changed_value_of_an_old_field_is_still_refused_and_named(cache: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "other.toml"
    recipe.write_text('base = "deit"\nerase_prob = 0.5\nflip_prob = 0.25\n')
    with pytest.raises(CacheMismatch) as caught:
        join(cache, str(recipe))
    assert set(caught.value.fields) == {("recipe.erase_prob", 0.25, 0.5), ("recipe.flip_prob", 0.5, 0.25)}
    with pytest.raises(CacheMismatch) as caught:
        join(cache, seed=8)
    assert caught.value.fields == (("seed", 7, 8),)


def test_a_recipe_that_does_not_fit_its_own_digest_is_damage(cache: Path, tmp_path: Path) -> None:
    rewrite(cache, lambda identity: identity["recipe"].update(erase_prob=0.5), new_digest=False)
    for opening in (lambda: join(cache), lambda: inspect(cache), lambda: train(cache, tmp_path / "run")):
        with pytest.raises(CacheCorrupt, match="holds a recipe that is not the one of its recipe_digest"):
            opening()


def test_a_recorded_recipe_without_a_field_of_the_first_hour_is_refused(cache: Path, tmp_path: Path) -> None:
    rewrite(cache, lambda identity: identity["recipe"].pop("window"))
    with pytest.raises(CacheMismatch, match="a recorded recipe lacks window"):
        train(cache, tmp_path / "run")
    with pytest.raises(CacheMismatch, match="a recorded recipe lacks window"):
        join(cache)


def test_a_teacher_without_a_field_of_the_first_hour_is_refused(cache: Path) -> None:
    """Its `taus` has a default in the code, which says nothing about what a file means that lacks it."""
    path = cache / "teachers" / "dense.json"
    document = json.loads(path.read_text())
    del document["identity"]["taus"]
    document["sha256"] = canonical_digest({"identity": document["identity"]})
    path.write_text(json.dumps(document))
    with pytest.raises(CacheMismatch, match=r"other fields than this program knows: taus absent"):
        read_teacher(cache, "dense")


@pytest.mark.usefixtures("later_program")
def test_a_person_is_shown_every_number_also_one_that_came_later_and_is_not_used() -> None:
    shown = show_recipe.run(ShowRecipeOptions(recipe="deit"))
    assert "sparkle = 0.0" in str(shown.text)
    assert shown.data["recipe"]["sparkle"] == 0.0
    assert shown.data["digest"].startswith("93d817eb268a")


def test_what_may_be_absent_is_frozen() -> None:
    recorded = json.loads((CACHE / "MANIFEST.json").read_text())["identity"]
    teacher = json.loads((CACHE / "teachers" / "dense.json").read_text())["identity"]
    assert recorded["views_version"] == VIEWS_VERSION, "a new views version needs its own golden cache"
    assert FIRST_FIELDS[VIEWS_VERSION] == set(recorded["recipe"])
    assert Recipe.later_defaults() == LATER_RECIPE_FIELDS
    assert set(recorded) == Manifest.FIRST
    assert set(teacher) == TeacherIdentity.FIRST
