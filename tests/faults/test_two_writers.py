import os
import subprocess
import sys

import numpy as np
import pytest
from faults.writer_process import WriterProcess
from store_fakes import assert_same, create, expected, fill, make_teacher

from deit_pipe.store.errors import CacheBusy
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.removal import remove_teacher
from deit_pipe.store.verify import verify
from deit_pipe.store.writer import TargetWriter


def test_the_second_of_two_processes_is_refused_and_nothing_is_lost(tmp_path):
    create(tmp_path)
    teacher = make_teacher()
    first = WriterProcess(tmp_path, teacher, 2)
    assert first.wait_for("open") == 14
    second = WriterProcess(tmp_path, teacher, 2)
    name, exit_code, message = second.wait_for("error")
    assert (name, exit_code) == ("CacheBusy", 3)
    assert f"process {first.process.pid}" in message
    with pytest.raises(CacheBusy, match="is being written"):
        TargetWriter.open(tmp_path, teacher, epochs=2)
    with pytest.raises(CacheBusy):
        remove_teacher(tmp_path, teacher.name)
    first.go()
    first.wait_for("end")
    assert_same(TargetReader(tmp_path).read(1, np.arange(100)), expected(teacher, 1, np.arange(100)))
    assert verify(tmp_path, "deep").ok
    first.process.join()
    assert fill(tmp_path, teacher, 2) == []


def test_the_lock_of_a_killed_writer_does_not_last(tmp_path):
    create(tmp_path)
    teacher = make_teacher()
    first = WriterProcess(tmp_path, teacher, 2)
    first.wait_for("open")
    first.kill()
    assert len(fill(tmp_path, teacher, 2)) == 14


def test_a_rank_that_outlived_its_run_is_waited_for(tmp_path):
    create(tmp_path)
    teacher = make_teacher()
    ranks = [WriterProcess(tmp_path, teacher, 2, 0, 2)]
    ranks[0].wait_for("open")
    ranks.append(WriterProcess(tmp_path, teacher, 2, 1, 2))
    ranks[1].wait_for("open")
    ranks[0].kill()
    with pytest.raises(CacheBusy, match="a rank of an earlier run"):
        TargetWriter.open(tmp_path, teacher, epochs=2)
    ranks[1].kill()
    assert len(fill(tmp_path, teacher, 2)) == 14


def test_one_process_cannot_write_a_teacher_twice(tmp_path):
    create(tmp_path)
    teacher = make_teacher()
    with TargetWriter.open(tmp_path, teacher, epochs=1):
        with pytest.raises(CacheBusy, match="this process"):
            TargetWriter.open(tmp_path, teacher, epochs=1)
        other = WriterProcess(tmp_path, teacher, 1)  # the refusal did not free our lock
        assert other.wait_for("error")[0] == "CacheBusy"
    fill(tmp_path, teacher, 1)


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    """Data workers are forked while the lock is held and may live a little longer than a killed parent."""
    create(tmp_path)
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from store_fakes import make_teacher\n"
        "from deit_pipe.store.writer import TargetWriter\n"
        "writer = TargetWriter.open(sys.argv[1], make_teacher(), epochs=1)\n"
        "child = os.fork()\n"
        "if child: print(child, flush=True); os.kill(os.getpid(), 9)\n"
        "sys.stdin.read()\n"  # lives until the test lets go of its end
        "os.write(1, b'ended')\n"
    )
    tests = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), tests], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        child = int(parent.stdout.readline())
        assert parent.wait() == -9
        os.kill(child, 0)  # it lives
        assert len(fill(tmp_path, make_teacher(), 1)) == 7
        assert parent.communicate()[0] == b"ended"


def test_two_teachers_at_once_from_two_processes(tmp_path):
    create(tmp_path)
    teachers = [make_teacher("dense"), make_teacher("topk:3")]
    writers = [WriterProcess(tmp_path, teacher, 2) for teacher in teachers]
    for writer in writers:
        assert writer.wait_for("open") == 14
    for writer in writers:
        writer.go()
    for writer in writers:
        writer.wait_for("end")
        assert len(writer.said("done")) == 14
        writer.process.join()
    for teacher in teachers:
        got = TargetReader(tmp_path, teacher.name).read(1, np.arange(100))
        assert_same(got, expected(teacher, 1, np.arange(100)))
    assert verify(tmp_path, "deep").ok
