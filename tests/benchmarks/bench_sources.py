"""What each kind of data costs: an image at random on 10,000 of them, and a first and second start on 100,000.

    python tests/benchmarks/bench_sources.py [--images 10000] [--files 100000] [--table random] [--write]

Every row is a process of its own, so that memory is its own; its peak is told without that of an empty process. CPU
time, as other work on a machine changes it least. Images: JPEGs of 320 x 240 with noise, of 200 kinds, each with a
number behind its end. Files of the second table are a hundred bytes.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from results import environment_line, write_section

from deit_pipe.pipeline.sources.kept.own_folder import SETTLED_NS
from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.pipeline.sources.packed import pack_samples

CLASSES = 100
NOTHING = "nothing kept"  # where no folder for what is kept can be made
SLOW = 300  # images that are read where that is so


def jpegs(count: int) -> Iterator[bytes]:
    """Different files, quickly."""
    random = np.random.default_rng(0)
    kinds = []
    for _ in range(min(count, 200)):
        small = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((320, 240))
        pixels = np.asarray(small).astype(np.int16) + random.integers(-15, 16, (240, 320, 3), dtype=np.int16)
        buffer = io.BytesIO()
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=93)
        kinds.append(buffer.getvalue())
    return (kinds[i % len(kinds)] + i.to_bytes(4, "big") for i in range(count))


def write_folder(root: Path, files: list[bytes]) -> None:
    """One folder a class."""
    for label in range(CLASSES):
        (root / f"{label:03}").mkdir(parents=True)
    for i, data in enumerate(files):
        (root / f"{i * CLASSES // len(files):03}" / f"{i:06}.jpg").write_bytes(data)


def write_parquet(root: Path, files: list[bytes], parts: int, rows: int) -> None:
    """So many files, with row groups of so many rows."""
    root.mkdir()
    for part in range(parts):
        some = range(part * len(files) // parts, (part + 1) * len(files) // parts)
        images = pa.array([{"bytes": files[i], "path": None} for i in some])
        table = pa.table({"image": images, "label": [i * CLASSES // len(files) for i in some]})
        parquet.write_table(table, root / f"train-{part:05}-of-{parts:05}.parquet", row_group_size=rows)


def write_tar(root: Path, files: list[bytes], parts: int) -> None:
    """So many shards."""
    root.mkdir()
    for part in range(parts):
        with tarfile.open(root / f"train-{part:06}.tar", "w") as shard:
            for i in range(part * len(files) // parts, (part + 1) * len(files) // parts):
                label = str(i * CLASSES // len(files)).encode()
                for name, data in ((f"{i:06}.jpg", files[i]), (f"{i:06}.cls", label)):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    shard.addfile(member, io.BytesIO(data))


def write_table(root: Path, files: list[bytes]) -> None:
    """One folder and a CSV."""
    root.mkdir()
    lines = ["file,label"]
    for i, data in enumerate(files):
        (root / f"{i:06}.jpg").write_bytes(data)
        lines.append(f"{i:06}.jpg,{i * CLASSES // len(files)}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


def peak_mb() -> float:
    """The most memory this program had; what `getrusage` says begins with its parent's."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def child(args: argparse.Namespace) -> None:
    """Open, and measure or read at random; what it took as JSON."""
    base = peak_mb()
    times = [time.process_time()]
    table = open_samples(args.data)
    times.append(time.process_time())
    if args.child == "measure":
        table.measure_bytes()
        times.append(time.process_time())
    elif args.child == "read":
        for seed in range(2):
            for sample in np.random.default_rng(seed).permutation(len(table))[: args.most].tolist():
                table.read(sample)
            times.append(time.process_time())
    print(json.dumps({"seconds": np.diff(times).tolist(), "peak": peak_mb() - base}))


