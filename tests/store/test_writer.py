import os
from dataclasses import replace

import numpy as np
import pytest
from store_fakes import (
    FORMATS,
    answers,
    assert_same,
    create,
    expected,
    fill,
    made_witness,
    make_teacher,
    write_blocks,
)

from deit_pipe.store.errors import (
    CacheCorrupt,
    CacheMismatch,
    CacheMissing,
    DiskFull,
    TargetsInvalid,
)
from deit_pipe.store.layout import Block
from deit_pipe.store.ledger import coverage, read_ledger
from deit_pipe.store.places.local import LocalDirectory
from deit_pipe.store.places.location import FreeSpace
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.verify import verify
from deit_pipe.store.writer import TargetWriter


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("num_samples", [1, 15, 16, 100])
def test_what_is_written_is_read_back(tmp_path, text, num_samples):
    create(tmp_path, num_samples)
    teacher = make_teacher(text)
    fill(tmp_path, teacher)
    reader = TargetReader(tmp_path)
    for epoch in range(2):
        slots = np.random.default_rng(epoch).permutation(num_samples)
        assert_same(reader.read(epoch, slots), expected(teacher, epoch, slots, num_samples))
    assert verify(tmp_path, "deep").ok


def test_a_second_run_has_nothing_to_do_and_changes_nothing(tmp_path):
    create(tmp_path)
    fill(tmp_path, make_teacher())
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert fill(tmp_path, make_teacher()) == []
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert before == after


def test_a_run_resumes_where_it_stopped_with_another_world_size(tmp_path):
    create(tmp_path)
    teacher = make_teacher()

    def interrupted():
        with TargetWriter.open(tmp_path, teacher, epochs=2) as writer:
            write_blocks(writer, writer.mine[:5])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    writers = [TargetWriter.open(tmp_path, teacher, epochs=2, rank=r, world=3) for r in range(3)]
    mine = [writer.mine for writer in writers]
    assert sorted(b for part in mine for b in part) == writers[0].missing
    assert len(writers[0].missing) == 14 - 5
    for writer, part in zip(writers, mine, strict=True):
        write_blocks(writer, part)
    assert all(writer.complete() for writer in writers)
    for writer in writers:
        writer.close()
    assert_same(TargetReader(tmp_path).read(1, np.arange(100)), expected(teacher, 1, np.arange(100)))
    assert coverage(tmp_path, teacher.name).sealed.all()


def test_more_epochs_extend_and_fewer_keep_what_is_there(tmp_path):
    create(tmp_path)
    teacher = make_teacher("topk:3")
    assert {b.epoch for b in fill(tmp_path, teacher, 2)} == {0, 1}
    assert {b.epoch for b in fill(tmp_path, teacher, 5)} == {2, 3, 4}
    assert fill(tmp_path, teacher, 1) == []
    reader = TargetReader(tmp_path)
    assert reader.epochs == 5
    assert_same(reader.read(4, np.arange(100)), expected(teacher, 4, np.arange(100)))


def test_what_was_ever_wanted_stays_wanted(tmp_path):
    create(tmp_path)
    with TargetWriter.open(tmp_path, make_teacher(), epochs=3) as writer:
        write_blocks(writer, writer.mine[:8])  # epoch 0 and a block of epoch 1
    with TargetWriter.open(tmp_path, make_teacher(), epochs=1) as writer:
        assert writer.epochs == 3
        write_blocks(writer, writer.mine)
    assert TargetReader(tmp_path).epochs == 3


def test_two_teachers_share_a_cache_and_are_written_at_the_same_time(tmp_path):
    create(tmp_path)
    one, two = make_teacher("dense"), make_teacher("none", name="second")
    with TargetWriter.open(tmp_path, one, epochs=1) as a, TargetWriter.open(tmp_path, two, epochs=2) as b:
        for left, right in zip(a.mine, b.mine[:7], strict=True):
            a.write(left, *answers(left))
            b.write(right, *answers(right, seed=9))
        write_blocks(b, b.mine[7:], seed=9)
    slots = np.arange(100)
    assert_same(TargetReader(tmp_path, "dense").read(0, slots), expected(one, 0, slots))
    assert_same(TargetReader(tmp_path, "second").read(1, slots), expected(two, 1, slots, seed=9))


def test_another_teacher_of_the_same_name_is_refused(tmp_path):
    create(tmp_path)
    fill(tmp_path, make_teacher(), 1)
    other = make_teacher(weights_sha256="d1" * 32, precision="bf16")
    with pytest.raises(CacheMismatch) as caught:
        TargetWriter.open(tmp_path, other, epochs=1)
    assert {f.field for f in caught.value.fields} == {"weights_sha256", "precision"}
    assert "remove-teacher dense" in str(caught.value)
    fill(tmp_path, make_teacher(), 2)


def test_a_teacher_of_other_classes_and_a_missing_cache_are_refused(tmp_path):
    create(tmp_path / "c")
    with pytest.raises(CacheMismatch, match="knows 12 classes"):
        TargetWriter.open(tmp_path / "c", make_teacher(num_classes=12), epochs=1)
    with pytest.raises(CacheMissing):
        TargetWriter.open(tmp_path / "d", make_teacher(), epochs=1)


def test_all_zero_labels_logits_and_fingerprints_survive(tmp_path):
    for text in FORMATS:
        create(tmp_path / text)
        teacher = make_teacher(text)
        with TargetWriter.open(tmp_path / text, teacher, epochs=1) as writer:
            for block in writer.mine:
                zeros = np.zeros(block.slots, np.int64)
                logits = np.zeros((block.slots, 10), np.float32)
                writer.write(block, logits, zeros.astype(np.uint32), zeros, None, made_witness(block))
        reader = TargetReader(tmp_path / text)
        targets = reader.read(0, np.arange(100))
        assert not targets.teacher_label.any()
        assert not targets.fingerprint.any()
        assert targets.logits is None or not targets.logits.any()
        assert verify(tmp_path / text, "deep").ok
        objects = list((tmp_path / text / "targets.zarr").rglob("c/0/*"))
        assert sum(p.is_file() or p.is_dir() for p in objects) >= 7


