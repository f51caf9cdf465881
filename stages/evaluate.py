"""`deit-pipe evaluate`: accuracy of a trained student's heads."""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.answering.any_student import from_weights
from deit_pipe.stages.answering.by_class import confusion_lines, count_answers, pairs_csv, per_class_lines
from deit_pipe.stages.answering.measured_images import measured_images
from deit_pipe.stages.answering.neighbours import (
    Neighbours,
    labelled_vectors,
    linear_probe,
    nearest_neighbours,
    vector_lines,
)
from deit_pipe.stages.answering.scores import StudentScores, head_scores_of
from deit_pipe.stages.answering.speed import speed_lines, speed_of
from deit_pipe.stages.console.errors import Missing, UsageProblem
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.target_file import check_target
from deit_pipe.stages.machine.distributed import Processes, processes
from deit_pipe.stages.machine.workers import choose_workers
from deit_pipe.stages.networks.starting_weights import find_start, is_run
from deit_pipe.stages.networks.student import StudentFacts, load_student
from deit_pipe.stages.networks.teacher import load_teacher
from deit_pipe.stages.networks.weights import read_teacher_run
from deit_pipe.stages.opened.same_samples import check_same_classes
from deit_pipe.stages.options.evaluate import EvaluateOptions
from deit_pipe.stages.teaching.head_fit import logistic_regression
from deit_pipe.stages.training.evaluation import by_crop_ratio, evaluate_student
from deit_pipe.stages.training.outcome import crop_ratio_lines
from deit_pipe.stages.training.run_folder import read_config, weights_file

LABELS = {
    "class": "class head",
    "dist": "distillation head",
    "fused": "fused (mean logit)",
    "fused_softmax": "fused (softmax)",
}


def run(options: EvaluateOptions) -> CommandResult[StudentScores]:
    """Load the student, run it over the images, report."""
    if options.csv:
        check_target(Path(options.csv), "--csv")
    with processes(options.device) as group:
        measured = of_run(options, group.device) if is_run(options.run) else of_weights(options, group.device)
        facts, model, split, table, source, _ = measured
        teacher = None
        if options.teacher_weights:
            known = read_teacher_run(Path(options.teacher_weights))
            if known is None:
                raise Missing(
                    f"{options.teacher_weights} is no train-teacher folder",
                    cure="make one with: deit-pipe train-teacher",
                )
            teacher = load_teacher(
                known.model,
                weights=options.teacher_weights,
                num_classes=len(table.class_names),
                class_names=table.class_names,
                device=group.device,
            )
        workers = choose_workers(options.workers)
        started = time.perf_counter()
        scores = evaluate_student(
            model,
            facts,
            table,
            group,
            batch_size=options.batch_size,
            workers=workers,
            crop_ratio=options.eval_crop_ratio,
            teacher=teacher,
            quiet=False,
        )
        asked = options.eval_crop_ratio is not None
        ratios = by_crop_ratio(model, facts, table, group, scores, None if asked else source, workers=workers)
        rate = len(table) / (time.perf_counter() - started)
        more = looked_into(options, measured, group, workers)
    ratio = options.eval_crop_ratio or facts.crop_ratio
    lines = [
        f"{options.run}: {facts.model} {facts.image_size} px on {len(table):,} {split} images, "
        f"crop ratio {ratio:g}, {rate:,.0f}/s"
    ]
    for name, values in scores.items():
        agree = f"   agrees with the teacher {values['agree']:7.2%}" if "agree" in values else ""
        top5 = "" if values["top5"] is None else f"   top-5 {values['top5']:7.2%}"
        lines.append(f"  {LABELS[name]:<20} top-1 {values['top1']:7.2%}{top5}{agree}")
    if ratios:
        answer = "fused" if "fused" in scores else "class"
        lines += crop_ratio_lines(ratios, answer)
    lines += more.lines
    measured_scores = StudentScores(
        run=options.run,
        split=split,
        images=len(table),
        crop_ratio=ratio,
        images_per_second=rate,
        scores=head_scores_of(scores),
        by_crop_ratio=None if ratios is None else {r: head_scores_of(one) for r, one in ratios.items()},
    )
    return CommandResult("\n".join(lines), replace(measured_scores, **more.facts))