def measured(data: Path, what: str, own: Path, most: int = 0) -> dict[str, Any]:
    """Run a child with what is kept in `own`, which reads at most so many images a pass."""
    words = [sys.executable, __file__, "--child", what, "--data", str(data), "--most", str(most)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(own), "OMP_NUM_THREADS": "1"}
    answer: dict[str, Any] = json.loads(subprocess.check_output(words, env=environment))
    return answer


def bytes_below(folder: Path) -> int:
    """Of all files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def at_random(root: Path, count: int) -> list[str]:
    """The first table."""
    files = list(jpegs(count))
    write_folder(root / "class folders", files)
    write_table(root / "folder and CSV", files)
    write_parquet(root / "Parquet, 4 files, row groups of 100", files, 4, 100)
    write_parquet(root / "Parquet, 1 file, 1 row group", files, 1, count)
    write_tar(root / "tar, 10 shards", files, 10)
    packed = root / "packed"
    packed.mkdir()
    pack_samples(open_samples(str(root / "class folders")), packed / "train.arrow")
    time.sleep(SETTLED_NS / 1e9 + 1)
    blocked = root / "a file"
    blocked.write_text("")
    lines = [
        f"Reading {count:,} JPEGs of {sum(map(len, files)) / count / 1e3:.0f} kB at random, CPU ms an image:",
        "",
        "| source | first pass | second pass | second process | peak MB | kept on disk MB |",
        "|---|---|---|---|---|---|",
    ]
    for data in sorted(path for path in root.iterdir() if path.is_dir()):
        rows = [(data.name, root / f"own {data.name}")]
        if data.name.startswith("Parquet, 4"):
            rows.append((f"{data.name}, {NOTHING}", blocked))
        for name, own in rows:
            most = min(count, SLOW) if own is blocked else count
            one, two = measured(data, "read", own, most), measured(data, "read", own, most)
            first, second, again = (1e3 * s / most for s in (*one["seconds"][1:], two["seconds"][1]))
            kept = bytes_below(own) / 1e6 if own.is_dir() else 0
            peak = max(one["peak"], two["peak"])
            lines.append(f"| {name} | {first:.3f} | {second:.3f} | {again:.3f} | {peak:.0f} | {kept:.0f} |")
            print(lines[-1], flush=True)
    return lines


def starts(root: Path, count: int) -> list[str]:
    """The second table."""
    files = [b"\xff\xd8\xff" + i.to_bytes(97, "big") for i in range(count)]
    write_folder(root / "class folders", files)
    write_table(root / "folder and CSV", files)
    write_tar(root / "tar, 100 shards", files, 100)
    write_parquet(root / "Parquet, 10 files", files, 10, 1000)
    time.sleep(SETTLED_NS / 1e9 + 1)
    lines = [
        f"Starting on {count:,} files or rows, CPU seconds; sizes are measured where a cache is made, not by a start "
        "that goes on with one:",
        "",
        "| source | first start: open | measure | second start: open | measure for another cache | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    for data in sorted(path for path in root.iterdir() if path.is_dir()):
        own = root / f"own {data.name}"
        one, two = measured(data, "measure", own), measured(data, "open", own)
        three = measured(data, "measure", own)
        peak = max(one["peak"], two["peak"])
        row = (*one["seconds"], two["seconds"][0], three["seconds"][1])
        lines.append(f"| {data.name} | " + " | ".join(f"{s:.2f}" for s in row) + f" | {peak:.0f} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--table", choices=["random", "starts"], help="only one of the two")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--child", choices=["open", "measure", "read"], help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    parser.add_argument("--most", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args)
        return
    for name, part, count in (("random", at_random, args.images), ("starts", starts, args.files)):
        if args.table not in (None, name):
            continue
        with tempfile.TemporaryDirectory(prefix="bench-sources-") as folder:
            text = "\n".join([*part(Path(folder), count), "", environment_line(("numpy", "pyarrow", "pillow"))])
        print(text)
        if args.write:
            write_section({"random": "Sources at random", "starts": "Sources: first and second start"}[name], text)


if __name__ == "__main__":
    main()
