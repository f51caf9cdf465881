import json
import os
import re
import shutil
import subprocess
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from inspect_fakes import MIXED, Made, Reader, make_cache, write_images
from PIL import Image

from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.inspect_cache import run
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.store.layout import Block

EVIL_FILE = "<script>alert(1)<.png"  # a slash cannot be in a file's name
EVIL_CLASS = '"><img src=x onerror=alert(2)>'
CHROMIUM = shutil.which("chromium")


def report(made: Made, target: Path, **options: str) -> tuple[dict, str]:
    result = run(InspectCacheOptions(cache=str(made.cache), report=str(target), **options))
    return result.data, target.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_cache(
        tmp_path_factory.mktemp("report"),
        recipe=MIXED,
        epochs=4,
        count=80,
        block=20,
        spoil=Block(3, 1, 20, 40),
    )


@pytest.fixture(scope="module")
def written(made: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, str]:
    return report(made, tmp_path_factory.mktemp("page") / "cache.html")


def test_the_page_is_well_formed_and_fetches_nothing(written: tuple[dict, str]) -> None:
    _, text = written
    page = Reader(text)
    assert page.open == []
    assert not {"script", "link", "iframe", "object", "style"} & {tag for tag, _ in page.tags} - {"style"}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "srcset", "action"):
                assert (value or "").startswith("data:image/"), (tag, value)
    style = re.search("<style>(.*)</style>", text, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "prefers-color-scheme: dark" in style[1]
    policies = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_the_page_shows_the_numbers_of_the_cache(made: Made, written: tuple[dict, str]) -> None:
    data, text = written
    page = Reader(text).text
    said = {epoch: logits.argmax(axis=1) for epoch, logits in made.logits.items()}
    agree = np.mean([said[e] == made.labels[e] for e in said])
    assert f"{agree * 100:.2f} % of views: teacher agrees with the label" in page
    assert "320 views in 4 epochs, 100% of the blocks" in page
    confusion = np.zeros((4, 4), int)
    for epoch in said:
        np.add.at(confusion, (made.labels[epoch], said[epoch]), 1)
    (facts,) = data["report"]["teachers"]
    assert facts["class_views"] == confusion.sum(axis=1).tolist()
    assert facts["class_right"] == confusion.diagonal().tolist()
    for row, name in enumerate(made.table.class_names):
        views, right = confusion[row].sum(), confusion[row, row]
        assert f"{name} {right / views * 100:.1f} % {views} {confusion[:, row].sum()}" in page
    true, wrong, count = facts["confused"][0]
    names = made.table.class_names
    assert confusion[true, wrong] == count
    assert f"{names[true]} {names[wrong]} {count / confusion[true].sum() * 100:.2f} % {count}" in page
    assert f"{facts['flip_rate'] * 100:.2f} % of views flip" in page


def test_the_planted_block_is_at_the_top_of_the_page_and_marked_in_the_plot(
    written: tuple[dict, str],
) -> None:
    _, text = written
    page = Reader(text)
    assert "epoch 3, block 1 (slots 20 to 39): agreement" in page.text
    assert sum(a.get("class") == "dot bad" for tag, a in page.tags if tag == "circle") == 3  # one in each plot
    assert sum(a.get("class") == "dot c1 faint" for tag, a in page.tags if tag == "circle") == 3 * 15


def test_the_gallery_shows_what_the_teacher_saw(made: Made, written: tuple[dict, str]) -> None:
    """Pixels, labels and answers of every picture equal those of its cell."""
    from deit_pipe.pipeline.compose import compose
    from deit_pipe.pipeline.loader import to_batch

    _, text = written
    figures = re.findall(r"<figure>(.*?)</figure>", text, re.DOTALL)
    cells = 0
    for figure in figures:
        place = re.search(r"cell (\d+)/(\d+)", figure)
        if place is None:
            continue
        cells += 1
        epoch, slot = int(place[1]), int(place[2])
        rendered = made.views.render(epoch, np.arange(80))
        source = re.search(r'src="data:image/png;base64,([^"]+)"', figure)
        assert source is not None
        with Image.open(BytesIO(b64decode(source[1]))) as image:
            shown = np.asarray(image.convert("RGB"))
        composed = compose(to_batch(rendered), MIXED)[slot].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(shown, np.round(composed.clip(0, 1) * np.float32(255)))
        names = made.table.class_names
        words = Reader(figure).text
        assert names[int(rendered.labels[slot])] in words
        assert names[int(rendered.labels[rendered.partner[slot]])] in words
        assert f" {names[int(made.logits[epoch][slot].argmax())]}, " in words
    assert cells == 24


def test_every_epoch_of_a_half_finished_cache_is_on_the_page(tmp_path: Path) -> None:
    made = make_cache(tmp_path, blocks=7)
    data, text = report(made, tmp_path / "half.html")
    page = Reader(text).text
    assert data["state"] == "incomplete"
    assert "known: 8 of 15 blocks are missing" in page
    assert "epoch 1: 2 of 5 blocks" in page
    assert "epoch 2: 0 of 5 blocks" in page


def test_an_empty_cache_and_absent_images_still_give_a_page(tmp_path: Path) -> None:
    made = make_cache(tmp_path / "empty", blocks=0)
    assert "No block is cached yet." in report(made, tmp_path / "empty.html")[1]
    other = make_cache(tmp_path / "moved")
    other.data.rename(tmp_path / "elsewhere")
    data, text = report(other, tmp_path / "moved.html")
    assert data["report"]["images"] is False
    assert "The images are not here" in text
    data, text = report(other, tmp_path / "found.html", data=str(tmp_path / "elsewhere"))
    assert data["report"]["images"] is True


def test_many_classes_are_shown_by_their_distribution(tmp_path: Path) -> None:
    data = write_images(tmp_path / "many", 90, classes=[f"class-{i:02d}" for i in range(30)])
    made = make_cache(tmp_path, data=data, epochs=2, block=30)
    page = Reader(report(made, tmp_path / "many.html")[1]).text
    assert "The 15 hardest of 30 classes" in page
    assert "Classes by accuracy" in page


def test_damage_is_on_the_page_and_a_place_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    made = make_cache(tmp_path)
    (made.cache / "targets.zarr/known/logits/c/1/3/0").unlink()
    result = run(InspectCacheOptions(cache=str(made.cache), verify="sizes", report=str(tmp_path / "bad.html")))
    assert result.exit_code == 5
    assert "Damaged: 1 findings" in (tmp_path / "bad.html").read_text(encoding="utf-8")
    (made.cache / "targets.zarr/known/logits/c/2/0/0").write_bytes(b"nothing")
    result = run(InspectCacheOptions(cache=str(made.cache), report=str(tmp_path / "worse.html")))
    assert (result.exit_code, result.data["state"]) == (5, "damaged")
    assert result.data["report"]["teachers"][0]["views"] == 104  # eight views of each block are left out
    page = Reader((tmp_path / "worse.html").read_text(encoding="utf-8")).text
    assert "known: header, epoch 2, slots 0..7: is no block, or cut off" in page
    assert "epoch 1, slots 24..31: is missing" in page
    for target in (tmp_path, tmp_path / "nowhere" / "page.html"):
        with pytest.raises(UsageProblem, match="--report"):
            report(made, target)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, str, Path]:
    """Names that try to become markup: file, class, teacher's source, and the folder of the data."""
    folder = tmp_path_factory.mktemp("hostile")
    data = write_images(folder / "<b>data", 32, classes=[EVIL_CLASS, "plain"])
    for path in sorted((data / EVIL_CLASS).iterdir())[:4]:
        path.rename(path.with_name(f"{path.stem}{EVIL_FILE}"))
    made = make_cache(folder, data=data, epochs=4, recipe=MIXED)
    target = folder / "page.html"
    _, text = report(made, target)
    return made, text, target


