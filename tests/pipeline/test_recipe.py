"""Recipes: presets, files, refusals, digests."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from deit_pipe.pipeline.errors import RecipeError
from deit_pipe.pipeline.recipe import PRESETS, VIEWS_VERSION, Recipe, load_recipe, preset_name
from deit_pipe.pipeline.recipe_fields import FIRST_FIELDS


def test_the_deit_recipe_has_the_papers_numbers() -> None:
    deit = PRESETS["deit"]
    assert (deit.crop, deit.crop_area, deit.crop_aspect, deit.resample, deit.flip_prob) == (
        "random",
        (0.08, 1.0),
        (0.75, 4 / 3),
        "bicubic",
        0.5,
    )
    assert (deit.rand_layers, deit.rand_prob, deit.rand_magnitude, deit.rand_magnitude_std) == (
        2,
        0.5,
        9.0,
        0.5,
    )
    assert (deit.jitter, deit.three_augment) == (0.0, False)
    assert (deit.erase_prob, deit.erase_area, deit.erase_aspect) == (0.25, (0.02, 1 / 3), (0.3, 1 / 0.3))
    assert (deit.mixup_alpha, deit.cutmix_alpha, deit.mix_prob, deit.switch_prob) == (0.8, 1.0, 1.0, 0.5)
    assert (deit.repeats, deit.mix_group, deit.mixes) == (3, 2, True)
    deit3 = PRESETS["deit3"]
    assert (deit3.three_augment, deit3.jitter, deit3.rand_layers, deit3.erase_prob) == (True, 0.3, 0, 0.0)
    for name in ("basic", "small", "eval"):
        preset = PRESETS[name]
        assert (preset.mixes, preset.erase_prob, preset.repeats, preset.mix_group) == (False, 0.0, 1, 1)


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip_keeps_the_recipe_and_its_digest(name: str) -> None:
    recipe = PRESETS[name]
    text = json.dumps(recipe.to_json())
    again = Recipe.from_json(json.loads(text))
    assert again == recipe
    assert again.digest == recipe.digest
    used = {n for n, v in recipe.numbers().items() if Recipe.later_defaults().get(n, None) != v}
    assert set(recipe.to_json()) == FIRST_FIELDS[VIEWS_VERSION] | used
    assert preset_name(again) == name == preset_name(load_recipe(name))


def test_every_field_is_part_of_the_digest() -> None:
    base = PRESETS["deit"]
    digests = {base.digest}
    for field in fields(Recipe):
        value = getattr(base, field.name)
        if isinstance(value, bool):
            other = not value
        elif isinstance(value, str):
            other = {"random": "whole", "bicubic": "bilinear", "reflect": "black"}[value]
        elif field.name == "repeat_step":
            other = base.mix_group
        elif isinstance(value, tuple):
            other = (*value[:-1], value[-1] * 0.5 if isinstance(value[-1], float) else value[-1] + 1)
            other = (value[0] * 0.9, value[1]) if len(value) == 2 else other
        else:
            other = value * 0.5 if isinstance(value, float) and value else value + 1
        digests.add(replace(base, **{field.name: other}).digest)
    assert len(digests) == 1 + len(fields(Recipe))


def test_presets_digests_are_fixed_for_ever() -> None:
    """These may only change together with VIEWS_VERSION."""
    assert {name: recipe.digest[:12] for name, recipe in PRESETS.items()} == {
        "deit": "93d817eb268a",
        "deit-batch": "6c1fcadc698b",
        "deit-32": "baeb4e429f74",
        "deit3-batch": "3d6f61f4a309",
        "deit3-src": "e905a487f1a9",
        "deit3-finetune": "ee51e63d779c",
        "deit3": "4bbb4685dfa2",
        "basic": "1683a3688d54",
        "small": "2990ca28dcf8",
        "eval": "1cb3f5f32d0a",
    }


def test_a_toml_file_overrides_its_base(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('base = "deit"\nrepeats = 1\ncrop_area = [0.25, 1]\nrand_magnitude = 7\n')
    recipe = load_recipe(str(file))
    assert recipe == replace(PRESETS["deit"], repeats=1, crop_area=(0.25, 1.0), rand_magnitude=7.0)
    assert isinstance(recipe.rand_magnitude, float)
    assert recipe.digest == replace(PRESETS["deit"], repeats=1, crop_area=(0.25, 1.0), rand_magnitude=7.0).digest
    assert preset_name(recipe) == "custom"
    saved = tmp_path / "saved.json"
    saved.write_text(json.dumps(recipe.to_json()))
    assert load_recipe(str(saved)) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('base = "deit"\nrepeat = 1', "unknown recipe field 'repeat'\ndid you mean repeats?"),
        ('base = "diet"', "no base 'diet'"),
        ("repeats = 1.5", "repeats has a wrong value\n  expected  int\n  got       1.5"),
        ("repeats = true", "repeats has a wrong value"),
        ("three_augment = 1", "three_augment has a wrong value"),
        ('crop = "middle"', "expected  random | centre | whole | padded"),
        ("crop_area = [0.5]", "crop_area has a wrong value\n  expected  [float, float]"),
        ("crop_area = [0.5, 0.1]", "crop_area is out of range"),
        ("crop_area = [0.5, 2.0]", "crop_area is out of range\n  expected  at most 1"),
        ("flip_prob = 2", "flip_prob is out of range\n  expected  0..1\n  got       2.0"),
        ("std = [0, 1, 1]", "std is out of range"),
        ("mixup_alpha = -1", "mixup_alpha is out of range"),
        ("fill = [0, 0, 256]", "fill is out of range"),
        ("mixing = [2]", "mixing is [2], which its numbers are not"),
        ("repeats = ", "cannot read the recipe"),
    ],
)
def test_wrong_files_are_refused_with_the_field_and_a_cure(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(file))
    assert message in str(caught.value)
    assert RecipeError.exit_code == 2


def test_unknown_recipes_name_the_nearest_preset(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean deit"):
        load_recipe("diet")
    with pytest.raises(RecipeError, match="cannot read"):
        load_recipe(str(tmp_path / "none.toml"))
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(RecipeError, match="holds no fields"):
        load_recipe(str(tmp_path / "list.json"))
