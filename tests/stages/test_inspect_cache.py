import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from inspect_fakes import Made, make_cache

from deit_pipe.cli import COMMANDS, build_command, main
from deit_pipe.stages import inspect_cache
from deit_pipe.stages.console.words import bar, gauge
from deit_pipe.stages.inspection.facts import EpochCoverage
from deit_pipe.stages.inspection.screen import coverage_ranges, sparkline
from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.store.layout import Block


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_cache(tmp_path_factory.mktemp("cache"))


def inspect(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["inspect-cache", *map(str, arguments)])


def test_the_screen_of_a_whole_cache_is_plain_in_a_pipe(made: Made) -> None:
    result = inspect(made.cache)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "\x1b" not in result.stdout
    assert lines[0].startswith(f"{made.cache}  COMPLETE")
    assert lines[-1] == f"next: deit-pipe train-student --cache {made.cache}"
    text = " ".join(result.stdout.split())
    said = np.concatenate([made.logits[e].argmax(axis=1) for e in range(3)])
    agree = (said == np.concatenate([made.labels[e] for e in range(3)])).mean()
    assert f"agrees with the label {agree:.2%}".replace("%", " %") in text
    assert "40 samples, 4 classes" in text
    assert "15 of 15 blocks (100.0%) of 8 slots in 3 epochs" in text
    assert "epochs 0-2 ████████████████████ 5/5 sealed" in text
    assert "teacher_label 3 x 40 int16 1 x 8" in text
    assert "logits 3 x 40 x 4 float16 1 x 8 x 4" in text
    assert "none: all 15 blocks are alike" in text


def test_json_is_the_facts_and_nothing_else_on_stdout(made: Made) -> None:
    result = inspect(made.cache, "--json")
    data = json.loads(result.stdout)
    assert data == inspect_cache.run(InspectCacheOptions(cache=str(made.cache))).data
    assert data["teachers"][0]["identity"]["model"] == "resnet18.a1_in1k"


def test_a_half_finished_cache_exits_3_and_shows_each_part(tmp_path: Path) -> None:
    made = make_cache(tmp_path, blocks=7)
    result = inspect(made.cache)
    assert result.exit_code == 3
    text = " ".join(result.stdout.split())
    assert "INCOMPLETE" in text
    assert "epoch 0 ████████████████████ 5/5 sealed" in text
    assert "epoch 1 ████████░░░░░░░░░░░░ 2/5" in text
    assert "epoch 2 ░░░░░░░░░░░░░░░░░░░░ 0/5" in text
    assert "8 blocks left, about" in text
    assert "next: deit-pipe cache-teacher --teacher resnet18.a1_in1k" in text


@pytest.mark.parametrize("level", ["sizes", "hash", "deep"])
def test_a_damaged_cache_exits_5_and_names_the_block_and_the_cure(tmp_path: Path, level: str) -> None:
    made = make_cache(tmp_path)
    path = made.cache / "targets.zarr/known/logits/c/1/3/0"
    data = path.read_bytes()
    path.write_bytes(data[:-1] if level == "sizes" else data[:-1] + bytes([data[-1] ^ 1]))
    assert inspect(made.cache).exit_code == 0  # nothing was asked, no target is read
    result = inspect(made.cache, "--verify", level)
    assert result.exit_code == 5
    assert "DAMAGED" in result.stdout
    assert "known: logits, epoch 1, slots 24..31" in result.stdout
    assert f"verified {level}: 1 findings" in result.stdout
    assert "next: deit-pipe cache-teacher" in result.stdout
    assert inspect_cache.run(InspectCacheOptions(cache=str(made.cache), verify=level)).data["state"] == "damaged"


def test_verify_of_a_whole_cache_says_so(made: Made) -> None:
    result = inspect(made.cache, "--verify", "deep")
    assert result.exit_code == 0
    assert "verified deep: no damage" in result.stdout


