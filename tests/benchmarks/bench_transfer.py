"""Transfer to other class names with defaults, against a few rates: digits, and a part of Fashion-MNIST.

    apt-get install dataset-fashion-mnist
    python tests/benchmarks/bench_transfer.py [--write]

A student learns one half of the images; another run starts from it on others, whose classes have other names in another
order. No teacher: --loss none on a planned cache. Three minutes on a free core.
"""

import argparse
import gzip
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import numpy as np
from PIL import Image
from results import environment_line, write_section

from deit_pipe.pipeline.cells import decode_sample
from deit_pipe.pipeline.data_set import DataChoice, open_data
from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions

FASHION = Path("/usr/share/datasets/fashion-mnist")
RATES = (3e-4, 3e-3, 1e-2)
Part = tuple[list[np.ndarray], np.ndarray]


def idx(name: str) -> np.ndarray:
    """An IDX file of bytes."""
    data = gzip.decompress((FASHION / f"{name}.gz").read_bytes())
    shape = [int.from_bytes(data[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(data[3])]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def fashion(train: slice, val: slice) -> dict[str, Part]:
    """Some images of each split."""
    return {
        split: (list(idx(f"{stem}-images-idx3-ubyte")[part]), idx(f"{stem}-labels-idx1-ubyte")[part])
        for split, stem, part in (("train", "train", train), ("val", "t10k", val))
    }


def digits(train: slice) -> dict[str, Part]:
    """Some digits for training, all for validation."""
    found = open_data("digits", DataChoice())
    assert found.val is not None
    parts = {}
    for split, table, part in (("train", found.train, train), ("val", found.val, slice(None))):
        numbers = np.arange(len(table))[part]
        parts[split] = [np.asarray(decode_sample(table, int(n))) for n in numbers], table.labels[numbers]
    return parts


def planned(folder: Path, parts: dict[str, Part], names: list[str]) -> Path:
    """Class folders with these names, and a cache of them that is only planned."""
    for split, (images, labels) in parts.items():
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = folder / "images" / split / names[int(label)]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(image)).save(place / f"{number}.png")
    cache = folder / "cache"
    cache_teacher.run(
        CacheTeacherOptions(
            data=str(folder / "images"),
            cache=str(cache),
            teacher="resnet10t",
            teacher_weights="random",
            epochs=10,
            plan_only=True,
        )
    )
    return cache


def student(cache: Path, out: Path, **given: Any) -> float:
    """Top-1 of the class head at the end, percent."""
    options: dict[str, Any] = {"cache": str(cache), "out": str(out), "loss": "none", "eval_every": 10, "device": "cpu"}
    done = train_student.run(TrainStudentOptions(**options, **given)).data
    return 100 * float(done["val"]["class"]["top1"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the section in RESULTS.md")
    options = parser.parse_args()
    usual = [f"c{number}" for number in range(10)]
    others = [f"n{number}" for number in np.random.default_rng(0).permutation(10)]
    lines = ["| data | first run | " + " | ".join(["defaults", *(f"lr {rate:g}" for rate in RATES)]) + " |"]
    lines.append("| --- |" + " --: |" * (2 + len(RATES)))
    halves = {
        "digits, 718 and 719": (digits(slice(0, 718)), digits(slice(718, None)), 30, 30),
        "Fashion-MNIST, 4,000 and 1,500": (
            fashion(slice(0, 4000), slice(0, 1000)),
            fashion(slice(4000, 5500), slice(1000, 2500)),
            15,
            20,
        ),
    }
    with tempfile.TemporaryDirectory() as work:
        for name, (first, second, first_epochs, epochs) in halves.items():
            place = Path(work) / name.partition(",")[0]
            one, two = planned(place / "one", first, usual), planned(place / "two", second, others)
            found = [student(one, place / "first", epochs=first_epochs, preset="small")]
            for rate in (None, *RATES):
                found.append(student(two, place / f"lr{rate}", init_from=str(place / "first"), epochs=epochs, lr=rate))
            lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in found) + " |")
    text = "\n\n".join([environment_line(("torch", "timm")), "\n".join(lines)])
    print(text)
    if options.write:
        write_section("Transfer to other classes, with defaults and with other rates", text)


if __name__ == "__main__":
    main()
