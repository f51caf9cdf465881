"""The golden views are still the same."""

import json

import pytest
from golden.regenerate_views import FILE, GoldenSamples, differences

from deit_pipe.pipeline import decode
from deit_pipe.pipeline.native import engine


def test_200_golden_views_of_20_images_have_their_fingerprints() -> None:
    prints = json.loads(FILE.read_text())["fingerprints"]
    views = [value for epochs in prints.values() for epoch in epochs for value in epoch]
    assert len(views) == 200
    assert len(GoldenSamples()) == 20
    # Only the 16 eval and basic views of almost uniform images may repeat a fingerprint.
    assert len(set(views)) >= 190
    assert differences() == []


def test_golden_views_do_not_depend_on_simplejpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "simplejpeg", None)
    assert differences() == []


@pytest.mark.parametrize("choice", ["pillow", "sse2", "avx2"])
def test_golden_views_do_not_depend_on_the_engine(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if choice != "pillow" and (engine._views is None or choice not in engine._views.instruction_sets()):
        pytest.skip(f"no native engine with {choice} here")
    monkeypatch.setenv(engine.VARIABLE, choice)
    assert differences() == []
