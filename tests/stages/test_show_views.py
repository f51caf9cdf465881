"""show-recipe and show-views: what they print can be used again, what they draw is what is trained on."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from deit_pipe.cli import main
from deit_pipe.pipeline.loader import load_views
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import PRESETS, Recipe, load_recipe
from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.stages.options.show_recipe import ShowRecipeOptions
from deit_pipe.stages.options.show_views import ShowViewsOptions
from deit_pipe.stages.show_recipe import run as show_recipe
from deit_pipe.stages.show_views import find_cells
from deit_pipe.stages.show_views import run as show_views


@pytest.mark.parametrize("name", PRESETS)
def test_the_printed_recipe_is_a_recipe_file(name: str, tmp_path: Path) -> None:
    result = show_recipe(ShowRecipeOptions(recipe=name))
    assert Recipe.from_json(tomllib.loads(result.text)) == PRESETS[name]
    assert PRESETS[name].digest in result.text
    file = tmp_path / "same.toml"
    file.write_text(result.text)
    assert load_recipe(str(file)) == PRESETS[name]
    again = show_recipe(ShowRecipeOptions(recipe=str(file)))
    assert again.data == result.data
    assert json.loads(json.dumps(result.data))["recipe"] == PRESETS[name].numbers()


def test_show_views_draws_the_views_of_training(tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    result = show_views(ShowViewsOptions(data="digits", recipe="deit", out=str(out), samples=2, views=3, seed=5))
    with Image.open(out) as picture:
        assert picture.size == (8 + 4 * 232, 8 + 2 * (224 + 6 * 15 + 4 + 8))
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 100
    assert str(out) in result.text
    table = open_samples("digits")
    recipe = PRESETS["deit"]
    plan = ViewPlan.for_recipe(len(table), recipe, seed=5)
    assert len(result.data["views"]) == 6
    for view in result.data["views"]:
        cells = Cells(view["epoch"], plan.group_slots(view["slot"]))
        batch = next(load_views(table, recipe, plan, [cells], image_size=32))
        position = batch.slots.tolist().index(view["slot"])
        assert f"{batch.fingerprints[position]:08x}" == view["fingerprint"]
        assert int(batch.samples[position]) == view["sample"]
        assert view["draw"].startswith("crop ")


def test_views_of_a_sample_are_found_over_the_epochs() -> None:
    plan = ViewPlan(30, seed=0, repeats=3, mix_group=2)
    cells = find_cells(plan, 7, 8)
    assert len(cells) == len(set(cells)) == 8
    for epoch, slot in cells:
        assert plan.sample_at(epoch)[slot] == 7


def test_both_commands_work_from_the_command_line(tmp_path: Path) -> None:
    runner = CliRunner()
    printed = runner.invoke(main, ["show-recipe", "eval", "--json"])
    assert printed.exit_code == 0
    assert json.loads(printed.output)["name"] == "eval"
    out = tmp_path / "v.png"
    drawn = runner.invoke(
        main, ["show-views", "--recipe", "small", "--samples", "1", "--views", "1", "--out", str(out)]
    )
    assert drawn.exit_code == 0, drawn.output
    assert out.exists()
    wrong = runner.invoke(main, ["show-recipe", "diet"])
    assert wrong.exit_code == 2
    missing = runner.invoke(main, ["show-views", str(tmp_path / "none"), "--out", str(out)])
    assert missing.exit_code == 3
