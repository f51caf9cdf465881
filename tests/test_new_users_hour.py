"""A new user's hour: own photographs in 5 classes, as people leave them, to a student; every next line is pasted.

    pip install scikit-image        # or: pip download, for its photographs; nothing of it is imported
    python -m pytest -m slow tests/test_new_users_hour.py

The images of a class are pieces of one photograph, scaled to 60 x 48 px, so that it ends in minutes on two cores.
"""

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_next_lines import following, program_in, shell

PHOTOGRAPHS = {
    "Katze": "chelsea.png",
    "coffee cup": "coffee.png",
    "person": "astronaut.png",
    "raketé": "rocket.jpg",
    "eye": "retina.jpg",
}
PIECES = 60
SIZE = (60, 48)


def photographs() -> Path | None:
    found = find_spec("skimage")
    place = None if found is None or found.origin is None else Path(found.origin).parent / "data"
    return place if place is not None and all((place / name).is_file() for name in PHOTOGRAPHS.values()) else None


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(photographs() is None, reason="no photographs: pip install scikit-image"),
]


def pieces(file: Path, seed: int) -> list[Image.Image]:
    """Parts of a photograph, some mirrored, at several scales."""
    random = np.random.default_rng(seed)
    with Image.open(file) as opened:
        whole = opened.convert("RGB")
    found = []
    for _ in range(PIECES):
        width = int(random.uniform(0.35, 0.7) * whole.width)
        height = min(width * 4 // 5, whole.height)
        left, top = int(random.integers(whole.width - width + 1)), int(random.integers(whole.height - height + 1))
        found.append(whole.crop((left, top, left + width, top + height)).resize(SIZE))
    return found


def write_messy(root: Path) -> None:
    """Class folders with all that collects in them."""
    source = photographs()
    assert source is not None
    for seed, (name, file) in enumerate(PHOTOGRAPHS.items()):
        folder = root / name
        folder.mkdir(parents=True)
        for i, piece in enumerate(pieces(source / file, seed)):
            piece.save(folder / (f"IMG {i:02}.JPG", f"ä{i:02}.jpeg", f"{i:02}.png")[i % 3])
        (folder / ("Thumbs.db", ".DS_Store", "notes.txt")[seed % 3]).write_bytes(b"x")
    cat, cup, person = root / "Katze", root / "coffee cup", root / "person"
    with Image.open(cat / "IMG 00.JPG") as image:
        image.convert("CMYK").save(cat / "IMG 00.JPG")
    with Image.open(cat / "IMG 03.JPG") as image:
        image.convert("L").save(cat / "IMG 03.JPG")
    with Image.open(cup / "IMG 00.JPG") as image:
        about = Image.Exif()
        about[0x0112] = 6
        image.save(cup / "IMG 00.JPG", exif=about)
    whole = (cup / "IMG 03.JPG").read_bytes()
    (cup / "IMG 03.JPG").write_bytes(whole[: len(whole) // 2])
    (cup / "empty.jpg").write_bytes(b"")
    shutil.copy(person / "IMG 00.JPG", person / "IMG 00 (copy).JPG")
    shutil.copy(person / "IMG 03.JPG", cat / "me.JPG")


def test_own_photographs_to_a_student_in_pasted_lines(tmp_path: Path) -> None:
    program_in(tmp_path)
    write_messy(tmp_path / "my photos")
    said = shell(tmp_path, "deit-pipe check-data 'my photos' --deep --write-exclude bad.txt", expected=6)
    for kind in ("CMYK", "turned by EXIF", "files and folders of an operating system", "hidden files"):
        assert kind in said
    listed = (tmp_path / "bad.txt").read_text(encoding="utf-8")
    for name in ("coffee cup/IMG 03.JPG", "coffee cup/empty.jpg", "Katze/me.JPG"):
        assert name in listed
    again = following(said)
    assert "--exclude bad.txt" in again
    shell(tmp_path, again)
    teach = "deit-pipe train-teacher --teacher resnet10t --init scratch --data 'my photos' --exclude bad.txt"
    commands = ["cache-teacher", "train-student", "evaluate"]
    said = shell(tmp_path, teach, seconds=1500)
    for command in commands:
        line = following(said)
        assert line.startswith(f"deit-pipe {command}")
        said = shell(tmp_path, line, seconds=1500)
    (run,) = (path.parent for path in tmp_path.glob("*/student.safetensors"))
    scores = json.loads(shell(tmp_path, f"deit-pipe evaluate {run.name} --json 2>/dev/null"))
    tops = [float(top) for top in re.findall(r'"top1": ([0-9.]+)', json.dumps(scores))]
    assert len(tops) >= 3
    assert min(tops) >= 0.6  # chance is 0.2
