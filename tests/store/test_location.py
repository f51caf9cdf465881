import errno
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid

import numpy as np
import pytest
from store_fakes import FORMATS, assert_same, create, expected, fill, make_teacher, write_blocks

from deit_pipe.store import lock
from deit_pipe.store.errors import CacheBusy, CacheCorrupt, DiskFull, FormatInvalid
from deit_pipe.store.layout import array_specs, object_key
from deit_pipe.store.ledger import coverage
from deit_pipe.store.manifest import list_teachers
from deit_pipe.store.places import local
from deit_pipe.store.places.location import ObjectExists, ObjectMissing
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.removal import remove_teacher
from deit_pipe.store.verify import verify
from deit_pipe.store.writer import TargetWriter


@pytest.fixture(scope="module")
def s3_server():
    """moto's server, a real HTTP server that speaks S3, on loopback."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(url, timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        request = urllib.request.Request(f"{url}/caches", method="PUT")
        urllib.request.urlopen(request, timeout=5).close()
        yield url
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(params=["local", "memory", "s3"])
def place(request, tmp_path, monkeypatch):
    if request.param == "local":
        return str(tmp_path / "c")
    if request.param == "memory":
        return f"memory://caches/{uuid.uuid4().hex}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_server"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return f"s3://caches/{uuid.uuid4().hex}"


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
    there.create("a/c/d", b"")
    with pytest.raises(ObjectExists):
        there.create("a/b", b"x")
    assert there.get("a/b") == b"three"
    assert there.sizes("a") == {"a/b": 5, "a/c/d": 0}
    assert there.sizes("a/c") == {"a/c/d": 0}
    assert there.sizes() == there.sizes("a")
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
    spec = array_specs(teacher.format)[-1]
    key = object_key(teacher.name, spec, 1, 2)
    data = bytearray(there.get(key))
    data[5] ^= 1
    there.put(key, bytes(data))
    assert [(f.where, f.epoch, f.slots) for f in verify(place, "hash")] == [(spec.name, 1, (32, 48))]
    with pytest.raises(CacheCorrupt, match="fails its SHA-256"):
        TargetReader(place).read(1, np.arange(100))
    assert [(b.epoch, b.index) for b in fill(place, teacher, 2)] == [(1, 2)]
    assert verify(place, "deep").ok
    remove_teacher(place, teacher.name)
    assert list_teachers(place) == []
    assert not [key for key in there.sizes() if f"/{teacher.name}/" in key]


def test_the_second_writer_is_refused_everywhere(place):
    create(place)
    with TargetWriter.open(place, make_teacher(), epochs=1):
        with pytest.raises(CacheBusy, match=str(os.getpid())):
            TargetWriter.open(place, make_teacher(), epochs=1)
        fill(place, make_teacher("none"), 1)
    fill(place, make_teacher(), 1)


@pytest.mark.parametrize("holder", ["gone", "expired", "torn"])
def test_a_dead_writers_lease_is_taken_over(holder, monkeypatch):
    place = f"memory://caches/{uuid.uuid4().hex}"
    create(place)
    first = TargetWriter.open(place, make_teacher(), epochs=1)
    first._lock._stop.set()
    if holder == "gone":
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        monkeypatch.setattr(lock.os, "getpid", lambda: process.pid)
        open_location(place).put(first._lock._key, first._lock._lease_text())
        monkeypatch.undo()
    elif holder == "expired":
        monkeypatch.setattr(lock, "LEASE_SECONDS", -1.0)
        open_location(place).put(first._lock._key, first._lock._lease_text())
        monkeypatch.undo()
    else:
        open_location(place).put(first._lock._key, b"{")
    with TargetWriter.open(place, make_teacher(), epochs=1) as second:
        first.close()  # must not free what is not its own any more
        assert open_location(place).exists(second._lock._key)
    assert not open_location(place).exists(second._lock._key)


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


def test_file_systems_without_hard_links_work(tmp_path, monkeypatch):
    def link(*_):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(local.os, "link", link)
    place = open_location(tmp_path)
    place.create("a", b"1")
    with pytest.raises(ObjectExists):
        place.create("a", b"2")
    assert place.get("a") == b"1"


def test_unknown_address_is_a_usage_error():
    with pytest.raises(FormatInvalid, match="cannot open nowhere://x"):
        open_location("nowhere://x")
