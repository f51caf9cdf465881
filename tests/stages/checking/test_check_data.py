"""What is wrong with images is found, all of it in one run, and nothing else."""

import json
import os
import signal
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from split_fakes import write_idx
from view_images import encoded, photo, sixteen_bit

from deit_pipe.cli import main
from deit_pipe.stages.checking import scan as scanning
from deit_pipe.stages.checking.images import CheckedImages
from deit_pipe.stages.checking.one_image import ImageFacts, difference_hash, read_facts
from deit_pipe.stages.checking.same_images import NEAR, bit_counts, near_pairs

SIDE = 48


def write(file: Path, data: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def jpeg(seed: int) -> bytes:
    return encoded(photo(seed, SIDE, SIDE))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes in two splits; nothing is wrong with them."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "photos"
    for seed, (folder, count) in enumerate(
        {"train/ant": 5, "train/bee": 5, "val/ant": 2, "val/bee": 2, "test/ant": 1, "test/bee": 1}.items()
    ):
        for i in range(count):
            write(root / folder / f"{i}.jpg", jpeg(100 * seed + i))
    return root


def check(*words: object) -> Result:
    return CliRunner().invoke(main, ["check-data", *map(str, words)])


def facts(*words: object) -> tuple[int, dict[str, Any]]:
    result = check(*words, "--json")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, json.loads(result.stdout)


def found(*words: object) -> list[tuple[str, tuple[str, ...]]]:
    return [(one["kind"], tuple(one["names"])) for one in facts(*words)[1]["findings"]]


def plant(root: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Fourteen defects; what a check must say of them."""
    ant, bee = root / "train" / "ant", root / "train" / "bee"
    write(ant / "cut.jpg", jpeg(900)[:700])
    write(ant / "empty.png", b"")
    write(bee / "text.jpg", b"this is no image")
    write(ant / "again.jpg", (ant / "0.jpg").read_bytes())
    write(bee / "other.jpg", (ant / "1.jpg").read_bytes())
    write(root / "val" / "bee" / "seen.jpg", (bee / "2.jpg").read_bytes())
    smaller = photo(950, 96, 96).resize((64, 64), Image.Resampling.BICUBIC)
    write(ant / "big.jpg", encoded(photo(950, 96, 96), quality=95))
    write(ant / "small.jpg", encoded(smaller, quality=70))
    write(bee / "dot.png", encoded(photo(901, 1, 1), "PNG"))
    write(bee / "strip.png", encoded(photo(902, 400, 20), "PNG"))
    write(ant / "deep.png", encoded(sixteen_bit(903, SIDE, SIDE), "PNG"))
    write(ant / "print.jpg", encoded(photo(904, SIDE, SIDE).convert("CMYK")))
    palette = photo(905, SIDE, SIDE).convert("P")
    write(bee / "palette.png", encoded(palette, "PNG", transparency=0))
    frames = [photo(906, SIDE, SIDE), photo(907, SIDE, SIDE)]
    write(bee / "moving.gif", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    (root / "train" / "cat").mkdir()
    return [
        ("empty", ("cat",)),
        ("bad", ("train/ant/cut.jpg",)),
        ("bad", ("train/ant/empty.png",)),
        ("bad", ("train/bee/text.jpg",)),
        ("copies", ("train/ant/0.jpg", "train/ant/again.jpg")),
        ("labels", ("train/ant/1.jpg", "train/bee/other.jpg")),
        ("leak", ("train/bee/2.jpg", "val/bee/seen.jpg")),
        ("alike", ("train/ant/big.jpg", "train/ant/small.jpg")),
        ("odd", ("train/bee/dot.png",)),
        ("odd", ("train/bee/strip.png",)),
        ("odd", ("train/ant/deep.png",)),
        ("odd", ("train/ant/print.jpg",)),
        ("odd", ("train/bee/palette.png",)),
        ("odd", ("train/bee/moving.gif",)),
    ]


def test_fourteen_planted_defects_are_found_in_one_run_and_nothing_else(data: Path) -> None:
    assert facts(data, "--deep")[0] == 0
    assert found(data, "--deep") == []
    planted = plant(data)
    assert len(planted) == 14
    code, said = facts(data, "--deep")
    assert sorted(map(repr, found(data, "--deep"))) == sorted(map(repr, planted))
    assert (code, said["exit_code"]) == (6, 6)
    notes = {one["names"][-1]: one["note"] for one in said["findings"]}
    assert notes["train/bee/dot.png"] == "one pixel: 1 x 1 px"
    assert notes["train/bee/strip.png"] == "very long: 400 x 20 px"
    assert notes["train/ant/deep.png"].startswith("more than 8 bits")
    assert notes["train/ant/print.jpg"].startswith("CMYK")
    assert notes["train/bee/palette.png"].startswith("palette with alpha")
    assert notes["train/bee/moving.gif"] == "animated: the first of 2 is used"
    assert notes["train/bee/other.jpg"] == "labelled ant and bee"
    assert notes["val/bee/seen.jpg"] == "in train and val"
    assert "of 64 bits differ" in notes["train/ant/small.jpg"]
    text = check(data, "--deep").stdout
    assert "images that cannot be decoded: 3" in text
    assert all(name in text for _, names in planted for name in names)
    assert f"cat  {0:9}{0:9}{0:9}\n" in text


def test_a_look_alike_under_another_label_or_in_another_split_is_said(data: Path) -> None:
    for file, quality in (("train/ant/x.jpg", 95), ("test/bee/y.jpg", 60)):
        write(data / file, encoded(photo(950, 96, 96), quality=quality))
    (one,) = facts(data, "--deep")[1]["findings"]
    assert (one["kind"], one["names"]) == ("alike", ["train/ant/x.jpg", "test/bee/y.jpg"])
    assert one["note"].endswith("bits differ, labelled ant and bee, in train and test")


def test_the_gravest_finding_decides_the_exit_code(data: Path) -> None:
    def code() -> int:
        return facts(data, "--deep")[0]

    write(data / "train" / "ant" / "again.jpg", (data / "train" / "ant" / "0.jpg").read_bytes())
    assert code() == 0
    (data / "train" / "cat").mkdir()
    assert code() == 3
    leak = write(data / "test" / "ant" / "seen.jpg", (data / "train" / "ant" / "2.jpg").read_bytes())
    assert code() == 4
    write(data / "val" / "ant" / "bad.jpg", b"x")
    assert code() == 6
    leak.unlink()
    assert code() == 6


def test_without_deep_no_image_is_read_and_structure_is_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(data)
    (data / "train" / "Thumbs.db").write_bytes(b"x")
    (data / "train" / "ant" / "loop").symlink_to("..")
    monkeypatch.setattr(CheckedImages, "read", None)
    code, said = facts(data)
    assert (code, said["findings"], said["images_read"]) == (
        3,
        [{"kind": "empty", "names": ["cat"], "note": "no image in the training split"}],
        0,
    )
    assert said["classes"][1] == {"name": "bee", "train": 11, "val": 3, "test": 1}
    assert said["splits"]["val"]["images"] == 5
    assert {one["kind"]: one["count"] for one in said["left_out"]} == {
        "files and folders of an operating system": 1,
        "links to what is counted already": 1,
    }
    text = check(data, "--val-split", "test").stdout
    assert f"next: deit-pipe check-data {data} --val-split test --deep" in text


def test_links_to_one_file_are_found_without_reading(data: Path) -> None:
    ant, bee = data / "train" / "ant", data / "train" / "bee"
    (ant / "9.jpg").hardlink_to(ant / "0.jpg")
    (bee / "9.jpg").hardlink_to(ant / "1.jpg")
    (data / "val" / "bee" / "9.jpg").hardlink_to(bee / "0.jpg")
    expected = [
        ("copies", ("train/ant/0.jpg", "train/ant/9.jpg")),
        ("labels", ("train/ant/1.jpg", "train/bee/9.jpg")),
        ("leak", ("train/bee/0.jpg", "val/bee/9.jpg")),
    ]
    assert found(data) == found(data, "--deep") == expected
    assert facts(data)[0] == 4


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("line\nbreak.jpg", "characters that cannot be printed"),
        ("bell\x07.jpg", "characters that cannot be printed"),
        (b"caf\xe9.jpg".decode("utf-8", "surrogateescape"), "not UTF-8"),
        ("a\\b.jpg", "a backslash, as some systems separate folders"),
        (" space.jpg", "begins or ends with a space, or ends with a dot"),
        ("x" * 236 + ".jpg", "244 characters long"),
    ],
)
def test_odd_names_are_said_on_one_line(data: Path, name: str, about: str) -> None:
    write(data / "train" / "ant" / name, jpeg(77))
    code, said = facts(data)
    assert [(one["kind"], one["note"]) for one in said["findings"]] == [("name", about)]
    assert code == 0
    assert check(data).stdout.isprintable() or "\n" not in check(data).stdout.split("odd names: 1\n")[1].split(": ")[0]


def test_names_in_two_spellings(data: Path) -> None:
    for form in ("NFC", "NFD"):
        write(data / "train" / "ant" / f"{unicodedata.normalize(form, 'bär')}.jpg", jpeg(len(form) + ord(form[2])))
    write(data / "train" / "ant" / "UP.jpg", jpeg(70))
    write(data / "train" / "ant" / "up.jpg", jpeg(71))
    assert [(kind, len(names)) for kind, names in found(data)] == [("name", 2), ("name", 2)]
    assert facts(data)[0] == 0
    for form in ("NFC", "NFD"):
        write(data / "train" / unicodedata.normalize(form, "käfer") / "a.jpg", jpeg(80 + ord(form[2])))
    code, said = facts(data)
    assert (code, said["findings"][0]["kind"]) == (4, "class-name")


def test_one_class_is_said(tmp_path: Path) -> None:
    write(tmp_path / "ant" / "a.jpg", jpeg(1))
    assert found(tmp_path) == [("classes", ("ant",))]


def interrupted_after(count: int, monkeypatch: pytest.MonkeyPatch, how: int = signal.SIGINT) -> None:
    """Ctrl-C, or another signal, once so many images were read, while the check is at work."""
    read: list[int] = []

    def reading(images: CheckedImages, image: int) -> ImageFacts:
        read.append(image)
        if len(read) == count:
            os.kill(os.getpid(), how)
        return read_facts(images, image)

    monkeypatch.setattr(scanning, "read_facts", reading)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which images are read from now on."""
    read: list[int] = []

    def reading(images: CheckedImages, image: int) -> ImageFacts:
        read.append(image)
        return read_facts(images, image)

    monkeypatch.setattr(scanning, "read_facts", reading)
    return read


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_check_goes_on_and_finds_the_same(
    how: int, code: int, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = plant(data)
    monkeypatch.setattr(scanning, "AT_ONCE", 1)
    interrupted_after(12, monkeypatch, how)
    result = check(data, "--deep", "--workers", 1)
    assert result.exit_code == code
    state = Path("check-data.state")
    kept = state.read_text().splitlines()
    assert 1 < len(kept) <= 13
    changed = data / "train" / "ant" / "2.jpg"
    changed.write_bytes(b"bad since")
    read = counted(monkeypatch)
    with state.open("a") as file:
        file.write('[3, "half a li')
    assert sorted(map(repr, found(data, "--deep"))) == sorted(map(repr, [*planted, ("bad", ("train/ant/2.jpg",))]))
    total = facts(data)[1]["splits"]
    images = sum(split["images"] for split in total.values())
    assert len(read) == images - (len(kept) - 1) + 1  # the changed one again
    assert not state.exists()


def test_the_state_of_other_images_is_not_used(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_after(1, monkeypatch)
    assert check(data, "--deep", "--state", "s").exit_code == 130
    write(data / "val" / "ant" / "more.jpg", b"no image")
    read = counted(monkeypatch)
    assert found(data, "--deep", "--state", "s") == [("bad", ("val/ant/more.jpg",))]
    assert len(read) == 17
    Path("s").write_text("my diary\n")
    result = check(data, "--deep", "--state", "s")
    assert (result.exit_code, Path("s").read_text()) == (2, "my diary\n")
    assert "is no state of a check" in result.output


def test_images_without_anything_on_them_do_not_look_alike(data: Path) -> None:
    for name, colour in (("red", (250, 0, 0)), ("night", (9, 9, 30))):
        write(data / "train" / "ant" / f"{name}.png", encoded(Image.new("RGB", (SIDE, SIDE), colour), "PNG"))
    assert found(data, "--deep") == []


def test_images_that_are_too_small_to_be_compared_are_counted(data: Path) -> None:
    for place, side in enumerate((31, 31, 32, 32)):
        write(data / "train" / "ant" / f"small{place}.png", encoded(photo(960, side, 40 + place), "PNG"))
    code, said = facts(data, "--deep")
    assert (code, said["not_compared"]) == (0, 2)
    assert [one["names"] for one in said["findings"]] == [["train/ant/small2.png", "train/ant/small3.png"]]
    assert "2 images are under 32 px" in check(data, "--deep").stdout


@pytest.mark.parametrize("option", ["--report", "--state", "--write-exclude"])
def test_files_that_cannot_be_written_are_refused_first(data: Path, option: str) -> None:
    result = check(data, "--deep", option, "nowhere/x")
    assert result.exit_code == 2
    assert f"{option} nowhere/x cannot be written" in result.output


def test_the_page_shows_the_findings_escaped_with_pictures(data: Path) -> None:
    plant(data)
    write(data / "train" / "ant" / "<b>&.jpg", (data / "train" / "ant" / "3.jpg").read_bytes())
    assert check(data, "--deep", "--report", "page.html").exit_code == 6
    page = Path("page.html").read_text()
    assert page.count("<figure>") == 10 + 6  # five groups of two, six odd images; bad ones have no picture
    assert "&lt;b&gt;&amp;.jpg" in page
    assert "<b>&.jpg" not in page
    assert "train/ant/cut.jpg" in page


def test_every_source_is_checked(tmp_path: Path, data: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 40), dtype=np.uint8)
    pixels[4] = pixels[1]
    folder = write_idx(tmp_path / "idx", "train", [0, 1, 0, 1, 0, 1], 0)
    head = (folder / "train-images-idx3-ubyte").read_bytes()[:8] + (40).to_bytes(4, "big") * 2
    (folder / "train-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
    assert found(folder, "--deep") == [("labels", ("train/row 1", "train/row 4"))]
    assert CliRunner().invoke(main, ["pack", "--data", str(data), "--out", "packed"]).exit_code == 0
    assert found("packed", "--deep") == []


@pytest.mark.parametrize("values", [[], [5], [0, (1 << 64) - 1, 1 << 63, 3]])
def test_bits_are_counted(values: list[int]) -> None:
    assert bit_counts(np.asarray(values, np.uint64)).tolist() == [value.bit_count() for value in values]


def test_near_hashes_are_those_that_comparing_all_with_all_finds() -> None:
    random = np.random.default_rng(5)
    values = random.integers(0, 1 << 63, 60, dtype=np.uint64)
    flips = [
        int(value) ^ sum(1 << int(bit) for bit in random.choice(64, size, replace=False))
        for value in values
        for size in (1, 3, NEAR, NEAR + 1)
    ]
    every = np.unique(np.asarray([*values.tolist(), *flips], np.uint64))
    expected = {
        (a, b)
        for a in range(len(every))
        for b in range(a + 1, len(every))
        if (int(every[a]) ^ int(every[b])).bit_count() <= NEAR
    }
    assert {tuple(sorted(pair[:2])) for pair in near_pairs(every)} == expected
    assert len(expected) > 100


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((61, 40), Image.Resampling.BICUBIC),
        lambda image: image.point(lambda level: level * 3 // 4 + 10),
        lambda image: image.convert("L").convert("RGB"),
    ],
)
def test_the_hash_stays_near_where_a_picture_stays_the_same(change: Callable[[Image.Image], Image.Image]) -> None:
    pictures = [photo(seed, 90, 60) for seed in range(12)]
    hashes = [difference_hash(picture) for picture in pictures]
    assert all(
        (difference_hash(change(picture)) ^ one).bit_count() <= NEAR
        for picture, one in zip(pictures, hashes, strict=True)
    )
    others = [(a ^ b).bit_count() for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(others) > NEAR
