import contextlib
import dataclasses
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
from store_fakes import answers, assert_same, create, expected, fill, flip_bit, make_teacher, write_blocks

from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.store import index
from deit_pipe.store import writer as writer_module
from deit_pipe.store.formats import encode
from deit_pipe.store.index import rebuild_index, seal_epochs
from deit_pipe.store.ledger import coverage, read_ledger
from deit_pipe.store.manifest import read_manifest
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.record import BlockRecord
from deit_pipe.store.statistics import block_statistics
from deit_pipe.store.verify import verify
from deit_pipe.store.writer import TargetWriter


def direct_statistics(logits, labels, partners):
    """The same numbers, the slow way, in float64."""
    z = logits.astype(np.float64)
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    teacher = logits.argmax(1)
    half = logits.astype(np.float16)
    top1 = p[np.arange(len(p)), teacher]
    return {
        "agree": int((teacher == labels).sum()),
        "agree_either": int(((teacher == labels) | (teacher == partners)).sum()),
        "ties": sum(int((row == row.max()).sum() > 1) for row in half),
        "top1": top1.mean(),
        "entropy": -(p * np.log(np.maximum(p, 1e-300))).sum(1).mean(),
        "confidence": np.histogram(top1, bins=20, range=(0, 1))[0].tolist(),
        "mass3": np.sort(p, axis=1)[:, -3:].sum(1).mean(),
    }


def test_statistics_are_what_they_say(monkeypatch):
    monkeypatch.setattr("deit_pipe.store.statistics._ROWS", 7)
    teacher = make_teacher("topk:3", 50)
    random = np.random.default_rng(0)
    logits = (random.standard_normal((100, 50)) * 3).astype(np.float32)
    logits[:5] = 12.0003  # all equal
    logits[5:9, 3], logits[5:9, 7] = 20.001, 20.002  # equal as float16
    logits[9, 4] = 80  # certain: probability 1, entropy 0
    labels, partners = random.integers(0, 3, 100), random.integers(0, 50, 100)
    labels[20:60] = logits[20:60].argmax(1)
    partners[50:80] = logits[50:80].argmax(1)
    ours = block_statistics(logits, encode(logits, teacher.format), labels, partners)
    wanted = direct_statistics(logits, labels, partners)
    assert (ours.agree, ours.agree_either, ours.ties) == (
        wanted["agree"],
        wanted["agree_either"],
        wanted["ties"],
    )
    assert ours.ties >= 9
    assert ours.top1 == pytest.approx(wanted["top1"], rel=1e-6)
    assert ours.entropy == pytest.approx(wanted["entropy"], rel=1e-5)
    assert ours.topk_mass == pytest.approx(wanted["mass3"], rel=1e-3)
    assert list(ours.confidence) == wanted["confidence"]


def test_columns_agree_with_a_direct_computation(tmp_path):
    create(tmp_path)
    teacher = make_teacher("topk:3")
    with TargetWriter.open(tmp_path, teacher, epochs=3) as writer:
        write_blocks(writer, writer.mine[:17])  # two sealed epochs and three loose records
    cover = coverage(tmp_path, teacher.name)
    assert cover.sealed.tolist() == [True, True, False]
    assert cover.blocks_committed.tolist() == [7, 7, 3]
    assert cover.slots_committed.tolist() == [100, 100, 48]
    assert not cover.complete
    assert cover.epochs == 3
    columns = cover.columns
    assert columns["epoch"].tolist() == [0] * 7 + [1] * 7 + [2] * 3
    assert columns["index"].tolist() == [*range(7), *range(7), *range(3)]
    for row, record in enumerate(read_ledger(tmp_path, teacher.name).records()):
        logits, _, labels, partners, _ = answers(record.block)
        direct = direct_statistics(logits, labels, partners)
        for name in ("agree", "agree_either", "ties"):
            assert columns[name][row] == direct[name]
        for name in ("top1", "entropy"):
            assert columns[name][row] == pytest.approx(direct[name], rel=1e-4)
        assert columns["confidence"][row].tolist() == direct["confidence"]
        assert columns["topk_mass"][row] == pytest.approx(direct["mass3"], rel=1e-2)
    for epoch in (0, 1):
        labels = answers(writer.blocks[0].__class__(epoch, 0, 0, 100))[0].argmax(1)
        assert cover.class_counts[epoch].tolist() == np.bincount(labels, minlength=10).tolist()
    assert set(cover.class_counts) == {0, 1}


