"""A cache of format version 1 stays readable, value by value, and writable."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from store_fakes import FORMATS, fill, make_manifest, make_teacher

from deit_pipe.store.ledger import coverage
from deit_pipe.store.manifest import list_teachers, read_manifest, read_samples, read_teacher
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.verify import verify

CACHE = Path(__file__).with_name("cache_v1")
NAMES = sorted(text.replace(":", "-") for text in FORMATS)


def test_identities_are_the_ones_of_then():
    manifest = make_manifest(20)
    assert read_manifest(CACHE) == manifest
    assert manifest.digest == "8595b13765ce82e6b57f7a67c07490a76dcdfd2e3f2f56bd32168c0e85610b52"
    assert make_teacher("topk:3").digest == "5441f8702269b0340c18600b1d325b8a33417735bb7a1006cb1c52469b6174cb"
    assert list_teachers(CACHE) == NAMES
    assert read_samples(CACHE).keys[19] == "image-19.png"


@pytest.mark.parametrize("name", NAMES)
def test_every_value_reads_as_then(name):
    values = np.load(CACHE.with_suffix(".npz"))
    reader = TargetReader(CACHE, name)
    compared = 0
    for key in values.files:
        teacher, epoch, field = key.split("/")
        if teacher == name:
            stored = getattr(reader.read(int(epoch), np.arange(20)), field)
            assert stored.dtype == values[key].dtype
            np.testing.assert_array_equal(stored, values[key])
            compared += 1
    assert compared == {"dense": 6, "none": 4, "topk-3": 10}[name]


def test_it_is_whole_and_sealed():
    assert verify(CACHE, "deep").ok
    for name in NAMES:
        cover = coverage(CACHE, name)
        assert cover.complete
        assert cover.sealed.all()


def test_it_can_be_extended(tmp_path):
    shutil.copytree(CACHE, tmp_path / "c")
    teacher = read_teacher(tmp_path / "c", "topk-3")
    assert {block.epoch for block in fill(tmp_path / "c", teacher, 3)} == {2}
    assert verify(tmp_path / "c", "deep").ok
