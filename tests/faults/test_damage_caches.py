import pytest
from faults import damage_caches
from faults.damage_caches import damage_until


def check(figures, damages):
    assert figures.problems == []
    assert figures.damages == damages
    assert figures.named.total() > damages // 2
    assert figures.refused > damages // 4


def test_damages_of_any_file_are_named_and_none_is_served(tmp_path):
    check(damage_until(tmp_path, 30, seed=1), 30)


@pytest.mark.slow
def test_five_hundred_damages(tmp_path):
    check(damage_until(tmp_path, 500, seed=2), 500)


def test_a_damage_that_nobody_names_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(damage_caches, "is_named", lambda _: False)
    assert any("not named" in problem for problem in damage_until(tmp_path, 5, seed=1).problems)
