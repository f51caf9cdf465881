import multiprocessing
import pickle
import threading

import numpy as np
import pytest
from store_fakes import FORMATS, assert_same, create, expected, fill, make_teacher, write_blocks

from deit_pipe.store.errors import CacheCorrupt, CacheIncomplete, CacheMissing, FormatInvalid
from deit_pipe.store.places.local import LocalDirectory
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.stored_cache import StoredCache
from deit_pipe.store.writer import TargetWriter


@pytest.fixture(params=FORMATS)
def teacher(request, tmp_path):
    create(tmp_path)
    teacher = make_teacher(request.param)
    fill(tmp_path, teacher, 3)
    return teacher


@pytest.mark.parametrize("memory", [10**9, 1])
def test_any_slots_in_any_order(teacher, tmp_path, memory):
    reader = TargetReader(tmp_path, memory_bytes=memory)
    random = np.random.default_rng(0)
    for _ in range(20):
        epoch = int(random.integers(3))
        slots = random.integers(0, 100, random.integers(1, 40))
        assert_same(reader.read(epoch, slots), expected(teacher, epoch, slots))
    for start in range(0, 100, 7):  # contiguous, across blocks and inside
        slots = np.arange(start, min(start + 7, 100))
        assert_same(reader.read(1, slots), expected(teacher, 1, slots))


@pytest.mark.parametrize("memory", [10**9, 1])
def test_stream_is_read_in_order(teacher, tmp_path, memory):
    random = np.random.default_rng(1)
    cells = [(int(random.integers(3)), random.permutation(100)[:24]) for _ in range(60)]
    reader = TargetReader(tmp_path, memory_bytes=memory)
    seen = list(reader.stream(iter(cells)))
    assert len(seen) == 60
    for (epoch, slots), targets in zip(cells, seen, strict=True):
        assert_same(targets, expected(teacher, epoch, slots))


def test_what_a_batch_holds_is_its_own(teacher, tmp_path):
    reader = TargetReader(tmp_path)
    first = reader.read(0, np.arange(8))
    for name in ("logits", "topk_logp", "fingerprint", "teacher_label"):
        if (array := getattr(first, name)) is not None:
            array[:] = 0
    assert_same(reader.read(0, np.arange(8)), expected(teacher, 0, np.arange(8)))


def test_leaving_a_stream_early_ends_its_thread(teacher, tmp_path):
    reader = TargetReader(tmp_path)
    for _ in range(3):
        stream = reader.stream((e, np.arange(i, i + 10)) for e in range(3) for i in range(0, 90, 10))
        next(stream)
        stream.close()
    for thread in threading.enumerate():
        if thread.name == "targets-ahead":
            thread.join(60)
            assert not thread.is_alive()


def test_an_error_in_the_cells_or_in_a_block_reaches_the_consumer(teacher, tmp_path):
    def cells():
        yield 0, np.arange(10)
        raise RuntimeError("the plan broke")

    stream = TargetReader(tmp_path).stream(cells())
    next(stream)
    with pytest.raises(RuntimeError, match="the plan broke"):
        next(stream)
    with pytest.raises(IndexError, match=r"slots 95\.\.104"):
        list(TargetReader(tmp_path).stream([(0, np.arange(95, 105))]))


@pytest.mark.parametrize(("epoch", "slots"), [(3, [0]), (-1, [0]), (0, [100]), (0, [-1])])
def test_cells_outside_are_refused(teacher, tmp_path, epoch, slots):
    with pytest.raises(IndexError, match="outside the cache"):
        TargetReader(tmp_path).read(epoch, np.array(slots))


def test_an_empty_batch_is_empty(teacher, tmp_path):
    assert len(TargetReader(tmp_path).read(0, np.array([], np.int64))) == 0


def test_an_incomplete_cache_is_refused_and_may_be_opened_partially(tmp_path):
    create(tmp_path)
    with TargetWriter.open(tmp_path, make_teacher(), epochs=2) as writer:
        write_blocks(writer, writer.mine[:3])
    with pytest.raises(CacheIncomplete, match=r"3 of 14 blocks of 'dense' \(epoch 0: 3 of 7\)") as caught:
        TargetReader(tmp_path)
    assert caught.value.exit_code == 3
    assert "deit-pipe cache-teacher" in str(caught.value)
    reader = TargetReader(tmp_path, allow_partial=True)
    assert_same(reader.read(0, np.arange(48)), expected(make_teacher(), 0, np.arange(48)))
    with pytest.raises(CacheIncomplete, match="no epoch 0, block 3"):
        reader.read(0, np.array([50]))


