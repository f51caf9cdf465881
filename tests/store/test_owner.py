"""A block says whose it is: exchanged teachers, ledgers and copied blocks are found, named, never lost."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from store_fakes import answers, create, expected, fill, made_witness, make_manifest, make_samples, make_teacher

from deit_pipe.store.errors import CacheCorrupt
from deit_pipe.store.ledger import read_ledger
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
    assert files(place) == before


def test_every_record_names_its_cache_and_teacher_sealed_or_not(tmp_path: Path) -> None:
    two_teachers(tmp_path)
    records = list(read_ledger(tmp_path, "a").records())
    assert len(records) == SEALED * 7 + LOOSE
    cache, teacher = read_manifest(tmp_path).digest, read_teacher(tmp_path, "a").digest
    assert {(record.cache, record.teacher) for record in records} == {(cache, teacher)}
    assert all(record.witness == made_witness(record.block) for record in records)


def test_exchanged_blocks_are_found(tmp_path: Path) -> None:
    two_teachers(tmp_path)
    exchange(tmp_path, "targets.zarr/a", "targets.zarr/b")
    b = read_teacher(tmp_path, "b").digest[:12]
    refused(tmp_path, rf"logits/c/2/0/0 belongs to another teacher or cache \(.* teacher {b}\)")
    named = [finding for finding in verify(tmp_path, "hash", "a") if "another teacher" in finding.what]
    assert len(named) == LOOSE + 7 * SEALED


def test_exchanged_indexes_are_named_and_not_read(tmp_path: Path) -> None:
    two_teachers(tmp_path)
    exchange(tmp_path, "ledger/a", "ledger/b")
    named = [finding for finding in verify(tmp_path, "hash", "a") if "another teacher" in finding.what]
    assert len(named) == SEALED
    slots = np.arange(100)
    reader = TargetReader(tmp_path, "a", allow_partial=True)
    np.testing.assert_array_equal(reader.read(1, slots).logits, expected(A, 1, slots).logits)
    fill(tmp_path, A, SEALED + 1)
    assert verify(tmp_path, "hash", "a").ok


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
    (tmp_path / "copies/teachers/a.json").unlink()
    with pytest.raises(CacheCorrupt, match="are not its own"):
        TargetReader(tmp_path, "a", allow_partial=True)


def test_a_block_of_another_cache_is_found_and_never_replaced(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    two_teachers(ours)
    two_teachers(theirs, seed=4)
    shutil.copy(theirs / "targets.zarr/a/logits/c/2/0/0", ours / "targets.zarr/a/logits/c/2/0/0")
    refused(ours, rf"belongs to another teacher or cache \(cache {read_manifest(theirs).digest[:12]}")


def test_a_block_of_another_cache_that_an_index_hides_is_not_replaced_either(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    two_teachers(ours)
    two_teachers(theirs, seed=4)
    place = ours / "targets.zarr/a/logits/c/1/0/0"
    shutil.copy(theirs / "targets.zarr/a/logits/c/1/0/0", place)
    before = place.read_bytes()
    with pytest.raises(CacheCorrupt, match="cache corrupt"):
        TargetReader(ours, "a", allow_partial=True).read(1, np.arange(16))
    writer = TargetWriter.open(ours, A, epochs=SEALED + 1)
    block = next(block for block in writer.missing if block.epoch == 1)
    with pytest.raises(CacheCorrupt, match=r"a block of .* is not its own"):
        writer.write(block, *answers(block))
    assert place.read_bytes() == before


@pytest.mark.parametrize("moved", ["2/1", "1/1"])
def test_a_block_that_lies_at_another_place_is_found_and_made_again(moved: str, tmp_path: Path) -> None:
    two_teachers(tmp_path)
    place = tmp_path / "targets.zarr/a/logits/c"
    shutil.copy(place / "2/0/0", place / moved / "0")
    found = [(finding.epoch, finding.slots, finding.what) for finding in verify(tmp_path, "hash", "a")]
    assert found == [(int(moved[0]), (16, 32), "is the block of epoch 2, slots 0..15")]
    fill(tmp_path, A, SEALED + 1)
    assert verify(tmp_path, "hash", "a").ok


def test_deleting_the_named_files_makes_only_their_blocks_again(tmp_path: Path) -> None:
    two_teachers(tmp_path)
    block = "logits/c/2/1/0"
    shutil.copy(tmp_path / "targets.zarr/b" / block, tmp_path / "targets.zarr/a" / block)
    refused(tmp_path, rf"{block} belongs")
    (tmp_path / "targets.zarr/a" / block).unlink()
    with TargetWriter.open(tmp_path, A, epochs=SEALED + 1) as writer:
        assert [block.index for block in writer.mine] == [1, 3, 4, 5, 6]


def test_the_format_is_no_difference_of_views(tmp_path: Path) -> None:
    create_cache(tmp_path, make_manifest(format_version=1), make_samples(), {})
    create_cache(tmp_path, make_manifest(), make_samples(), {})  # the same views: it is left as it is
    assert read_manifest(tmp_path).format_version == 1


def test_a_manifest_with_another_format_outside_than_inside_is_damage(tmp_path: Path) -> None:
    create(tmp_path)
    path = tmp_path / "MANIFEST.json"
    (tmp_path / "copies/MANIFEST.json").unlink()
    path.write_text(path.read_text().replace('"deit_pipe": 3', '"deit_pipe": 1'))
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
