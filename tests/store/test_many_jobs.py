"""Several whole jobs on one cache, each request of theirs taken in a seeded order, some lost, failed or delayed."""

import random
import threading
import uuid
from types import SimpleNamespace

import numpy as np
import pytest
from store_fakes import answers, assert_same, create, expected, fill, make_teacher

from deit_pipe.store import writer as writer_module
from deit_pipe.store.blocks.block_object import BlockCodec, ObjectDamaged
from deit_pipe.store.errors import StoreError, StoreUnreachable
from deit_pipe.store.layout import Block, blocks_of
from deit_pipe.store.manifest import read_manifest
from deit_pipe.store.places.location import ObjectMissing
from deit_pipe.store.places.memory import MemoryObjects
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.verify import verify
from deit_pipe.store.writer import TargetWriter

TEACHER = make_teacher("none", block_slots=25)
EPOCHS = 2
WAIT = 30.0
JUMPS = (0.0, 3600.0, -3600.0)  # of every clock, each time somebody asks it


class Turns:
    """Lets one thread go at a time, chosen by a seed among all that want to."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self._state = threading.Condition()
        self._wanting: list[object] = []
        self._running = 0
        self._chosen: object = None

    def join(self, jobs: int) -> None:
        self._running = jobs

    def take(self) -> None:
        me = object()
        with self._state:
            self._wanting.append(me)
            self._choose()
            assert self._state.wait_for(lambda: self._chosen is me, WAIT)
            self._wanting.remove(me)
            self._chosen = None

    def leave(self) -> None:
        with self._state:
            self._running -= 1
            self._choose()

    def _choose(self) -> None:
        if self._chosen is None and self._wanting and len(self._wanting) == self._running:
            self._chosen = self.dice.choice(self._wanting)
            self._state.notify_all()


class Scheduled(MemoryObjects):
    """A place whose requests wait for their turn, and whose answers cannot be relied on."""

    def __init__(self, url: str, turns: Turns, log: dict[str, int]) -> None:
        super().__init__(url)
        self._turns, self._log = turns, log
        self.late: list[tuple[str, tuple]] = []
        self.sound = lambda key, data: False

    def _request(self, name: str, *arguments):
        self._turns.take()
        self._deliver()
        call = getattr(super(), name)
        dice = self._turns.dice.random()
        if name in ("create", "swap") and arguments[0].startswith("targets.zarr/none/teacher_label/c/"):
            if dice < 0.08:
                self._log["failed"] += 1
                raise StoreUnreachable("not done")
            if dice < 0.16:
                self._log["delayed"] += 1
                self.late.append((name, arguments))
                raise StoreUnreachable("still under way")
            if dice < 0.24:
                self._log["lost"] += 1
                self._change(call, *arguments)
                raise StoreUnreachable("done, and nobody says so")
            return self._change(call, *arguments)
        return call(*arguments)

    def _change(self, call, key, *arguments):
        """No request may change a block that is sound."""
        before = self._objects.get(key)
        try:
            return call(key, *arguments)
        finally:
            after = self._objects.get(key)
            if before is not None and self.sound(key, before.data):
                assert after == before, f"{key} was sound, and was replaced"

    def _deliver(self) -> None:
        while self.late and self._turns.dice.random() < 0.2:
            name, arguments = self.late.pop(self._turns.dice.randrange(len(self.late)))
            try:
                self._change(getattr(super(), name), *arguments)
            except FileExistsError:
                self._log["late"] += 1

    def get(self, key, start=0, stop=None):  # threads of a job ask for several at once: not in turns
        if (seen := super().see(key)) is None:
            raise ObjectMissing(key)
        return seen.data[start:stop]

    def size(self, key):
        seen = super().see(key)
        return None if seen is None else len(seen.data)

    def see(self, key):
        return self._request("see", key)

    def create(self, key, data):
        return self._request("create", key, data)

    def swap(self, key, seen, data):
        return self._request("swap", key, seen, data)


def job(place: Scheduled, turns: Turns, seed: int, told: dict[Block, set[str]], errors: list[Exception]) -> None:
    try:
        with TargetWriter.open(place, TEACHER, epochs=EPOCHS, check_space=False) as writer:
            writer._claims.hints._clock = lambda: turns.dice.choice(JUMPS)
            for block in writer.claims():
                told.setdefault(block, set()).add(writer.write(block, *answers(block, seed=seed)).token or "")
    except StoreError:
        pass  # a network that gives no answer: the job ends, the next goes on
    except Exception as error:
        errors.append(error)
    finally:
        turns.leave()


@pytest.mark.parametrize("seed", range(4))
def test_jobs_that_write_at_once_commit_each_block_once_whatever_becomes_of_their_requests(seed, monkeypatch):
    clock = SimpleNamespace(time=lambda: 1e9 + random.Random(len(told)).choice(JUMPS), monotonic=lambda: 0.0)
    monkeypatch.setattr(writer_module, "time", clock)
    url = f"memory://jobs/{uuid.uuid4().hex}"
    create(url)
    codec = BlockCodec(read_manifest(url), TEACHER)
    blocks = {codec.key(e, b.index): b for e in range(EPOCHS) for b in blocks_of(e, 100, 25)}

    def sound(key, data):
        try:
            return key in blocks and codec.open(data, blocks[key]) is not None
        except ObjectDamaged:
            return False

    dice = random.Random(seed)
    log = dict.fromkeys(("failed", "delayed", "lost", "late"), 0)
    errors: list[Exception] = []
    told: dict[Block, set[str]] = {}
    plain = MemoryObjects(url)
    for turn in range(4):
        turns = Turns(seed * 10 + turn)
        place = Scheduled(url, turns, log)
        place.sound = sound
        jobs = 1 + dice.randrange(3)
        turns.join(jobs)
        threads = [threading.Thread(target=job, args=(place, turns, n, told, errors)) for n in range(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
            assert not thread.is_alive()
        turns.join(0)
        committed = {key: plain.get(key) for key in blocks if plain.exists(key)}
        assert all(sound(key, data) for key, data in committed.items())
        for key in plain.sizes("hints"):
            plain.delete(key)  # a minute has passed
        if turn < 3:
            victim = dice.choice(sorted(blocks))
            if plain.exists(victim):
                plain.put(victim, plain.get(victim)[:-7])
                told.pop(blocks[victim], None)
    assert not errors
    fill(url, TEACHER, EPOCHS, seed=7)
    assert verify(url, "deep").ok
    for key, block in blocks.items():
        record = codec.open(plain.get(key), block)
        assert told.get(block, {record.token}) == {record.token}  # everybody was told the same, and it is true
    got = TargetReader(url).read(1, np.arange(100))
    assert_same(got, got)
    assert (got.teacher_label >= 0).all()
    assert sum(log.values()) > 0


def test_what_one_job_writes_is_what_is_read():
    url = f"memory://jobs/{uuid.uuid4().hex}"
    create(url)
    fill(url, TEACHER, 1)
    assert_same(TargetReader(url).read(0, np.arange(100)), expected(TEACHER, 0, np.arange(100)))


class Counted(MemoryObjects):
    """Counts its requests; a listing counts once for each 1,000 objects."""

    requests = 0

    def _count(self, name, *arguments):
        answer = getattr(super(), name)(*arguments)
        self.requests += -(-len(answer) // 1000) or 1 if name == "sizes" else 1
        return answer

    def see(self, key):  # which get and size ask
        return self._count("see", key)

    def sizes(self, prefix=""):
        return self._count("sizes", prefix)


def large_cache():
    """300 epochs of 157 blocks, by their index; only the blocks of the first two are what it says. Place, manifest."""
    from deit_pipe.store.index import _write
    from deit_pipe.store.ledger import ledger_of, want_epochs

    url = f"memory://large/{uuid.uuid4().hex}"
    create(url, 157)
    fill(url, LARGE, 2)
    place = MemoryObjects(url)
    manifest = read_manifest(place)
    ledger = ledger_of(place, manifest, LARGE)
    columns, counts = ledger.columns(), ledger.class_counts[0]
    many = {name: np.concatenate([column[:157]] * 298) for name, column in columns.items()}
    many["epoch"] = np.repeat(np.arange(2, 300), 157)
    many["written"] = many["written"] + 1.0
    _write(place, "ledger/none", many, dict.fromkeys(range(2, 300), counts))
    want_epochs(place, "none", 300)
    return place, manifest


LARGE = make_teacher("none", block_slots=1)


def test_opening_a_large_cache_takes_few_requests_and_an_epoch_one_for_each_block():
    """The index says that the blocks are there, and nothing is listed."""
    from deit_pipe.store import sealed
    from deit_pipe.store.ledger import ledger_of

    place, manifest = large_cache()
    counted = Counted(place.path)
    reader = TargetReader(counted, "none")
    assert reader.epochs == 300
    assert counted.requests <= 20
    assert len(sealed.cells_of(ledger_of(place, manifest, LARGE).columns())) == 47_100
    before = counted.requests
    assert len(list(reader.stream([(1, np.arange(start, start + 1)) for start in range(157)]))) == 157
    assert counted.requests - before == 157


def test_resuming_a_large_cache_lists_it_once_and_hashes_a_share():
    """47,100 blocks: 48 listings of 1,000 for the sizes, a GET for each block whose hash is compared, and few more."""
    place, manifest = large_cache()
    codec = BlockCodec(manifest, LARGE)
    for index in range(157):
        data = place.get(codec.key(0, index))
        for epoch in range(2, 300):
            place.put(codec.key(epoch, index), data)  # of the right size, and another block
    counted = Counted(place.path)
    writer = TargetWriter.open(counted, LARGE, epochs=300, check_space=False)
    assert writer.checked == "hash of 4,096 of 47,100 blocks (8.7%, seed 47100), sizes of all"
    assert 4096 - 60 < len(writer.damaged) <= 4096  # but for the two epochs that are sound
    assert counted.requests <= 4096 + 48 + 50
