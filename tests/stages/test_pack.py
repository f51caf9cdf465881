import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stage_fakes import student_options, write_idx

from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.stages import pack, train_student
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.options.pack import PackOptions


@pytest.mark.parametrize("raw", [False, True])
def test_a_packed_copy_serves_a_cache_of_its_source(raw: bool, cache: Path, data: Path, tmp_path: Path) -> None:
    result = pack.run(PackOptions(data=str(data), out=str(tmp_path / "packed"), raw=raw))
    assert {name: one["images"] for name, one in result.data["splits"].items()} == {"train": 96, "test": 32}
    source, copy = open_samples(str(data)), open_samples(str(tmp_path / "packed"))
    assert source.digest == copy.digest
    np.testing.assert_array_equal(source.labels, copy.labels)
    runs = {name: tmp_path / f"run-{name}" for name in (str(data), str(tmp_path / "packed"))}
    for name, run in runs.items():  # every fingerprint is checked on the way
        train_student.run(student_options(cache, run, data=name, epochs=1))
    ours, theirs = (load_file(run / "student.safetensors") for run in runs.values())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    scores = [json.loads((run / "result.json").read_text())["val"] for run in runs.values()]
    assert scores[0] == scores[1]


def test_a_packed_copy_of_other_pixels_does_not_serve_the_cache(cache: Path, data: Path, tmp_path: Path) -> None:
    """The same number of images and the same labels: only the fingerprints can tell."""
    other = write_idx(tmp_path / "other", seed=1)
    pack.run(PackOptions(data=str(other), out=str(tmp_path / "packed")))
    assert open_samples(str(data)).digest == open_samples(str(tmp_path / "packed")).digest
    with pytest.raises(Mismatch, match="replay differs: epoch 0, slot 0"):
        train_student.run(student_options(cache, tmp_path / "run", data=str(tmp_path / "packed"), epochs=1))
