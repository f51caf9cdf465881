"""Bytes per view, what rounding costs, write speed, read latency, ledger opening. Numbers to beat: DESIGN section 8.

    python tests/benchmarks/bench_store.py LOGITS.npy [--sizes] [--write]

LOGITS.npy holds real float32 logits [rows, C]; make_logits.py beside this file makes them and says from what.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import zarr
from benchmarks.made_ledger import IMAGENET, made_records, make_ledger
from benchmarks.results import environment_line, write_section
from store_fakes import made_witness, make_manifest, make_samples, make_teacher

from deit_pipe.store.blocks.block_object import BlockCodec
from deit_pipe.store.formats import decode, encode
from deit_pipe.store.layout import array_specs, block_slots_for
from deit_pipe.store.manifest import TeacherIdentity, create_cache
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.sealed import to_columns, write_table
from deit_pipe.store.shards import ShardCodec
from deit_pipe.store.statistics import block_statistics
from deit_pipe.store.stored_cache import StoredCache
from deit_pipe.store.writer import TargetWriter
from deit_pipe.store.writing.zarr_copy import write_zarr

BATCH = 256
REPEATS = 3
FORMATS = ("none", "topk:10", "topk:50", "dense8", "dense")


def log_softmax(logits: np.ndarray, tau: float) -> np.ndarray:
    wide = logits.astype(np.float64) / tau
    wide -= wide.max(axis=1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))


def divergence(logits: np.ndarray, teacher: TeacherIdentity, tau: float) -> str:
    """Mean KL(float32 || stored); for top-k over K + 1 bins, the tail as one."""
    targets = decode(encode(logits, teacher.format), teacher.format)
    exact = log_softmax(logits, tau)
    if targets.logits is not None:
        other = log_softmax(targets.logits, tau)
        return f"{(np.exp(exact) * (exact - other)).sum(axis=1).mean():.1e}"
    if targets.topk_class is None or targets.topk_logp is None or targets.lse_tau is None:
        return "-"
    kept = np.exp(np.take_along_axis(exact, targets.topk_class, axis=1))
    ours = np.exp(targets.topk_logp / tau - targets.lse_tau[:, [targets.taus.index(tau)]].astype(np.float64))
    p = np.concatenate([kept, np.maximum(1 - kept.sum(axis=1, keepdims=True), 1e-12)], axis=1)
    q = np.concatenate([ours, np.maximum(1 - ours.sum(axis=1, keepdims=True), 1e-12)], axis=1)
    return f"{(p * np.log(p / q)).sum(axis=1).mean():.1e}"


def gradient_cosine(logits: np.ndarray, teacher: TeacherIdentity, tau: float, rows: int = 512) -> str:
    """Mean cosine of the soft loss's gradient to that of the float32 logits, for a student that knows nothing and for
    one that is half way to the teacher; top-k's tail is one bin."""
    given = logits[:rows]
    targets = decode(encode(given, teacher.format), teacher.format)
    found = []
    for student in (np.zeros_like(given), given / 2):
        q, p = np.exp(log_softmax(student, tau)), np.exp(log_softmax(given, tau))
        if targets.logits is not None:
            ours = q - np.exp(log_softmax(targets.logits, tau))
        elif targets.topk_class is not None and targets.lse_tau is not None:
            column = targets.lse_tau[:, [targets.taus.index(tau)]].astype(np.float64)
            kept = np.exp(targets.topk_logp / tau - column)
            own = np.take_along_axis(q, targets.topk_class, axis=1)
            ours = q * ((kept - own).sum(axis=1) / np.maximum(1 - own.sum(axis=1), 1e-12))[:, None]
            np.put_along_axis(ours, targets.topk_class, own - kept, axis=1)
        else:
            return "-"
        norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(q - p, axis=1)
        found.append(((ours * (q - p)).sum(axis=1) / norms).mean())
    return " / ".join(f"{value:.5f}" for value in found)


