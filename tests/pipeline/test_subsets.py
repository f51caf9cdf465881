"""The seeded draws: exact totals, the same part of every class, independent of each other."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from split_fakes import image_bytes, labelled_table, write_parquet, write_tree

from deit_pipe.pipeline.data_set import DataChoice, DataSet, open_data
from deit_pipe.pipeline.selected_samples import SelectedSamples
from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.pipeline.sources.packed import pack_samples
from deit_pipe.pipeline.subsets import Draw, apportion, draw_part, part_of

COUNTS = st.lists(st.integers(1, 60), min_size=1, max_size=12)
SEEDS = st.integers(0, (1 << 63) - 1)


def shuffled(counts: list[int]) -> NDArray[np.int64]:
    """Labels of so many samples a class, mixed in some fixed order."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return labels[np.argsort((np.arange(len(labels)) * 2654435761) % 1009, kind="stable")]


@given(COUNTS, st.data())
def test_shares_are_proportional_and_exact(counts: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(counts)))
    shares = apportion(counts, total)
    assert sum(shares) == max(total, len(counts))
    assert all(1 <= share <= count for share, count in zip(shares, counts, strict=True))
    quotas = [total * count / sum(counts) for count in counts]
    if min(quotas) >= 1:
        assert all(abs(share - quota) < 1 for share, quota in zip(shares, quotas, strict=True))


def test_shares_by_hand() -> None:
    assert apportion([50, 30, 20], 10) == [5, 3, 2]
    assert apportion([6, 3, 1], 5) == [3, 1, 1]
    assert apportion([100, 1, 1], 10) == [8, 1, 1]
    assert apportion([1, 1, 1], 1) == [1, 1, 1]
    assert apportion([4, 4], 8) == [4, 4]


@pytest.mark.parametrize(
    ("count", "part", "expected"),
    [(10, 0.25, 3), (303, 0.1, 30), (1437, 100 / 1437, 100), (7, 1, 7), (3, 0.1, 0)],
)
def test_a_part_of_a_count(count: int, part: float, expected: int) -> None:
    assert part_of(count, part) == expected


@given(COUNTS, SEEDS, st.data())
@settings(max_examples=60)
def test_a_draw_is_a_stratified_subset(counts: list[int], seed: int, data: st.DataObject) -> None:
    labels = shuffled(counts)
    among = np.flatnonzero(np.asarray(data.draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels)))))
    total = data.draw(st.integers(1, max(1, len(among))))
    chosen = draw_part(labels, among, total, seed, Draw.USED)
    present = np.unique(labels[among])
    assert len(chosen) == (max(total, len(present)) if len(among) else 0)
    assert np.isin(chosen, among).all()
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(np.unique(labels[chosen]), present)
    np.testing.assert_array_equal(chosen, draw_part(labels, among, total, seed, Draw.USED))


def test_a_draw_depends_on_seed_and_purpose_and_nothing_outside() -> None:
    labels = np.zeros(1000, np.int64)
    everything = np.arange(1000)
    first = draw_part(labels, everything, 500, 0, Draw.USED)
    for other in (
        draw_part(labels, everything, 500, 1, Draw.USED),
        draw_part(labels, everything, 500, 0, Draw.TRAINED_ON),
    ):
        assert 200 < len(np.intersect1d(first, other)) < 300  # a half, as of independent draws
    # A smaller part is inside the larger one, and the draw is of the position, not of the place among those there.
    assert np.isin(draw_part(labels, everything, 100, 0, Draw.USED), first).all()
    without = np.setdiff1d(everything, first[:10])
    assert np.isin(draw_part(labels, without, 490, 0, Draw.USED), first).all()
    # The same on every platform: these numbers may never change.
    assert draw_part(labels[:20], everything[:20], 5, 0, Draw.USED).tolist() == [4, 6, 7, 8, 9]


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_a_hundred_labels_of_the_digits(seed: int) -> None:
    found = open_data("digits", DataChoice(labelled_fraction=100 / 1437, subset_seed=seed))
    assert found.train.num_labelled == 100
    assert len(found.train) == 1437
    per_class = np.bincount(found.train.labels[found.train.labels >= 0])
    assert per_class.tolist() == pytest.approx([10] * 10, abs=1)
    whole = open_samples("digits").labels
    np.testing.assert_array_equal(np.where(found.train.labels >= 0, whole, -1), found.train.labels)


