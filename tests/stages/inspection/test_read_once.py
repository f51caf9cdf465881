"""An inspection reads each small file once and lists each folder once, however many teachers there are."""

from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest
from inspect_fakes import make_cache

from deit_pipe.stages.inspect_cache import run
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.store import manifest
from deit_pipe.store.gates import write_gate
from deit_pipe.store.places import opening
from deit_pipe.store.places.local import LocalDirectory
from deit_pipe.store.stored_cache import StoredCache

GATE = {
    "decision": "not gated",
    "reason": "made up",
    "model": "m",
    "weights_sha256": "ab",
    "head": "trained",
    "image_size": 32,
    "num_classes": 4,
    "measured": 1.0,
}
NAMES = ("first", "second", "third")


class Counting(LocalDirectory):
    """A directory that counts what is asked of it."""

    gets: ClassVar[Counter[str]] = Counter()
    listings: ClassVar[Counter[str]] = Counter()
    others: ClassVar[Counter[str]] = Counter()

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        self.gets[key] += 1
        return super().get(key, start, stop)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        self.listings[prefix] += 1
        return super().sizes(prefix)

    def size(self, key: str) -> int | None:
        self.others[key] += 1
        return super().size(key)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three teachers, the last one half done; two writing runs; a gate each."""
    folder = tmp_path_factory.mktemp("three")
    made = make_cache(folder, name=NAMES[0], epochs=2)
    make_cache(folder, data=made.data, name=NAMES[1], targets="topk:2", epochs=2)
    last = make_cache(folder, data=made.data, name=NAMES[2], targets="none", epochs=2, blocks=3)
    make_cache(folder, data=made.data, name=NAMES[2], targets="none", epochs=2, blocks=4)
    assert write_gate(made.cache, last.teacher, GATE)
    return made.cache


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> type[Counting]:
    monkeypatch.setattr(opening, "LocalDirectory", Counting)
    for counter in (Counting.gets, Counting.listings, Counting.others):
        counter.clear()
    return Counting


def small_files(cache: Path) -> set[str]:
    """All files that are read: no blocks and their metadata, no second copies, nothing whose name says all."""
    found = {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()}
    return {key for key in found if not key.startswith(("targets.zarr/", "copies/", ".swap")) and "/epochs/" not in key}


def twice(cache: Path) -> set[str]:
    """The second copies."""
    return {path.relative_to(cache).as_posix() for path in (cache / "copies").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "listings"),
    [
        ({}, 6),  # identities twice, the ledger of each of three, and an epoch that no index has
        ({"verify": "hash"}, 6),
        ({"verify": "sizes"}, 9),  # and each one's blocks
        ({"replay": "8"}, 6),
        ({"verify": "hash", "replay": "8", "report": "page.html"}, 6),
    ],
)
def test_every_small_file_is_read_once(
    cache: Path, counting: type[Counting], options: dict[str, str], listings: int, tmp_path: Path
) -> None:
    changed = {"report": str(tmp_path / "page.html")} if "report" in options else {}
    result = run(InspectCacheOptions(cache=str(cache), **(options | changed)))
    assert result.exit_code == 3  # one teacher is half done
    assert [teacher["name"] for teacher in result.data["teachers"]] == list(NAMES)
    gets = {key: count for key, count in counting.gets.items() if not key.startswith("targets.zarr/")}
    absent = {f"ledger/{name}/gate.json" for name in NAMES[:2]}
    if options.get("verify") == "hash":  # what is there twice is read to compare it
        copies = {key: count for key, count in gets.items() if key.startswith("copies/")}
        assert copies == dict.fromkeys(twice(cache), 1)
        gets = {key: count - (f"copies/{key}" in copies) for key, count in gets.items() if key not in copies}
    assert gets == dict.fromkeys(small_files(cache) | absent, 1)
    assert "ledger/third/gate.json" in gets
    assert sum("/runs/" in key for key in gets) == 4
    assert counting.listings.total() == listings
    assert max(counting.listings.values()) == 1
    assert set(counting.others) <= {f"teachers/{name}.removed" for name in NAMES}


def test_looking_closer_and_comparing_read_no_more(cache: Path, counting: type[Counting]) -> None:
    for options in ({"cell": "0/3"}, {"sample": "3"}, {"diff": str(cache)}):
        counting.gets.clear()
        run(InspectCacheOptions(cache=str(cache), **options))
        caches = 2 if "diff" in options else 1
        small = {key: count for key, count in counting.gets.items() if not key.startswith("targets.zarr/")}
        assert small["MANIFEST.json"] == caches
        assert max(small.values()) == caches, small


def test_what_is_read_is_kept_and_another_opening_sees_what_is_new(tmp_path: Path) -> None:
    made = make_cache(tmp_path, name="first", epochs=1, blocks=2)
    stored = StoredCache(made.cache)
    assert stored.teacher("first").coverage.blocks_committed.tolist() == [2]
    make_cache(tmp_path, data=made.data, name="first", epochs=1)
    make_cache(tmp_path, data=made.data, name="second", epochs=1)
    assert stored.teacher("first").coverage.blocks_committed.tolist() == [2]
    assert stored.teacher_names == ["first", "second"]  # asked for only now
    again = StoredCache(made.cache)
    assert again.teacher("first").coverage.blocks_committed.tolist() == [5]
    assert again.samples.keys == manifest.read_samples(made.cache).keys
