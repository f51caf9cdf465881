import errno
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from s3_server import BUCKET, s3_server
from store_fakes import FORMATS, assert_same, create, expected, fill, make_teacher, write_blocks

from deit_pipe.store.errors import CacheCorrupt, DiskFull, FormatInvalid, StoreUnreachable
from deit_pipe.store.layout import first_array, object_key
from deit_pipe.store.ledger import coverage
from deit_pipe.store.manifest import list_teachers
from deit_pipe.store.places import local
from deit_pipe.store.places.location import ObjectExists, ObjectMissing
from deit_pipe.store.places.memory import MemoryObjects
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.places.probe import probe
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.removal import remove_teacher
from deit_pipe.store.verify import verify
from deit_pipe.store.writer import TargetWriter


@pytest.fixture(scope="module")
def s3():
    """The environment that leads to an S3 server."""
    pytest.importorskip("moto")
    pytest.importorskip("obstore")
    with s3_server() as environment:
        yield environment


@pytest.fixture(params=["local", "memory", "s3"])
def place(request, tmp_path, monkeypatch):
    if request.param == "local":
        return str(tmp_path / "c")
    if request.param == "memory":
        return f"memory://caches/{uuid.uuid4().hex}"
    for name, value in request.getfixturevalue("s3").items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


def test_verbs(place):
    there = open_location(place)
    assert there.sizes() == {}
    assert there.size("a/b") is None
    with pytest.raises(ObjectMissing):
        there.get("a/b")
    there.delete("a/b")
    there.delete_tree("a")
    there.put("a/b", b"one")
    there.put("a/b", b"three")
    assert there.get("a/b", 1, 3) == b"hr"
    assert there.get("a/b", 3, 99) == b"ee"
    there.create("a/c/d", b"")
    with pytest.raises(ObjectExists):
        there.create("a/b", b"x")
    assert there.get("a/b") == b"three"
    assert there.sizes("a") == {"a/b": 5, "a/c/d": 0}
    assert there.sizes("a/c") == {"a/c/d": 0}
    assert there.sizes() == there.sizes("a")
    seen = there.see("a/b")
    assert seen.data == b"three"
    assert there.see("nothing") is None
    assert there.swap("a/b", seen, b"swapped")
    assert not there.swap("a/b", seen, b"again")
    assert not there.swap("a/nothing", seen, b"again")
    assert there.get("a/b") == b"swapped"
    there.settle("a/b", b"three")
    there.settle("a/settled", b"new")
    assert (there.get("a/b"), there.get("a/settled")) == (b"three", b"new")
    there.delete("a/settled")
    probe(there)
    assert [key for key in there.sizes() if key.startswith("hints")] == []
    assert there.exists("a/b")
    assert not there.exists("a/c")
    there.put("ab/x", b"neighbour")
    there.delete_tree("a")
    assert there.sizes() == {"ab/x": 9}


@pytest.mark.parametrize("text", FORMATS)
def test_the_same_code_runs_everywhere(place, text):
    if place.startswith("s3") and text != "topk:3":
        pytest.skip("one format is enough over HTTP")
    create(place)
    create(place)
    teacher = make_teacher(text)
    with TargetWriter.open(place, teacher, epochs=1) as writer:
        write_blocks(writer, writer.mine[:3])
    assert len(fill(place, teacher, 2)) == 11
    reader = TargetReader(place)
    cells = [(epoch, np.arange(start, start + 20)) for epoch in range(2) for start in range(0, 100, 20)]
    for (epoch, slots), targets in zip(cells, reader.stream(cells), strict=True):
        assert_same(targets, expected(teacher, epoch, slots))
    assert coverage(place, teacher.name).sealed.all()
    there = open_location(place)
    spec = first_array(teacher.format)
    key = object_key(teacher.name, spec, 1, 2)
    data = bytearray(there.get(key))
    data[-5] ^= 1
    there.put(key, bytes(data))
    assert [(f.where, f.epoch, f.slots) for f in verify(place, "hash")] == [(spec.name, 1, (32, 48))]
    with pytest.raises(CacheCorrupt, match="fails its SHA-256"):
        TargetReader(place).read(1, np.arange(100))
    assert [(b.epoch, b.index) for b in fill(place, teacher, 2)] == [(1, 2)]
    assert verify(place, "deep").ok
    remove_teacher(place, teacher.name)
    assert list_teachers(place) == []
    assert not [key for key in there.sizes() if f"/{teacher.name}/" in key]


