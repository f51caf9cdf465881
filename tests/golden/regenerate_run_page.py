"""Write tests/golden/run_page_v1.json: what `report` says of the golden run and of made-up ones, as JSON and as a page.

    python tests/golden/regenerate_run_page.py

To be run only when what a person or a program sees is meant to change; the difference of the file then shows what.
"""

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from golden.regenerate_inspection import page_words
from inspect_fakes import Reader
from run_fakes import write_run

from deit_pipe.stages import report
from deit_pipe.stages.options.run_report import RunReportOptions

EXPECTED = Path(__file__).with_name("run_page_v1.json")
RUN = EXPECTED.with_name("run_v1")
CASES = {
    "golden": {"run": "golden"},
    "made up": {"run": "hard"},
    "against another": {"run": "hard", "against": "soft"},
    "nothing selected": {"run": "tested"},
    "no evaluation": {"run": "plain"},
}


def write_runs(folder: Path) -> None:
    """The golden run, and made-up ones: with a result, still going, with test images only, not evaluated."""
    shutil.copytree(RUN, folder / "golden")
    write_run(folder / "hard")
    write_run(folder / "soft", 3, loss="soft", lr=0.5, result=False)
    tested, plain = write_run(folder / "tested", 2), write_run(folder / "plain", 2, result=False)
    heads = {"class": {"top1": 0.5, "top5": 0.9}, "dist": {"top1": 0.25, "top5": 0.75}}
    result = {"answer": "class", "selected": "test of the last epoch"}
    (tested / "result.json").write_text(json.dumps({**result, result["selected"]: heads}))
    for run in (tested, plain):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        kept = [{name: value for name, value in line.items() if name != "val"} for line in lines]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))


def collect(folder: Path) -> dict[str, Any]:
    """Every case: lines of text, JSON values, words of the page, its elements counted, its curves."""
    write_runs(folder)
    found: dict[str, Any] = {}
    for name, names in CASES.items():
        given = {option: str(folder / run) for option, run in names.items()}
        result = report.run(RunReportOptions(**given, out=str(folder / "page.html")))
        page = (folder / "page.html").read_text(encoding="utf-8").replace(f"{folder}/", "")
        tags = Reader(page).tags
        text = json.dumps(
            {
                "text": result.text.splitlines(),
                "data": json.loads(json.dumps(result.data, allow_nan=False)),
                "page": page_words(page),
                "elements": dict(sorted(Counter(" ".join([t, a.get("class") or ""]).strip() for t, a in tags).items())),
                "curves": [a["points"] for tag, a in tags if tag == "polyline"],
            },
            ensure_ascii=False,
        )
        found[name] = json.loads(text.replace(f"{folder}/", ""))
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = collect(Path(folder))
    EXPECTED.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
