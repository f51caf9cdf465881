"""Single arrays of a cache, block by block: inspection wants fingerprints or labels without reading the logits too.

Every object's SHA-256 is checked. Partial caches are fine; what is not committed is not there.
"""

import shlex
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.blocks.block_object import ObjectDamaged
from deit_pipe.store.blocks.choice import blocks_in
from deit_pipe.store.errors import CacheCorrupt
from deit_pipe.store.formats import Arrays, Targets, decode
from deit_pipe.store.layout import ArraySpec, array_specs
from deit_pipe.store.proof.witness import Witnesses
from deit_pipe.store.stored_cache import Source, stored_cache
from deit_pipe.store.verify import Finding

KEPT_BLOCKS = 16


class CachedArrays:
    """The arrays of one teacher.

    Attributes:
        identity, manifest: what is read.
        epochs: how many are wanted; `committed` says what is there.
        damage: what `epoch` could not read, a line each.
    """

    def __init__(self, cache: Source, teacher: str) -> None:
        """Open for reading; nothing but the ledger is read, unless `cache` has read it already.

        Raises:
            CacheMissing: no such cache or teacher. CacheCorrupt: an identity is damaged.
        """
        stored = stored_cache(cache)
        self._place = stored.place
        self.manifest = stored.manifest
        self.identity = stored.teacher(teacher).identity
        self._ledger = stored.teacher(teacher).ledger
        self.blocks = sorted(self._ledger.cells())
        self.epochs = max(self._ledger.epochs or 0, self.blocks[-1][0] + 1 if self.blocks else 0)
        self._specs = {spec.name: spec for spec in array_specs(self.identity.format)}
        self._stored = blocks_in(self._place, self.manifest, self.identity)
        self.damage: list[str] = []
        self._kept: OrderedDict[tuple[str, int, int], NDArray[np.generic]] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """Names of the stored arrays."""
        return list(self._specs)

    def committed(self, epoch: int) -> NDArray[np.bool_]:
        """Which slots of an epoch are there, bool [N]."""
        there = np.zeros(self.manifest.num_samples, np.bool_)
        size = self.identity.block_slots
        for at, index in self.blocks:
            if at == epoch:
                there[index * size : (index + 1) * size] = True
        return there

    def has(self, epoch: int, slot: int) -> bool:
        """Whether a cell is committed."""
        return (epoch, slot // self.identity.block_slots) in self._ledger

    def witnesses(self, epoch: int) -> Witnesses:
        """The witnessed views of an epoch's committed blocks; none in format 1."""
        return self._ledger.witnesses(epoch)

    def slots_of(self, index: int) -> tuple[int, int]:
        """Start and stop of a block."""
        size = self.identity.block_slots
        return index * size, min((index + 1) * size, self.manifest.num_samples)

    def block(self, name: str, epoch: int, index: int) -> NDArray[np.generic]:
        """One array's rows of a committed block [slots, ...], as stored.

        Raises:
            KeyError: not committed. CacheCorrupt: the object is missing or its SHA-256 differs.
        """
        address = (name, epoch, index)
        if address in self._kept:
            self._kept.move_to_end(address)
            return self._kept[address]
        rows = self._load(self._specs[name], epoch, index)
        self._kept[address] = rows
        if len(self._kept) > KEPT_BLOCKS:
            self._kept.popitem(last=False)
        return rows

    def rows(self, name: str, epoch: int, slots: NDArray[np.int64]) -> NDArray[np.generic]:
        """One array's rows of committed cells (epoch, slots[i]), in that order."""
        spec, size = self._specs[name], self.identity.block_slots
        owner = slots // size
        out = np.empty((len(slots), *spec.row), spec.dtype)
        for index in np.unique(owner).tolist():
            at = np.flatnonzero(owner == index)
            out[at] = self.block(name, epoch, index)[slots[at] - index * size]
        return out

    def epoch(self, name: str, epoch: int) -> NDArray[np.generic]:
        """One array of a whole epoch [N, ...]; the fill value where nothing is committed or a block is damaged."""
        spec = self._specs[name]
        out = np.full((self.manifest.num_samples, *spec.row), spec.fill, spec.dtype)
        for index in [index for at, index in self.blocks if at == epoch]:
            start, stop = self.slots_of(index)
            try:
                out[start:stop] = self.block(name, epoch, index)
            except CacheCorrupt as error:
                self.damage.append(damage_line(error))
        return out

    def targets(self, epoch: int, slots: NDArray[np.int64]) -> Targets:
        """All arrays of committed cells, decoded."""
        arrays: Arrays = {name: self.rows(name, epoch, slots) for name in self._specs}
        return decode(arrays, self.identity.format)

    def _load(self, spec: ArraySpec, epoch: int, index: int) -> NDArray[np.generic]:
        record = self._ledger.record(epoch, index)
        try:
            return self._stored.rows(record, spec.name)
        except ObjectDamaged as error:
            raise self._corrupt(
                Finding(self.identity.name, error.array, epoch, (record.start, record.stop), error.what, error.key)
            ) from error

    def _corrupt(self, finding: Finding) -> CacheCorrupt:
        path = self._place.path
        return CacheCorrupt(
            f"cache corrupt: {path}",
            details=[str(finding)],
            cure=f"name everything that is damaged with: deit-pipe inspect-cache {shlex.quote(path)} --verify hash",
        )


def damage_line(error: CacheCorrupt) -> str:
    """The line of such an error that names what is damaged."""
    return error.details[0]
