import pytest
from faults.kill_writer import kill_until


def check(figures, kills):
    assert figures.problems == []
    assert figures.kills >= kills
    assert figures.in_a_write > 0
    assert figures.most_lost_per_rank <= 1


def test_a_killed_writer_loses_at_most_the_block_at_hand(tmp_path):
    check(kill_until(tmp_path, 8, seed=1), 8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_fifty_kills(tmp_path, seed):
    check(kill_until(tmp_path, 10, seed=100 + seed), 10)
