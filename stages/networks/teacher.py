"""The frozen teacher: a timm CNN in eval mode with its own normalisation and a float32 head."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from deit_pipe.pipeline.compose import normalise
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.console.errors import Mismatch, UsageProblem
from deit_pipe.stages.networks.file_names import RUN_WEIGHTS
from deit_pipe.stages.networks.sums import check_sums
from deit_pipe.stages.networks.weights import (
    TeacherRun,
    count_classes,
    digest,
    hub_weights,
    load_into,
    normalisation,
    published_size,
    read_teacher_run,
    read_weights,
    resolve_tag,
)
from deit_pipe.stages.options.train_teacher import TrainTeacherOptions

RANDOM = "random"
TEACHER_RUN = Path("teacher-run")


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A network that answers and never changes.

    Attributes:
        model: in eval mode, without gradients, on its device.
        tag: full timm tag.
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

    @torch.inference_mode()
    def __call__(self, mixed: Tensor, watch: Callable[[Tensor], None] | None = None) -> Tensor:
        """Logits float32 [B, C] of composed pixels float32 [B, 3, S, S] (not normalised), on the teacher's device.

        `watch` is given the very tensor that the network gets. The head runs in float32 whatever the body's precision:
        bfloat16 logits tie the top two of about one row in 80.
        """
        pixels = normalise(mixed, self.mean, self.std)
        if watch is not None:
            watch(pixels)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            features = self.model.forward_features(pixels)  # type: ignore[operator]
        logits: Tensor = self.model.forward_head(features.float())  # type: ignore[operator]
        return logits

    @torch.inference_mode()
    def features(self, mixed: Tensor) -> Tensor:
        """What the classifier sees: float32 [B, F]."""
        body = self.model.forward_features(normalise(mixed, self.mean, self.std))  # type: ignore[operator]
        pooled: Tensor = self.model.forward_head(body.float(), pre_logits=True)  # type: ignore[operator]
        return pooled.flatten(1)

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
) -> Teacher:
    """The named teacher, checked against the data's classes.

    Args:
        name: timm model, with or without tag.
        weights: a file, a `train-teacher` folder, `random`, or None: `./teacher-run` when it holds it, else the hub.
        num_classes: of the data, C.
        class_names: of the data, in label order.
        device: where it runs.
        precision: of the body, fp32 or bf16.
        seed: of random weights.
        any_head: accept any classifier (it will be replaced).

    Raises:
        UsageProblem: no such model. Missing: no weights. Mismatch: other classes, or weights of another model.
    """
    tag = resolve_tag(name)
    run_folder = find_teacher_run(tag) if weights is None else Path(weights)
    facts = read_teacher_run(run_folder) if run_folder is not None else None
    if weights == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = timm.create_model(tag, pretrained=False, num_classes=num_classes)
        head, source = RANDOM, f"random weights, seed {seed}"
    elif facts is not None and run_folder is not None:
        _check_same_model(facts, tag, run_folder)
        check_sums(run_folder, [RUN_WEIGHTS])
        model = _from_state(tag, read_weights(run_folder / RUN_WEIGHTS), str(run_folder))
        head, source = facts.head, str(run_folder)
    elif weights is not None:
        model = _from_file(name, tag, Path(weights))
        head, source = "pretrained", weights
    else:
        model = hub_weights(tag)
        head, source = "pretrained", f"timm hub, {tag}"
    model = model.eval().requires_grad_(False).to(device)
    teacher = _described(
        model,
        facts,
        tag=tag,
        head=head,
        source=source,
        precision=precision,
        device=device,
        published=weights is None,
    )
    if not any_head:
        check_classes(teacher, num_classes, class_names)
    return teacher


def _described(
    model: nn.Module,
    facts: TeacherRun | None,
    *,
    tag: str,
    head: str,
    source: str,
    precision: str,
    device: torch.device,
    published: bool,
) -> Teacher:
    """The network with what is known of it: from its folder, else from its tag (the size only of the tag's weights)."""
    mean, std = normalisation(tag)
    known = Teacher(
        model=model,
        tag=tag,
        weights_sha256=digest(model.state_dict()),
        head=head,
        mean=mean,
        std=std,
        num_classes=int(model.num_classes),  # type: ignore[arg-type]
        class_names=None,
        precision=precision,
        device=device,
        source=source,
        trained_size=published_size(tag) if published else None,
    )
    if facts is None:
        return known
    return replace(
        known,
        mean=facts.mean,
        std=facts.std,
        class_names=facts.class_names,
        trained_size=facts.image_size,
        val_top1=facts.val_top1,
        body=facts.body,
        body_sha256=facts.body_sha256,
        fitted_on=facts.fitted_on,
    )


def _from_file(name: str, tag: str, path: Path) -> nn.Module:
    if path.is_dir():
        following = command_line("train-teacher", TrainTeacherOptions, teacher=name, out=str(path))
        raise UsageProblem(
            f"{path} is not a finished train-teacher folder",
            expected=f"{RUN_WEIGHTS} and teacher.json in it",
            cure=f"make one with: {following}",
        )
    return _from_state(tag, read_weights(path), str(path))


def find_teacher_run(tag: str) -> Path | None:
    """`./teacher-run`, or `./teacher-run-MODEL` beside it, when it holds this teacher."""
    for folder in (TEACHER_RUN, own_teacher_run(tag)):
        facts = read_teacher_run(folder)
        if facts is not None and facts.model == tag:
            return folder
    return None


def own_teacher_run(tag: str) -> Path:
    """The folder for this teacher where `./teacher-run` holds another."""
    return Path(f"{TEACHER_RUN}-{tag.partition('.')[0]}")


def check_classes(teacher: Teacher, num_classes: int, class_names: tuple[str, ...]) -> None:
    """Refuse a teacher that answers with other classes, or with the same classes in another order."""
    cures = (
        f"fit a new classifier on it with --fit-head, or train it with:\n"
        f"  deit-pipe train-teacher --teacher {teacher.tag.partition('.')[0]}"
    )
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


def plain_classifier(teacher: Teacher) -> nn.Module:
    """The one layer that makes the logits.

    Raises:
        UsageProblem: it is none that can be fitted by itself.
    """
    classifier = teacher.model.get_classifier()  # type: ignore[operator]
    pointwise = isinstance(classifier, nn.Conv2d) and classifier.kernel_size == (1, 1)
    if not (pointwise or type(classifier) is nn.Linear) or classifier.bias is None:
        raise UsageProblem(
            f"no head can be fitted on {teacher.tag}",
            expected="one linear layer with a bias as its classifier",
            got=type(classifier).__name__,
            cure=f"train all of it with: deit-pipe train-teacher --teacher {teacher.tag}",
        )
    assert isinstance(classifier, nn.Module)
    return classifier


def with_head(teacher: Teacher, head: nn.Module, table: SampleTable) -> Teacher:
    """The same frozen body with a classifier that was fitted to these samples."""
    class_names = table.class_names
    teacher.model.reset_classifier(len(class_names))  # type: ignore[operator]
    classifier = plain_classifier(teacher)
    with torch.no_grad():
        for name, value in head.named_parameters():
            own = getattr(classifier, name)
            own.copy_(value.reshape(own.shape))  # a 1 x 1 convolution is a linear layer too
    model = teacher.model.to(teacher.device).eval().requires_grad_(False)
    return replace(
        teacher,
        model=model,
        weights_sha256=digest(model.state_dict()),
        head="fitted",
        num_classes=len(class_names),
        class_names=class_names,
        val_top1=None,
        body=teacher.body or teacher.source,
        body_sha256=teacher.weights_sha256,
        fitted_on=table.digest,
    )


def facts_of(teacher: Teacher, image_size: int, val_top1: float | None) -> TeacherRun:
    """What `teacher.json` says of it."""
    assert teacher.class_names is not None
    return TeacherRun(
        model=teacher.tag,
        head=teacher.head,
        image_size=image_size,
        mean=teacher.mean,
        std=teacher.std,
        class_names=teacher.class_names,
        val_top1=val_top1,
        body=teacher.body,
        body_sha256=teacher.body_sha256,
        fitted_on=teacher.fitted_on,
    )


def _from_state(tag: str, state: dict[str, Tensor], source: str) -> nn.Module:
    probe = timm.create_model(tag, pretrained=False)
    classes = count_classes(probe, state, source)
    model = probe if classes == probe.num_classes else timm.create_model(tag, pretrained=False, num_classes=classes)
    load_into(model, state, source)
    assert isinstance(model, nn.Module)
    return model


def _check_same_model(facts: TeacherRun, tag: str, folder: Path) -> None:
    if facts.model.partition(".")[0] != tag.partition(".")[0]:
        raise Mismatch(
            f"{folder} holds another teacher",
            expected=tag,
            got=facts.model,
            cure=f"use it with: --teacher {facts.model}",
        )
