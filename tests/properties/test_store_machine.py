"""The store against a dictionary: write, kill, damage, reopen, extend, read, in any order."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store_fakes import FORMATS, answers, assert_same, create, make_teacher

from deit_pipe.store.errors import CacheIncomplete
from deit_pipe.store.formats import decode, encode
from deit_pipe.store.layout import first_array, object_key
from deit_pipe.store.ledger import coverage
from deit_pipe.store.places import local
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.verify import verify
from deit_pipe.store.writer import TargetWriter


class Killed(BaseException):
    pass


class StoreMachine(RuleBasedStateMachine):
    """`model` holds what must be there: (epoch, block index) -> (logits, fingerprints)."""

    @initialize(
        text=st.sampled_from(FORMATS),
        num_samples=st.integers(1, 40),
        block=st.integers(1, 16),
        classes=st.integers(3, 6),
    )
    def create(self, text, num_samples, block, classes):
        self.folder = Path(tempfile.mkdtemp())
        self.fsync, local.os.fsync = local.os.fsync, lambda _: None
        create(self.folder, num_samples, classes)
        self.num_samples = num_samples
        self.teacher = make_teacher(text, classes, block_slots=block)
        self.model = {}
        self.epochs = 0
        self.writer = None
        self.world = 1

    def teardown(self):
        if hasattr(self, "folder"):
            local.os.fsync = self.fsync
            if self.writer is not None:
                self.writer._claims.hints.drop_all()
            shutil.rmtree(self.folder)

    @precondition(lambda self: self.writer is None)
    @rule(epochs=st.integers(1, 3), world=st.integers(1, 3))
    def open(self, epochs, world):
        self.writer = TargetWriter.open(self.folder, self.teacher, epochs=epochs, world=world)
        before, self.epochs = self.epochs, self.writer.epochs
        assert self.epochs == max(epochs, before)
        assert {(b.epoch, b.index) for b in self.writer.blocks} - {(b.epoch, b.index) for b in self.writer.missing} == {
            cell for cell in self.model if cell[0] < self.epochs
        }

    def answer(self, block, seed):
        return answers(block, self.teacher.num_classes, seed)

    @precondition(lambda self: self.writer is not None and self.writer._claims.left)
    @rule(data=st.data(), seed=st.integers(0, 3))
    def write(self, data, seed):
        block = data.draw(st.sampled_from([b for b in self.writer.missing if b in self.writer._claims.left]))
        answer = self.answer(block, seed)
        self.writer.write(block, *answer)
        self.model[block.epoch, block.index] = answer[:2]

    @precondition(lambda self: self.writer is not None and self.writer._claims.left)
    @rule(data=st.data(), after=st.integers(0, 8))
    def die_in_a_write(self, data, after):
        """Stop for ever at the n-th operation on the disk; what a dead process leaves, a new one finds."""
        block = data.draw(st.sampled_from([b for b in self.writer.missing if b in self.writer._claims.left]))
        left = [after]
        place = self.writer._place
        originals = {name: getattr(place, name) for name in ("put", "create", "swap", "delete")}

        def counted(name):
            def call(*arguments):
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                return originals[name](*arguments)

            return call

        for name in originals:
            setattr(place, name, counted(name))
        answer = self.answer(block, 7)
        try:
            self.writer.write(block, *answer)
            self.writer.close()
        except Killed:
            pass
        finally:
            self.writer._claims.hints.drop_all()
        if (block.epoch, block.index) in coverage_cells(self.folder, self.teacher):
            self.model[block.epoch, block.index] = answer[:2]
        self.writer = None

    @precondition(lambda self: self.writer is not None)
    @rule()
    def close(self):
        self.writer.close()
        self.writer = None

    @precondition(lambda self: self.writer is None and self.model)
    @rule(data=st.data(), where=st.floats(0, 1), bit=st.integers(0, 7))
    def damage(self, data, where, bit):
        """Flip a bit of a committed block: it is lost, no other; then it is made again, with other answers."""
        cell = data.draw(st.sampled_from(sorted(self.model)))
        path = self.folder / object_key(self.teacher.name, first_array(self.teacher.format), *cell)
        content = bytearray(path.read_bytes())
        content[int(where * (len(content) - 1))] ^= 1 << bit
        path.write_bytes(content)
        found = verify(self.folder, "hash")
        assert [(f.epoch, f.slots[0] // self.teacher.block_slots) for f in found] == [cell]
        with TargetWriter.open(self.folder, self.teacher, epochs=1) as writer:
            [block] = [block for block in writer.missing if (block.epoch, block.index) == cell]
            answer = self.answer(block, 5)
            writer.write(block, *answer)
        self.model[cell] = answer[:2]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def read(self, data):
        reader = TargetReader(self.folder, allow_partial=True)
        epoch, index = data.draw(st.sampled_from(sorted(self.model)))
        start = index * self.teacher.block_slots
        logits, prints = self.model[epoch, index]
        chosen = np.array(data.draw(st.lists(st.integers(0, len(logits) - 1), min_size=1, max_size=8)))
        arrays = {**encode(logits[chosen], self.teacher.format), "fingerprint": prints[chosen]}
        assert_same(reader.read(epoch, start + chosen), decode(arrays, self.teacher.format))

    @invariant()
    def what_is_committed_is_what_the_model_has(self):
        if hasattr(self, "model") and self.epochs:
            assert coverage_cells(self.folder, self.teacher) == set(self.model)
            reader = TargetReader(self.folder, allow_partial=True)
            for epoch in range(self.epochs):
                blocks = -(-self.num_samples // self.teacher.block_slots)
                for index in range(blocks):
                    if (epoch, index) not in self.model:
                        try:
                            reader.read(epoch, np.array([index * self.teacher.block_slots]))
                        except CacheIncomplete:
                            continue
                        raise AssertionError(f"epoch {epoch} block {index} was never written")


def coverage_cells(folder, teacher):
    columns = coverage(folder, teacher.name).columns
    return set(zip(columns["epoch"].tolist(), columns["index"].tolist(), strict=True))


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
