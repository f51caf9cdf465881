"""The probe: the same numbers for every normalisation, other ones for a program that composes otherwise."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from deit_pipe.pipeline.compose import compose
from deit_pipe.pipeline.proof import probe
from deit_pipe.pipeline.proof.probe import VIEWS, probe_batch, probe_differs, probe_row, probe_text
from deit_pipe.pipeline.recipe import PRESETS

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def text(mean: Any = MEAN, std: Any = STD) -> str:
    return probe_text(PRESETS["deit"], mean, std, "cpu")


# What every program from format 2 on must give; a change here means that old caches are refused.
FIRST_SUMS = (-0.37807247, -0.60244137, 0.31375739, 0.844905317)


def test_it_is_the_same_for_every_normalisation_and_for_ever() -> None:
    assert probe_differs(text(), text((0.5,) * 3, (0.25, 0.5, 0.125))) is None
    assert probe_differs(text(), text()) is None
    assert [float(word) for word in text().split()[:4]] == pytest.approx(FIRST_SUMS, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "change", "view"),
    [
        ("compose", lambda value: value.flip(1), 0),
        ("compose", lambda value: value.clamp(0, 1), 1),
        ("normalise", lambda value: value * 1.001, 0),
        ("mixed_labels", lambda value: value.flip(1), 0),
        ("labelled_share", lambda value: torch.ones_like(value), 4),
        ("compose", lambda value: value * float("nan"), 0),
    ],
)
def test_a_program_that_composes_otherwise_differs(
    name: str, change: Any, view: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, kept = text(), getattr(probe, name)
    monkeypatch.setattr(probe, name, lambda *args: change(kept(*args)))
    assert probe_differs(before, text()) == view


def test_numbers_that_cannot_be_read_differ() -> None:
    for broken in ("", "1 2 3", text() + " 1", "nan " * 48):
        assert probe_differs(broken, text()) == 0
    assert len(probe_row(text(), VIEWS - 1).split()) == 6


def test_it_erases_mixes_and_has_colour() -> None:
    batch = probe_batch()
    pixels = compose(batch, PRESETS["deit"])
    plain = compose(replace(batch, mixed=False, erased_pixels=0), PRESETS["deit"])
    assert int((batch.erase[:, 2] > 0).sum()) == 3
    assert bool((pixels != plain).flatten(1).any(dim=1).all())
    assert bool((plain.flatten(2).std(dim=2) > 0.2).all())
    assert bool((plain[:, 0] != plain[:, 1]).float().mean() > 0.9)
    assert len({tuple(image.flatten().tolist()) for image in batch.pixels}) == VIEWS
