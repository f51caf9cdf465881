"""Every damage is found, named by teacher, array, epoch and slots; training refuses; a rerun repairs only that."""

import json
import shutil

import numpy as np
import pytest
from store_fakes import FORMATS, assert_same, create, expected, fill, make_teacher, write_blocks

from deit_pipe.store.errors import CacheCorrupt, CacheIncomplete
from deit_pipe.store.layout import array_specs, object_key
from deit_pipe.store.ledger import coverage
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.verify import verify
from deit_pipe.store.writer import TargetWriter

EPOCHS, BLOCKS = 2, 7  # the last block of an epoch holds 4 slots of 16


@pytest.fixture(scope="module", params=FORMATS)
def whole(request, tmp_path_factory):
    """An undamaged cache with two teachers, the first of which gets damaged."""
    path = tmp_path_factory.mktemp("whole")
    create(path)
    teacher = make_teacher(request.param)
    fill(path, teacher, EPOCHS)
    fill(path, make_teacher("none", name="bystander"), 1)
    return path, teacher


@pytest.fixture
def cache(whole, tmp_path):
    path, teacher = whole
    shutil.copytree(path, tmp_path / "c")
    return tmp_path / "c", teacher


def flip(path, position, bit=0):
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def flip_data(path, _):
    flip(path, 11, 3)


def flip_middle(path, _):
    flip(path, path.stat().st_size // 2, 6)


def flip_index(path, _):
    flip(path, path.stat().st_size - 9, 1)


def flip_last_byte(path, _):
    flip(path, -1, 7)


def truncate(path, _):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path, _):
    path.write_bytes(b"")


def zero_fill(path, _):
    path.write_bytes(bytes(path.stat().st_size))


def delete(path, _):
    path.unlink()


def overwrite_by_another_block(path, others):
    path.write_bytes(others[0].read_bytes())


def overwrite_by_another_epoch(path, others):
    path.write_bytes(others[1].read_bytes())


DAMAGES = [
    flip_data,
    flip_middle,
    flip_index,
    flip_last_byte,
    truncate,
    empty,
    zero_fill,
    delete,
    overwrite_by_another_block,
    overwrite_by_another_epoch,
]


def times(path):
    files = (p for p in (path / "targets.zarr").rglob("*") if p.is_file())
    return {p: p.stat().st_mtime_ns for p in files}


def open_and_read(path, teacher, epoch, slots):
    return TargetReader(path, teacher.name).read(epoch, slots)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_damage_of_an_array_is_found_refused_and_repaired(cache, damage):
    """One object of every array, each of another block, at once."""
    path, teacher = cache
    specs = array_specs(teacher.format)
    random = np.random.default_rng(DAMAGES.index(damage))
    cells = [divmod(int(cell), BLOCKS - 1) for cell in random.permutation(EPOCHS * (BLOCKS - 1))[: len(specs)]]
    before = times(path)
    originals = {}
    for spec, (epoch, index) in zip(specs, cells, strict=True):
        target, *others = (
            path / object_key(teacher.name, spec, *cell)
            for cell in ((epoch, index), (epoch, (index + 1) % (BLOCKS - 1)), (1 - epoch, index))
        )
        originals[target] = target.read_bytes()
        damage(target, others)
    found = verify(path, "hash")
    assert [(f.teacher, f.where, f.epoch, f.slots) for f in sorted(found, key=lambda f: (f.epoch, f.slots))] == [
        (teacher.name, spec.name, epoch, (index * 16, index * 16 + 16))
        for (epoch, index), spec in sorted(zip(cells, specs, strict=True), key=lambda pair: pair[0])
    ]
    epoch, index = cells[0]
    assert any(
        f"{teacher.name}: {specs[0].name}, epoch {epoch}, slots {index * 16}..{index * 16 + 15}: " in str(finding)
        for finding in found
    )
    for epoch, index in cells:
        slots = np.arange(index * 16, index * 16 + 16)
        with pytest.raises(CacheCorrupt, match=r"(?s)cache corrupt: .*slots .*deit-pipe cache-teacher --cache"):
            open_and_read(path, teacher, epoch, slots)
    with TargetWriter.open(path, teacher, epochs=EPOCHS) as writer:
        assert [(b.epoch, b.index) for b in writer.missing] == sorted(cells)
        write_blocks(writer, writer.mine)
    after = times(path)
    assert {p for p in after if after[p] != before.get(p)} == {
        path / object_key(teacher.name, spec, *cell) for spec in specs for cell in cells
    }
    assert {target: target.read_bytes() for target in originals} == originals
    assert verify(path, "deep").ok
    cover = coverage(path, teacher.name)
    assert cover.complete
    assert cover.sealed.all()
    assert [cover.class_counts[e].sum() for e in range(EPOCHS)] == [100, 100]
    assert len(list((path / "ledger" / teacher.name / "sealed").iterdir())) == EPOCHS
    slots = np.arange(100)
    for epoch in range(EPOCHS):
        assert_same(TargetReader(path, teacher.name).read(epoch, slots), expected(teacher, epoch, slots))
    TargetReader(path, "bystander").read(0, slots)


