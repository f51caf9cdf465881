"""Every damage is found, named by teacher, array, epoch and slots; training refuses; a rerun repairs only that."""

import itertools
import json
import shutil

import numpy as np
import pytest
from store_fakes import FORMATS, assert_same, create, expected, fill, flip_bit, make_teacher, write_blocks

from deit_pipe.store.errors import CacheCorrupt, CacheIncomplete, StoreError
from deit_pipe.store.layout import array_specs, first_array, object_key
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


def block_file(path, teacher, epoch, index):
    return path / object_key(teacher.name, first_array(teacher.format), epoch, index)


def found_in(path, teacher, level="hash"):
    return [(f.epoch, f.slots[0] // 16) for f in verify(path, level, teacher.name)]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_damage_of_a_block_is_found_refused_and_only_that_block_is_made_again(cache, damage):
    path, teacher = cache
    random = np.random.default_rng(DAMAGES.index(damage))
    cells = sorted(divmod(int(cell), BLOCKS - 1) for cell in random.permutation(EPOCHS * (BLOCKS - 1))[:3])
    before = times(path)
    damaged = set()
    for epoch, index in cells:
        target, *others = (
            block_file(path, teacher, *cell)
            for cell in ((epoch, index), (epoch, (index + 1) % (BLOCKS - 1)), (1 - epoch, index))
        )
        damage(target, others)
        damaged.add(target)
    assert sorted(found_in(path, teacher)) == cells
    assert all(f"epoch {f.epoch}, slots {f.slots[0]}..{f.slots[1] - 1}: " in str(f) for f in verify(path, "hash"))
    for epoch, index in cells:
        slots = np.arange(index * 16, index * 16 + 16)
        with pytest.raises(CacheCorrupt, match=r"(?s)cache corrupt: .*slots .*deit-pipe cache-teacher --cache"):
            open_and_read(path, teacher, epoch, slots)
    with TargetWriter.open(path, teacher, epochs=EPOCHS) as writer:
        assert [(b.epoch, b.index) for b in writer.missing] == cells
        write_blocks(writer, writer.claims())
    after = times(path)
    assert {p for p in after if after[p] != before.get(p)} == damaged
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


def test_the_damaged_array_is_named(cache):
    path, teacher = cache
    specs = array_specs(teacher.format)
    for number, spec in enumerate(specs):
        flip_bit(path, teacher.name, spec.name, 1, number, bit=37 + 11 * number)
    found = [(f.where, f.epoch, f.slots[0]) for f in verify(path, "hash")]
    assert found == [(spec.name, 1, 16 * number) for number, spec in enumerate(specs)]


def test_every_single_byte_of_a_block_counts(cache):
    path, teacher = cache
    target = block_file(path, teacher, 1, 6)
    data = target.read_bytes()
    for position in range(0, len(data), max(1, len(data) // 60)):
        flip(target, position, position % 8)
        assert found_in(path, teacher) == [(1, 6)]
        target.write_bytes(data)
    assert verify(path, "hash").ok


def test_two_swapped_blocks_are_two_findings(cache):
    path, teacher = cache
    exchange(*(block_file(path, teacher, 0, index) for index in (1, 4)))
    assert found_in(path, teacher) == [(0, 1), (0, 4)]


def exchange(one, other):
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def test_sizes_finds_what_a_listing_can_see(cache):
    path, teacher = cache
    truncate(block_file(path, teacher, 0, 2), None)
    delete(block_file(path, teacher, 1, 3), None)
    flip(block_file(path, teacher, 1, 4), -9, 3)
    assert found_in(path, teacher, "sizes") == [(0, 2), (1, 3)]
    assert "is missing" in verify(path, "sizes").damaged[1].what
    with pytest.raises(CacheCorrupt, match=r"slots 32\.\.47"):
        TargetReader(path, teacher.name)


def test_a_consistent_lie_is_found_by_deep(cache, monkeypatch):
    """Bytes and digest agree, values are impossible: what a broken program would have committed."""
    from deit_pipe.store import writer as module

    path, teacher = cache
    if teacher.targets == "none":
        pytest.skip("any label in range is possible")
    block_file(path, teacher, 0, 0).unlink()
    genuine = module.encode

    def lying(logits, fmt):
        arrays = genuine(logits, fmt)
        arrays["teacher_label"] = (arrays["teacher_label"] + 1) % 10
        return arrays

    monkeypatch.setattr(module, "encode", lying)
    fill(path, teacher, EPOCHS)
    assert verify(path, "hash").ok
    assert found_in(path, teacher, "deep") == [(0, 0)]


# --- what is not a block -------------------------------------------------------------------------------------


def test_every_file_of_a_cache_counts_also_exchanged_with_any_other_of_it(cache):
    """One damage at a time: it is named by `hash`, or says nothing; what is served is right or refused."""
    path, teacher = cache
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name not in SAYS_NOTHING)
    files = [p for p in files if "epochs" not in p.parts and "bystander" not in str(p)]
    random = np.random.default_rng(5)
    pairs = [(one, files[int(random.integers(len(files)))]) for one in files]
    for (one, other), damage in itertools.product(pairs, (delete, truncate, empty, flip_middle, exchange)):
        content, its = one.read_bytes(), other.read_bytes()
        damage(one, other)
        if one.exists() and one.read_bytes() == content:
            continue
        lost_index = "sealed" in one.parts and not one.exists()  # nothing that the blocks do not say
        assert named(path) or lost_index, (one, damage)
        served_right_or_refused(path, teacher)
        one.write_bytes(content)
        other.write_bytes(its)
    assert verify(path, "hash").ok


SAYS_NOTHING = ("PROVENANCE.json", "zarr.json", ".swap")


def named(path):
    try:
        return not verify(path, "hash").ok
    except StoreError:
        return True


def served_right_or_refused(path, teacher):
    try:
        got = TargetReader(path, teacher.name).read(1, np.arange(100))
    except StoreError:
        return
    assert_same(got, expected(teacher, 1, np.arange(100)))


def test_a_lost_number_of_epochs_is_found_and_restored(cache):
    path, teacher = cache
    (path / "ledger" / teacher.name / "epochs" / "0002").unlink()
    assert TargetReader(path, teacher.name).epochs == EPOCHS  # the index has them
    shutil.rmtree(path / "ledger" / teacher.name)
    assert [f.where for f in verify(path, "hash")] == []  # nothing is wanted
    with pytest.raises(CacheIncomplete):
        TargetReader(path, teacher.name)
    assert fill(path, teacher, EPOCHS) == []  # the blocks are there, whoever forgot them
    assert TargetReader(path, teacher.name).epochs == EPOCHS


def test_zarr_metadata_is_compared_and_rewritten(cache):
    path, teacher = cache
    key = path / "targets.zarr" / teacher.name / first_array(teacher.format).name / "zarr.json"
    good = key.read_bytes()
    shape = json.loads(good)
    shape["shape"][0] = 1
    for bad in (b"", good[:50], json.dumps(shape).encode(), good.replace(b"zstd", b"gzip")):
        key.write_bytes(bad)
        assert [(f.where, f.what) for f in verify(path, "hash")] == [("metadata", "does not describe the array")]
        TargetReader(path, teacher.name).read(0, np.arange(100))  # nothing of it is needed to read
        fill(path, teacher, EPOCHS)
        assert json.loads(key.read_bytes()) == json.loads(good)
    key.unlink()
    assert [f.what for f in verify(path, "hash")] == ["is missing"]


def test_an_identity_and_its_copy_that_are_both_damaged_are_refused(cache):
    path, teacher = cache
    for folder, key in itertools.product(("", "copies"), ("samples.parquet", f"teachers/{teacher.name}.json")):
        flip_middle(path / folder / key, None)
    with pytest.raises(CacheCorrupt, match=f"teachers/{teacher.name}"):
        verify(path, "hash")
    with pytest.raises(CacheCorrupt):
        TargetReader(path, teacher.name)


def test_a_chunk_that_declares_more_than_its_rows_is_refused_before_it_is_decoded(cache, monkeypatch):
    """A stranger's block whose hashes are right, and whose few bytes would take a gigabyte."""
    from deit_pipe.store import shards

    path, teacher = cache
    block_file(path, teacher, 0, 1).unlink()
    genuine = shards.ShardCodec.encode

    def larger(codec, rows):
        big = shards.ShardCodec(codec.spec, codec.block_slots * 64)
        return genuine(big, np.zeros((codec.block_slots * 64, *codec.spec.row), codec.spec.dtype))

    with monkeypatch.context() as patch:
        patch.setattr(shards.ShardCodec, "encode", larger)
        fill(path, teacher, EPOCHS)
    with pytest.raises(CacheCorrupt, match=r"does not decode: (has a chunk that declares|is shorter|has an index)"):
        TargetReader(path, teacher.name).read(0, np.arange(16, 32))