def test_names_cannot_become_markup(hostile: tuple[Made, str, Path]) -> None:
    _, text, _ = hostile
    page = Reader(text)
    assert not [tag for tag, _ in page.tags if tag in ("script", "b>data")]
    assert all((a.get("src") or "").startswith("data:") for tag, a in page.tags if tag == "img")
    assert not any(name.startswith("on") for _, a in page.tags for name in a)
    assert EVIL_CLASS in page.text  # shown, as text
    assert EVIL_FILE in page.text
    assert text.count("<script") == 0


def test_names_do_no_harm_on_a_terminal(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", 16, classes=["\x1b[31mred", "plain"])
    made = make_cache(tmp_path, data=data, epochs=1)
    for question in ({"cell": "0/0"}, {"sample": "0"}):
        text = run(InspectCacheOptions(cache=str(made.cache), **question)).text.plain
        assert "\x1b" not in text
        assert "\\x1b[31mred" in text


def chromium(*arguments: str, profile: Path) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    return subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "HOME": str(profile)},
    )


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt install chromium)")
def test_a_real_browser_shows_hostile_names_as_text(hostile: tuple[Made, str, Path], tmp_path: Path) -> None:
    """Without the page's own policy, so that only the escaping stands between a name and the browser."""
    _, text, _ = hostile
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    assert len(bare) < len(text)
    probe = (
        "<script>document.title = JSON.stringify({scripts: document.scripts.length, broken:"
        " [...document.images].filter(i => !i.src.startsWith('data:')).length, images: document.images.length,"
        " wide: document.documentElement.scrollWidth, screen: innerWidth,"
        " text: document.body.innerText.includes('onerror=alert(2)')})</script>"
    )
    target = tmp_path / "bare.html"
    target.write_text(bare.replace("</body>", f"{probe}</body>"), encoding="utf-8")
    done = chromium("--dump-dom", "--window-size=500,900", target.as_uri(), profile=tmp_path / "profile")
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert title is not None, done.stderr[-2000:]
    found = json.loads(title[1])
    assert (found["scripts"], found["broken"]) == (1, 0)  # the probe is the only script
    assert found["images"] > 24
    assert found["text"] is True
    assert found["wide"] <= found["screen"]  # nothing sticks out at the side of a narrow window
