"""`deit-pipe predict`: what a student says of images."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import BadImage
from deit_pipe.stages.answering.answers import Answered, answer, answers_csv, answers_text
from deit_pipe.stages.answering.any_student import any_student
from deit_pipe.stages.answering.photographs import Unreadable, find_images, read_images
from deit_pipe.stages.console.facts import Facts, if_there
from deit_pipe.stages.console.progress import note, progress
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.target_file import check_target
from deit_pipe.stages.machine.distributed import choose_device
from deit_pipe.stages.machine.workers import choose_workers
from deit_pipe.stages.options.use.predict import PredictOptions
from deit_pipe.stages.pages.answer_sheet import answer_sheet

MOST_SHOWN = 200  # images in a picture


@dataclass(frozen=True)
class Predictions(Facts):
    """What a student says.

    Attributes:
        run, model, image_size: the student; side of its images in pixels.
        images, unreadable: with an answer, and without.
        error: about the unreadable ones, as an object.
    """

    run: str
    model: str
    image_size: int
    images: list[Answered]
    unreadable: list[Unreadable]
    error: dict[str, Any] | None = if_there()


def run(options: PredictOptions) -> CommandResult[Predictions]:
    """Find the images, ask the student, say what it says.

    Raises:
        Missing: no student, or no image is named. BadImage: not one of them can be read.
    """
    table, picture = (Path(target) if target else None for target in (options.csv, options.picture))
    for target, name in ((table, "--csv"), (picture, "--picture")):
        if target is not None:
            check_target(target, name)
    names = find_images(options.images, iter(sys.stdin))
    device = choose_device(options.device)
    facts, model = any_student(options.run, device, student=options.student, weights=options.weights)
    answers: list[Answered] = []
    unreadable: list[Unreadable] = []
    seen: list[NDArray[np.uint8]] = []
    with ThreadPoolExecutor(max(1, choose_workers(None))) as pool, progress("asking", len(names), "images") as shown:
        for start in range(0, len(names), options.batch_size):
            part = names[start : start + options.batch_size]
            images, bad = read_images(part, pool)
            unreadable += bad
            if len(images):
                found, pixels = answer(model, facts, images, device, options.top_k)
                answers += found
                seen += list(pixels[: max(0, MOST_SHOWN - len(seen))] if picture is not None else [])
            shown.advance(len(part))
    problem = refused(unreadable, len(names)) if unreadable else None
    if problem is not None and not answers:
        raise problem
    if table is not None:
        table.write_text(answers_csv(answers), encoding="utf-8")
    if picture is not None:
        answer_sheet(seen, [caption(one) for one in answers[: len(seen)]]).save(picture)
    lines = [answers_text(answers)]
    lines += [f"rows     {table}"] if table is not None else []
    lines += [f"picture  {picture}"] if picture is not None else []
    if problem is not None:
        note(f"error: {problem}")
    said = Predictions(
        options.run,
        facts.model,
        facts.image_size,
        images=answers,
        unreadable=unreadable,
        error=None if problem is None else problem.to_json(),
    )
    return CommandResult("\n".join(lines), said, problem.exit_code if problem is not None else 0)


def refused(unreadable: Sequence[Unreadable], count: int) -> BadImage:
    """The error that names all images without an answer."""
    return BadImage(
        f"{len(unreadable):,} of {count:,} images cannot be read",
        details=[f"{one.image}: {one.why}" for one in unreadable],
        cure="mend or remove them; all others were answered" if len(unreadable) < count else "name other images",
    )


def caption(one: Answered) -> list[str]:
    """The image's name, and the likeliest class of each head."""
    best = [f"{head} {said[0].class_} {said[0].probability:.0%}" for head, said in one.said.items()]
    return [Path(one.image).name, *best]
