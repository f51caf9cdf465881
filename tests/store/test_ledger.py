import dataclasses

import numpy as np
import pytest
from store_fakes import answers, create, fill, make_teacher, write_blocks

from deit_pipe.store import recovery, sealed
from deit_pipe.store.formats import encode
from deit_pipe.store.ledger import coverage, read_ledger
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.record import BlockRecord, record_key, signed_json
from deit_pipe.store.recovery import seal_epochs
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


def test_sealing_keeps_every_record(tmp_path):
    create(tmp_path)
    teacher = make_teacher("topk:3")
    with TargetWriter.open(tmp_path, teacher, epochs=1) as writer:
        records = [writer.write(block, *answers(block)) for block in writer.mine]
        assert len(list((tmp_path / "ledger" / teacher.name / "blocks").iterdir())) == 7
        assert list(read_ledger(tmp_path, teacher.name).records()) == records
    assert not list((tmp_path / "ledger" / teacher.name / "blocks").iterdir())
    assert list(read_ledger(tmp_path, teacher.name).records()) == records
    assert BlockRecord.from_json(records[3].to_json()) == records[3]


def test_many_epochs_are_merged_into_few_files(tmp_path, monkeypatch):
    monkeypatch.setattr(sealed, "MERGE_FILES", 3)
    create(tmp_path)
    teacher = make_teacher("none", block_slots=50)
    fill(tmp_path, teacher, 9)
    names = [p.name for p in (tmp_path / "ledger" / teacher.name / "sealed").iterdir()]
    assert len(names) <= 4
    cover = coverage(tmp_path, teacher.name)
    assert cover.complete
    assert cover.sealed.all()
    assert len(cover.class_counts) == 9
    assert not cover.damage
    assert verify(tmp_path, "hash").ok


@pytest.mark.parametrize("stop_after", range(1, 14))
def test_sealing_and_merging_may_die_anywhere(tmp_path, monkeypatch, stop_after):
    monkeypatch.setattr(sealed, "MERGE_FILES", 2)
    create(tmp_path)
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

    for name in ("put", "delete"):
        setattr(place, name, dying(name))
    try:
        seal_epochs(place, manifest, teacher)
    except KeyboardInterrupt:
        assert list(read_ledger(tmp_path, teacher.name).records()) == records
    assert verify(tmp_path, "hash").ok  # a half-done seal is no damage
    assert fill(tmp_path, teacher, 3) == []
    assert list(read_ledger(tmp_path, teacher.name).records()) == records
    assert coverage(tmp_path, teacher.name).sealed.all()
    assert verify(tmp_path, "deep").ok


def test_a_reader_that_meets_the_sealer_lists_again(tmp_path, monkeypatch):
    create(tmp_path)
    teacher = make_teacher("none")
    with monkeypatch.context() as patch:
        patch.setattr("deit_pipe.store.writer.seal_epochs", lambda *_: None)
        fill(tmp_path, teacher, 1)
    place = open_location(tmp_path)
    genuine, sealing = place.get, []

    def get(key):
        if "/blocks/" in key and not sealing:
            sealing.append(1)
            recovery.seal_epochs(open_location(tmp_path), create(tmp_path), teacher)
        return genuine(key)

    place.get = get
    assert len(read_ledger(place, teacher.name)) == 7
    assert sealing


def test_of_two_records_of_a_block_the_later_counts(tmp_path):
    """What a crash between the writing of a merged file and the removal of the old ones leaves."""
    create(tmp_path)
    teacher = make_teacher("none")
    fill(tmp_path, teacher, 1)
    place = open_location(tmp_path)
    records = list(read_ledger(place, teacher.name).records())
    for shift in (-100.0, 100.0, -50.0):
        changed = [dataclasses.replace(r, written=r.written + shift, run=f"{shift}") for r in records]
        sealed.write_sealed(place, f"ledger/{teacher.name}", sealed.to_columns(changed), {})
    assert {r.run for r in read_ledger(place, teacher.name).records()} == {"100.0"}
    loose = dataclasses.replace(records[2], written=0.0, run="loose")
    place.put(record_key(teacher.name, 0, 2), signed_json(loose.to_json()))
    ledger = read_ledger(place, teacher.name)
    assert [r.run for r in ledger.records()] == ["100.0"] * 2 + ["loose"] + ["100.0"] * 4
    assert ledger.columns()["run"].tolist() == [r.run for r in ledger.records()]
