"""Write tests/golden/inspection_v1.json: what `inspect-cache` says of the golden cache, as JSON values and as text.

    python tests/golden/regenerate_inspection.py

To be run only when what a person or a program sees is meant to change; the difference of the file then shows what.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inspect_fakes import Reader

from deit_pipe import __version__
from deit_pipe.stages import inspect_cache
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions

CACHE = Path(__file__).with_name("cache_v1")
EXPECTED = Path(__file__).with_name("inspection_v1.json")
CASES: dict[str, dict[str, str]] = {
    "whole": {},
    "hash": {"verify": "hash"},
    "broken": {"cache": "broken", "verify": "hash"},
    "damaged": {"cache": "damaged", "verify": "sizes"},
    "cell": {"cell": "0/17"},
    "cell of one teacher": {"cell": "0/900", "teacher": "dense"},
    "sample": {"sample": "13"},
    "replay": {"replay": "0/0-31", "teacher": "dense"},
    "replay of changed views": {"replay": "0/0-3", "cache": "damaged"},
    "diff": {"diff": "broken"},
    "diff of others": {"diff": "other"},
    "report": {"report": "page.html"},
    "report of damage": {"report": "page.html", "cache": "damaged", "teacher": "dense"},
}


@contextlib.contextmanager
def caches(folder: Path) -> Iterator[None]:
    """Work in `folder`: `cache` is the golden one, `broken`, `damaged` and `other` are copies with something wrong."""
    here = Path.cwd()
    for name in ("cache", "broken", "damaged"):
        shutil.copytree(CACHE, folder / name)
    broken, damaged = folder / "broken", folder / "damaged"
    (next((broken / "ledger/none/sealed").iterdir())).write_bytes(b"nothing")  # its copy is good
    for copy in ("sealed", "sealed-copy"):
        next((broken / "ledger/topk-3" / copy).iterdir()).unlink()  # no block of it is known
    (damaged / "targets.zarr/dense/logits/c/0/3/0").unlink()
    (damaged / "targets.zarr/none/teacher_label/zarr.json").unlink()
    write_other(folder / "other")
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)


def write_other(place: Path) -> None:
    """A cache of other views, with no teacher."""
    import dataclasses

    from deit_pipe.store.identity import canonical_digest
    from deit_pipe.store.manifest import create_cache, read_manifest, read_samples

    manifest = read_manifest(CACHE)
    recipe = {**manifest.recipe, "flip_prob": 0.25}
    changed = dataclasses.replace(manifest, seed=8, recipe=recipe, recipe_digest=canonical_digest(recipe))
    create_cache(place, changed, read_samples(CACHE), {"data": "elsewhere", "numpy": "0.9"})


def collect(folder: Path) -> dict[str, Any]:
    """Every case: exit code, JSON values, lines of text, words of the page; what differs from run to run left out."""
    found: dict[str, Any] = {}
    with caches(folder):
        for name, options in CASES.items():
            result = inspect_cache.run(InspectCacheOptions(**{"cache": "cache", **options}))
            text = re.sub(r"\([^()]* views/s\)", "(RATE)", result.text.plain)
            lines = [line for line in text.splitlines() if "libraries" not in line and "install" not in line]
            found[name] = {"exit": result.exit_code, "text": lines, "data": steady(result.data)}
            if "report" in options:
                page = Path(options["report"]).read_text(encoding="utf-8")
                found[name]["page"] = page_words(page)
    return shortened(found)


def page_words(page: str) -> list[str]:
    """What a reader of a page reads, in lines; without its time and version."""
    words = Reader(re.sub("<style>.*?</style>", "", page, flags=re.DOTALL)).text
    words = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", words).replace(__version__, "VERSION")
    return textwrap.wrap(words, 110, break_on_hyphens=False)


def shortened(found: dict[str, Any]) -> dict[str, Any]:
    """Without what the plain case says too."""
    whole = found["whole"]
    for name, case in found.items():
        if name != "whole" and "teachers" in case["data"] and "state" in case["data"]:
            case["text"] = [line for line in case["text"] if line not in whole["text"]]
            for part in ("manifest", "provenance"):
                assert case["data"].pop(part) == whole["data"][part]
            case["data"]["teachers"] = [
                "as whole" if teacher in whole["data"]["teachers"] else teacher for teacher in case["data"]["teachers"]
            ]
    return found


def steady(data: dict[str, Any]) -> dict[str, Any]:
    """JSON values without times and without the versions of this machine's libraries."""
    data = json.loads(json.dumps(data, allow_nan=False))
    for left in ("seconds", "versions"):
        data.get("replay", {}).pop(left, None)
    if "report" in data:
        assert data["report"].pop("bytes") > 1000  # pictures are packed otherwise by other libraries
    return data


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = collect(Path(folder))
    EXPECTED.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
