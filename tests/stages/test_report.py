import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from inspect_fakes import Reader
from run_fakes import write_run, write_shown

from deit_pipe.cli import main
from deit_pipe.stages.console.errors import Missing, UsageProblem
from deit_pipe.stages.options.run_report import RunReportOptions
from deit_pipe.stages.report import run


def test_the_page_and_the_json_show_the_numbers_of_the_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    result = run(RunReportOptions(run=str(folder)))
    facts = result.data["run"]
    assert facts["best"] == {"top1": 0.8200000000000001, "epoch": 2}
    assert (facts["answer"], facts["epochs"], facts["steps"], facts["finished"]) == ("fused", 6, 120, True)
    assert facts["views_per_second"] == 125.0  # the median of 100, 100, 110, ... 150, 150
    assert facts["data_wait"] == pytest.approx(0.2)
    assert facts["target_wait"] == pytest.approx(0.1)
    assert facts["last"]["val"]["dist"]["top1"] == 0.79
    assert result.data["file"] == str(folder / "report.html")
    page = Reader((folder / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert "82.00 % best top-1, fused, after epoch 3" in page.text
    assert "79.00 % distillation head, last evaluation" in page.text
    assert "20.0 % of the time waiting for views" in page.text
    assert "3 60 3.33e-01 0.6667 0.5000 0.8333 20.00 % 80.00 % 81.00 % 82.00 %" in page.text
    curves = [a for tag, a in page.tags if tag == "polyline"]
    assert len(curves) == 3 + 3 + 1 + 1 + 1 + 2
    assert "<i>cache" in page.text  # text, no element
    assert not [tag for tag, _ in page.tags if tag == "i"]


def test_against_another_run_shows_both_and_what_differs(tmp_path: Path) -> None:
    one, two = (
        write_run(tmp_path / "hard"),
        write_run(tmp_path / "soft", 3, loss="soft", lr=0.5, result=False),
    )
    out = tmp_path / "both.html"
    result = run(RunReportOptions(run=str(one), against=str(two), out=str(out)))
    assert result.data["against"]["best"] == {"top1": 0.8200000000000001, "epoch": 2}
    assert result.data["against"]["finished"] is False
    page = Reader(out.read_text(encoding="utf-8"))
    assert f"setting {one} {two} loss hard soft lr 1.0 0.5" in page.text
    curves = [a["class"] for tag, a in page.tags if tag == "polyline"]
    assert sum("dashed" in (style or "") for style in curves) == 11
    assert len(curves) == 22


def test_a_run_that_is_still_going_has_a_page_even_with_half_a_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 2, result=False)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "epoch", "st')
    assert run(RunReportOptions(run=str(folder))).data["run"]["epochs"] == 2
    assert "not finished" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_run_without_evaluation_and_without_distillation_has_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("val", None)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines if line["kind"] == "epoch"))
    (folder / "result.json").unlink()
    result = run(RunReportOptions(run=str(folder)))
    assert (result.data["run"]["best"], result.data["run"]["views_per_second"]) == (None, None)
    assert "nothing recorded yet" in (folder / "report.html").read_text(encoding="utf-8")


def test_what_is_no_run_and_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="train-student --out"):
        run(RunReportOptions(run=str(tmp_path)))
    folder = write_run(tmp_path / "run")
    with pytest.raises(UsageProblem, match="--out"):
        run(RunReportOptions(run=str(folder), out=str(tmp_path / "no" / "page.html")))
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(Missing, match="no line yet"):
        run(RunReportOptions(run=str(folder)))


def test_the_command_works_and_needs_no_torch(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    done = CliRunner().invoke(main, ["report", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)) == {"file", "run", "against"}
    program = (
        "import sys\nfrom deit_pipe.cli import main\n"
        f"sys.argv = ['deit-pipe', 'report', {str(folder)!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'torch', 'zarr', 'timm'} & set(sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(("select", "best"), [("model", (0.82, 2)), ("ema", (0.93, 5))])
def test_the_weights_that_count_are_shown(select: str, best: tuple[float, int], tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"select": select}))
    lines = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if line["kind"] == "epoch" and "val" in line:
            line["val_ema"] = {head: {"top1": 0.9 + 0.006 * line["epoch"], "top5": None} for head in line["val"]}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = run(RunReportOptions(run=str(folder)))
    assert found.data["run"]["best"] == {"top1": pytest.approx(best[0]), "epoch": best[1]}
    assert f"{best[0]:.2%}" in str(found.text)
    page = Reader((folder / "report.html").read_text(encoding="utf-8"))
    assert f"{100 * best[0]:.2f} % best top-1, fused, after epoch {best[1] + 1}" in page.text
    assert ("93.00 %" in page.text) == (select == "ema")


def test_teacher_chance_and_time_are_on_the_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "result.json").write_text(json.dumps({"answer": "fused", "teacher_top1": 0.875, "chance": 0.25}))
    result = run(RunReportOptions(run=str(folder)))
    assert result.data["run"]["seconds"] == pytest.approx(120 * 0.5)
    page = Reader((folder / "report.html").read_text(encoding="utf-8"))
    assert "87.50 % the teacher" in page.text
    assert "25.00 % chance" in page.text
    assert "1 min 0 s training steps, without evaluation" in page.text
    lines = [a["class"] for tag, a in page.tags if tag == "polyline"]
    assert [line for line in lines if "plain" in (line or "")] == ["curve plain", "curve plain dashed"]
    again = run(RunReportOptions(run=str(write_run(tmp_path / "going", 2, result=False))))
    assert again.data["run"]["seconds"] == pytest.approx(40 * 0.5)


def test_accuracy_by_class_and_pictures_are_on_the_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    run(RunReportOptions(run=str(folder)))
    assert "What does it answer?" not in (folder / "report.html").read_text(encoding="utf-8")  # of an earlier version
    write_shown(folder)
    run(RunReportOptions(run=str(folder)))
    page = Reader((folder / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert "c0 1 0.0 % c1 2 50.0 % c2 3 66.7 %" in page.text
    assert "c1 fused c2 75% class c2 50% dist c1 62%" in page.text
    pictures = [a for tag, a in page.tags if tag == "img"]
    assert [one["src"] for one in pictures] == ["data:image/png;base64,AAAA"] * 2
    assert pictures[0]["alt"] == "<b>.png: c1; fused says c2"
    styles = [a.get("class") for tag, a in page.tags if tag == "span" and a.get("class") in ("right", "wrong")]
    assert styles == ["wrong", "wrong", "right", "right", "right", "right"]
    write_shown(folder, 30)
    run(RunReportOptions(run=str(folder)))
    many = Reader((folder / "report.html").read_text(encoding="utf-8")).text
    assert "the 20 worst of 30" in many
    assert "c19 20 95.0 %" in many
    assert "c20 21" not in many
