"""The frozen teacher: a network in eval mode with its own normalisation and a float32 head."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from deit_pipe.pipeline.compose import normalise
from deit_pipe.stages.console.errors import Mismatch, UsageProblem
from deit_pipe.stages.networks.factory import is_factory
from deit_pipe.stages.networks.teacher_input import TeacherInput, numbers_text, resized
from deit_pipe.stages.networks.teacher_network import USUAL_SIZE, TeacherNetwork, probe_pixels, same_answers
from deit_pipe.stages.networks.teacher_sources import find_network, is_timms
from deit_pipe.store.identity import TeacherIdentity

AS_STATED = TeacherInput()


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A network that answers and never changes.

    Attributes:
        model: in eval mode, without gradients, on its device.
        tag: full timm tag; `run, MODEL` of a folder of train-student; `package.module:function`.
        weights_sha256: digest of the state dict.
        head: `pretrained`, `trained`, `fitted` or `random`.
        mean: normalisation, RGB, 0..1 units; `std` likewise.
        class_names: order of its outputs where known, else None.
        precision: of the body: fp32 or bf16.
        source: where the weights came from, for messages and for the cache's provenance.
        trained_size: side of the views it was trained on, as far as that is known.
        val_top1: what `teacher.json` says it gets right, 0..1; None where nothing does.
        body: of a fitted head: where the weights below it came from.
        body_sha256: of a fitted head: digest of those weights, with the head they came with.
        fitted_on: digest of the samples that it, or its fitted head, was trained on, where known.
        input_size: side to which its views are resized on the device; None: the network sees them as they are.
        whole: whether only its `forward` is known to give logits.
        lines: what is to be said of how it was loaded.
    """

    model: nn.Module
    tag: str
    weights_sha256: str
    head: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int
    class_names: tuple[str, ...] | None
    precision: str
    device: torch.device
    source: str
    trained_size: int | None = None
    val_top1: float | None = None
    body: str | None = None
    body_sha256: str | None = None
    fitted_on: str | None = None
    input_size: int | None = None
    whole: bool = False
    lines: tuple[str, ...] = ()

    @torch.inference_mode()
    def __call__(self, mixed: Tensor, watch: Callable[[Tensor], None] | None = None) -> Tensor:
        """Logits float32 [B, C] of composed pixels float32 [B, 3, S, S] (not normalised), on the teacher's device.

        `watch` is given the very tensor that the network gets, before it is resized where that is asked for. The head
        runs in float32 whatever the body's precision: bfloat16 logits tie the top two of about one row in 80.
        """
        pixels = normalise(mixed, self.mean, self.std)
        if watch is not None:
            watch(pixels)
        pixels = self._sized(pixels)
        if self.whole:
            answers: Tensor = self.model(pixels).float()
            return answers
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            features = self.model.forward_features(pixels)  # type: ignore[operator]
        logits: Tensor = self.model.forward_head(features.float())  # type: ignore[operator]
        return logits

    @torch.inference_mode()
    def features(self, mixed: Tensor) -> Tensor:
        """What the classifier sees: float32 [B, F]."""
        pixels = self._sized(normalise(mixed, self.mean, self.std))
        body = self.model.forward_features(pixels)  # type: ignore[operator]
        pooled: Tensor = self.model.forward_head(body.float(), pre_logits=True)  # type: ignore[operator]
        return pooled.flatten(1)

    def seen_size(self, image_size: int) -> int:
        """Side of what the network is given, of views of `image_size`."""
        return self.input_size or image_size

    def _sized(self, pixels: Tensor) -> Tensor:
        return pixels if self.input_size is None else resized(pixels, self.input_size)

    def padded(self, mixed: Tensor, batch_size: int, watch: Callable[[Tensor], None] | None = None) -> Tensor:
        """Logits of at most `batch_size` views, computed at exactly that batch size.

        Float bits depend on the batch size, so a short batch is filled up by repeating its last view: an answer then
        does not depend on where a run was resumed.
        """
        missing = batch_size - len(mixed)
        if missing > 0:
            mixed = torch.cat([mixed, mixed[-1:].expand(missing, -1, -1, -1)])
        return self(mixed, watch)[: len(mixed) - max(0, missing)]


def load_teacher(
    name: str,
    *,
    weights: str | None,
    num_classes: int,
    class_names: tuple[str, ...],
    device: torch.device,
    precision: str = "fp32",
    seed: int = 0,
    any_head: bool = False,
    image_size: int | None = None,
    given: TeacherInput = AS_STATED,
) -> Teacher:
    """The named teacher, checked against the data's classes.

    Args:
        name: timm model, with or without tag; a folder of train-student or export; `package.module:function`.
        weights: of a timm model: a file, a `train-teacher` folder, `random`, or None: `./teacher-run` when it holds
            it, else the hub.
        num_classes: of the data, C.
        class_names: of the data, in label order.
        device: where it runs.
        precision: of the body, fp32 or bf16.
        seed: of random weights.
        any_head: accept any classifier (it will be replaced).
        image_size: side of the views; None: those it was made for.
        given: what is said of its input; it wins over what its file says.

    Raises:
        UsageProblem: no such model, or no normalisation. Missing: no weights. Mismatch: other classes, or weights of
            another model.
    """
    input_size = None if given.image_size == image_size else given.image_size
    size = input_size or image_size
    network = find_network(name, weights, num_classes=num_classes, class_names=class_names, size=size, seed=seed)
    mean, std, lines = _normalisation(network, given)
    if input_size is not None and image_size is not None:
        lines.append(
            f"teacher {network.tag}: its views of {image_size} px are resized to {input_size} px (bicubic, antialiased)"
        )
    teacher = Teacher(
        model=network.model.eval().requires_grad_(False).to(device),
        tag=network.tag,
        weights_sha256=network.weights_sha256,
        head=network.head,
        mean=mean,
        std=std,
        num_classes=network.num_classes,
        class_names=network.class_names,
        precision=precision,
        device=device,
        source=network.source,
        trained_size=network.trained_size,
        input_size=input_size,
        whole=_only_whole(network, precision, size or USUAL_SIZE),
        lines=(*network.lines, *lines),
    )
    if (facts := network.facts) is not None:
        own = {name: getattr(facts, name) for name in ("val_top1", "body", "body_sha256", "fitted_on")}
        teacher = replace(teacher, **own)
    if not any_head:
        check_classes(teacher, num_classes, class_names)
    return teacher


