"""`deit-pipe bench`, and `cache-teacher --estimate` which says the same."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stage_fakes import cache_options

from deit_pipe.stages import bench, cache_teacher
from deit_pipe.stages.options.bench import BenchOptions


def facts_by_help() -> set[str]:
    doc = (BenchOptions.__doc__ or "").partition("--json has the keys")[2].partition("Examples")[0]
    return set(re.findall(r"[a-z_]+", doc))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    from stage_fakes import write_idx

    data = write_idx(tmp_path_factory.mktemp("bench"), train=100)
    options = BenchOptions(data=str(data), teacher="test_resnet", student="custom:16x2x2", device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "SECONDS", 0.2)
        result = bench.run(options)
    return result.text, json.loads(json.dumps(result.data, allow_nan=False))


def test_it_measures_the_job_that_the_defaults_of_both_stages_are(found: tuple[str, dict[str, Any]]) -> None:
    _, facts = found
    assert facts["stage_one"]["views"] == 15 * 100  # a third of the 45 epochs of preset small
    assert facts["teacher"]["batch_size"] == 52
    student, two = facts["student"], facts["stage_two"]
    steps = 100 // student["batch_size"]
    assert two["views"] == two["epochs"] * steps * student["batch_size"]
    assert facts["images"] == 100
    assert facts["raw_bytes"] == 100 * 16 * 16 * 3
    assert set(facts["view"]["parts"]) == {"read", "decode", "draw", "render", "fingerprint"}
    assert set(facts["view"]["views_per_second"]) == {"1", "2", str(facts["workers"])} - {
        str(count) for count in range(facts["workers"] + 1, 3)
    }


def test_its_parts_agree_with_each_other(found: tuple[str, dict[str, Any]]) -> None:
    _, facts = found
    for name, stage in (("teacher", "stage_one"), ("student", "stage_two")):
        network = facts[name]
        assert network["per_second"] == pytest.approx(1 / network["seconds"])
        assert 0 < network["fed_per_second"] < 1.5 * network["per_second"]
        extra = facts["evaluation_seconds"] if name == "student" else 0.0
        # never quicker than was seen with both at work, but for padding
        assert facts[stage]["seconds"] - extra >= 0.99 * facts[stage]["views"] / network["per_second"]
    assert facts["online_seconds"] > facts["stage_two"]["seconds"]
    gain = facts["online_seconds"] - facts["stage_two"]["seconds"]
    assert facts["break_even_students"] == pytest.approx(facts["stage_one"]["seconds"] / gain)
    assert facts["cores_for_student"] > 0


def test_it_says_what_it_found(found: tuple[str, dict[str, Any]]) -> None:
    text, facts = found
    assert facts["teacher"]["line"] in text
    assert facts["student"]["line"] in text
    for word in (
        "by workers 1: ",
        "from raw pixels",
        "on fixed pixels",
        "never wait",
        "pack --raw",
        "the cache pays from",
    ):
        assert word in text, word
    assert max(map(len, text.splitlines())) < 150


def test_the_help_names_every_key(found: tuple[str, dict[str, Any]]) -> None:
    assert set(found[1]) - {"worker_words", "device", "data", "targets"} <= facts_by_help()


def test_the_estimate_speaks_in_the_same_words_and_writes_nothing(data: Path, tmp_path: Path) -> None:
    result = cache_teacher.run(cache_options(data, tmp_path / "cache", recipe="deit", estimate=True, workers=1))
    assert not (tmp_path / "cache").exists()
    facts = result.data
    assert facts["views"] == 2 * 96
    assert facts["seconds"] == pytest.approx(facts["views"] / facts["both_per_second"], abs=0.2)
    assert facts["limit"] in ("views", "network", "cores")
    assert facts["both_per_second"] <= min(facts["teacher_per_second"], facts["views_per_second"]) * 1.001
    assert re.search(r"(views are|the teacher is|the cores are) the limit", result.text)


@pytest.mark.slow
def test_two_processes_measure_together(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    command += ["-m", "deit_pipe.cli", "bench", "--teacher", "test_resnet", "--device", "cpu", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=280, check=True)
    facts = json.loads(done.stdout)
    assert facts["processes"] == 2
    assert facts["teacher"]["per_second"] == pytest.approx(2 / facts["teacher"]["seconds"])
    assert done.stderr.count("view engine") == 1
