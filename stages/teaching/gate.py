"""The teacher's gate: before anything is cached, the teacher answers plain images of the data.

A cache that proves the views of a teacher that does not know the classes proves nothing. Runs in one process: nothing
here waits for others.
"""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

from deit_pipe.pipeline.data_set import DataSet
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.console.words import percent
from deit_pipe.stages.networks.teacher import Teacher, classes_cure
from deit_pipe.stages.networks.teacher_sources import RANDOM, is_timms
from deit_pipe.stages.opened.gate_result import (
    ACCEPTED,
    NOT_GATED,
    PASSED,
    WARNED,
    Cause,
    GateResult,
    cause_words,
    measured_words,
)
from deit_pipe.stages.teaching.answers import Answers, ask_in_steps
from deit_pipe.stages.teaching.causes import find_cause, wrong_order
from deit_pipe.stages.teaching.plain_images import PlainImages
from deit_pipe.stages.teaching.published import Known, known_accuracy
from deit_pipe.stages.teaching.training_command import training_command

REFUSED_BELOW = 0.2  # skill: a teacher of other classes is near 0, and no useful one is here
WARNED_BELOW = 0.5
MOST = 2000
MARGIN = 0.05  # other crops and sizes cost this much accuracy without anything being wrong
PER_CLASS = 8  # answers that show in which order the classes are


def pass_gate(
    teacher: Teacher,
    data: DataSet,
    *,
    image_size: int,
    batch_size: int,
    workers: int,
    accept: bool = False,
    seed: int = 0,
) -> GateResult:
    """Ask the teacher about plain images until it is clear what it is worth, at most 2,000.

    Args:
        teacher: whose answers would be cached; of the data's number of classes.
        data: its validation images are asked about, the training ones where those have no labels to judge by.
        image_size: side of the views that would be cached.
        batch_size: most images at once.
        workers: threads or processes that make views.
        accept: let a refused teacher through; that is recorded.
        seed: of the random sample of images.

    Raises:
        Mismatch: it does not know these classes; with the likely cause, where one was found.
    """
    names = data.train.class_names
    found = GateResult(
        decision=PASSED,
        model=teacher.tag,
        weights_sha256=teacher.weights_sha256,
        head=teacher.head,
        body=teacher.body,
        image_size=teacher.seen_size(image_size),
        trained_size=teacher.trained_size,
        num_classes=len(names),
        seed=seed,
        measured=time.time(),
    )
    judges = judging_images(data, batch_size, workers, seed)
    if not judges or teacher.head == RANDOM:
        why = "random weights" if teacher.head == RANDOM else why_not(data)
        return replace(found, decision=NOT_GATED, reason=why)
    known = known_accuracy(teacher, names)
    split, images = judges[0]
    answers, enough = examine(teacher, images, image_size, known)
    if not told_from_guessing(answers) and len(judges) > 1:  # a few validation images: then the training images
        split, images = judges[1]
        answers, enough = examine(teacher, images, image_size, known)
    problem = what_is_wrong(answers, known)
    cause = None if problem else next(wrong_order(answers, names), None)
    if cause is not None:
        problem = "some of its classes seem to be exchanged: a student learns that"
    found = measured(found, split, answers, known)
    if not problem:
        return found
    cause = cause or find_cause(teacher, images, enough, image_size, names)
    refused = answers.skill.high < REFUSED_BELOW
    if refused and not accept:
        raise refusal(teacher, found, cause, data, image_size)
    return replace(found, decision=ACCEPTED if refused else WARNED, reason=problem, cause=cause)


def measured(found: GateResult, split: str, answers: Answers, known: Known | None) -> GateResult:
    """With the figures of these answers."""
    return replace(
        found,
        split=split,
        images=len(answers),
        classes_seen=len(set(answers.labels.tolist())),
        accuracy=answers.accuracy.value,
        skill=answers.skill.value,
        skill_low=answers.skill.low,
        skill_high=answers.skill.high,
        ece=answers.calibration_error,
        mean_confidence=float(answers.confidence.mean()),
        known=known and known.accuracy,
        known_from=known and known.source,
    )


def examine(teacher: Teacher, images: PlainImages, image_size: int, known: Known | None) -> tuple[Answers, Answers]:
    """Answers until they are clear; and, where something is wrong, as many as a search for the cause needs."""
    with closing(ask_in_steps(teacher, images, image_size, MOST)) as steps:
        answers = enough = until_clear(steps, known)
        if what_is_wrong(answers, known):
            for enough in steps:
                if len(enough) >= PER_CLASS * teacher.num_classes:
                    break
    return answers, enough