def test_a_planted_block_is_shown_with_the_commands_that_look_into_it(tmp_path: Path) -> None:
    made = make_cache(tmp_path, block=20, count=200, epochs=4, spoil=Block(2, 7, 140, 160))
    text = inspect(made.cache).stdout
    assert "1 of 40 blocks are unlike the others" in text
    assert "epoch 2 block 7 (slots 140-159): agreement 0.00 %, the others" in text
    assert f"deit-pipe inspect-cache {made.cache} --cell 2/140" in text
    assert "--replay 2/140-159 --teacher-weights FILE" in text
    looked = inspect(made.cache, "--cell", "2/140")
    assert looked.exit_code == 0, looked.output


def test_the_embedded_digits_replay_completely(tmp_path: Path) -> None:
    from deit_pipe.pipeline.recipe import PRESETS

    made = make_cache(tmp_path, data=Path("digits"), recipe=PRESETS["small"], epochs=1, block=256)
    result = inspect(made.cache, "--replay", "all", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)["replay"]
    assert (found["checked"], found["equal"], found["different"]) == (1437, 1437, 0)


def test_the_screen_imports_neither_torch_nor_zarr(made: Made) -> None:
    program = (
        "import sys\nfrom deit_pipe.cli import main\n"
        f"sys.argv = ['deit-pipe', 'inspect-cache', {str(made.cache)!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "heavy = {'torch', 'timm', 'zarr', 'jinja2'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "COMPLETE" in done.stdout


def test_replay_of_views_without_a_witness_needs_no_torch(made: Made) -> None:
    free = np.setdiff1d(np.arange(40), CachedArrays(str(made.cache), "known").witnesses(0).slots)[0]
    program = (
        "import sys\nfrom deit_pipe.stages import inspect_cache\n"
        "from deit_pipe.stages.options.inspect_cache import InspectCacheOptions\n"
        f"assert inspect_cache.run(InspectCacheOptions(cache={str(made.cache)!r}, replay='0/{free}')).exit_code == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_terminal_gets_colours(made: Made) -> None:
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "deit_pipe.cli", "inspect-cache", str(made.cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "\x1b[1;32mCOMPLETE" in done.stdout


def test_bars_are_full_only_when_all_is_there_and_empty_only_when_nothing_is() -> None:
    assert bar(1.0, 10) == "█" * 10
    assert bar(0.999, 10) == "█" * 9 + "░"
    assert bar(0.001, 10) == "█" + "░" * 9
    assert bar(0.0, 10) == "░" * 10
    assert (gauge(0.97, 10), gauge(0.04, 10), gauge(0.26, 10)) == ("█" * 10, "·" * 10, "███·······")
    assert sparkline([0, 1, 1000]) == " ▁█"


def test_epochs_in_the_same_state_share_a_line() -> None:
    states = [(5, True)] * 27 + [(2, False)] + [(0, False)] * 2
    epochs = [EpochCoverage(e, b, 5, 8 * b, s) for e, (b, s) in enumerate(states)]
    assert coverage_ranges(epochs) == [(0, 26, 5, True), (27, 27, 2, False), (28, 29, 0, False)]


def test_help_shows_examples_that_are_accepted(made: Made) -> None:
    text = CliRunner().invoke(main, ["inspect-cache", "--help"]).output
    assert text.count("deit-pipe inspect-cache") >= 9
    for option in ("--verify", "--replay", "--cell", "--sample", "--png", "--diff", "--report", "--json"):
        assert option in text


@pytest.mark.parametrize("name", ["inspect-cache", "report", "list-models"])
def test_every_example_of_the_help_can_be_typed(name: str) -> None:
    """Parsed, not run: an example with an option that is gone would mislead."""
    command = build_command(name, COMMANDS[name])
    lines = [line.strip() for line in (command.epilog or "").splitlines() if "deit-pipe" in line]
    assert len(lines) >= 2
    for line in lines:
        words = shlex.split(line.partition(" | ")[0])
        assert words[:2] == ["deit-pipe", name]
        command.make_context(name, words[2:])