def test_every_single_byte_of_a_shard_counts(cache):
    path, teacher = cache
    for spec in array_specs(teacher.format):
        target = path / object_key(teacher.name, spec, 1, 6)
        data = target.read_bytes()
        for position in range(0, len(data), max(1, len(data) // 25)):
            flip(target, position, position % 8)
            assert len(verify(path, "hash", teacher.name)) == 1
            target.write_bytes(data)
    assert verify(path, "hash").ok


def test_two_swapped_files_are_two_findings(cache):
    path, teacher = cache
    spec = array_specs(teacher.format)[0]
    one, other = (path / object_key(teacher.name, spec, 0, index) for index in (1, 4))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    assert [(f.epoch, f.slots) for f in verify(path, "hash", teacher.name)] == [(0, (16, 32)), (0, (64, 80))]


def test_sizes_finds_what_a_listing_can_see(cache):
    path, teacher = cache
    spec = array_specs(teacher.format)[-1]
    truncate(path / object_key(teacher.name, spec, 0, 2), None)
    delete(path / object_key(teacher.name, spec, 1, 3), None)
    flip_data(path / object_key(teacher.name, spec, 1, 4), None)
    found = verify(path, "sizes")
    assert [(f.epoch, f.slots) for f in found] == [(0, (32, 48)), (1, (48, 64))]
    assert "is missing" in found.damaged[1].what
    with pytest.raises(CacheCorrupt, match=r"slots 32\.\.47"):
        TargetReader(path, teacher.name)


def test_a_consistent_lie_is_found_by_deep(cache):
    """Bytes and digest agree, values are impossible: what a broken program would have committed."""
    path, teacher = cache
    if teacher.targets == "none":
        pytest.skip("any label in range is possible")
    spec = array_specs(teacher.format)[2]
    drop_records_and_write_nonsense(path, teacher)
    assert verify(path, "hash").ok
    found = verify(path, "deep")
    assert {(f.where, f.epoch, f.slots) for f in found} == {(spec.name, 0, (0, 16))}


def drop_records_and_write_nonsense(path, teacher):
    from deit_pipe.store import writer as module
    from deit_pipe.store.recovery import drop_records

    drop_records(module.open_location(path), teacher, {(0, 0)})
    genuine = module.encode

    def lying(logits, fmt):
        arrays = genuine(logits, fmt)
        arrays["teacher_label"] = (arrays["teacher_label"] + 1) % 10
        return arrays

    module.encode = lying
    try:
        fill(path, teacher, EPOCHS)
    finally:
        module.encode = genuine


# --- what is not an array -------------------------------------------------------------------------------------


def test_ledger_damage_is_found_and_its_copy_serves(cache):
    path, teacher = cache
    for folder in ("sealed", "sealed-copy"):
        name = sorted((path / "ledger" / teacher.name / folder).iterdir())[1]
        for damage in (flip_middle, truncate, delete):
            damage(name, None)
            found = verify(path, "hash")
            assert [(f.teacher, f.where, f.epoch) for f in found] == [(teacher.name, "ledger", 1)]
            assert "its copy is good" in found.damaged[0].what
            TargetReader(path, teacher.name).read(1, np.arange(100))
            assert fill(path, teacher, EPOCHS) == []
            assert verify(path, "hash").ok


def test_both_copies_lost_costs_their_epoch_only(cache):
    path, teacher = cache
    for folder in ("sealed", "sealed-copy"):
        flip_middle(sorted((path / "ledger" / teacher.name / folder).iterdir())[0], None)
    with pytest.raises(CacheCorrupt, match="sealed"):
        TargetReader(path, teacher.name)
    assert {b.epoch for b in fill(path, teacher, EPOCHS)} == {0}
    assert verify(path, "deep").ok


def test_a_damaged_record_costs_its_block_only(cache):
    path, teacher = cache
    with TargetWriter.open(path, teacher, epochs=3) as writer:
        write_blocks(writer, writer.mine[:4])
    records = path / "ledger" / teacher.name / "blocks"
    assert len(list(records.iterdir())) == 4
    flip(records / "0002-000001.json", 40, 1)
    (records / "0002-000003.json").write_bytes((records / "0002-000002.json").read_bytes())  # a misplaced record
    found = verify(path, "hash")
    assert [(f.where, f.epoch) for f in found] == [("ledger", 2), ("ledger", 2)]
    with pytest.raises(CacheCorrupt, match="0002-000001"):
        TargetReader(path, teacher.name, allow_partial=True)
    assert [(b.epoch, b.index) for b in fill(path, teacher, 3)] == [(2, i) for i in (1, 3, 4, 5, 6)]
    assert verify(path, "deep").ok


def test_a_lost_number_of_epochs_is_found_and_restored(cache):
    path, teacher = cache
    key = path / "ledger" / teacher.name / "epochs.json"
    for damage in (flip_middle, delete):
        damage(key, None)
        assert [(f.where, f.key) for f in verify(path, "hash")] == [("ledger", f"ledger/{teacher.name}/epochs.json")]
        with pytest.raises(CacheCorrupt, match=r"epochs\.json"):
            TargetReader(path, teacher.name)
        assert fill(path, teacher, 1) == []
        assert TargetReader(path, teacher.name).epochs == EPOCHS


def test_zarr_metadata_is_compared_and_rewritten(cache):
    path, teacher = cache
    key = path / "targets.zarr" / teacher.name / "teacher_label" / "zarr.json"
    good = key.read_bytes()
    shape = json.loads(good)
    shape["shape"][0] = 1
    for bad in (b"", good[:50], json.dumps(shape).encode(), good.replace(b"bitshuffle", b"noshuffle")):
        key.write_bytes(bad)
        assert [(f.where, f.what) for f in verify(path, "hash")] == [("metadata", "does not describe the array")]
        TargetReader(path, teacher.name).read(0, np.arange(100))  # nothing of it is needed to read
        fill(path, teacher, EPOCHS)
        assert json.loads(key.read_bytes()) == json.loads(good)
    key.unlink()
    assert [f.what for f in verify(path, "hash")] == ["is missing"]


def test_identities_and_samples_are_covered(cache):
    path, teacher = cache
    flip_middle(path / "samples.parquet", None)
    assert [f.where for f in verify(path, "hash")] == ["samples.parquet"]
    flip_middle(path / "teachers" / f"{teacher.name}.json", None)
    with pytest.raises(CacheCorrupt, match=f"teachers/{teacher.name}"):
        verify(path, "hash")
    with pytest.raises(CacheCorrupt):
        TargetReader(path, teacher.name)


def test_a_block_with_no_record_does_not_exist(cache):
    path, teacher = cache
    shutil.rmtree(path / "ledger" / teacher.name)
    assert verify(path, "hash").ok  # nothing is wanted of it, and nothing is trusted
    with pytest.raises(CacheIncomplete):
        TargetReader(path, teacher.name)
    assert len(fill(path, teacher, EPOCHS)) == EPOCHS * BLOCKS
