"""Why a teacher answers badly: its classes stand in another order, or it is shown images it was not trained on.

Every cause is tried on the same images, and named only if it turns wrong answers into right ones.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.networks.teacher import Teacher
from deit_pipe.stages.networks.teacher_input import numbers_text
from deit_pipe.stages.networks.weights import normalisation, published_size
from deit_pipe.stages.opened.gate_result import Cause
from deit_pipe.stages.teaching.answers import Answers, ask
from deit_pipe.stages.teaching.class_order import describe_order, learn_order, read_in_order
from deit_pipe.stages.teaching.plain_images import STEP, PlainImages

GAIN = 0.05  # of all answers, at least
Z_GAIN = 2.58  # 99 %: half a dozen causes are tried
FEWEST = 10  # images on which a cause is tried
USABLE = 0.5  # skill that the teacher must reach once the cause is gone

Triple = tuple[float, ...]
NORMALISATIONS: dict[str, tuple[Triple, Triple]] = {
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "-1 to 1": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "0 to 1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "CLIP's": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}


def find_cause(
    teacher: Teacher, images: PlainImages, answers: Answers, image_size: int, class_names: tuple[str, ...]
) -> Cause | None:
    """The cause that explains most, or None.

    Args:
        teacher: who answered.
        images: what was asked about, in the same order.
        answers: what it said.
        image_size: at which side.
        class_names: of the data.
    """
    found = [*wrong_order(answers, class_names)]
    asked = answers.first(STEP)
    found += wrong_size(teacher, images, asked, image_size)
    found += wrong_normalisation(teacher, images, asked, image_size)
    return max(found, key=lambda cause: cause.after - cause.before, default=None)


def lifts(before: Answers, after: Answers) -> bool:
    """Whether the same images are answered clearly better: a paired comparison, and useful in the end."""
    if len(after) < FEWEST:  # any handful fits some order
        return False
    gain = after.right.astype(np.int64) - before.right.astype(np.int64)
    error = float(gain.std()) / len(gain) ** 0.5
    return bool(gain.mean() - max(GAIN, Z_GAIN * error) > 0 and after.skill.value >= USABLE)


def wrong_order(answers: Answers, class_names: tuple[str, ...]) -> Iterator[Cause]:
    """The classes in another order, learned from one half and tried on the other half's answers that it covers."""
    learned = learn_order(answers.labels[::2], answers.said[::2])
    meant = read_in_order(answers.said[1::2], learned)
    covered = np.flatnonzero(meant >= 0)
    if len(covered) < 2:
        return
    before = _part(answers, answers.said[1::2][covered], covered)
    after = _part(answers, meant[covered], covered)
    if lifts(before, after):
        # for the words, the order that all answers speak for; a pair seen once may be an ordinary mistake
        order = learn_order(answers.labels, answers.said)
        yield Cause(
            kind="class order",
            text=describe_order(order, class_names),
            cure="fit a new classifier on it with --fit-head, or name your classes so that they sort in its order",
            before=before.accuracy.value,
            after=after.accuracy.value,
            images=len(covered),
        )


def wrong_size(teacher: Teacher, images: PlainImages, asked: Answers, image_size: int) -> Iterator[Cause]:
    """The size it was trained on, by its folder or by timm."""
    sizes = {teacher.trained_size, published_size(teacher.tag)} - {None, teacher.seen_size(image_size)}
    for size in sorted(size for size in sizes if size is not None):
        after = _try(replace(teacher, input_size=None), images, size, len(asked))
        if after is not None and lifts(asked, after):
            yield Cause(
                kind="image size",
                text=f"it was trained on images of {size} px, these are {teacher.seen_size(image_size)} px",
                cure=f"cache at its size with --img-size {size}",
                before=asked.accuracy.value,
                after=after.accuracy.value,
                images=len(asked),
            )


def wrong_normalisation(teacher: Teacher, images: PlainImages, asked: Answers, image_size: int) -> Iterator[Cause]:
    """The normalisation of its tag, or one of the usual ones."""
    tried = [(teacher.mean, teacher.std)]
    for name, (mean, std) in {"its tag's": normalisation(teacher.tag), **NORMALISATIONS}.items():
        if any(np.allclose([mean, std], one, atol=1e-3) for one in tried):
            continue
        tried.append((mean, std))
        after = _try(replace(teacher, mean=mean, std=std), images, image_size, len(asked))
        if after is not None and lifts(asked, after):
            yield Cause(
                kind="normalisation",
                text=f"it was trained with another normalisation, {name}: mean {_numbers(mean)}, std {_numbers(std)}, "
                f"not mean {_numbers(teacher.mean)}, std {_numbers(teacher.std)}",
                cure=f"give it with --teacher-mean {numbers_text(mean)} --teacher-std {numbers_text(std)}",
                before=asked.accuracy.value,
                after=after.accuracy.value,
                images=len(asked),
            )


def _try(teacher: Teacher, images: PlainImages, image_size: int, count: int) -> Answers | None:
    try:
        return ask(teacher, images, image_size, count)
    except (AssertionError, RuntimeError, ValueError, Mismatch):  # a transformer takes one size only
        return None


def _part(answers: Answers, said: NDArray[np.int64], covered: NDArray[np.int64]) -> Answers:
    """Other answers to the covered images of the second half."""
    return Answers(answers.labels[1::2][covered], said, answers.confidence[1::2][covered], answers.num_classes)


def _numbers(values: Triple) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values) + ")"
