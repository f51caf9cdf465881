from pathlib import Path

import numpy as np
import pytest
from stage_fakes import student_options

from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.stages import pack, train_student
from deit_pipe.stages.options.pack import PackOptions


@pytest.mark.parametrize("raw", [False, True])
def test_a_packed_copy_serves_a_cache_of_its_source(
    raw: bool, cache: Path, data: Path, tmp_path: Path
) -> None:
    result = pack.run(PackOptions(data=str(data), out=str(tmp_path / "packed"), raw=raw))
    assert {name: one["images"] for name, one in result.data["splits"].items()} == {"train": 96, "val": 32}
    source, copy = open_samples(str(data)), open_samples(str(tmp_path / "packed"))
    assert source.digest == copy.digest
    np.testing.assert_array_equal(source.labels, copy.labels)
    # every fingerprint is checked on the way
    trained = train_student.run(
        student_options(cache, tmp_path / "run", data=str(tmp_path / "packed"), epochs=1)
    )
    assert trained.data["val"]["class"]["top1"] >= 0