def load_cached(
    identity: TeacherIdentity,
    weights: str | None,
    *,
    class_names: tuple[str, ...],
    device: torch.device,
    seed: int,
) -> Teacher:
    """The teacher of a cache again, with the input that it had; whether its weights are the same is for the caller.

    Args:
        identity: as it is cached; it may be a stranger's.
        weights: file or folder, the function's name, or None: timm's hub. Code is run only where this names it.
        class_names: of the data.
        device: where it runs.
        seed: of random weights.

    Raises:
        UsageProblem: it is a function's, which was not named.
    """
    name = identity.model
    if weights is not None and is_factory(weights):
        name, weights = weights, None
    elif is_factory(name):
        raise UsageProblem(
            f"the teacher {identity.name!r} was made by code, {name}, which runs only where you name it",
            expected="package.module:function, as it was given to --teacher",
            got=weights or "nothing",
            cure=f"give it as the teacher-weights, if you trust it: {name}",
        )
    elif not is_timms(name):
        name, weights = weights or name, None
    return load_teacher(
        name,
        weights=weights,
        num_classes=len(class_names),
        class_names=class_names,
        device=device,
        precision=identity.precision,
        seed=seed,
        image_size=identity.image_size,
        given=TeacherInput(identity.mean, identity.std, identity.input_size),
    )


def _normalisation(
    network: TeacherNetwork, given: TeacherInput
) -> tuple[tuple[float, ...], tuple[float, ...], list[str]]:
    """Mean and std that count, and what is to be said of them.

    Raises:
        UsageProblem: nobody says them.
    """
    if given.mean is not None and given.std is not None:
        return given.mean, given.std, []
    if network.mean is None or network.std is None:
        raise UsageProblem(
            f"--teacher {network.tag} does not say how its images are normalised",
            expected="a network with a pretrained_cfg of mean and std, as timm's have, or both options",
            cure="give what it was trained with: --teacher-mean 0.485,0.456,0.406 --teacher-std 0.229,0.224,0.225 are "
            "ImageNet's",
        )
    if network.stated:
        return network.mean, network.std, []
    said = f"mean {numbers_text(network.mean)}, std {numbers_text(network.std)}"
    line = (
        f"note: {network.source} does not say its normalisation; taken is that of timm's {network.tag}, {said}: give "
        "--teacher-mean and --teacher-std if it was trained with another"
    )
    return network.mean, network.std, [line]


def _only_whole(network: TeacherNetwork, precision: str, size: int) -> bool:
    """Whether the network is called as a whole: then its head cannot be kept in float32.

    Raises:
        UsageProblem: bf16 is asked for all the same.
    """
    if not network.whole or precision == "fp32":
        return network.whole
    if _is_its_parts(network.model, size):
        return False
    raise UsageProblem(
        f"--precision {precision} cannot keep the head of --teacher {network.tag} in fp32",
        expected="a network that is its forward_features and then its forward_head, as timm's are",
        cure="use --precision fp32",
    )


@torch.inference_mode()
def _is_its_parts(model: nn.Module, size: int) -> bool:
    """Whether body and head, called one after the other, answer as the network does: a forward may do more."""
    body, head = (getattr(model, name, None) for name in ("forward_features", "forward_head"))
    if not (callable(body) and callable(head)):
        return False
    pixels = probe_pixels(size)
    try:
        return same_answers(head(body(pixels)), model(pixels))
    except Exception:  # it is their code, and called as it may not be made for
        return False


def check_classes(teacher: Teacher, num_classes: int, class_names: tuple[str, ...]) -> None:
    """Refuse a teacher that answers with other classes, or with the same classes in another order."""
    cures = classes_cure(teacher)
    if teacher.num_classes != num_classes:
        raise Mismatch(
            f"teacher {teacher.tag} ({teacher.source}) does not know these classes",
            expected=f"{num_classes} classes, as in the data",
            got=teacher.num_classes,
            cure=cures,
        )
    if teacher.class_names is not None and teacher.class_names != class_names:
        place = next(
            i for i, pair in enumerate(zip(teacher.class_names, class_names, strict=True)) if len(set(pair)) > 1
        )
        raise Mismatch(
            f"teacher {teacher.tag} ({teacher.source}) was trained on other classes, or in another order",
            expected=f"{class_names[place]!r} as class {place}, as in the data",
            got=f"{teacher.class_names[place]!r}",
            cure=cures,
        )


def classes_cure(teacher: Teacher) -> str:
    """What to do about a teacher of other classes."""
    if is_factory(teacher.tag):
        return "let the function return a network for these classes, in the order of the data"
    if not is_timms(teacher.tag):
        source = shlex.quote(teacher.source)
        return f"train it on these classes, as a student: deit-pipe train-student --init-from {source}"
    return (
        f"fit a new classifier on it with --fit-head, or train it with:\n"
        f"  deit-pipe train-teacher --teacher {teacher.tag.partition('.')[0]}"
    )