def index_files(path, teacher):
    folder = path / "ledger" / teacher.name / "sealed"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def test_an_index_keeps_every_record_and_says_nothing_that_the_blocks_do_not_say(tmp_path):
    create(tmp_path)
    teacher = make_teacher("topk:3")
    with TargetWriter.open(tmp_path, teacher, epochs=1) as writer:
        records = [writer.write(block, *answers(block)) for block in writer.mine]
        assert index_files(tmp_path, teacher) == []
        assert list(read_ledger(tmp_path, teacher.name).records()) == records
    [name] = index_files(tmp_path, teacher)
    assert list(read_ledger(tmp_path, teacher.name).records()) == records
    header = records[3].objects
    again = BlockRecord.from_json(records[3].to_json())
    assert dataclasses.replace(again, objects=header) == records[3]
    before = coverage(tmp_path, teacher.name)
    (tmp_path / "ledger" / teacher.name / "sealed" / name).unlink()
    lost = coverage(tmp_path, teacher.name)
    assert (lost.complete, lost.sealed.tolist()) == (True, [False])
    assert verify(tmp_path, "hash").ok
    rebuild_index(open_location(tmp_path), read_manifest(tmp_path), teacher)
    assert index_files(tmp_path, teacher) == [name]  # the same blocks give the same file
    assert coverage(tmp_path, teacher.name).class_counts[0].tolist() == before.class_counts[0].tolist()


def test_a_whole_ledger_that_is_lost_is_made_again_from_the_blocks(tmp_path):
    create(tmp_path)
    teacher = make_teacher()
    fill(tmp_path, teacher, 3)
    records = list(read_ledger(tmp_path, teacher.name).records())
    shutil.rmtree(tmp_path / "ledger" / teacher.name)
    assert rebuild_index(open_location(tmp_path), read_manifest(tmp_path), teacher) == 21
    assert list(read_ledger(tmp_path, teacher.name).records()) == records
    assert coverage(tmp_path, teacher.name).sealed.all()
    assert verify(tmp_path, "deep").ok
    assert fill(tmp_path, teacher, 3) == []


def test_many_epochs_are_merged_into_few_files(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "MERGE_FILES", 3)
    create(tmp_path)
    teacher = make_teacher("none", block_slots=50)
    fill(tmp_path, teacher, 9)
    assert len(index_files(tmp_path, teacher)) <= 3
    cover = coverage(tmp_path, teacher.name)
    assert cover.complete
    assert cover.sealed.all()
    assert len(cover.class_counts) == 9
    assert not cover.damage
    assert verify(tmp_path, "hash").ok


