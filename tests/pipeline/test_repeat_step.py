"""Repeats that meet in one optimiser step: the share of them, the parting of copies, and what has not moved."""

from pathlib import Path

import numpy as np
import pytest

from deit_pipe.pipeline.errors import PlanError, RecipeError
from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import PRESETS, Recipe, load_recipe
from deit_pipe.pipeline.repeats import share_together
from deit_pipe.stages import show_recipe
from deit_pipe.stages.options.show_recipe import ShowRecipeOptions

SAMPLES = 50_003


def plan(group: int, **changed: int) -> ViewPlan:
    return ViewPlan(
        SAMPLES, **{"seed": 3, "repeats": 3, "mix_group": group, "window": 48, "repeat_step": 1024, **changed}
    )


def counted_by_hand(order: np.ndarray, batch: int) -> float:
    steps: dict[int, list[int]] = {}
    for slot, sample in enumerate(order.tolist()):
        steps.setdefault(sample, []).append(slot // batch)
    several = [where for where in steps.values() if len(where) > 1]
    return sum(len(set(where)) == 1 for where in several) / len(several)


@pytest.mark.parametrize("window", [48, 1024])
@pytest.mark.parametrize("group", [2, 64, 256])
def test_copies_meet_in_one_step_of_1024_and_in_different_groups_of_it(group: int, window: int) -> None:
    order = plan(group, window=window).sample_at(0)
    kept = order[: SAMPLES // 1024 * 1024]
    assert counted_by_hand(kept, 1024) >= 0.99
    assert plan(group, window=window).repeats_together(1024) == pytest.approx(counted_by_hand(kept, 1024))
    cells = order * (SAMPLES // group + 1) + np.arange(SAMPLES) // group
    assert len(np.unique(cells)) == SAMPLES
    drawn, counts = np.unique(order, return_counts=True)
    assert len(drawn) == -(-SAMPLES // 3)
    assert np.sort(counts)[1:].min() == 3


def official_steps(samples: int, batch: int, world: int, repeats: int = 3) -> np.ndarray:
    """The order that facebookresearch/deit samplers.py gives `world` processes, a row for each global batch."""
    order = np.repeat(np.random.default_rng(0).permutation(samples), repeats)
    total = -(-len(order) // world) * world
    order = np.concatenate([order, order[: total - len(order)]])
    kept = samples // 256 * 256 // world // batch * batch
    ranks = [order[rank::world][:kept].reshape(-1, batch) for rank in range(world)]
    return np.concatenate(ranks, axis=1)


def test_as_many_triples_meet_as_in_the_official_sampler() -> None:
    theirs = share_together(official_steps(SAMPLES, 256, 4).reshape(-1), 1024)
    ours = ViewPlan.for_recipe(SAMPLES, PRESETS["deit-batch"], 0).repeats_together(1024)
    assert theirs == pytest.approx(0.998, abs=0.001)
    assert ours == pytest.approx(theirs, abs=0.004)


@pytest.mark.parametrize(("group", "share"), [(2, 0.978), (64, 0.875), (256, 0.50)])
def test_without_the_step_a_large_group_tears_copies_apart(group: int, share: float) -> None:
    assert plan(group, repeat_step=0).repeats_together(1024) == pytest.approx(share, abs=0.008)


def test_what_is_said_of_a_shuffled_order_is_its_own() -> None:
    whole = plan(2)
    shuffled = np.concatenate([c.slots for c in whole.batches(0, 1024, order_seed=5, block_slots=4096)])
    by_hand = counted_by_hand(whole.sample_at(0)[shuffled], 1024)
    assert whole.repeats_together(1024, order_seed=5, block_slots=4096) == pytest.approx(by_hand)
    assert by_hand < 0.5
    assert ViewPlan(100, seed=0).repeats_together(10) == 1.0
    assert share_together(np.array([4, 4, 1, 7, 1, 7, 7, 2]), 2) == pytest.approx(1 / 3)


@pytest.mark.parametrize("group", [1, 2, 3, 8])
@pytest.mark.parametrize("repeats", [2, 3, 4])
@pytest.mark.parametrize("samples", [1, 5, 47, 48, 49, 71, 72, 95, 96, 97, 143, 239, 1000])
def test_every_view_is_there_once_for_any_number_of_samples(samples: int, repeats: int, group: int) -> None:
    made = ViewPlan(samples, seed=1, repeats=repeats, mix_group=group, window=24, repeat_step=48)
    order = made.sample_at(2)
    drawn, counts = np.unique(order, return_counts=True)
    assert len(order) == samples
    assert len(drawn) == -(-samples // repeats)
    assert (np.sort(counts)[1:] == repeats).all()
    # the tail has a group for every copy, or is as long as the data
    if samples >= repeats * group:
        assert len(np.unique(order * (samples + 1) + np.arange(samples) // group)) == samples


def test_copies_are_mixed_with_copies_of_several_others() -> None:
    """DeiT's reversed batch gives the three copies of one image to the copies of one other."""
    order = plan(256).sample_at(0)[:1024].reshape(4, 256)
    partners: dict[int, set[int]] = {}
    for own, other in zip(order.reshape(-1).tolist(), order[:, ::-1].reshape(-1).tolist(), strict=True):
        partners.setdefault(own, set()).add(other)
    assert np.mean([len(found) for found in partners.values()]) > 2.9
    assert sum(own in found for own, found in partners.items()) == 0


def test_orders_with_a_step_are_fixed_for_ever() -> None:
    """These numbers may only change together with VIEWS_VERSION."""
    made = ViewPlan(14, seed=0, repeats=3, mix_group=2, window=6, repeat_step=12)
    assert made.sample_at(0).tolist() == [12, 3, 12, 13, 5, 7, 5, 13, 12, 3, 3, 7, 5, 13]
    assert (made.window, plan(2).window, plan(64).window, plan(256).window) == (6, 48, 192, 1024)


def test_a_step_of_torn_groups_is_refused() -> None:
    with pytest.raises(PlanError, match="repeat_step 100 is not a multiple of the mix group 64"):
        ViewPlan(1000, seed=0, mix_group=64, repeat_step=100)
    with pytest.raises(RecipeError, match=r"repeat_step is out of range\n  expected  0 or a multiple of mix_group 64"):
        Recipe(mix_group=64, repeat_step=100)


def test_the_published_run_has_a_recipe_of_its_own() -> None:
    batch = PRESETS["deit-batch"]
    assert (batch.mixing, batch.mix_group, batch.repeats, batch.repeat_step) == ("batch", 256, 3, 1024)
    # all other numbers are those of the recipe that mixes pairs
    assert {n: v for n, v in batch.numbers().items() if PRESETS["deit"].numbers()[n] != v} == {
        "mix_group": 256,
        "window": 1024,
        "repeat_step": 1024,
    }
    assert ViewPlan.for_recipe(SAMPLES, batch, 0).repeats_together(1024) > 0.99
    assert ViewPlan.for_recipe(SAMPLES, PRESETS["deit3-batch"], 0).repeats_together(2048) > 0.99


@pytest.mark.parametrize(
    ("text", "mixing", "group"),
    [
        ('base = "deit"\nmixing = "batch"', "batch", 256),
        ('base = "deit"\nmixing = "batch"\nmix_group = 64', "batch", 64),
        ('base = "deit-batch"\nmixing = "pair"\nrepeat_step = 0', "pair", 2),
        ('base = "deit"\nmixing = "pair"', "pair", 2),
        ('base = "deit"\nmixing = "none"', "none", 1),
        ('base = "basic"\nmixing = "none"\nmix_group = 2', "none", 2),
    ],
)
def test_a_file_names_its_mixing(tmp_path: Path, text: str, mixing: str, group: int) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    recipe = load_recipe(str(file))
    assert (recipe.mixing, recipe.mix_group) == (mixing, group)


@pytest.mark.parametrize(
    "text",
    [
        'base = "deit"\nmixing = "batch"\nmix_group = 2',
        'mixing = "pair"',
        'base = "deit"\nmixing = "elem"',
        "mixing = 2",
    ],
)
def test_a_mixing_that_is_not_so_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(
        RecipeError, match=r"mixing is .*, which its numbers are not\n  expected  pair or batch or none"
    ):
        load_recipe(str(file))


@pytest.mark.parametrize(
    ("recipe", "mixing", "words"),
    [
        ("deit", "pair", "within 48 slots"),
        ("deit-batch", "batch", "within 1,024 slots, inside a step of 1,024"),
        ("eval", "none", "mixing none"),
    ],
)
def test_show_recipe_says_mixing_and_the_real_window(recipe: str, mixing: str, words: str) -> None:
    shown = show_recipe.run(ShowRecipeOptions(recipe=recipe))
    assert words in str(shown.text)
    assert shown.data["mixing"] == mixing
    assert shown.data["real_window"] == {"deit": 48, "deit-batch": 1024, "eval": None}[recipe]


def test_the_real_window_of_a_large_group_is_not_the_one_that_was_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('base = "deit"\nmix_group = 256\n')
    shown = show_recipe.run(ShowRecipeOptions(recipe=str(file)))
    assert shown.data["recipe"]["window"] == 48
    assert shown.data["real_window"] == 768
    assert "stay within 768 slots" in str(shown.text)
