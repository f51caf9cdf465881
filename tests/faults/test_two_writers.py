"""Independent jobs on one teacher of one cache: every block once, whoever dies; nothing is locked."""

import numpy as np
import pytest
from faults.writer_process import WriterProcess
from store_fakes import answers, assert_same, create, expected, fill, make_teacher, write_blocks

from deit_pipe.store.places.opening import open_location
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.verify import verify
from deit_pipe.store.writer import TargetWriter
from deit_pipe.store.writing import hints


def whole(path, teacher, epochs=2):
    for epoch in range(epochs):
        assert_same(
            TargetReader(path, teacher.name).read(epoch, np.arange(100)), expected(teacher, epoch, np.arange(100))
        )
    assert verify(path, "deep", teacher.name).ok


def test_three_processes_share_the_blocks_and_make_each_once(tmp_path):
    create(tmp_path)
    teacher = make_teacher()
    jobs = [WriterProcess(tmp_path, teacher, 2) for _ in range(3)]
    for job in jobs:
        assert job.wait_for("open") == 14
    for job in jobs:
        job.go()
    for job in jobs:
        job.wait_for("end")
        assert not job.said("error")
    made = [(block.epoch, block.index) for job in jobs for block in job.said("done")]
    assert sorted(made) == [(epoch, index) for epoch in range(2) for index in range(7)]
    whole(tmp_path, teacher)
    assert not open_location(tmp_path).sizes("hints")


def test_the_hint_of_a_killed_process_of_this_host_is_taken_over_at_once(tmp_path):
    create(tmp_path)
    teacher = make_teacher()
    first = WriterProcess(tmp_path, teacher, 2, die=("go", 12))  # within its first block
    first.wait_for("open")
    first.go()
    first.wait_for("end")
    first.kill()
    assert len(open_location(tmp_path).sizes("hints/dense")) == 1
    with TargetWriter.open(tmp_path, teacher, epochs=2) as writer:
        write_blocks(writer, writer.claims())
        assert (writer.written, writer.dropped) == (14, 0)
    whole(tmp_path, teacher)


def test_a_job_that_finds_every_block_hinted_ends_or_waits_until_they_are_there(tmp_path):
    create(tmp_path)
    teacher = make_teacher()
    with TargetWriter.open(tmp_path, teacher, epochs=1) as busy, TargetWriter.open(tmp_path, teacher, epochs=1) as idle:
        making = list(busy.claims())
        assert list(idle.claims()) == []
        assert [len(idle.left()), len(idle.holders())] == [7, 1]
        turns = []

        def sleep(seconds):
            turns.append(seconds)
            write_blocks(busy, [making.pop()])

        assert idle.wait(sleep) is False
        assert len(turns) == 7
        assert idle.complete()
    whole(tmp_path, teacher, 1)


def test_a_hint_that_does_not_change_is_taken_over_by_the_observers_own_clock(tmp_path):
    """Its holder is on another host, stopped for an hour; when it wakes its block is there, and stays."""
    create(tmp_path)
    teacher = make_teacher()
    sleeper = TargetWriter.open(tmp_path, teacher, epochs=1)
    taken = next(sleeper.claims())
    for key in open_location(tmp_path).sizes("hints/dense"):
        said = open_location(tmp_path).get(key).replace(b'"host": "', b'"host": "far-')
        open_location(tmp_path).put(key, said)
    now = [0.0]
    with TargetWriter.open(tmp_path, teacher, epochs=1) as writer:
        writer._claims.hints._clock = lambda: now[0]
        write_blocks(writer, writer.claims())
        assert writer.left() == [taken]
        slept = []

        def sleep(seconds):
            slept.append(seconds)
            now[0] += 10.0

        assert writer.wait(sleep)
        assert len(slept) * 10.0 > hints.PATIENCE
        write_blocks(writer, writer.claims())
        assert writer.complete()
    record = sleeper.write(taken, *answers(taken, seed=9))  # other float bits
    assert (sleeper.written, sleeper.dropped) == (0, 1)
    assert record.token != ""
    whole(tmp_path, teacher, 1)


def test_a_hint_that_goes_on_to_change_is_left_alone(tmp_path):
    create(tmp_path)
    teacher = make_teacher("none", block_slots=100)
    place, now = open_location(tmp_path), [0.0]
    with TargetWriter.open(tmp_path, teacher, epochs=1) as writer:
        writer._claims.hints._clock = lambda: now[0]
        for turn in range(5):
            place.put("hints/none/0000-000000", b'{"host": "far", "process": 1, "token": "%d"}' % turn)
            assert list(writer.claims()) == []
            now[0] += hints.PATIENCE
        place.put("hints/none/0000-000000", b"\xff not JSON")
        assert list(writer.claims()) == []
        now[0] += hints.PATIENCE + 1
        assert len(list(writer.claims())) == 1


@pytest.mark.parametrize("world", [2, 3])
def test_processes_that_were_started_together_begin_at_their_own_places(tmp_path, world):
    create(tmp_path)
    teacher = make_teacher("none", block_slots=10)
    writers = [TargetWriter.open(tmp_path, teacher, epochs=1, rank=rank, world=world) for rank in range(world)]
    assert [next(writer.claims()).index for writer in writers] == [rank * 10 // world for rank in range(world)]
    for writer in writers:
        writer.close()
    fill(tmp_path, teacher, 1)
    whole(tmp_path, teacher, 1)


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
        whole(tmp_path, teacher)
