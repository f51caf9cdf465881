"""Each command's options, word for word: a new one must earn its place against what exists."""

import click
import pytest

from deit_pipe.cli import COMMANDS, _resolve
from deit_pipe.stages.options.click_command import parameters
from deit_pipe.stages.options.set_values import settable

# Of each command: its options (--help apart), and the keys that --set takes instead.
OPTIONS: dict[str, tuple[str, str]] = {
    "quickstart": (
        "device epochs json out seed seeds",
        "",
    ),
    "cache-teacher": (
        "accept-teacher batch-size cache data device epochs estimate exclude fit-head fraction "
        "image-column img-size json label-column labelled-fraction labels logits name plan-only precision "
        "recipe samples seed set teacher teacher-img-size teacher-mean teacher-std "
        "teacher-weights train-split val-data val-fraction val-split "
        "wait workers",
        "block subset-seed teacher-rate verify",
    ),
    "train-student": (
        "batch-size cache data device epochs init-from json loss lr out preset print-config seed seeds set "
        "student tau teacher val-data workers",
        "accumulate alpha channels-last checkpoint-steps clip-grad compile dist-label drop-path ema ema-warmup "
        "eval-crop-ratio eval-every grad-checkpointing kd-reduction label-loss layer-decay log-steps lr-batch min-lr "
        "online-teacher optimizer order-seed precision select smoothing "
        "teacher-weights tensorboard threads warmup-epochs warmup-lr weight-decay",
    ),
    "check-data": (
        "deep exclude image-column json label-column labels report state train-split val-data val-split workers "
        "write-exclude",
        "",
    ),
    "inspect-cache": (
        "cell data device diff json png rebuild replay report sample teacher teacher-weights upgrade verify zarr",
        "",
    ),
    "bench": (
        "data device json student teacher",
        "",
    ),
    "report": (
        "against json out",
        "",
    ),
    "compare": (
        "batch-size csv device json measure report",
        "",
    ),
    "show-views": (
        "exclude image-column img-size json label-column labels original out recipe samples seed train-split "
        "val-split views",
        "",
    ),
    "predict": (
        "batch-size csv device json picture student top-k weights",
        "",
    ),
    "features": (
        "batch-size device json out split student weights workers",
        "",
    ),
    "evaluate": (
        "batch-size confusion csv data device eval-crop-ratio json knn linear-probe per-class speed split student "
        "teacher-weights weights workers",
        "",
    ),
    "export": (
        "format json out weights",
        "",
    ),
    "train-teacher": (
        "batch-size data device epochs exclude fit-head fraction image-column img-size init json "
        "label-column labelled-fraction labels lr out precision recipe seed set teacher train-split val-data "
        "val-fraction val-split workers",
        "smoothing subset-seed weight-decay",
    ),
    "list-models": (
        "batch-size device img-size json limit measure role",
        "",
    ),
    "show-recipe": (
        "json",
        "",
    ),
    "pack": (
        "data exclude image-column json label-column labels out raw train-split val-split",
        "",
    ),
    "remove-teacher": (
        "cache json",
        "",
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_options_are_these_and_no_others(name: str) -> None:
    options = _resolve(COMMANDS[name].options)
    own = {max(item.opts, key=len)[2:] for item in parameters(options) if isinstance(item, click.Option)}
    assert (own, set(settable(options))) == tuple(set(words.split()) for words in OPTIONS[name])


def test_no_command_is_gone_unsaid() -> None:
    assert list(OPTIONS) == list(COMMANDS)


def test_the_two_stages_show_at_most_these_many() -> None:
    """Of them --set, --json and, in train-student, --print-config serve all others."""
    assert {name: len(OPTIONS[name][0].split()) for name in ("train-student", "cache-teacher", "train-teacher")} == {
        "train-student": 20,
        "cache-teacher": 35,
        "train-teacher": 26,
    }
