import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deit_pipe.stages import quickstart
from deit_pipe.stages.comparing.compared_runs import ComparedRun
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.machine.jobs import Job, job_runner
from deit_pipe.stages.options.list_models import ListModelsOptions
from deit_pipe.stages.options.quickstart import QuickstartOptions

ROOT = Path(__file__).parent.parent.parent


def test_quickstart_does_the_whole_job_and_a_second_call_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickstart, "TEACHER_EPOCHS", 12)  # enough to pass the gate
    monkeypatch.setattr(quickstart, "CACHED_VIEWS", quickstart.IMAGES)  # an epoch of all, 28 of the labelled ones
    monkeypatch.setattr(quickstart, "processes_for", lambda device: 1)
    options = QuickstartOptions(out=str(tmp_path / "q"), seeds=1, seed=4, epochs=2, device="cpu")
    result = quickstart.run(options)
    rows = {(row["row"], row["head"]): row for row in result.data["students"]}
    assert set(rows) == {
        ("alone", "class"),
        ("ceiling", "class"),
        *((name, head) for name in ("same", "all") for head in ("class", "dist", "fused")),
    }
    made = {name: [tmp_path / "q" / f"student-{name}-{seed}" for seed in (4,)] for name in ("alone", "same", "all")}
    results = {name: [json.loads((one / "result.json").read_text()) for one in both] for name, both in made.items()}
    for (name, head), row in rows.items():  # what the runs' own folders say
        if name in results:
            top1 = [one["val"][head]["top1"] for one in results[name]]
            assert (row["mean"], row["sd"], row["runs"]) == (pytest.approx(np.mean(top1)), None, 1)
    gains = [
        ours["val"]["fused"]["top1"] - other["val"]["class"]["top1"]
        for ours, other in zip(results["all"], results["alone"], strict=True)
    ]
    assert result.data["gain"]["mean"] == pytest.approx(np.mean(gains))
    assert f"{np.mean(gains) * 100:+.2f}" in result.text.replace("\n", " ")
    # what the rows promise: equal steps, fifty labels, the same fifty images with and without the others
    configs = {name: json.loads((both[0] / "config.json").read_text()) for name, both in made.items()}
    assert {one["steps"] for both in results.values() for one in both} == {quickstart.steps_of(2)} == {56}
    assert configs["alone"]["samples_digest"] == configs["same"]["samples_digest"] != configs["all"]["samples_digest"]
    assert configs["alone"]["data_choice"]["subset_seed"] == 4
    assert result.data["cache"]["complete"]
    assert "<html" in (tmp_path / "q" / "cache.html").read_text()
    with Image.open(tmp_path / "q" / "predictions.png") as picture:
        assert picture.size[0] > 900
    again = quickstart.run(options)
    assert again.data["students"] == result.data["students"]


def runs(*top1: float, head: str = "fused") -> list[ComparedRun]:
    return [
        ComparedRun(
            folder="x", seeds=(seed, 0), settings={}, top1={head: value}, answer=head, measured=("d", "val", 9, "model")
        )
        for seed, value in enumerate(top1)
    ]


@pytest.mark.parametrize(
    ("everything", "words"),
    [
        ((0.9, 0.92, 0.91), "above zero beyond the luck of the seeds"),
        ((0.9, 0.3, 0.6), "not beyond the luck of the seeds"),
        ((0.9,), "one pair of runs"),
    ],
)
def test_the_conclusion_follows_the_numbers(everything: tuple[float, ...], words: str) -> None:
    alone = runs(*(0.6, 0.61, 0.58)[: len(everything)], head="class")
    text = "\n".join(
        quickstart.conclusion(quickstart.spread([0.9]), {"all": runs(*everything), "alone": alone, "same": alone})
    )
    assert f"({words}" in text
    assert "+0.00" in text  # the same images gain nothing here


def test_jobs_in_processes_give_what_they_give_here_and_their_errors(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    good = Job("list_models", ListModelsOptions(pattern="test_resnet"), "good")
    bad = Job("list_models", ListModelsOptions(pattern="no such model at all"), "bad")
    with job_runner(2, log) as run_jobs:
        assert [job.words for job in run_jobs([good])] == ["good"]
        with pytest.raises(UsageProblem, match="no model like"):
            list(run_jobs([bad]))
    assert log.exists()


def test_what_runs_in_processes_ends_with_the_one_that_asked(tmp_path: Path) -> None:
    """Killed without a chance to say so."""
    program = (
        "import sys; from pathlib import Path\n"
        "from deit_pipe.stages.machine.jobs import Job, job_runner\n"
        "from deit_pipe.stages.options.quickstart import QuickstartOptions\n"
        "if __name__ == '__main__':\n"
        "    with job_runner(2, Path(sys.argv[1])) as run_jobs:\n"
        "        options = QuickstartOptions(out=sys.argv[2], seeds=1, device='cpu')\n"
        "        list(run_jobs([Job('quickstart', options, 'long')]))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(program)
    mark = str(tmp_path / "q")
    with subprocess.Popen([sys.executable, str(script), str(tmp_path / "log.txt"), mark], cwd=ROOT) as parent:
        deadline = time.monotonic() + 200
        while not (tmp_path / "q").exists():  # a process has begun to work
            assert time.monotonic() < deadline
            time.sleep(0.2)
        children = [int(word) for word in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
        parent.kill()
    assert children
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.2)
