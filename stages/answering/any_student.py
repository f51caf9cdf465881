"""A student ready to answer, from whatever holds one: a run, an export, a weights file, a folder, a tag."""

from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.networks.adapted_weights import start_from
from deit_pipe.stages.networks.custom_student import custom_sizes
from deit_pipe.stages.networks.starting_weights import StartingWeights, find_start, is_run
from deit_pipe.stages.networks.student import StudentFacts, build_student, describe_student, load_student
from deit_pipe.stages.opened.images import say
from deit_pipe.stages.opened.plain_views import VIEW, default_crop_ratio
from deit_pipe.stages.training.run_folder import weights_file

IMAGENET = 1000


def any_student(
    source: str, device: torch.device, *, student: str | None = None, weights: str = "result"
) -> tuple[StudentFacts, nn.Module]:
    """Facts and network, in eval mode.

    Args:
        source: as it was given.
        device: where it answers.
        student: whose weights a file holds that does not say so.
        weights: which of a run's.

    Raises:
        Missing: nothing there. Mismatch: weights without a head.
    """
    if is_run(source):
        folder = Path(source)
        return load_student(folder, device, weights_file(folder, weights))
    start = find_start(source, student)
    return from_weights(start, start.class_names or unsaid_names(start), device, source)


def from_weights(
    start: StartingWeights, class_names: tuple[str, ...], device: torch.device, images: str
) -> tuple[StudentFacts, nn.Module]:
    """A student with its own heads, from weights that are no run's.

    Args:
        start: the weights.
        class_names: what its outputs are called.
        device: where it answers.
        images: whose classes these are, for messages.

    Raises:
        Mismatch: other classes, or no head.
    """
    size = start.image_size or VIEW
    facts = describe_student(
        start.model,
        image_size=size,
        class_names=class_names,
        crop_ratio=start.crop_ratio or default_crop_ratio(size, start.model),
        drop_path=0.0,
        **asdict(custom_sizes(start.sizes)),
    )
    facts = replace(facts, mean=start.mean or facts.mean, std=start.std or facts.std)
    model = build_student(facts)
    taken = start_from(model, facts, start)
    if taken.new_heads:
        raise Mismatch(
            f"{start.source} does not answer with the classes of {images}",
            expected=f"{len(class_names):,} classes, as in the images",
            got="no head" if not start.count() else f"{start.count():,} classes",
            cure="give images of its own classes, or fine-tune it with: deit-pipe train-student --init-from",
        )
    say(taken.lines)
    return facts, model.to(device).eval()


def unsaid_names(start: StartingWeights) -> tuple[str, ...]:
    """Names for classes that the weights do not name: of 1,000 ImageNet's, else their numbers.

    Raises:
        Mismatch: there is no head.
    """
    count = start.count()
    if not count:
        raise Mismatch(
            f"{start.source} has no head: it answers nothing",
            cure="fine-tune it with: deit-pipe train-student --init-from",
        )
    if count != IMAGENET:
        note(f"{start.source} does not name its {count:,} classes: their numbers are shown")
        return tuple(map(str, range(count)))
    from timm.data import ImageNetInfo

    known = ImageNetInfo("imagenet-1k")
    note(f"{start.source} does not name its 1,000 classes: they are taken to be ImageNet's")
    return tuple(known.index_to_description(number) for number in range(IMAGENET))
