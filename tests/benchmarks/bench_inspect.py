"""How long looking into a cache takes: the screen of an ImageNet-sized ledger, a page, a replay.

python tests/benchmarks/bench_inspect.py [--write]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from inspect_fakes import MIXED, make_cache  # noqa: E402
from results import environment_line, write_section  # noqa: E402
from store_fakes import make_samples  # noqa: E402

from deit_pipe.stages.inspect_cache import run  # noqa: E402
from deit_pipe.stages.inspection.screen import screen  # noqa: E402
from deit_pipe.stages.inspection.summary import summarise  # noqa: E402
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions  # noqa: E402
from deit_pipe.store.index import MERGE_FILES, _write  # noqa: E402
from deit_pipe.store.layout import block_slots_for, blocks_per_epoch  # noqa: E402
from deit_pipe.store.ledger import want_epochs  # noqa: E402
from deit_pipe.store.manifest import (  # noqa: E402
    Manifest,
    TeacherIdentity,
    create_cache,
    write_teacher,
)
from deit_pipe.store.places.opening import open_location  # noqa: E402

SAMPLES, CLASSES, EPOCHS, REPEATS = 1_281_167, 1000, 300, 7


def big_ledger(folder: Path) -> tuple[Path, int]:
    """A complete, sealed ledger of 300 epochs of ImageNet with dense logits, as the store seals it; no target."""
    manifest = Manifest(
        samples_digest="1" * 64,
        num_samples=SAMPLES,
        num_classes=CLASSES,
        recipe=MIXED.to_json(),
        recipe_digest=MIXED.digest,
        seed=0,
        image_size=224,
        views_version=1,
    )
    cache = folder / "imagenet"
    create_cache(cache, manifest, make_samples(SAMPLES, CLASSES), {"data": "imagenet", "recipe": "deit"})
    probe = TeacherIdentity(
        name="regnety_160.deit_in1k",
        model="regnety_160.deit_in1k",
        weights_sha256="2" * 64,
        head="pretrained",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        image_size=224,
        precision="fp32",
        num_classes=CLASSES,
        batch_size=256,
        targets="dense",
        block_slots=8192,
    )
    slots = block_slots_for(probe.format, CLASSES, 2, SAMPLES)
    place = open_location(cache)
    write_teacher(place, probe)
    want_epochs(place, probe.name, EPOCHS)
    per_epoch = blocks_per_epoch(SAMPLES, 8192)
    random = np.random.Generator(np.random.Philox(7))
    for first in range(0, EPOCHS, MERGE_FILES):
        epochs = range(first, min(first + MERGE_FILES, EPOCHS))
        count = len(epochs) * per_epoch
        index = np.tile(np.arange(per_epoch), len(epochs))
        stop = np.minimum((index + 1) * 8192, SAMPLES)
        views = stop - index * 8192
        columns = {
            "epoch": np.repeat(np.array(epochs), per_epoch),
            "index": index,
            "start": index * 8192,
            "stop": stop,
            "rank": index % 8,
            "agree": random.binomial(views, 0.6),
            "agree_either": random.binomial(views, 0.7),
            "ties": random.binomial(views, 0.001),
            "written": np.arange(count) + first * 1e5,
            "top1": 0.5 + random.normal(0, 0.003, count),
            "entropy": 2 + random.normal(0, 0.01, count),
            "topk_mass": np.full(count, np.nan),
            "run": np.array(["0123456789ab"] * count, object),
            "confidence": random.multinomial(8192, np.full(20, 0.05), count),
            "cache": np.array([manifest.digest] * count, object),
            "teacher": np.array([probe.digest] * count, object),
            "token": np.array([random.bytes(16).hex() for _ in range(count)], object),
            "witness.slots": index[:, None] * 8192 + np.array([0, 1]),
            "witness.sums": random.standard_normal((count, 2, 4)).astype(np.float32),
            "witness.labels": random.integers(0, CLASSES, (count, 2, 2)),
            "witness.lam": random.random((count, 2)).astype(np.float32),
        }
        for name in ("header", "teacher_label", "fingerprint", "logits"):
            columns[f"bytes.{name}"] = random.integers(10_000, 20_000_000, count)
            columns[f"sha256.{name}"] = random.integers(0, 256, (count, 32), np.uint8)
        counts = {epoch: random.multinomial(SAMPLES, np.full(CLASSES, 1 / CLASSES)) for epoch in epochs}
        _write(place, f"ledger/{probe.name}", columns, counts)
    assert slots > 0
    return cache, EPOCHS * per_epoch


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Median and fastest of some runs."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times), min(times)


def command(*arguments: str) -> None:
    """The whole command, interpreter start included."""
    subprocess.run(
        [sys.executable, "-m", "deit_pipe.cli", *arguments],
        check=True,
        capture_output=True,
        cwd=tempfile.gettempdir(),
    )


def main() -> None:
    """Measure and print; with --write also into RESULTS.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with patch("os.fsync"):
            cache, records = big_ledger(folder)
            small = make_cache(folder / "small", recipe=MIXED, count=512, block=128, epochs=4, size=64)
        facts = summarise(str(cache))
        (teacher,) = facts.teachers
        assert teacher.complete
        assert teacher.blocks_committed == records
        large, tiny = str(cache), str(small.cache)
        rows = [
            (f"facts and outliers of {records:,} block records", seconds(lambda: summarise(large))),
            ("lines of its screen", seconds(lambda: screen(facts))),
            (
                "`deit-pipe inspect-cache` on it, whole process",
                seconds(lambda: command("inspect-cache", large)),
            ),
            ("the same with `--json`", seconds(lambda: command("inspect-cache", large, "--json"))),
            ("`deit-pipe inspect-cache` on 16 blocks", seconds(lambda: command("inspect-cache", tiny))),
            ("`deit-pipe --version`, for comparison", seconds(lambda: command("--version"))),
        ]
        options = {"cache": str(small.cache)}
        page = seconds(lambda: run(InspectCacheOptions(**options, report=str(folder / "page.html"))))
        rows.append(("report page of 2,048 views (64 px, mixed, erased)", page))
        replay = seconds(lambda: run(InspectCacheOptions(**options, replay="all")))
        rows.append(("replay of these 2,048 views, on one core", replay))
        lines = [
            environment_line(("numpy", "pyarrow", "pillow", "rich")),
            "",
            "| what | median | fastest |",
            "| --- | --: | --: |",
        ]
        lines += [f"| {what} | {median * 1000:,.0f} ms | {best * 1000:,.0f} ms |" for what, (median, best) in rows]
        lines += [
            "",
            f"Replay: {2048 / replay[0]:,.0f} views a second. The first row should stay below 500 ms.",
        ]
    text = "\n".join(lines)
    print(text)
    if write:
        write_section("inspect-cache", text)


if __name__ == "__main__":
    main()
