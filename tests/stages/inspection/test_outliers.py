import numpy as np
import pytest

from deit_pipe.stages.inspection.outliers import FEWEST_BLOCKS, blamed_ranks, find_outliers

BINS = 20


def columns_of(
    blocks: int, slots: int = 256, right: float = 0.8, seed: int = 0, last: int | None = None
) -> dict[str, np.ndarray]:
    """The ledger columns of healthy blocks, from single views whose confidence is Beta(8, 2) distributed."""
    random = np.random.Generator(np.random.Philox(key=np.array([seed, 0], np.uint64)))
    sizes = np.full(blocks, slots)
    if last is not None:
        sizes[-1] = last
    confidence = [random.beta(8, 2, size) for size in sizes]
    return {
        "epoch": np.arange(blocks) // 10,
        "index": np.arange(blocks) % 10,
        "start": np.zeros(blocks, np.int64),
        "stop": sizes,
        "rank": np.arange(blocks) % 4,
        "agree": np.array([(random.random(s) < right).sum() for s in sizes]),
        "top1": np.array([c.mean() for c in confidence]),
        "entropy": np.array([(1.5 * (1 - c)).mean() for c in confidence]),
        "confidence": np.array([np.histogram(c, BINS, (0, 1))[0] for c in confidence]),
    }


@pytest.mark.parametrize("blocks", [4, 6, 40, 1000])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_healthy_blocks_are_not_called_odd_however_few_or_many(blocks: int, seed: int) -> None:
    assert find_outliers(columns_of(blocks, seed=seed, last=30), 100) == []


def test_a_perfect_teacher_with_one_mistake_is_no_outlier() -> None:
    columns = columns_of(50, right=1.0)
    columns["agree"][7] -= 1
    assert find_outliers(columns, 100) == []


@pytest.mark.parametrize("blocks", [6, 40, 1000])
@pytest.mark.parametrize(
    ("statistic", "column", "factor"),
    [("agreement", "agree", 0.3), ("confidence", "top1", 0.5), ("entropy", "entropy", 3.0)],
)
def test_the_odd_block_comes_first_with_its_own_numbers(
    blocks: int, statistic: str, column: str, factor: float
) -> None:
    columns = columns_of(blocks)
    columns[column] = columns[column].astype(np.float64)
    columns[column][3] *= factor
    columns["agree"] = np.round(columns["agree"]).astype(np.int64)
    found = find_outliers(columns, 100)
    assert (found[0].epoch, found[0].block, found[0].statistic) == (0, 3, statistic)
    value = columns[column][3] / (256 if column == "agree" else 1)
    values = columns[column] / (256 if column == "agree" else 1)
    assert found[0].value == pytest.approx(value)
    assert found[0].typical == pytest.approx(np.median(values))
    assert found[0].z == pytest.approx((value - np.median(values)) / found[0].spread)
    # of many blocks the median absolute deviation is the standard deviation of the healthy ones
    if blocks == 1000:
        assert found[0].spread == pytest.approx(np.delete(values, 3).std(), rel=0.15)
        assert len(found) == 1


def test_a_ragged_last_block_may_differ_more() -> None:
    columns = columns_of(100, last=16)
    columns["agree"][-1] = 8  # of 16; expected 12.8 +- 1.6, so 3 standard deviations
    assert find_outliers(columns, 100) == []
    columns["stop"][-1], columns["agree"][-1] = 256, 128  # the same share of a whole block
    assert find_outliers(columns, 100)[0].block == 9


def test_the_spread_of_a_smaller_block_is_larger_even_where_blocks_vary_more_than_by_sampling() -> None:
    columns = columns_of(200, last=64)
    random = np.random.Generator(np.random.Philox(5))
    columns["agree"] = np.round(205 + random.normal(0, 30, 200)).astype(np.int64).clip(0, 256)
    columns["agree"][0] = columns["agree"][-1] = 0
    spread = {(one.epoch, one.block): one.spread for one in find_outliers(columns, 100, limit=2.0)}
    assert spread[19, 9] == pytest.approx(2 * spread[0, 0])


def test_of_few_blocks_nobody_can_tell() -> None:
    columns = columns_of(FEWEST_BLOCKS - 1)
    columns["agree"][0] = 0
    assert find_outliers(columns, 100) == []
    assert find_outliers({name: column[:0] for name, column in columns.items()}, 100) == []


def test_a_process_whose_blocks_are_odd_is_blamed_and_no_other() -> None:
    columns = columns_of(80)
    columns["agree"][columns["rank"] == 2] = 30
    found = find_outliers(columns, 100)
    assert len(found) == 20
    assert blamed_ranks(found, columns) == [2]
    columns["rank"] = np.zeros(80, np.int64)
    assert blamed_ranks(find_outliers(columns, 100), columns) == []
