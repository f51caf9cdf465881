import pytest
from faults.kill_jobs import Watched, versions
from faults.kill_writer import kill_independent, kill_until
from s3_server import BUCKET, s3_server
from store_fakes import create, fill, make_teacher

from deit_pipe.store.places.opening import open_location


def check(figures, kills):
    assert figures.problems == []
    assert figures.kills >= kills
    assert figures.in_a_write > 0
    assert figures.most_lost <= 1


def test_a_killed_writer_loses_at_most_the_block_at_hand(tmp_path):
    check(kill_until(str(tmp_path), 8, seed=1), 8)


def test_jobs_that_come_go_and_are_killed_lose_and_rewrite_nothing(tmp_path):
    figures = kill_until(str(tmp_path), 8, 2, kill_independent(6))
    check(figures, 8)
    assert figures.most_at_once > 1


@pytest.fixture
def bucket(monkeypatch):
    pytest.importorskip("moto")
    pytest.importorskip("obstore")
    with s3_server() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield f"s3://{BUCKET}"


def test_jobs_that_are_killed_on_an_object_store_lose_and_rewrite_nothing(bucket):
    figures = kill_until(bucket, 6, 3, kill_independent(4))
    assert figures.problems == []
    assert figures.kills >= 6


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_fifty_kills(tmp_path, seed):
    check(kill_until(str(tmp_path), 10, seed=100 + seed), 10)
    check(kill_until(str(tmp_path), 20, 100 + seed, kill_independent(6)), 20)


@pytest.mark.parametrize("where", ["a directory", "an object store"])
def test_a_block_that_is_rewritten_or_gone_is_seen(tmp_path, where, request):
    location = str(tmp_path / "c") if where == "a directory" else f"{request.getfixturevalue('bucket')}/looked-at"
    create(location)
    teacher = make_teacher("none")
    fill(location, teacher, 1)
    watched = Watched(location, teacher, 1)
    assert watched.look() == watched.look() == []
    assert len(watched.seen) == 7
    place = open_location(location)
    first, second = sorted(versions(location))[:2]
    record = place.get(second)
    place.put(first, record)
    place.delete(second)
    assert watched.look() == [f"{second} is gone", f"{first} was rewritten"]
    place.put(second, record)
    place.delete(first)
    fill(location, teacher, 1)
    watched.told = {(0, 0): {"another attempt's token"}, (0, 9): {"any"}}
    assert [line.partition(" was reported")[0] for line in watched.compare()] == ["block (0, 9)", "block (0, 0)"]
