"""A record of format 2 says whose it is: exchanged teachers, ledgers and copied blocks are found, named, never lost."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_fakes import answers, create, expected, fill, made_witness, make_manifest, make_samples, make_teacher

from deit_pipe.store.errors import CacheCorrupt
from deit_pipe.store.identity import READABLE
from deit_pipe.store.ledger import coverage, read_ledger
from deit_pipe.store.manifest import create_cache, read_manifest, read_teacher
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.verify import verify
from deit_pipe.store.writer import TargetWriter

A, B = (make_teacher(name=name, weights_sha256=name * 64) for name in ("a", "b"))
SEALED, LOOSE = 2, 3


def files(place: Path) -> dict[str, bytes]:
    return {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}


def two_teachers(place: Path, seed: int = 3) -> None:
    """Two sealed epochs of two teachers, and three blocks of a third epoch."""
    create_cache(place, make_manifest(seed=seed), make_samples(), {})
    for number, teacher in enumerate((A, B)):
        fill(place, teacher, SEALED, seed=number)
        with TargetWriter.open(place, teacher, epochs=SEALED + 1) as writer:
            for block in writer.mine[:LOOSE]:
                writer.write(block, *answers(block, seed=number))


def exchange(place: Path, one: str, other: str) -> None:
    first, second, aside = place / one, place / other, place / "aside"
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def refused(place: Path, match: str) -> None:
    """The reader, the writer and the check refuse it, and nothing is changed or deleted."""
    before = files(place)
    with pytest.raises(CacheCorrupt, match=match):
        TargetReader(place, "a", allow_partial=True)
    with pytest.raises(CacheCorrupt, match=match), TargetWriter.open(place, A, epochs=SEALED + 1):
        pass
    kept = {key: data for key, data in files(place).items() if not key.startswith("locks/")}
    assert kept == {key: data for key, data in before.items() if not key.startswith("locks/")}


def test_every_record_names_its_cache_and_teacher_sealed_or_not(tmp_path: Path) -> None:
    two_teachers(tmp_path)
    records = list(read_ledger(tmp_path, "a").records())
    assert len(records) == SEALED * 7 + LOOSE
    cache, teacher = read_manifest(tmp_path).digest, read_teacher(tmp_path, "a").digest
    assert {(record.cache, record.teacher) for record in records} == {(cache, teacher)}
    assert all(record.witness == made_witness(record.block) for record in records)


def test_exchanged_ledgers_and_targets_are_found(tmp_path: Path) -> None:
    two_teachers(tmp_path)
    exchange(tmp_path, "ledger/a", "ledger/b")
    exchange(tmp_path, "targets.zarr/a", "targets.zarr/b")
    b = read_teacher(tmp_path, "b").digest[:12]
    refused(tmp_path, rf"ledger/a/blocks/0002-000000\.json belongs to another teacher or cache \(.* teacher {b}\)")
    named = [finding for finding in verify(tmp_path, "sizes", "a") if "another teacher" in finding.what]
    assert len(named) == LOOSE + 2 * SEALED  # and two copies of each sealed epoch
    assert coverage(tmp_path, "a").slots_committed.sum() == 0


def test_exchanged_identities_are_found(tmp_path: Path) -> None:
    two_teachers(tmp_path)
    exchange(tmp_path, "teachers/a.json", "teachers/b.json")
    refused(tmp_path, r"teachers/a\.json of .* is the identity of 'b': files were exchanged")


def test_an_identity_that_was_renamed_and_signed_again_is_found_by_the_records(tmp_path: Path) -> None:
    from deit_pipe.store.identity import canonical_digest

    two_teachers(tmp_path)
    path = tmp_path / "teachers/a.json"
    document = json.loads((tmp_path / "teachers/b.json").read_text())
    document["identity"]["name"] = "a"
    document["sha256"] = canonical_digest({"identity": document["identity"]})
    path.write_text(json.dumps(document))
    with pytest.raises(CacheCorrupt, match="are not its own"):
        TargetReader(tmp_path, "a", allow_partial=True)


@pytest.mark.parametrize("sealed", [False, True])
def test_blocks_of_another_cache_are_found(sealed: bool, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    two_teachers(ours)
    two_teachers(theirs, seed=4)
    if sealed:
        shutil.rmtree(ours / "ledger/a/sealed")
        shutil.rmtree(ours / "ledger/a/sealed-copy")
        for name in ("sealed", "sealed-copy"):
            shutil.copytree(theirs / "ledger/a" / name, ours / "ledger/a" / name)
    else:
        shutil.copy(theirs / "ledger/a/blocks/0002-000000.json", ours / "ledger/a/blocks/0002-000000.json")
    refused(ours, rf"belongs to another teacher or cache \(cache {read_manifest(theirs).digest[:12]}")


def test_a_record_that_says_nothing_is_refused_in_format_2(tmp_path: Path) -> None:
    two_teachers(tmp_path / "new")
    create_cache(tmp_path / "old", make_manifest(format_version=1), make_samples(), {})
    with TargetWriter.open(tmp_path / "old", A, epochs=1) as writer:
        writer.write(writer.mine[0], *answers(writer.mine[0]))
    shutil.copy(tmp_path / "old/ledger/a/blocks/0000-000000.json", tmp_path / "new/ledger/a/blocks/0000-000000.json")
    refused(tmp_path / "new", r"0000-000000\.json belongs to another teacher or cache \(none\)")


def test_deleting_the_named_files_makes_only_their_blocks_again(tmp_path: Path) -> None:
    two_teachers(tmp_path)
    shutil.copy(tmp_path / "ledger/b/blocks/0002-000001.json", tmp_path / "ledger/a/blocks/0002-000001.json")
    refused(tmp_path, r"0002-000001\.json belongs")
    (tmp_path / "ledger/a/blocks/0002-000001.json").unlink()
    with TargetWriter.open(tmp_path, A, epochs=SEALED + 1) as writer:
        assert [block.index for block in writer.mine] == [1, 3, 4, 5, 6]


def old_keys(record: dict[str, Any]) -> set[str]:
    return set(record) - {"sha256"}


def test_a_cache_of_format_1_is_written_and_sealed_as_format_1(tmp_path: Path) -> None:
    assert READABLE == (1, 2)
    create_cache(tmp_path, make_manifest(format_version=1), make_samples(), {})
    with TargetWriter.open(tmp_path, A, epochs=1) as writer:
        for block in writer.mine[:3]:
            writer.write(block, *answers(block))
    for name in ("MANIFEST.json", "teachers/a.json"):
        assert json.loads((tmp_path / name).read_text())["deit_pipe"] == 1
    record = json.loads((tmp_path / "ledger/a/blocks/0000-000000.json").read_text())
    first = {"epoch", "index", "start", "stop", "rank", "run", "written", "objects", "statistics"}
    assert old_keys(record) == first
    fill(tmp_path, A, 2)
    columns = read_ledger(tmp_path, "a").columns()
    assert not {name for name in columns if name.startswith("witness") or name in ("cache", "teacher")}
    reader = TargetReader(tmp_path, "a")
    assert len(reader.witnesses(0).slots) == 0
    slots = np.arange(100)
    np.testing.assert_array_equal(reader.read(1, slots).logits, expected(A, 1, slots).logits)


def test_the_format_is_no_difference_of_views(tmp_path: Path) -> None:
    create_cache(tmp_path, make_manifest(format_version=1), make_samples(), {})
    create_cache(tmp_path, make_manifest(), make_samples(), {})  # the same views: it is left as it is
    assert read_manifest(tmp_path).format_version == 1


def test_a_manifest_with_another_format_outside_than_inside_is_damage(tmp_path: Path) -> None:
    create(tmp_path)
    path = tmp_path / "MANIFEST.json"
    path.write_text(path.read_text().replace('"deit_pipe": 2', '"deit_pipe": 1'))
    with pytest.raises(CacheCorrupt, match="two different formats"):
        read_manifest(tmp_path)


def test_witnesses_come_back_in_order_from_sealed_and_loose_records(tmp_path: Path) -> None:
    two_teachers(tmp_path)
    reader = TargetReader(tmp_path, "a", allow_partial=True)
    for epoch, blocks in ((1, 7), (2, LOOSE)):
        found = reader.witnesses(epoch)
        wanted = [
            made_witness(record.block) for record in read_ledger(tmp_path, "a").records() if record.epoch == epoch
        ]
        assert len(wanted) == blocks
        assert found.slots.tolist() == [slot for one in wanted for slot in one.slots]
        np.testing.assert_array_equal(found.sums, np.float32([row for one in wanted for row in one.sums]))
        assert found.labels.tolist() == [list(pair) for one in wanted for pair in one.labels]
        assert found.lam.tolist() == [lam for one in wanted for lam in one.lam]


def test_a_block_of_one_slot_has_one_witness(tmp_path: Path) -> None:
    create_cache(tmp_path, make_manifest(17), make_samples(17), {})
    teacher = make_teacher(name="a")
    fill(tmp_path, teacher, 1)
    assert TargetReader(tmp_path, "a").witnesses(0).slots.tolist() == [0, 1, 16]
