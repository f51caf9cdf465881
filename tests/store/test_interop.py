"""Other readers open the largest array as it lies, and every array of a plain copy, and agree with ours."""

import json

import numpy as np
import pytest
from store_fakes import FORMATS, answers, create, fill, make_teacher, write_blocks

from deit_pipe.store.formats import encode
from deit_pipe.store.layout import Block, array_specs, first_array
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.stored_cache import StoredCache
from deit_pipe.store.writer import TargetWriter
from deit_pipe.store.writing.zarr_copy import write_zarr


@pytest.fixture(params=FORMATS)
def teacher(request, tmp_path):
    create(tmp_path)
    teacher = make_teacher(request.param)
    fill(tmp_path, teacher, 2)
    write_zarr(StoredCache(tmp_path), str(tmp_path / "plain"))
    return teacher


def ours(path, teacher):
    """All arrays [epochs, slots, ...] as the reader decodes them."""
    reader = TargetReader(path)
    epochs = [reader.read(epoch, np.arange(100)) for epoch in range(2)]
    names = {spec.name for spec in array_specs(teacher.format)}
    if teacher.targets == "dense8":  # levels of which a reader gives logits: from what was written
        written = [encode(answers(Block(epoch, 0, 0, 100))[0], teacher.format) for epoch in range(2)]
        stored = {name: np.stack([arrays[name] for arrays in written]) for name in ("logit_level", "logit_step")}
        names -= stored.keys()
    else:
        stored = {}
    found = stored | {name: np.stack([getattr(t, name) for t in epochs]) for name in names}
    if "lse_tau" in found:
        found["lse_tau"] = found["lse_tau"][..., 1:]  # tau 1 is not stored
    return found


def test_zarr_opens_the_blocks_as_they_lie_whole_and_in_part(teacher, tmp_path):
    import zarr

    first = first_array(teacher.format)
    group = zarr.open_group(tmp_path / "targets.zarr" / teacher.name, mode="r")
    assert list(group.array_keys()) == [first.name]
    values = ours(tmp_path, teacher)[first.name]
    np.testing.assert_array_equal(group[first.name][:].astype(values.dtype), values)
    np.testing.assert_array_equal(group[first.name][1, 13:39].astype(values.dtype), values[1, 13:39])


def test_zarr_opens_every_array_of_the_copy(teacher, tmp_path):
    import zarr

    group = zarr.open_group(tmp_path / "plain" / teacher.name, mode="r")
    assert sorted(group.array_keys()) == sorted(spec.name for spec in array_specs(teacher.format))
    for name, values in ours(tmp_path, teacher).items():
        np.testing.assert_array_equal(group[name][:].astype(values.dtype), values)
    for spec in array_specs(teacher.format):
        assert group[spec.name].shards == (1, 16, *spec.row)
        assert group[spec.name].dtype == spec.dtype
    assert [name for name, _ in zarr.open_group(tmp_path / "plain", mode="r").members()] == [teacher.name]


def test_xarray_opens_it(teacher, tmp_path):
    xarray = pytest.importorskip("xarray")
    options = {"consolidated": False, "mask_and_scale": False}
    lying = xarray.open_zarr(tmp_path / "targets.zarr" / teacher.name, **options)
    data = xarray.open_zarr(tmp_path / "plain" / teacher.name, **options)
    (first,) = lying.data_vars
    np.testing.assert_array_equal(lying[first].values, data[first].values)
    for name, values in ours(tmp_path, teacher).items():
        assert data[name].dims[:2] == ("epoch", "slot")
        np.testing.assert_array_equal(data[name].values.astype(values.dtype), values)


def test_tensorstore_opens_it_and_misses_nothing(teacher, tmp_path):
    tensorstore = pytest.importorskip("tensorstore")
    values = ours(tmp_path, teacher)
    first = first_array(teacher.format).name
    for folder, name in [("targets.zarr", first), *(("plain", name) for name in values)]:
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(tmp_path / folder / teacher.name / name)},
            "fill_missing_data_reads": False,
        }
        array = tensorstore.open(spec, read=True).result()
        assert array.domain.labels[:2] == ("epoch", "slot")
        np.testing.assert_array_equal(array.read().result().astype(values[name].dtype), values[name])


def test_absent_blocks_read_as_impossible_values(tmp_path):
    import zarr

    create(tmp_path)
    with TargetWriter.open(tmp_path, make_teacher("topk:3"), epochs=2) as writer:
        write_blocks(writer, writer.mine[:2])
    assert (zarr.open_group(tmp_path / "targets.zarr" / "topk-3", mode="r")["topk_class"][0, 32:] == -1).all()
    write_zarr(StoredCache(tmp_path), str(tmp_path / "plain"))
    group = zarr.open_group(tmp_path / "plain" / "topk-3", mode="r")
    assert (group["teacher_label"][1] == -1).all()
    assert (group["topk_class"][0, 32:] == -1).all()
    assert np.isnan(group["topk_logp"][0, 32:]).all()
    assert np.isnan(group["lse_tau"][1]).all()


def test_codecs_are_core_zarr_and_every_chunk_has_a_checksum(teacher, tmp_path):
    for path in tmp_path.glob(f"*/{teacher.name}/*/zarr.json"):
        text = path.read_text()
        metadata = json.loads(text)
        assert "numcodecs" not in text
        assert metadata["fill_value"] == (0 if path.parent.name == "fingerprint" else metadata["fill_value"])
        [shard] = metadata["codecs"]
        names = [codec["name"] for codec in shard["configuration"]["codecs"]]
        assert names[0] == "bytes"
        assert set(names[1:-1]) <= {"blosc", "zstd"}
        assert names[-1] == "crc32c"
        assert metadata["dimension_names"][:2] == ["epoch", "slot"]
