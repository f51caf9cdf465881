"""What the proof costs: witness, second look at fingerprints, probe, beside a training step; bytes of a witness (CPU).

    python tests/benchmarks/bench_proof.py [--write] [--batch 64] [--rounds 5]

One step of DeiT-Ti at 224 px and the parts of the proof are timed in turn, in one process; what counts is the ratio.
The witness is timed in a step that has one (a block has one such step; of the default dense block of 8,192 views, one
step in 8 at batch 1,024).
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import timm
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from results import environment_line, write_section
from store_fakes import create, fill, make_teacher

from deit_pipe.pipeline.compose import compose, labelled_share, mixed_labels, normalise
from deit_pipe.pipeline.loader import ViewBatch, load_views
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.proof.probe import probe_text
from deit_pipe.pipeline.proof.recheck import recheck
from deit_pipe.pipeline.proof.witness import telling_views, witness_sums
from deit_pipe.pipeline.recipe import PRESETS
from deit_pipe.pipeline.samples import ArraySamples
from deit_pipe.stages.opened.proof import StudentInput, WitnessCheck
from deit_pipe.store.ledger import read_ledger
from deit_pipe.store.proof.witness import Witnesses
from deit_pipe.store.record import BlockRecord
from deit_pipe.store.sealed import to_columns, write_table

SIZE, CLASSES = 224, 1000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def one_batch(count: int) -> tuple[ViewBatch, Any, int]:
    random = np.random.Generator(np.random.Philox(1))
    pixels = random.integers(0, 256, (count, 256, 256, 3), dtype=np.uint8)
    table = ArraySamples("made", pixels, np.arange(count) % CLASSES, [str(c) for c in range(CLASSES)])
    recipe = replace(PRESETS["deit"], repeats=1)
    plan = ViewPlan.for_recipe(count, recipe, 5)
    (batch,) = load_views(table, recipe, plan, [Cells(0, np.arange(count))], image_size=SIZE)
    return batch, recipe, plan.seed


def witness_of(batch: ViewBatch, inputs: torch.Tensor) -> Witnesses:
    _, places = telling_views(batch, True)
    partner = batch.labels[batch.partner]
    return Witnesses(
        batch.slots[places],
        witness_sums(inputs[places], MEAN, STD).numpy(),
        torch.stack([batch.labels, partner], dim=1)[places].numpy(),
        batch.lam[places].numpy(),
    )


class Nowhere:
    """No message is ever made."""


def parts(batch: ViewBatch, recipe: Any, seed: int) -> dict[str, Callable[[], Any]]:
    """What is timed, by name; `step` first."""
    student = timm.create_model("deit_tiny_distilled_patch16_224")
    student.set_distilled_training(True)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4)
    inputs, labels = normalise(compose(batch, recipe), MEAN, STD), mixed_labels(batch, CLASSES, 0.1)
    given = StudentInput(
        inputs=inputs, mean=MEAN, std=STD, labels=labels, labelled=labelled_share(batch), smoothing=0.1
    )
    known = witness_of(batch, inputs)
    elsewhere = known._replace(slots=known.slots + (1 << 20))
    with_one, without = (WitnessCheck([lambda epoch, w=w: w], Nowhere()) for w in (known, elsewhere))  # type: ignore[arg-type,misc]

    def step() -> None:
        optimizer.zero_grad()
        class_logits, dist_logits = student(normalise(compose(batch, recipe), MEAN, STD))
        loss = F.cross_entropy(class_logits, labels) + F.cross_entropy(dist_logits, batch.labels)
        loss.backward()
        optimizer.step()

    def check(one: WitnessCheck) -> None:
        one.watch(batch, given)
        one.confirm()

    return {
        "step": step,
        "witness, in a step that has one": lambda: check(with_one),
        "witness, in any other step": lambda: check(without),
        "fingerprints again, 1 % of the views": lambda: recheck(batch, seed),
        "probe, once a run": lambda: probe_text(recipe, MEAN, STD, "cpu"),
    }


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def witness_bytes(block: int, views: int) -> tuple[float, float]:
    """Bytes a view that the witness takes: in the headers of the blocks, and in the index."""
    teacher = make_teacher("none", block_slots=block)
    with tempfile.TemporaryDirectory() as folder, patch("os.fsync"):
        create(folder, views)
        fill(folder, teacher, 1)
        records = list(read_ledger(folder, teacher.name).records())
    bare = [replace(record, witness=None) for record in records]
    headers, index = ([measure(chosen) for chosen in (records, bare)] for measure in (header_bytes, index_bytes))
    return (headers[0] - headers[1]) / views, (index[0] - index[1]) / views


def header_bytes(records: list[BlockRecord]) -> int:
    """Of the records as they stand in the headers."""
    return sum(len(json.dumps(record.to_json(), separators=(",", ":"))) for record in records)


def index_bytes(records: list[BlockRecord]) -> int:
    """Of the index file of these records."""
    return len(write_table(to_columns(records), {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace this section of RESULTS.md")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    batch, recipe, seed = one_batch(args.batch)
    timed = parts(batch, recipe, seed)
    for work in timed.values():
        work()
    best = dict.fromkeys(timed, float("inf"))
    for _ in range(args.rounds):  # side by side: a busy machine slows all of them
        for name, work in timed.items():
            best[name] = min(best[name], *(seconds(work) for _ in range(1 if name == "step" else 40)))
    step = best.pop("step")
    rows = [f"| {name} | {value * 1e3:.3f} | {value / step:.4%} |" for name, value in best.items()]
    stored = [(block, *witness_bytes(block, block * 64)) for block in (256, 8192)]
    table = "\n".join(
        [
            environment_line(("numpy", "torch", "timm")),
            "",
            f"One step of deit_tiny_distilled_patch16_224 on {args.batch} views of {SIZE} px, CPU, "
            f"{torch.get_num_threads()} threads: {step:.2f} s; the best of all rounds. The probe counts once a run.",
            "",
            "| part of the proof | ms | of a step |",
            "| --- | --: | --: |",
            *rows,
            "",
            "Bytes a view that the witness takes in the header of its block and, once more, in the index.",
            "",
            "| slots a block | header | index |",
            "| --: | --: | --: |",
            *(f"| {block:,} | {header:.3f} | {index:.3f} |" for block, header, index in stored),
        ]
    )
    print(table)
    if args.write:
        write_section("Proof: cost", table)


if __name__ == "__main__":
    main()
