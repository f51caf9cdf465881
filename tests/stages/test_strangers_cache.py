"""Training from a stranger's cache: what it says to open is said, and what it says wrongly is an error in a line."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hostile_caches import ESCAPES, content, linked, manifest, piped, recipe, rewrite, sparse
from stage_fakes import student_options

from deit_pipe.cli import main
from deit_pipe.stages import train_student

WORDS = ["--student", "custom:16x2x2", "--workers", "0", "--device", "cpu", "--batch-size", "16", "--epochs", "1"]


def told(text: str) -> None:
    assert "Traceback" not in text
    assert not set(text) & set("\x1b\x07\x9b\u202e\r")


def provenance(**said: Any) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        path = place / "PROVENANCE.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **said}))

    return change


def choice(**said: Any) -> Callable[[Path], None]:
    return lambda place: rewrite(place, "MANIFEST.json", lambda document: document["data"].update(said))


CHANGES: dict[str, tuple[Callable[[Path], None], set[int]]] = {
    "a trillion samples": (manifest(num_samples=10**12), {5}),
    "a group of a trillion": (recipe(mix_group=10**12), {2, 4}),
    "a window of a trillion": (recipe(window=10**12), {2, 4}),
    "a trillion repeats": (recipe(repeats=10**12), {2, 4}),
    "a recipe of texts": (recipe(mix_group=ESCAPES), {2, 4}),
    "a recipe field that is an object": (recipe(flip_prob={"a": [1]}), {2, 4}),
    "a choice of another program": (choice(danger=ESCAPES), {4}),
    "a choice out of range": (choice(fraction=-1), {4}),
    "a choice that is a list": (
        lambda place: rewrite(place, "MANIFEST.json", lambda document: document.update(data=["x"])),
        {4},
    ),
    "images in a device": (provenance(data="/dev/zero"), {2, 3, 4, 6}),
    "images in a place of escapes": (provenance(data=f"/nowhere/{ESCAPES}"), {2, 3}),
    "images that are a list": (provenance(data=["a", "b"]), {2, 3}),
    "deep provenance": (content("PROVENANCE.json", '{"a":' * 100_000 + "1" + "}" * 100_000), {3, 4}),
    "a manifest that is a pipe": (piped("MANIFEST.json"), {5}),
    "teachers that are a link": (linked("teachers"), {5}),
    "a manifest of a terabyte": (sparse("MANIFEST.json", 2**40), {5}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_training_from_it_is_refused_in_a_line(name: str, cache: Path, tmp_path: Path) -> None:
    change, codes = CHANGES[name]
    place = shutil.copytree(cache, tmp_path / "cache")
    change(place)
    shutil.rmtree(place / "copies")  # what is there twice would be read from there
    done = CliRunner().invoke(main, ["train-student", "--cache", str(place), "--out", str(tmp_path / "run"), *WORDS])
    assert done.exit_code in codes, done.output
    assert sum(line.startswith("error: ") for line in done.stderr.splitlines()) == 1
    told(done.output)


def test_images_in_a_pipe_are_not_waited_for(cache: Path, tmp_path: Path) -> None:
    place = shutil.copytree(cache, tmp_path / "cache")
    os.mkfifo(tmp_path / "images")
    provenance(data=str(tmp_path / "images"))(place)
    done = CliRunner().invoke(main, ["train-student", "--cache", str(place), "--out", str(tmp_path / "run"), *WORDS])
    assert done.exit_code in (2, 3), done.output
    told(done.output)


def test_what_is_opened_because_a_cache_says_so_is_said(
    cache: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_student.run(student_options(cache, tmp_path / "one", epochs=1))
    assert f"images: {data}, where the cache says they are\n" in capsys.readouterr().err
    elsewhere = shutil.copytree(data, tmp_path / "moved")
    train_student.run(student_options(cache, tmp_path / "two", epochs=1, data=str(elsewhere)))
    assert "where the cache says" not in capsys.readouterr().err


def test_names_with_escapes_are_shown_and_not_obeyed(cache: Path, tmp_path: Path) -> None:
    place = shutil.copytree(cache, tmp_path / f"c\x1b]0;x\x07{chr(0x202E)}")
    done = CliRunner().invoke(main, ["inspect-cache", str(place)])
    assert done.exit_code == 0
    assert r"c\x1b]0;x" in done.stdout
    told(done.output)
