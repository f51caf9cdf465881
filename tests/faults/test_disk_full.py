import os
import shutil
import subprocess

import numpy as np
import pytest
from faults.writer_process import WriterProcess
from store_fakes import assert_same, create, expected, fill, make_teacher, write_blocks

from deit_pipe.store.errors import DiskFull
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.verify import verify
from deit_pipe.store.writer import TargetWriter


@pytest.mark.parametrize("file_bytes", [10, 100, 500, 900])
def test_a_file_that_cannot_grow_stops_cleanly_and_resume_completes(tmp_path, file_bytes):
    """RLIMIT_FSIZE fails a write in the middle of a file, as a quota does; needs no rights."""
    create(tmp_path)
    teacher = make_teacher()
    fill(tmp_path, make_teacher(), 1)
    writer = WriterProcess(tmp_path, teacher, 3, file_bytes=file_bytes)
    if writer.wait_for("open") and not writer.said("error"):
        writer.go()
        writer.wait_for("end")
    writer.process.join()
    [(name, exit_code, message)] = writer.said("error")
    assert (name, exit_code) == ("DiskFull", 3)
    assert "disk full" in message
    assert "it resumes" in message
    assert not list(tmp_path.rglob("*.partial"))
    check_and_complete(tmp_path, teacher)


def check_and_complete(path, teacher, epochs=3):
    assert verify(path, "deep").ok  # whatever is committed is whole
    fill(path, teacher, epochs)
    for epoch in range(epochs):
        assert_same(TargetReader(path).read(epoch, np.arange(100)), expected(teacher, epoch, np.arange(100)))


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs of 2 MB and 150 inodes; mounting needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=2m,nr_inodes=150", "tmpfs", str(folder)]
    if mount is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_a_full_disk_stops_cleanly_and_resume_completes(small_disk, what):
    cache = small_disk / "c"
    create(cache)
    teacher = make_teacher()
    if what == "bytes":
        (small_disk / "ballast").write_bytes(bytes(2 * 2**20 - 140_000))
    else:
        for number in range(100):
            (small_disk / f"ballast{number}").touch()
    with (
        pytest.raises(DiskFull, match="disk full") as caught,
        TargetWriter.open(cache, teacher, epochs=3, check_space=False) as writer,
    ):
        write_blocks(writer, writer.mine)
    assert caught.value.exit_code == 3
    assert 0 < writer.report.blocks_committed < 21
    assert not list(cache.rglob("*.partial"))
    with pytest.raises(DiskFull, match=r"not enough space|disk full"):
        TargetWriter.open(cache, teacher, epochs=3)
    for ballast in small_disk.glob("ballast*"):
        ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=8m,nr_inodes=2000", str(small_disk)], check=True)
    check_and_complete(cache, teacher)