def told_from_guessing(answers: Answers) -> bool:
    """Whether the interval of the skill lies on one side of what a worthless teacher has.

    Always giving one answer is right on one of the classes seen: where those are few, that is far above guessing.
    """
    seen, classes = len(set(answers.labels.tolist())), answers.num_classes
    constant = (1 / seen - 1 / classes) / (1 - 1 / classes)
    return answers.skill.low > constant or answers.skill.high < REFUSED_BELOW


def judging_images(data: DataSet, batch_size: int, workers: int, seed: int) -> list[tuple[str, PlainImages]]:
    """The images that can tell classes apart: those of `val`, then of `train`, where they have two classes."""
    found = []
    for split, table in (("val", data.val), ("train", data.train)):
        if table is not None:
            images = PlainImages(table, batch_size, workers, seed)
            if images.classes_seen > 1:
                found.append((split, images))
    return found


def why_not(data: DataSet) -> str:
    """Why no image of the data can judge a teacher."""
    tables = [table for table in (data.train, data.val) if table is not None]
    if not any((table.labels >= 0).any() for table in tables):
        return "no image has a label"
    return "all labelled images are of one class"


def until_clear(steps: Iterator[Answers], known: Known | None) -> Answers:
    """The answers when their intervals are clear of every bound, or all of them.

    The bounds are looked at after every step, so a teacher whose true skill is exactly a bound is put on either side of
    it more often than the 95 % of a single look; one further away is not (tests simulate both).
    """
    for answers in steps:
        bounds = [(answers.skill, REFUSED_BELOW), (answers.skill, WARNED_BELOW)]
        if known is not None:
            bounds.append((answers.accuracy, known.accuracy - MARGIN))
        if not any(estimate.low <= bound <= estimate.high for estimate, bound in bounds):
            break
    return answers


def what_is_wrong(answers: Answers, known: Known | None) -> str:
    """One line, or nothing."""
    if answers.skill.high < REFUSED_BELOW:
        return f"a skill below {REFUSED_BELOW} is near guessing: its answers teach nothing about these classes"
    if not told_from_guessing(answers):
        return f"{len(answers):,} images are too few to tell its answers from guessing"
    if answers.skill.high < WARNED_BELOW:
        return f"a skill below {WARNED_BELOW} is poor: a student learns its mistakes"
    if known is not None and answers.accuracy.high < known.accuracy - MARGIN:
        return f"{percent(answers.accuracy.value, 1)} is clearly below its {percent(known.accuracy, 1)}, {known.source}"
    return ""


def refusal(teacher: Teacher, found: GateResult, cause: Cause | None, data: DataSet, image_size: int) -> Mismatch:
    """The message: what was measured, what was expected, why, and what to do."""
    model = teacher.tag.partition(".")[0]
    assert found.skill is not None
    assert found.accuracy is not None
    weak = found.known is not None and found.known <= found.accuracy + MARGIN
    details, cures = [], []
    if found.known is not None and not weak:
        details.append(f"it should get {percent(found.known, 1)}, {found.known_from}")
    if cause is not None:
        details.append(f"likely cause: {cause_words(cause)}")
        cures.append(cause.cure)
    elif weak:
        details.append(f"that is all it ever knew ({percent(found.known, 1)}, {found.known_from}): train it for longer")
    else:
        details.append(
            f"no other order of classes, size or normalisation explains it, as far as {found.images:,} images tell: "
            "its classes seem to be others"
        )
        if is_timms(teacher.tag):
            cures.append("fit a new classifier on it with --fit-head")
    if is_timms(teacher.tag):
        cures.append(f"or train it with: {training_command(model, data, image_size=image_size)}")
    else:
        cures.append(classes_cure(teacher))
    cures.append("--accept-teacher caches it all the same")
    return Mismatch(
        f"teacher {teacher.tag} ({teacher.source}) does not know these classes",
        expected=f"a skill of at least {REFUSED_BELOW} (0 is guessing, 1 is always right)",
        got=f"{measured_words(found)}; guessing gets {percent(1 / found.num_classes, 1)}",
        details=details,
        cure="\n".join(cures),
    )
