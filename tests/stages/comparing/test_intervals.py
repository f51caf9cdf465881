import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from deit_pipe.stages.comparing.intervals import inside, paired_difference, spread, student_t

SCORES = st.lists(st.floats(0, 1), min_size=2, max_size=8)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 29, 100, 101])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_quantiles_are_scipys(level: float, freedom: int) -> None:
    assert student_t(level, freedom) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-9)
    assert inside(2.0, freedom) == pytest.approx(1 - 2 * stats.t.sf(2.0, freedom), abs=1e-12)


@given(SCORES, st.integers(0, 2**31))
def test_the_interval_is_that_of_scipys_paired_test(ours: list[float], seed: int) -> None:
    others = np.random.default_rng(seed).uniform(size=len(ours))
    gaps = np.asarray(ours) - others
    found = paired_difference(dict(enumerate(ours)), dict(enumerate(others.tolist())))
    assert found is not None
    known = stats.ttest_rel(ours, others).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-9)
    assert found.mean == pytest.approx(gaps.mean(), abs=1e-12)
    assert found.pairs == len(ours)


def test_only_common_seeds_are_paired() -> None:
    found = paired_difference({0: 0.5, 1: 0.7, 3: 0.1}, {0: 0.4, 1: 0.5, 2: 0.9})
    assert found is not None
    assert (found.mean, found.pairs) == (pytest.approx(0.15), 2)
    assert paired_difference({0: 0.5}, {1: 0.4}) is None
    single = paired_difference({0: 0.5}, {0: 0.4})
    assert single is not None
    assert (single.low, single.high, single.pairs) == (None, None, 1)


def test_spread_is_mean_and_deviation() -> None:
    values = [0.9, 0.96, 0.93]
    found = spread(values)
    assert (found.mean, found.runs) == (pytest.approx(0.93), 3)
    assert found.sd == pytest.approx(statistics.stdev(values))
    assert math.isclose(found.sd or 0, float(np.std(values, ddof=1)))
    assert spread([0.5]) == (0.5, None, 1)
