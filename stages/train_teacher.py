"""`deit-pipe train-teacher`: a supervised fine-tune of a timm CNN on the user's classes."""

import os
from dataclasses import dataclass, fields
from pathlib import Path

from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.console.errors import Mismatch, UsageProblem
from deit_pipe.stages.console.facts import Facts, if_there
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.machine.distributed import choose_device
from deit_pipe.stages.machine.workers import choose_workers
from deit_pipe.stages.networks.teacher import Teacher, load_teacher
from deit_pipe.stages.networks.teacher_head import facts_of
from deit_pipe.stages.networks.teacher_sources import is_timms
from deit_pipe.stages.networks.weights import (
    TeacherRun,
    alias_line,
    read_teacher_run,
    resolve_tag,
    write_teacher_run,
)
from deit_pipe.stages.opened.images import given_choice, labelled_part, open_images, say
from deit_pipe.stages.opened.plain_views import default_image_size
from deit_pipe.stages.opened.same_samples import check_same_classes
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.data import DataOptions
from deit_pipe.stages.options.train_teacher import TrainTeacherOptions
from deit_pipe.stages.teaching.answers import ask
from deit_pipe.stages.teaching.fine_tuning import fine_tune
from deit_pipe.stages.teaching.head_fit import fit_head
from deit_pipe.stages.teaching.plain_images import PlainImages

DATA_FIELDS = tuple(field.name for field in fields(DataOptions))


@dataclass(frozen=True, kw_only=True)
class TrainedTeacher(Facts):
    """A teacher in its folder.

    Attributes:
        model, head: timm tag; `trained` (all weights) or `fitted` (a new classifier on frozen features).
        image_size, split, weights_sha256: px, what it was measured on, its weights; None where it was there already.
        val_top1: share of these images that it gets right; None without any.
        out: the folder.
    """

    model: str
    head: str
    image_size: int | None = if_there()
    val_top1: float | None
    split: str | None = if_there()
    weights_sha256: str | None = if_there()
    out: str


def run(options: TrainTeacherOptions) -> CommandResult[TrainedTeacher]:
    """Train or fit, measure, write the folder."""
    if not is_timms(options.teacher):
        raise UsageProblem(
            f"train-teacher trains timm's models, and --teacher {options.teacher} is none",
            cure=f"it teaches as it is: {command_line('cache-teacher', CacheTeacherOptions, teacher=options.teacher)}",
        )
    say(alias_line(options.teacher))
    tag = resolve_tag(options.teacher)
    out = Path(options.out)
    there = read_teacher_run(out)
    if there is not None and there.model != tag:
        raise Mismatch(
            f"{out} already holds another teacher", expected=tag, got=there.model, cure="give another folder with --out"
        )
    found = open_images(options.data, given_choice(options))
    table = labelled_part(found.train)
    if there is not None:
        check_same_training(out, there, table, options)
        return nothing_to_do(out, there)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageProblem("train-teacher runs in one process", cure="start it without torchrun")
    split, validation = ("val", found.val) if found.val is not None else ("test", found.test)
    if validation is not None:
        check_same_classes(validation, table.class_names, f"the training images {table.name}")
    image_size = options.img_size or default_image_size(table)
    teacher = made_teacher(options, tag, table, image_size)
    answers = None
    if validation is not None:
        answers = ask(teacher, PlainImages(validation, options.batch_size, choose_workers(options.workers)), image_size)
    top1 = None if answers is None else answers.accuracy.value
    write_teacher_run(out, facts_of(teacher, image_size, top1), teacher.model)
    accuracy = "not measured (no val or test images)" if top1 is None else f"{top1:.2%} of the {split} images"
    following = command_line(
        "cache-teacher",
        CacheTeacherOptions,
        teacher=tag,
        teacher_weights=str(out),
        data=options.data,
        img_size=options.img_size,
        **{name: getattr(options, name) for name in DATA_FIELDS},
    )
    guessing = ""
    if answers is not None and answers.skill.low <= 0:
        guessing = (
            f"WARNING: {len(answers):,} images cannot tell that from guessing ({1 / len(table.class_names):.2%}): "
            "train longer (--epochs), start from weights (--init), or give more images\n"
        )
    text = (
        f"teacher {tag}, {teacher.head}, {image_size} px: {accuracy}\n{guessing}"
        f"weights sha256 {teacher.weights_sha256[:16]}, in {out}\n"
        f"next: {following}"
    )
    trained = TrainedTeacher(
        model=tag,
        head=teacher.head,
        image_size=image_size,
        val_top1=top1,
        split=split,
        weights_sha256=teacher.weights_sha256,
        out=str(out),
    )
    return CommandResult(text, trained)


def made_teacher(options: TrainTeacherOptions, tag: str, table: SampleTable, image_size: int) -> Teacher:
    """A head fitted on a frozen body, or the whole network fine-tuned."""
    device, workers = choose_device(options.device), choose_workers(options.workers)
    if not options.fit_head:
        return fine_tune(options, tag, table, image_size, device, workers)
    body = load_teacher(
        tag,
        weights=None if options.init in ("auto", "pretrained") else options.init.replace("scratch", "random"),
        num_classes=len(table.class_names),
        class_names=table.class_names,
        device=device,
        seed=options.seed,
        any_head=True,
        image_size=image_size,
    )
    say(body.lines)
    return fit_head(body, table, image_size=image_size, batch_size=options.batch_size, workers=workers)


def nothing_to_do(out: Path, there: TeacherRun) -> CommandResult[TrainedTeacher]:
    """The teacher is there already."""
    right = "" if there.val_top1 is None else f", {there.val_top1:.2%} of the validation images"
    text = (
        f"nothing to do: {out} holds {there.model} ({there.head}{right})\n"
        f"to train it again, remove {out} or give another folder with --out"
    )
    return CommandResult(
        text, TrainedTeacher(model=there.model, head=there.head, val_top1=there.val_top1, out=str(out))
    )


def check_same_training(out: Path, there: TeacherRun, table: SampleTable, options: TrainTeacherOptions) -> None:
    """Refuse a folder whose teacher was made for other images, classes or another size.

    Raises:
        Mismatch: says what differs.
    """
    problems = []
    if there.class_names != table.class_names:
        problems.append(
            f"classes  there {', '.join(there.class_names[:4])}...   given {', '.join(table.class_names[:4])}..."
        )
    elif there.fitted_on not in (None, table.digest):
        problems.append(f"images   there sha256 {there.fitted_on[:12]}   given {table.digest[:12]}")
    if options.img_size not in (None, there.image_size):
        problems.append(f"size     there {there.image_size} px   given {options.img_size} px")
    if problems:
        raise Mismatch(
            f"{out} holds a teacher that was made otherwise", details=problems, cure="give another folder with --out"
        )