def test_only_the_epochs_that_are_asked_for_must_be_there(tmp_path):
    create(tmp_path)
    teacher = make_teacher()
    fill(tmp_path, teacher, 2)
    with TargetWriter.open(tmp_path, teacher, epochs=4) as writer:  # being extended, and a block of it is damaged
        write_blocks(writer, writer.mine[:3])
        path = tmp_path / "targets.zarr/dense/logits/c/2/1/0"
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(CacheCorrupt, match="blocks of teacher 'dense'"):
            TargetReader(tmp_path)
        stored = StoredCache(tmp_path).teacher("dense")
        assert [stored.usable_epochs(asked) for asked in (1, 2, 3, 99)] == [2, 2, 2, 2]
        reader = TargetReader(tmp_path, epochs=2)
        assert reader.epochs == 2
        assert_same(reader.read(1, np.arange(100)), expected(teacher, 1, np.arange(100)))
        with pytest.raises(IndexError, match="2 epochs"):
            reader.read(2, np.arange(2))
        with pytest.raises((CacheIncomplete, CacheCorrupt)):
            TargetReader(tmp_path, epochs=3)


def test_usable_epochs_are_those_that_are_asked_for_or_that_were_wanted_before(tmp_path):
    create(tmp_path)
    teacher = make_teacher()
    with TargetWriter.open(tmp_path, teacher, epochs=5) as writer:  # the first filling, three epochs of five
        assert StoredCache(tmp_path).teacher("dense").usable_epochs(1) == 0
        write_blocks(writer, writer.mine[:22])
    usable = StoredCache(tmp_path).teacher("dense").usable_epochs
    assert [usable(asked) for asked in (1, 3, 4, 99)] == [3, 3, 0, 0]


def test_a_teacher_without_a_block_is_incomplete(tmp_path):
    create(tmp_path)
    with pytest.raises(CacheMissing, match="no teacher"):
        TargetReader(tmp_path)
    TargetWriter.open(tmp_path, make_teacher(), epochs=2).close()
    with pytest.raises(CacheIncomplete, match="0 of 14"):
        TargetReader(tmp_path)


def test_of_two_teachers_one_must_be_named(tmp_path):
    create(tmp_path)
    for name in ("a", "b"):
        fill(tmp_path, make_teacher("none", name=name), 1)
    with pytest.raises(FormatInvalid, match="2 teachers: a, b"):
        TargetReader(tmp_path)
    assert TargetReader(tmp_path, "b").identity.name == "b"


def read_in_child(reader, connection):
    connection.send(reader.read(1, np.arange(40)).teacher_label.tolist())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_reader_works_in_another_process(teacher, tmp_path, method):
    reader = TargetReader(tmp_path, memory_bytes=1)  # every read goes to the disk
    reader.read(0, np.arange(100))
    stop = threading.Event()

    def keep_busy():  # a fork in the middle of reads must not inherit a held lock
        while not stop.is_set():
            reader.read(1, np.arange(100))

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        context = multiprocessing.get_context(method)
        for _ in range(3 if method == "fork" else 1):
            ours, theirs = context.Pipe(False)
            child = context.Process(target=read_in_child, args=(reader, theirs))
            child.start()
            theirs.close()
            assert ours.poll(600), "the child hangs"
            assert ours.recv() == expected(teacher, 1, np.arange(40)).teacher_label.tolist()
            child.join()
            assert child.exitcode == 0
    finally:
        stop.set()
        thread.join()


def test_a_pickled_reader_opens_again(teacher, tmp_path):
    reader = pickle.loads(pickle.dumps(TargetReader(tmp_path)))
    assert_same(reader.read(2, np.arange(5)), expected(teacher, 2, np.arange(5)))


def test_memory_budget_is_kept(tmp_path, monkeypatch):
    create(tmp_path)
    fill(tmp_path, make_teacher(), 3)
    block = 16 * (2 + 4 + 20)
    reader = TargetReader(tmp_path, memory_bytes=3 * block)
    fetched = []
    get = LocalDirectory.get

    def counting(place, key, *part):
        fetched.append(key)
        return get(place, key, *part)

    monkeypatch.setattr(LocalDirectory, "get", counting)

    def objects(epoch, start, stop):
        fetched.clear()
        reader.read(epoch, np.arange(start, stop))
        return len(fetched)

    for epoch in range(3):
        for start in range(0, 96, 16):
            assert objects(epoch, start, start + 16) == 1
        assert objects(epoch, 48, 96) == 0  # three blocks are kept, not one less
        assert objects(epoch, 32, 48) == 1  # and not one more: its object is fetched again