def test_a_block_is_refused_whole(tmp_path):
    create(tmp_path)
    with TargetWriter.open(tmp_path, make_teacher(), epochs=1) as writer:
        block = writer.mine[0]
        logits, prints, labels, _, witness = answers(block)
        bad = logits.copy()
        bad[3, 3] = np.nan
        with pytest.raises(TargetsInvalid, match="row 3"):
            writer.write(block, bad, prints, labels, None, witness)
        with pytest.raises(TargetsInvalid, match="expected 16 rows, got 15"):
            writer.write(block, logits, prints[:15], labels, None, witness)
        with pytest.raises(TargetsInvalid, match="uint32"):
            writer.write(block, logits, prints.astype(np.int64), labels, None, witness)
        with pytest.raises(ValueError, match="not a missing block"):
            writer.write(Block(7, 0, 0, 16), logits, prints, labels)
        for wrong, what in (
            (None, "missing"),
            (replace(witness, slots=(0, 16)), "outside the block"),
            (replace(witness, lam=(0.5,)), "not as many values"),
            (replace(witness, sums=((0.0, 0.0, 0.0, float("nan")),) * 2), "finite"),
            (replace(witness, slots=(3, 3)), "expected one or two"),
        ):
            with pytest.raises(TargetsInvalid, match=f"witness of epoch 0, slots 0..15: .*{what}"):
                writer.write(block, logits, prints, labels, None, wrong)
        assert not list(tmp_path.rglob("c/*/*"))
        writer.write(block, logits, prints, labels, None, witness)
        with pytest.raises(ValueError, match="not a missing block"):
            writer.write(block, logits, prints, labels)


def test_a_block_committed_by_another_job_stays_and_ours_is_dropped(tmp_path):
    create(tmp_path)
    teacher = make_teacher()
    with (
        TargetWriter.open(tmp_path, teacher, epochs=1) as writer,
        TargetWriter.open(tmp_path, teacher, epochs=1) as other,
    ):
        block = writer.mine[0]
        record = other.write(block, *answers(block, seed=1))
        assert writer.write(block, *answers(block)) == record
        assert (writer.written, writer.dropped, other.written) == (0, 1, 1)
        assert read_ledger(tmp_path, teacher.name).record(0, 0) == record
        write_blocks(writer, writer.claims())
    assert_same(TargetReader(tmp_path).read(0, np.arange(16)), expected(teacher, 0, np.arange(16), seed=1))


def test_preflight_measures_and_refuses(tmp_path, monkeypatch):
    create(tmp_path)
    with TargetWriter.open(tmp_path, make_teacher(), epochs=2) as writer:
        before = writer.preflight()
        assert (before.views, before.measured, before.bytes_per_view) == (200, False, 2 + 4 + 20)
        assert before.files_needed == 14
        write_blocks(writer, writer.mine[:3])
        after = writer.preflight()
        assert after.measured
        assert after.views == 200 - 48
        assert after.bytes_per_view == writer.report.bytes_committed / 48
        stored = sum(p.stat().st_size for p in tmp_path.rglob("c/0/*/*") if p.is_file())
        stored += sum(p.stat().st_size for p in tmp_path.rglob("c/0/*") if p.is_file())
        assert writer.report.bytes_committed == stored
    for space, word in ((FreeSpace(1000, None), "bytes"), (FreeSpace(10**12, 3), "files")):
        monkeypatch.setattr(LocalDirectory, "free_space", lambda _, space=space: space)
        with pytest.raises(DiskFull, match=f"needs .* {word}"):
            TargetWriter.open(tmp_path, make_teacher(), epochs=2)
    with TargetWriter.open(tmp_path, make_teacher(), epochs=2, check_space=False) as writer:
        assert writer.preflight().problem


def test_leftovers_of_a_dead_writer_are_swept_once_they_are_old(tmp_path):
    create(tmp_path)
    fill(tmp_path, make_teacher(), 1)
    leftover = tmp_path / "targets.zarr" / "dense" / "logits" / "c" / "0" / "1" / ".0.abc.partial"
    leftover.write_bytes(b"half")
    fill(tmp_path, make_teacher(), 1)
    assert leftover.exists()  # another job may be writing it
    os.utime(leftover, (0, 0))
    fill(tmp_path, make_teacher(), 1)
    assert not leftover.exists()


def test_bytes_that_do_not_read_back_are_named_and_made_again(tmp_path, monkeypatch):
    create(tmp_path)
    genuine = LocalDirectory.create

    def bad_disk(place, key, data):
        genuine(place, key, data[:-1] + bytes([data[-1] ^ 1]) if "/logits/c/" in key else data)

    with TargetWriter.open(tmp_path, make_teacher(), epochs=1) as writer:
        block = writer.mine[0]
        with monkeypatch.context() as patch:
            patch.setattr(LocalDirectory, "create", bad_disk)
            with pytest.raises(CacheCorrupt, match=r"epoch 0, slots 0\.\.15 of 'dense' reads back other bytes"):
                writer.write(block, *answers(block))
        writer.write(block, *answers(block))
        assert writer.written == 1
    assert_same(
        TargetReader(tmp_path, allow_partial=True).read(0, np.arange(16)), expected(make_teacher(), 0, np.arange(16))
    )