@pytest.mark.parametrize("stop_after", range(1, 9))
def test_sealing_and_merging_may_die_anywhere(tmp_path, monkeypatch, stop_after):
    monkeypatch.setattr(index, "MERGE_FILES", 2)
    teacher = make_teacher("none", block_slots=50)
    manifest = create(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("deit_pipe.store.writer.seal_epochs", lambda *_: None)
        fill(tmp_path, teacher, 3)
    records = list(read_ledger(tmp_path, teacher.name).records())
    place = open_location(tmp_path)
    left = [stop_after]

    def dying(name):
        genuine = getattr(place, name)

        def call(*arguments):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            genuine(*arguments)

        return call

    for name in ("create", "delete"):
        setattr(place, name, dying(name))
    with contextlib.suppress(KeyboardInterrupt):
        seal_epochs(place, manifest, teacher)
    assert list(read_ledger(tmp_path, teacher.name).records()) == records
    assert verify(tmp_path, "hash").ok  # a half-done seal is no damage
    assert fill(tmp_path, teacher, 3) == []
    assert list(read_ledger(tmp_path, teacher.name).records()) == records
    assert coverage(tmp_path, teacher.name).sealed.all()
    assert verify(tmp_path, "deep").ok


def test_a_reader_that_meets_the_sealer_lists_again(tmp_path, monkeypatch):
    manifest = create(tmp_path)
    teacher = make_teacher("none")
    fill(tmp_path, teacher, 2)
    place = open_location(tmp_path)
    genuine, sealing = place.get, []

    def get(key, *part):
        if "/sealed/" in key and not sealing:
            sealing.append(1)
            with monkeypatch.context() as patch:
                patch.setattr(index, "MERGE_FILES", 1)
                rebuild_index(open_location(tmp_path), manifest, teacher)
        return genuine(key, *part)

    place.get = get
    assert len(read_ledger(place, teacher.name)) == 14
    assert sealing


def test_a_repaired_block_is_what_the_index_says_afterwards(tmp_path):
    create(tmp_path)
    teacher = make_teacher()
    fill(tmp_path, teacher, 2)
    [old, other] = index_files(tmp_path, teacher)
    path = tmp_path / "targets.zarr/dense/logits/c/0/3/0"
    path.write_bytes(b"damaged")
    assert [(b.epoch, b.index) for b in fill(tmp_path, teacher, 2, seed=5)] == [(0, 3)]
    assert verify(tmp_path, "hash").ok
    now = index_files(tmp_path, teacher)
    assert other in now
    assert old not in now
    assert len(now) == 2


def test_an_index_that_says_otherwise_than_a_block_is_named_and_made_again(tmp_path, monkeypatch):
    """What is left of a job that died between a repair and the index."""
    create(tmp_path)
    teacher = make_teacher()
    fill(tmp_path, teacher, 1)
    (tmp_path / "targets.zarr/dense/logits/c/0/3/0").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("deit_pipe.store.writer.seal_epochs", lambda *_: None)
        fill(tmp_path, teacher, 1, seed=5)
    found = verify(tmp_path, "hash")
    assert [(f.where, f.epoch, f.slots) for f in found] == [("ledger", 0, (48, 64))]
    slots = np.arange(48, 64)  # and what is served is the block, whatever the index says
    assert_same(TargetReader(tmp_path).read(0, slots), expected(teacher, 0, slots, seed=5))
    rows = CachedArrays(tmp_path, "dense").block("fingerprint", 0, 3)
    np.testing.assert_array_equal(rows, expected(teacher, 0, slots, seed=5).fingerprint)
    assert fill(tmp_path, teacher, 1) == []
    assert verify(tmp_path, "hash").ok


@pytest.mark.parametrize("stranger", ["another teacher", "torn"])
def test_an_index_file_that_is_none_of_ours_is_named_and_not_read(tmp_path, stranger):
    create(tmp_path)
    one, other = make_teacher("none", name="a"), make_teacher("none", name="b", weights_sha256="b" * 64)
    fill(tmp_path, one, 1)
    fill(tmp_path, other, 1, seed=1)
    [mine], [theirs] = (list((tmp_path / "ledger" / name / "sealed").iterdir()) for name in ("a", "b"))
    mine.unlink()
    wrong = mine.with_name(theirs.name)
    wrong.write_bytes(theirs.read_bytes() if stranger == "another teacher" else b"PAR1")
    [finding] = verify(tmp_path, "hash", "a")
    assert (finding.where, finding.key) == ("ledger", f"ledger/a/sealed/{theirs.name}")
    assert_same(TargetReader(tmp_path, "a").read(0, np.arange(100)), expected(one, 0, np.arange(100)))
    fill(tmp_path, one, 1)
    assert not wrong.exists()
    assert verify(tmp_path, "hash").ok


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_the_index_says_what_a_repaired_block_says_whatever_the_clock_does(tmp_path, monkeypatch, hours):
    """In a merged file lies a row of the block of before, which is the later one for a clock that was put back."""
    create(tmp_path)
    teacher = make_teacher("none")
    monkeypatch.setattr(index, "MERGE_FILES", 3)
    fill(tmp_path, teacher, 3)
    assert len(read_ledger(tmp_path, "none").sealed_keys) == 1
    flip_bit(tmp_path, "none", "teacher_label", 1, 2)
    clock = SimpleNamespace(time=lambda: time.time() + 3600 * hours, monotonic=time.monotonic)
    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "time", clock)
        assert len(fill(tmp_path, teacher, 3)) == 1
    assert verify(tmp_path, "hash").damaged == []
    ledger = read_ledger(tmp_path, "none")
    assert len(ledger) == 21
    assert ledger.sealed_epochs == {0, 1, 2}
    assert ledger.record(1, 2).token != ledger.record(1, 1).token
