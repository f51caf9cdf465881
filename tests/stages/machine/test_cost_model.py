import math

import pytest

from deit_pipe.stages.machine.cost_model import (
    CORES,
    NETWORK,
    VIEWS,
    NetworkCost,
    Pace,
    Share,
    ViewCost,
    break_even,
    cores_needed,
    limit_line,
    measured_drag,
    online_cost,
    pace,
    reuse_line,
)

VIEW = ViewCost(core_seconds=0.001, rate=4000.0)  # four workers, a core each


@pytest.mark.parametrize(
    ("network", "cores", "workers", "limit", "rate"),
    [
        (NetworkCost(seconds=0.0005, core_seconds=0.00001), 8, 4, NETWORK, 2000),  # a GPU, fed with ease
        (NetworkCost(seconds=0.0001, core_seconds=0.00001), 8, 4, VIEWS, 4000),  # a GPU that waits
        (NetworkCost(seconds=0.003, core_seconds=0.006), 2, 4, CORES, 1 / 0.0035),  # a CPU: 7 ms of 2 cores
        (NetworkCost(seconds=0.0001, core_seconds=0.001), 2, 4, CORES, 1000),  # 2 cores launch and make views
        (NetworkCost(seconds=0.00075, core_seconds=0.001), 1, 0, CORES, 1000),  # one after the other
    ],
)
def test_the_slowest_sets_the_pace(network: NetworkCost, cores: float, workers: int, limit: str, rate: float) -> None:
    share = Share(cores=cores, workers=workers)
    found = pace(VIEW, network, share)
    assert (found.limit, found.rate) == (limit, pytest.approx(rate))
    assert found.network_rate == pytest.approx(1 / network.seconds)
    two = pace(VIEW, network, Share(cores=cores, workers=workers, processes=2))
    assert (two.rate, two.view_rate, two.limit) == (pytest.approx(2 * rate), 8000, limit)


def test_what_both_at_once_cost_beyond_their_parts_is_measured_once_and_used() -> None:
    network, share = NetworkCost(seconds=0.003, core_seconds=0.006), Share(cores=2, workers=2, processes=2)
    drag = measured_drag(VIEW, network, share, together=250.0)
    assert drag == pytest.approx(1 / 0.0035 / 250)
    assert pace(VIEW, network, share, drag).rate == pytest.approx(500)
    assert pace(ViewCost(core_seconds=0.0005, rate=4000), network, share, drag).rate == pytest.approx(500 * 7 / 6.5)
    assert measured_drag(VIEW, network, share, together=400.0) == 1.0  # never quicker than the parts


def test_cores_for_a_network_that_never_waits() -> None:
    network = NetworkCost(seconds=1 / 7700, core_seconds=0.2 / 7700)
    cores = cores_needed(VIEW, network)
    assert cores == pytest.approx(7.9)
    enough = pace(ViewCost(core_seconds=0.001, rate=8 * 1000), network, Share(cores=8, workers=8))
    few = pace(ViewCost(core_seconds=0.001, rate=7 * 1000), network, Share(cores=7, workers=7))
    assert (enough.limit, few.limit) == (NETWORK, CORES)
    assert cores_needed(VIEW, NetworkCost(seconds=0.0, core_seconds=0.0)) == math.inf


def test_break_even_against_a_teacher_in_every_step() -> None:
    student, teacher = NetworkCost(seconds=1.0, core_seconds=0.5), NetworkCost(seconds=2.0, core_seconds=0.25)
    online = online_cost(student, teacher)
    assert (online.seconds, online.core_seconds) == (3.0, 0.75)
    # 30 cached epochs of 2 s a view, then 300 epochs of 1 s instead of 3 s
    assert break_even(30 * 2.0, 300 * 1.0, 300 * 3.0) == pytest.approx(0.1)
    assert break_even(30 * 2.0, 10 * 1.0, 10 * 3.0) == pytest.approx(3)
    assert break_even(1.0, 5.0, 5.0) == math.inf


@pytest.mark.parametrize(
    ("found", "raw", "line"),
    [
        (
            Pace(6900, VIEWS, 6900, 7700),
            12000,
            "views are the limit: 16 threads make 6,900/s, this student takes 7,700/s; pack --raw gives 12,000/s",
        ),
        (
            Pace(600, NETWORK, 1040, 600),
            2000,
            "the student is the limit: it takes 600/s, 16 threads make 1,040/s",
        ),
        (
            Pace(380, CORES, 1040, 600),
            None,
            "the cores are the limit: 2 of them make 1,040 views/s, or this student takes 600/s, or both at once 380/s",
        ),
    ],
)
def test_the_words(found: Pace, raw: float | None, line: str) -> None:
    assert limit_line(found, "student", "16 threads", 2, raw) == line


def test_packing_that_gives_nothing_is_not_named() -> None:
    assert "pack" not in limit_line(Pace(600, VIEWS, 600, 700), "student", "2 threads", 2, 590)


@pytest.mark.parametrize(
    ("trained", "cached", "words"),
    [
        (30, 30, "seen once"),
        (30, 45, "seen once"),
        (300, 100, "seen 3 times (up to 3 cost nothing"),
        (
            300,
            30,
            "and 100 cached epochs would do, for 3.33 x the",
        ),
        (
            40,
            12,
            "seen 3.33 times; up to 3 cost nothing that could be measured, and 14 cached",
        ),
    ],
)
def test_how_often_a_cached_view_is_seen(trained: int, cached: int, words: str) -> None:
    line = reuse_line(trained, cached)
    assert words in line
    assert ("--epochs" in line) == (trained > 3 * cached)
