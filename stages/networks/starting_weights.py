"""Where a student starts from: a run, an export, a weights file, a Hugging Face folder, or timm's published weights."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from deit_pipe.stages.console.errors import Corrupt, Missing, UsageProblem
from deit_pipe.stages.networks.custom_student import CUSTOM, is_custom
from deit_pipe.stages.networks.file_names import STUDENT_FACTS, STUDENT_WEIGHTS
from deit_pipe.stages.networks.hugging_face import PROCESSOR, DeitConfig, read_config, read_hugging_face
from deit_pipe.stages.networks.student import StudentFacts, read_facts, read_student
from deit_pipe.stages.networks.sums import check_beside, check_sums, read_sums
from deit_pipe.stages.networks.weights import PUBLISHED_TAGS, hub_weights, read_weights, resolve_tag

PRETRAINED = "pretrained"
USUAL = "deit_tiny_distilled_patch16_224"
# first part of their names, Hugging Face's last
HEADS = ("head", "head_dist", "heads", "heads_dist", "fc", "classifier", "cls_classifier", "distillation_classifier")
SIZES = ("patch_size", "embed_dim", "depth", "num_heads")  # of a custom student
TIMM_CONFIG, TIMM_WEIGHTS = "config.json", "model.safetensors"  # of a folder that timm loads as local-dir:


@dataclass(frozen=True, kw_only=True)
class StartingWeights:
    """Weights that a student can start from, and what is said of them; they are read when they are asked for.

    Attributes:
        source: as it was given.
        tag: what is recorded: timm's full tag, or what kind of weights these are, and of which model.
        model: timm name without tag, or `custom`.
        sizes: of a custom one: patch_size, embed_dim, depth, num_heads.
        image_size: side of the images they were trained on, where known.
        class_names: in the order of its outputs, where known.
        num_classes: C, where it is known before they are read.
        mean: normalisation they were trained with, where another than the model's is known; `std` likewise.
        crop_ratio: of the images they were measured on, where an export says it.
        read: gives the state dict under timm's names.
    """

    source: str
    tag: str
    model: str
    read: Callable[[], dict[str, Tensor]]
    sizes: Mapping[str, int] = field(default_factory=dict)
    image_size: int | None = None
    class_names: tuple[str, ...] | None = None
    num_classes: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_ratio: float | None = None

    def knows(self, class_names: tuple[str, ...]) -> bool:
        """Whether its heads answer with these classes; where it names none, as many are taken to be these."""
        if self.class_names is not None:
            return self.class_names == class_names
        return self.count() == len(class_names)

    def count(self) -> int | None:
        """Number of classes; None where they have no head."""
        return self.num_classes if self.num_classes is not None else head_rows(self.read())


def is_run(place: str) -> bool:
    """Whether this is, or by its look was meant as, a folder of train-student."""
    folder = Path(place)
    if not folder.exists():
        return "/" in place
    return folder.is_dir() and _exported(folder) is None and read_config(folder) is None


def find_start(source: str, student: str | None = None) -> StartingWeights:
    """What a name stands for: a path first, then `pretrained`, then timm's name.

    Args:
        source: as given to --init-from.
        student: as given to --student: whose weights these are where they do not say it themselves.

    Raises:
        Missing: nothing of that name, or a folder without a student. UsageProblem: a file that does not say whose.
        Corrupt: its description cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path, student)
    return _published(source, student)


def head_rows(state: Mapping[str, Tensor]) -> int | None:
    """Number of classes that a state dict's heads answer with; None where it has no head."""
    rows = [value.shape[0] for name, value in state.items() if value.ndim == 2 and name.partition(".")[0] in HEADS]
    return int(rows[-1]) if rows else None


def _folder(folder: Path) -> StartingWeights:
    exported = _exported(folder)
    _check_export(folder, [TIMM_WEIGHTS])
    if exported is not None:
        return _export(str(folder), *exported)
    config = read_config(folder)
    if config is not None:
        return _hugging_face(folder, config)
    return _run(folder, read_facts(folder))


def _run(folder: Path, facts: StudentFacts, source: Path | None = None) -> StartingWeights:
    return StartingWeights(
        source=str(source or folder),
        tag=f"run, {facts.model}",
        model=facts.model,
        read=lambda: read_student(folder, source.name if source else STUDENT_WEIGHTS)[1],
        sizes=facts.sizes,
        image_size=facts.image_size,
        class_names=facts.class_names,
        num_classes=facts.num_classes,
        mean=facts.mean,
        std=facts.std,
        crop_ratio=facts.crop_ratio,
    )


def _exported(folder: Path) -> tuple[dict[str, Any], Path] | None:
    """What an export says of itself, and its weights; None where the folder is none.

    Raises:
        Corrupt: what it says is not what was written.
    """
    _check_export(folder, [TIMM_CONFIG, PROCESSOR])
    for description, weights in ((STUDENT_FACTS, STUDENT_WEIGHTS), (TIMM_CONFIG, TIMM_WEIGHTS)):
        said = _json(folder / description)
        if said is not None and "architecture" in said:
            return said, folder / weights
    return None