class Measured(NamedTuple):
    """A student and the images it is measured on."""

    facts: StudentFacts
    model: nn.Module
    split: str
    table: SampleTable
    init_from: str | None
    """What it started from, if anything: then both published crop ratios are of interest."""
    train: SampleTable
    """Images of the same data to look for neighbours in, and to fit a probe on."""


def of_run(options: EvaluateOptions, device: torch.device) -> Measured:
    """The student of a run, and its own images, or others.

    Raises:
        Missing: it is not there. Mismatch: other classes.
    """
    folder = Path(options.run)
    facts, model = load_student(folder, device, weights_file(folder, options.weights))
    config = read_config(folder)
    split, table, train = measured_images(options.run, options.data, options.split, config)
    check_same_classes(table, facts.class_names, f"the student in {folder}")
    return Measured(facts, model, split, table, config.get("init_from"), train)


def of_weights(options: EvaluateOptions, device: torch.device) -> Measured:
    """A student from weights that are no run's: published, exported, or another program's.

    Raises:
        UsageProblem: no images are named. Mismatch: other classes, or weights without a head.
    """
    start = find_start(options.run, options.student)
    if options.data is None:
        raise UsageProblem(
            f"{options.run} is no run, so nothing says which images to measure it on", cure="name them with --data D"
        )
    split, table, train = measured_images(options.run, options.data, options.split, {})
    if start.class_names is not None:
        check_same_classes(table, start.class_names, options.run)
    facts, model = from_weights(start, table.class_names, device, table.name)
    return Measured(facts, model, split, table, options.run, train)


class LookedInto(NamedTuple):
    """What was asked for beyond the accuracy of heads: lines, and fields of the facts."""

    lines: list[str]
    facts: dict[str, Any]


def looked_into(options: EvaluateOptions, measured: Measured, group: Processes, workers: int) -> LookedInto:
    """Accuracy by class, of neighbours and of a probe; speed.

    Raises:
        UsageProblem: several processes, or images that are compared with themselves.
    """
    by_class = options.per_class or options.confusion or options.csv
    by_vectors = options.knn or options.linear_probe
    lines: list[str] = []
    found: dict[str, Any] = {}
    if not (by_class or by_vectors or options.speed):
        return LookedInto(lines, found)
    if group.world > 1:
        raise UsageProblem(
            "only the heads are measured by several processes",
            cure="leave out --per-class, --confusion, --csv, --knn, --linear-probe and --speed, or start one process",
        )
    facts, model, split, table, _, train = measured
    how: dict[str, Any] = {"batch_size": options.batch_size, "workers": workers}
    if by_class:
        counts = count_answers(model, facts, table, group.device, crop_ratio=options.eval_crop_ratio, **how)
        found |= {"per_class": counts.rows(), "confusion": counts.pairs()}
        if options.csv:
            Path(options.csv).write_text(pairs_csv(counts.pairs()), encoding="utf-8")
        lines += per_class_lines(counts.rows()) if options.per_class else []
        lines += confusion_lines(counts) if options.confusion else []
        lines += [f"  rows {options.csv}"] if options.csv else []
    if by_vectors:
        if split == "train":
            raise UsageProblem(
                "the measured images are those that neighbours are looked for in",
                cure="measure on others: --split val or --split test, of data that has them",
            )
        known, asked = (labelled_vectors(model, facts, one, group.device, **how) for one in (train, table))
        classes, knn, probe = facts.num_classes, None, None
        if options.knn:
            knn = Neighbours(options.knn, nearest_neighbours(known, asked, options.knn, classes))
        if options.linear_probe:
            probe = linear_probe(known, asked, partial(logistic_regression, num_classes=classes))
        found |= {"knn": knn, "linear_probe": probe}
        lines += vector_lines(knn, probe, len(known.labels))
    if options.speed:
        found["speed"] = speed_of(model, facts.image_size, group.device, options.batch_size)
        lines += speed_lines(found["speed"])
    return LookedInto(lines, found)