@given(part=st.floats(0.01, 0.99), seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_the_images_that_keep_their_labels_are_those_used_as_so_small_a_part(part: float, seed: int) -> None:
    labelled = open_data("digits", DataChoice(labelled_fraction=part, subset_seed=seed)).train
    used = open_data("digits", DataChoice(fraction=part, subset_seed=seed)).train
    assert [key for key, label in zip(labelled.keys, labelled.labels, strict=True) if label >= 0] == list(used.keys)


@given(val=st.floats(0, 0.9), fraction=st.floats(0.01, 1), labelled=st.floats(0, 1), seed=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_draws_are_disjoint_and_do_not_touch_each_other(
    tmp_path_factory: pytest.TempPathFactory, val: float, fraction: float, labelled: float, seed: int
) -> None:
    data = mixed_tree(tmp_path_factory)

    def opened(**choice: float) -> DataSet:
        return open_data(str(data), DataChoice(subset_seed=seed, **choice))  # type: ignore[arg-type]

    found = opened(val_fraction=val, fraction=fraction, labelled_fraction=labelled)
    plain = opened(val_fraction=val)
    used = opened(val_fraction=val, fraction=fraction)
    # Held out: the same whatever else is chosen; labelled images only; in no training.
    assert keys(found.val) == keys(plain.val) == keys(used.val)
    assert set(keys(found.val)).isdisjoint(keys(plain.train))
    assert len(keys(plain.val)) + len(plain.train) == 75
    assert not any("unlabelled" in key for key in keys(found.val))
    if val:
        assert len(keys(plain.val)) == min(max(part_of(60, val), 1), 57)
    # Used: the same whatever keeps its label; exact; every class and the unlabelled ones are there.
    assert keys(found.train) == keys(used.train)
    assert len(used.train) == max(part_of(len(plain.train), fraction), 4) or fraction == 1
    assert {key.split("/")[0] for key in keys(used.train)} == {"ant", "bee", "cat", "unlabelled"}
    # Labels: those of the class folder or none.
    assert found.train.num_labelled == (max(part_of(used.train.num_labelled, labelled), 3) if labelled else 0)
    for key, label in zip(found.train.keys, found.train.labels.tolist(), strict=True):
        assert label == -1 or key.startswith(found.train.class_names[label])
    assert image_bytes(found.train) == [key.encode() for key in keys(found.train)]


def mixed_tree(factory: pytest.TempPathFactory) -> Path:
    """75 images, made once: 30, 20 and 10 of three classes, 15 without a label."""
    root = factory.getbasetemp() / "mixed"
    return root if root.exists() else write_tree(root, {"ant": 30, "bee": 20, "cat": 10, "unlabelled": 15})


def keys(table: object) -> list[str]:
    return [] if table is None else list(table.keys)  # type: ignore[attr-defined]


def test_default_hold_out_is_a_tenth_and_is_said(tmp_path: Path) -> None:
    data = write_tree(tmp_path / "photos", {"ant": 153, "bee": 100, "cat": 50})
    found = open_data(str(data))
    assert found.val is not None
    assert (len(found.train), len(found.val), found.test) == (273, 30, None)
    assert np.bincount(found.val.labels).tolist() == [15, 10, 5]
    assert found.choice.val_fraction == 0.1
    assert found.lines == (
        "photos: train 273 images in 3 classes (303 files, 30 held out for val, seed 0)",
        "photos: val 30 images held out of train",
    )
    part = open_data(str(data), DataChoice(fraction=0.1, labelled_fraction=0.5, subset_seed=7))
    assert part.lines[0] == (
        "photos: train 27 images in 3 classes, 13 of them unlabelled "
        "(303 files, 30 held out for val, 0.1 of the others used, 0.5 of the labels kept, seed 7)"
    )


def test_a_part_of_the_labels_is_a_part_of_those_there_are(tmp_path: Path) -> None:
    data = write_tree(tmp_path, {"ant": 3, "bee": 3, "unlabelled": 60})
    found = open_data(str(data), DataChoice(labelled_fraction=0.4, val_fraction=0))
    assert (found.train.num_labelled, len(found.train)) == (2, 66)
    found = open_data(str(data), DataChoice(labelled_fraction=0.75, val_fraction=0))
    assert found.train.num_labelled == 5


def test_every_class_keeps_an_image_to_train_on(tmp_path: Path) -> None:
    found = open_data(str(write_tree(tmp_path / "one", {"ant": 1, "bee": 1})))
    assert (len(found.train), found.val) == (2, None)
    found = open_data(str(write_tree(tmp_path / "few", {"ant": 2, "bee": 1})), DataChoice(val_fraction=0.9))
    assert found.val is not None
    assert sorted(found.train.labels.tolist()) == [0, 1]


def test_digest_is_the_old_one_for_all_images_and_covers_the_positions_of_a_part(tmp_path: Path) -> None:
    data = write_tree(tmp_path / "d", {"ant": 40, "bee": 40})
    whole = open_samples(str(data))
    assert open_data(str(data), DataChoice(val_fraction=0)).train.digest == whole.digest
    halves = [open_data(str(data), DataChoice(val_fraction=0, fraction=0.5, subset_seed=s)).train for s in (0, 1)]
    assert halves[0].labels.tolist() == halves[1].labels.tolist()
    assert halves[0].digest != halves[1].digest
    labelled = [
        open_data(str(data), DataChoice(val_fraction=0, labelled_fraction=part)).train for part in (1, 0.5, 0.25, 0)
    ]
    assert len({table.digest for table in labelled}) == 4
    assert labelled[0].digest == whole.digest


@pytest.mark.parametrize(
    "choice", [{}, {"fraction": 0.3}, {"labelled_fraction": 0.4, "subset_seed": 5}, {"val_fraction": 0.5}]
)
def test_a_folder_and_its_copies_agree_under_one_choice(tmp_path: Path, choice: dict[str, float]) -> None:
    data = write_tree(tmp_path / "d", {"ant": 20, "bee": 10, "unlabelled": 5})
    table = open_samples(str(data))
    pack_samples(table, tmp_path / "d.arrow")
    write_parquet(tmp_path / "d.parquet", table.labels.tolist(), names=["ant", "bee"])
    digests = {
        (found.train.digest, None if found.val is None else found.val.digest)
        for path in ("d", "d.arrow", "d.parquet")
        if (found := open_data(str(tmp_path / path), DataChoice(**choice)))  # type: ignore[arg-type]
    }
    assert len(digests) == 1


def test_a_selection_is_small_reads_its_own_images_and_can_be_selected_from() -> None:
    table = labelled_table(np.arange(1000) % 7)
    part = SelectedSamples(table, positions=np.arange(10, 1000, 10))
    inner = SelectedSamples(part, positions=np.asarray([3, 1]), labels=np.asarray([-1, 5]))
    assert inner.whole is table
    assert inner.positions.tolist() == [40, 20]
    assert inner.labels.tolist() == [-1, 5]
    assert inner.num_labelled == 1
    assert list(inner.keys) == ["row 40", "row 20"]
    assert (inner.keys[-1], inner.keys[0:1]) == ("row 20", ["row 40"])
    again = pickle.loads(pickle.dumps(inner))
    assert image_bytes(again) == [table.pixels[40].tobytes(), table.pixels[20].tobytes()]
    assert again.digest == inner.digest
    assert inner.byte_sizes.tolist() == [4, 4]
    assert len(pickle.dumps(part)) < len(pickle.dumps(table)) + 10 * len(part) + 1000
    reversed_order = SelectedSamples(table, positions=np.arange(1000)[::-1])
    assert reversed_order.selected_positions is not None
    assert SelectedSamples(table).digest == table.digest


def test_a_missing_file_is_named_by_its_number_in_the_selection(tmp_path: Path) -> None:
    data = write_tree(tmp_path, {"ant": 20, "bee": 20})
    found = open_data(str(data), DataChoice(fraction=0.5, val_fraction=0))
    key = found.train.keys[3]
    (data / key).unlink()
    with pytest.raises(Exception, match=rf"sample 3 \({key}\)"):
        found.train.read(3)