def test_two_writers_share_the_blocks_everywhere(place):
    create(place)
    teacher = make_teacher("none")
    with (
        TargetWriter.open(place, teacher, epochs=2) as one,
        TargetWriter.open(place, teacher, epochs=2) as other,
    ):
        first, second = iter(one.claims()), iter(other.claims())
        for turn in range(100):
            block = next((first, second)[turn % 2], None)
            if block is not None:
                write_blocks((one, other)[turn % 2], [block])
        assert (one.written + other.written, one.dropped + other.dropped) == (14, 0)
        assert min(one.written, other.written) >= 6
        assert one.complete()
        assert other.complete()
    assert_same(TargetReader(place).read(1, np.arange(100)), expected(teacher, 1, np.arange(100)))
    assert not open_location(place).sizes("hints")


class Careless(MemoryObjects):
    """A store that takes a condition and does not keep it."""

    def create(self, key, data):
        if self.broken == "create":
            self.put(key, data)
        else:
            super().create(key, data)

    def swap(self, key, seen, data):
        if self.broken == "swap":
            self.put(key, data)
            return True
        return self.broken != "never swaps" and super().swap(key, seen, data)


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        ("create", "creates an object over one that is there"),
        ("swap", "replaces an object that has changed"),
        ("never swaps", "does not replace an object that is unchanged"),
    ],
)
def test_a_store_whose_conditions_do_not_hold_is_refused_before_anything_is_written(broken, what):
    place = Careless(f"memory://caches/{uuid.uuid4().hex}")
    place.broken = "nothing"
    create(place)
    before = place.sizes()
    place.broken = broken
    with pytest.raises(StoreUnreachable, match=f"cannot hold a cache that is written: it {what}"):
        TargetWriter.open(place, make_teacher(), epochs=1)
    assert place.sizes() == before


def test_a_local_put_is_durable_before_it_is_visible(tmp_path, monkeypatch):
    """Temporary file, fsync, rename, fsync of the folder; and of every new folder into its parent."""
    calls = []

    def fsync(handle):
        calls.append(("fsync", str(local.Path(f"/proc/self/fd/{handle}").readlink())))

    replace = local.Path.replace
    monkeypatch.setattr(local.os, "fsync", fsync)
    monkeypatch.setattr(local.Path, "replace", lambda p, t: (calls.append(("rename", str(t))), replace(p, t))[1])
    place = open_location(tmp_path / "c")
    place.put("a/b", b"1")
    folder = str(tmp_path / "c" / "a")
    assert [call[0] for call in calls] == ["fsync", "fsync", "fsync", "rename", "fsync"]
    assert [calls[0][1], calls[1][1]] == [str(tmp_path), str(tmp_path / "c")]
    assert calls[2][1].startswith(f"{folder}/.b.")
    assert calls[3:] == [("rename", f"{folder}/b"), ("fsync", folder)]
    calls.clear()
    place.create("a/c", b"1")
    assert [call[0] for call in calls] == ["fsync", "fsync"]
    assert calls[1][1] == folder


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_leaves_the_old_object_and_no_temporary(tmp_path, monkeypatch, code):
    place = open_location(tmp_path)
    place.put("a", b"old")

    def full(_):
        raise OSError(code, "full")

    monkeypatch.setattr(local.os, "fsync", full)
    with pytest.raises(DiskFull, match="it resumes"):
        place.put("a", b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"old"}


def test_a_file_system_without_hard_links_is_refused(tmp_path, monkeypatch):
    create(tmp_path)

    def link(*_):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(local.os, "link", link)
    with pytest.raises(FormatInvalid, match="its file system has no hard links"):
        TargetWriter.open(tmp_path, make_teacher(), epochs=1)


def test_of_two_swaps_of_one_file_one_succeeds(tmp_path):
    place = open_location(tmp_path)
    for _ in range(20):
        place.put("a", b"bad")
        seen = place.see("a")
        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(lambda n: place.swap("a", seen, b"good %d" % n), range(4))) == 1  # noqa: B023


def test_unknown_address_is_a_usage_error():
    pytest.importorskip("obstore")
    with pytest.raises(FormatInvalid, match="cannot open nowhere://x"):
        open_location("nowhere://x")
