"""--replay compares what composing makes of the witnessed views; pixels that differ already prove nothing of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspect_fakes import MIXED, Made, make_cache

from deit_pipe.stages.inspect_cache import run
from deit_pipe.stages.inspection import witness_replay
from deit_pipe.stages.inspection.witness_replay import some_rows
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_cache(tmp_path_factory.mktemp("mixed"), recipe=MIXED, count=64, block=16, epochs=2)


def replayed(made: Made, asked: str = "all") -> tuple[int, dict[str, Any], str]:
    result = run(InspectCacheOptions(cache=str(made.cache), replay=asked))
    return result.exit_code, result.data["replay"], result.text.plain


def test_every_witness_of_the_asked_cells_is_compared(mixed: Made) -> None:
    code, found, text = replayed(mixed)
    assert (code, found["equal_to_cache"]) == (0, True)
    assert found["witnesses"] == {"checked": 2 * 4 * 2, "different": 0, "examples": []}  # epochs, blocks, views
    assert "witness  16 views: their composed pixels and labels are the cached ones" in text
    assert replayed(mixed, "1/0-15")[1]["witnesses"]["checked"] == 2


@pytest.mark.parametrize("name", ["compose", "normalise", "mixed_labels"])
def test_another_way_of_composing_is_found(mixed: Made, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = getattr(witness_replay, name)
    monkeypatch.setattr(witness_replay, name, lambda *args: kept(*args) * 0.999)
    code, found, text = replayed(mixed)
    assert (code, found["different"], found["equal_to_cache"]) == (4, 0, False)
    assert found["witnesses"]["different"] == 16
    assert "witness  16 of 16 views differ" in text
    assert "witness differs: epoch 0, slot " in text


def test_views_with_other_pixels_are_left_out(tmp_path: Path) -> None:
    made = make_cache(tmp_path, recipe=MIXED, count=64, block=16, epochs=1)
    from PIL import Image, ImageOps

    witnessed = made.views.render(0, np.arange(64)).samples
    changed = int(witnessed[0])
    path = made.data / made.table.keys[changed]
    ImageOps.invert(Image.open(path)).save(path)
    code, found, _ = replayed(made)
    assert code == 4
    assert found["different"] > 0
    assert found["witnesses"]["different"] == 0
    assert found["witnesses"]["checked"] in range(4, 9)


def test_some_rows_keep_their_partners(mixed: Made) -> None:
    rendered = mixed.views.render(0, np.arange(64))
    rows = np.r_[4:8, 20:28]
    part = some_rows(rendered, rows)
    np.testing.assert_array_equal(part.slots[part.partner], rendered.slots[rendered.partner[rows]])
    np.testing.assert_array_equal(part.pixels, rendered.pixels[rows])
    assert part.views == [rendered.views[row] for row in rows]
    assert replace(part, slots=part.slots).epoch == 0


def test_without_a_witness_among_the_cells_torch_is_not_imported(mixed: Made) -> None:
    import subprocess
    import sys

    from deit_pipe.stages.opened.arrays import CachedArrays

    free = np.setdiff1d(np.arange(0, 64, 4), CachedArrays(str(mixed.cache), "known").witnesses(0).slots // 4 * 4)[0]
    program = (
        "import sys\nfrom deit_pipe.stages.inspect_cache import run\n"
        "from deit_pipe.stages.options.inspect_cache import InspectCacheOptions\n"
        f"found = run(InspectCacheOptions(cache={str(mixed.cache)!r}, replay='0/{free}-{free}'))\n"
        "assert found.data['replay']['checked'] == 4, found.data\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