def _check_export(folder: Path, names: Sequence[str]) -> None:
    """Refuse files of an exported folder that are not what was written; a run, or another's folder, is left alone."""
    sums = read_sums(folder) or {}
    if TIMM_WEIGHTS in sums:
        check_sums(folder, [name for name in names if name in sums])


def _export(source: str, said: dict[str, Any], weights: Path) -> StartingWeights:
    if not weights.is_file():
        raise Missing(f"{source} holds no weights: {weights.name} is not there", cure="export it again")
    check_beside(weights)
    try:
        model, settings = str(said["architecture"]), dict(said.get("model_args") or {})
        # timm's folders keep these apart; an export of an earlier version was a file with all of it in one
        pixels = {**said, **dict(said.get("pretrained_cfg") or {})}
        # one of timm's distilled ones with sizes of its own
        custom = model == "VisionTransformerDistilled" or (model == USUAL and set(SIZES) <= settings.keys())
        names = said.get("class_names") or said.get("label_names")
        size = settings.get("img_size") or said.get("image_size") or (pixels.get("input_size") or [None])[-1]
        classes = settings.get("num_classes", said.get("num_classes"))
        ratio = pixels.get("crop_ratio") or pixels.get("crop_pct")
        return StartingWeights(
            source=source,
            tag=f"export, {CUSTOM if custom else model}",
            model=CUSTOM if custom else model,
            read=lambda: read_weights(weights),
            sizes={name: int(settings[name]) for name in SIZES} if custom else {},
            image_size=None if size is None else int(size),
            class_names=tuple(map(str, names)) if names else None,
            num_classes=None if classes is None else int(classes),
            mean=tuple(pixels["mean"]) if pixels.get("mean") else None,
            std=tuple(pixels["std"]) if pixels.get("std") else None,
            crop_ratio=None if ratio is None else float(ratio),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(
            f"what {source} says of its student cannot be read",
            details=[f"{type(error).__name__}: {error}"],
            cure="export it again",
        ) from error


def _hugging_face(folder: Path, config: DeitConfig) -> StartingWeights:
    return StartingWeights(
        source=str(folder),
        tag=f"Hugging Face, {config.model}",
        model=config.model,
        read=lambda: read_hugging_face(folder, config),
        sizes=config.sizes,
        image_size=config.image_size,
        class_names=config.class_names,
        num_classes=config.num_classes,
        mean=config.mean,
        std=config.std,
        crop_ratio=config.crop_ratio,
    )


def _file(path: Path, student: str | None) -> StartingWeights:
    """A weights file; what lies beside it may say whose it is, else its name, else `--student`."""
    if path.name == TIMM_WEIGHTS and not is_run(str(path.parent)):  # of an export, or of Hugging Face's
        return replace(_folder(path.parent), source=str(path))
    beside = path.with_suffix(".json")
    said = _json(beside)
    if said is not None and "architecture" in said:
        return _export(str(path), said, path)
    if path.suffix == ".safetensors" and "model" in (_json(path.parent / STUDENT_FACTS) or {}):  # one of a run's
        return _run(path.parent, read_facts(path.parent), path)
    stem = path.stem
    named = [name for name in (stem, stem.partition("-")[0], stem.partition(".")[0]) if _is_timm(name)]
    model = student or (named[0] if named else None)
    if model is None:
        raise UsageProblem(
            f"{path} does not say which student its weights are of",
            expected="a file called as timm calls the model, an export, or --student",
            cure=f"name it, for example with --student {USUAL}",
        )
    custom = is_custom(model)
    name = CUSTOM if custom else resolve_tag(model).partition(".")[0]
    return StartingWeights(source=str(path), tag=f"file, {name}", model=name, read=lambda: read_weights(path))


def _published(source: str, student: str | None) -> StartingWeights:
    """Timm's weights of a tag, of a model's default tag, or of the student that is named."""
    name = source
    if source == PRETRAINED:
        name = student or USUAL
        if is_custom(name):
            raise UsageProblem(
                f"there are no published weights of --student {name}",
                cure=f"name a model of timm's, for example --student {USUAL}",
            )
    elif not _is_timm(source.partition(".")[0]):
        near = get_close_matches(source.partition(".")[0], timm.list_models(), n=3, cutoff=0.6)
        raise Missing(
            f"no weights {source}: no such file or folder, and timm has no model of that name",
            expected="a run folder, an export, a weights file, a Hugging Face folder, a timm tag, or 'pretrained'",
            details=[f"nearest in timm: {', '.join(near)}"] if near else [],
            cure="give an existing path, or list timm's models with: deit-pipe list-models --role student",
        )
    tag = resolve_tag(name)
    config: Any = timm.get_pretrained_cfg(tag)
    cure = "give a weights file instead, or start without --init-from"
    return StartingWeights(
        source=source,
        tag=tag,
        model=tag.partition(".")[0],
        read=lambda: dict(hub_weights(tag, cure).state_dict()),
        image_size=None if config is None else int(config.input_size[1]),
        num_classes=None if config is None else int(config.num_classes),
        mean=None if config is None else tuple(config.mean),
        std=None if config is None else tuple(config.std),
    )


def _is_timm(name: str) -> bool:
    return name in PUBLISHED_TAGS or bool(timm.is_model(name))


def _json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