def sizes_table(logits: np.ndarray) -> str:
    """Stored bytes per view by array, on real logits and, for labels, on uniformly random classes."""
    rows, classes = logits.shape
    lines = [
        "| format | label | classes | log-probs / logits | other taus | without fingerprint | with | raw | "
        "KL tau 1 | KL tau 3 | gradient cosine tau 1 | tau 3 | stored argmax = label |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for text in FORMATS:
        for taus in ((1.0,), (1.0, 3.0)):
            if text in ("none", "dense8", "dense") and len(taus) > 1:
                continue
            teacher = make_teacher(text, classes, taus=taus, block_slots=rows)
            arrays = encode(logits, teacher.format)
            arrays["fingerprint"] = np.random.default_rng(0).integers(0, 2**32, rows, dtype=np.uint32)
            specs = array_specs(teacher.format)
            size = {spec.name: len(ShardCodec(spec, rows).encode(arrays[spec.name])) / rows for spec in specs}
            raw = sum(spec.row_bytes for spec in specs if spec.name != "fingerprint")
            total = sum(size.values())
            half = arrays.get("logits", arrays.get("logit_level"))
            same = "-" if half is None else f"{(half.argmax(1) == arrays['teacher_label']).mean():.4%}"
            levels = size.get("logit_level", 0) + size.get("logit_step", 0)
            values = [size.get("topk_logp", size.get("logits", levels or None)), size.get("lse_tau")]
            cells = [f"{v:.2f}" if v is not None else "-" for v in (size.get("topk_class"), *values)]
            every = teacher.format.all_logits or 3.0 in taus
            lines.append(
                f"| {text}{' taus 1,3' if len(taus) > 1 else ''} | {size['teacher_label']:.2f} | "
                f"{' | '.join(cells)} | **{total - size['fingerprint']:.2f}** | {total:.2f} | {raw} | "
                f"{divergence(logits, teacher, 1.0)} | {divergence(logits, teacher, 3.0) if every else '-'} | "
                f"{gradient_cosine(logits, teacher, 1.0)} | "
                f"{gradient_cosine(logits, teacher, 3.0) if every else '-'} | {same} |"
            )
    uniform = np.random.default_rng(0).integers(0, classes, rows).astype(np.int16)
    spec = array_specs(make_teacher("none", classes).format)[0]
    worst = len(ShardCodec(spec, rows).encode(uniform)) / rows
    share = np.bincount(logits.argmax(axis=1), minlength=classes) / rows
    entropy = -(share[share > 0] * np.log2(share[share > 0])).sum()
    lines.append("")
    lines.append(
        f"Labels of these {rows:,} rows have an entropy of {entropy:.1f} bits; uniformly random classes, the worst "
        f"case, take {worst:.2f} B (log2 {classes} = {np.log2(classes) / 8:.2f} B)."
    )
    return "\n".join(lines)


def whole_table(logits: np.ndarray) -> str:
    """Bytes per view of everything that a block takes, in blocks of the default size.

    Where the logits have fewer rows, the arrays are weighed on so many: a row that comes twice compresses too well.
    """
    classes = logits.shape[1]
    random = np.random.default_rng(4)
    lines = ["| format | slots a block | rows | arrays | header | index | **all** | more than the arrays |"]
    lines.append("| --- | --: | --: | --: | --: | --: | --: | --: |")
    for text in FORMATS:
        teacher = make_teacher(text, classes, taus=(1.0,))
        slots = block_slots_for(teacher.format, classes, 2, IMAGENET)
        teacher = make_teacher(text, classes, taus=(1.0,), block_slots=slots)
        manifest = make_manifest(IMAGENET, classes)
        rows = logits[:slots]
        arrays = encode(rows, teacher.format)
        labels = random.integers(0, classes, len(rows))
        statistics = block_statistics(rows, arrays, labels, labels[::-1])
        arrays["fingerprint"] = random.integers(0, 2**32, len(rows), dtype=np.uint32)
        records = made_records(manifest, teacher, 0, random)
        codec = BlockCodec(manifest, replace(teacher, block_slots=len(rows)))
        block, _ = codec.pack(replace(records[1], statistics=statistics), shards := codec.encode(arrays))
        inside = sum(map(len, shards.values()))
        index = write_table(to_columns(records), {0: random.integers(900, 1400, classes)})
        inside, header, listed = inside / len(rows), (len(block) - inside) / slots, len(index) / IMAGENET
        lines.append(
            f"| {text} | {slots:,} | {len(rows):,} | {inside:.2f} | {header:.3f} | {listed:.3f} | "
            f"**{inside + header + listed:.2f}** | {(header + listed) / inside:.2%} |"
        )
    return "\n".join(lines)


def write_cache(folder: Path, logits: np.ndarray, text: str, slots: int) -> tuple[TeacherIdentity, float]:
    """One epoch of `slots` views, the real rows in random order; returns the seconds spent in `write`."""
    classes = logits.shape[1]
    teacher = make_teacher(text, classes)
    block = block_slots_for(teacher.format, classes, 2, IMAGENET)
    teacher = make_teacher(text, classes, block_slots=block)
    create_cache(folder, make_manifest(slots, classes), make_samples(slots, classes), {})
    random = np.random.default_rng(1)
    seconds = 0.0
    with TargetWriter.open(folder, teacher, epochs=1) as writer:
        for unit in writer.mine:
            rows = logits[random.integers(0, len(logits), unit.slots)]
            prints = random.integers(0, 2**32, unit.slots, dtype=np.uint32)
            started = time.perf_counter()
            writer.write(unit, rows, prints, rows.argmax(axis=1), None, made_witness(unit))
            seconds += time.perf_counter() - started
    return teacher, seconds


def orders(slots: int, block: int) -> dict[str, list[np.ndarray]]:
    """Batches in plan order, starting off every chunk border, and with blocks and pairs shuffled as a plan does it."""
    random = np.random.default_rng(2)
    starts = np.arange(0, slots, block)
    random.shuffle(starts)
    pairs = [random.permutation(np.arange(s, min(s + block, slots)).reshape(-1, 2)).ravel() for s in starts]
    shuffled = np.concatenate(pairs)
    plain = np.arange(slots)
    return {
        "contiguous": [plain[i : i + BATCH] for i in range(0, slots - BATCH + 1, BATCH)],
        "unaligned": [plain[i : i + BATCH] for i in range(37, slots - BATCH + 1, BATCH)],
        "shuffled blocks": [shuffled[i : i + BATCH] for i in range(37, slots - BATCH + 1, BATCH)],
    }


def per_batch(function, batches: list[np.ndarray]) -> float:
    """Best of REPEATS, ms per batch."""
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        function(batches)
        best = min(best, time.perf_counter() - started)
    return best / len(batches) * 1e3


def read_table(logits: np.ndarray, folder: Path) -> str:
    lines = [
        "| format | views | write, views/s (MB/s of float32 logits) | contiguous | unaligned | shuffled blocks | "
        "memmap contiguous | memmap random rows | zarr contiguous | zarr random rows |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for text, slots in (("none", 2**18), ("topk:10", 2**18), ("dense8", 2**16), ("dense", 2**16)):
        path = folder / text.replace(":", "-")
        teacher, seconds = write_cache(path, logits, text, slots)
        raw = 4 * logits.shape[1]

        def stream(batches: list[np.ndarray], path: Path = path) -> None:
            reader = TargetReader(path)  # a fresh one: every block is fetched, checked and decoded in the time
            for _ in reader.stream((0, slots) for slots in batches):
                pass

        ours = {name: per_batch(stream, batches) for name, batches in orders(slots, teacher.block_slots).items()}
        theirs = rivals(path, teacher, slots)
        cells = [*ours.values(), *theirs]
        lines.append(
            f"| {text} | {slots:,} | {slots / seconds:,.0f} ({slots * raw / seconds / 1e6:.0f}) | "
            f"{' | '.join(f'{cell:.2f}' for cell in cells)} |"
        )
    return "\n".join(lines)


def rivals(path: Path, teacher: TeacherIdentity, slots: int) -> list[float]:
    """ms per batch of plain memory-mapped copies of the arrays, and of zarr indexing, all arrays, converted alike."""
    reader = TargetReader(path)
    write_zarr(StoredCache(path), str(path / "plain"))
    group = zarr.open_group(path / "plain" / teacher.name, mode="r")
    names = [spec.name for spec in array_specs(teacher.format)]
    maps = {}
    for name in names:
        np.save(path / f"{name}.npy", group[name][0])
        maps[name] = np.load(path / f"{name}.npy", mmap_mode="r")
    random = np.random.default_rng(3)
    contiguous = orders(slots, teacher.block_slots)["unaligned"]
    rows = [np.sort(random.choice(slots, BATCH, replace=False)) for _ in range(len(contiguous))]

    def mapped(batches: list[np.ndarray]) -> None:
        for batch in batches:
            decode({name: maps[name][batch] for name in names}, reader.identity.format)

    def sliced(batches: list[np.ndarray]) -> None:
        for batch in batches:
            part = slice(int(batch[0]), int(batch[-1]) + 1)
            decode({name: maps[name][part] for name in names}, reader.identity.format)

    def zarr_sliced(batches: list[np.ndarray]) -> None:
        for batch in batches:
            part = slice(int(batch[0]), int(batch[-1]) + 1)
            decode({name: np.asarray(group[name][0, part]) for name in names}, reader.identity.format)

    def zarr_rows(batches: list[np.ndarray]) -> None:
        for batch in batches:
            decode({name: np.asarray(group[name].oindex[0, batch]) for name in names}, reader.identity.format)

    return [
        per_batch(sliced, contiguous),
        per_batch(mapped, rows),
        per_batch(zarr_sliced, contiguous[:40]),
        per_batch(zarr_rows, rows[:4]),
    ]


def ledger_line(folder: Path) -> str:
    """Opening the sealed ledger of a 300-epoch, ImageNet-sized dense cache, in a fresh process."""
    path = folder / "ledger-cache"
    subprocess.run([sys.executable, __file__, "--make-ledger", str(path)], check=True)
    program = (
        "import sys, time; import numpy, pyarrow.parquet; from deit_pipe.store.ledger import coverage\n"
        "t = time.perf_counter(); c = coverage(sys.argv[1], 'dense'); s = time.perf_counter() - t\n"
        "assert c.complete and 'zarr' not in sys.modules; print(len(c.columns['epoch']), s)"
    )
    runs = []
    for _ in range(REPEATS):
        out = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
        runs.append(out.stdout.split())
    seconds = min(float(run[1]) for run in runs)
    size = sum(p.stat().st_size for p in (path / "ledger").rglob("*") if p.is_file())
    return (
        f"Opening a sealed ledger of {int(runs[0][0]):,} records (300 epochs of ImageNet, dense; {size / 1e6:.1f} MB) "
        f"in a fresh process, imports not counted: **{seconds:.2f} s**."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("logits", type=Path, nargs="?")
    parser.add_argument("--write", action="store_true", help="replace the section in RESULTS.md")
    parser.add_argument("--sizes", action="store_true", help="bytes and rounding only, which no load disturbs")
    parser.add_argument("--make-ledger", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make_ledger:
        make_ledger(options.make_ledger)
        return
    if options.logits is None:
        parser.error("give the file that make_logits.py writes")
    logits = np.load(options.logits)
    parts = [
        f"Bytes per view on {len(logits):,} rows of real logits (EfficientNet-Lite0, ImageNet weights, random "
        "crops of photographs; see make_logits.py), one block. Targets at C=1000: none 1.4, topk:10 29, dense 1,850, "
        "dense8 half of it, each plus 4 for the fingerprint. The stored label is always the float32 argmax.\n\n"
        + sizes_table(logits),
        "The same in whole blocks of the default size, with all that a block takes: its header (record, SHA-256s, "
        "statistics, witness) and its row in the index of an epoch of ImageNet. Identities and samples, which are "
        "there twice, do not grow with the views.\n\n" + whole_table(logits),
    ]
    if options.sizes:
        text = "\n\n".join([environment_line(("numpy", "zarr", "numcodecs", "pyarrow")), *parts])
        print(text)
        if options.write:
            write_section("Store: bytes and rounding of every format", text)
        return
    with tempfile.TemporaryDirectory() as folder:
        parts.append(
            f"Reading, ms per {BATCH}-slot batch, all arrays, converted to what the loss takes. Ours: a fresh reader's "
            "whole epoch through `stream`, so every block is fetched, SHA-256-checked and decoded within the time, "
            f"with a consumer that does nothing; warm page cache, best of {REPEATS}. Target: 1.5 ms.\n\n"
            + read_table(logits, Path(folder))
        )
        parts.append(ledger_line(Path(folder)))
    text = "\n\n".join([environment_line(("numpy", "zarr", "numcodecs", "pyarrow")), *parts])
    print(text)
    if options.write:
        write_section("Store: bytes, speed", text)


if __name__ == "__main__":
    main()
