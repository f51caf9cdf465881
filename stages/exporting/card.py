"""The model card: README.md of an export, from what the run recorded."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deit_pipe import DeitPipeError
from deit_pipe.pipeline.recipe import preset_name
from deit_pipe.stages.networks.student import StudentFacts
from deit_pipe.stages.opened.cache import open_if_there

CARD = "README.md"
LIBRARY = {"timm": "timm", "huggingface": "transformers", "onnx": "onnx"}
HEADS = {
    "class": "class head",
    "dist": "distillation head",
    "fused": "both, mean of logits",
    "fused_softmax": "both, sum of softmaxes",
}
SHOWN_CLASSES = 20
# settings of a run that make its weights what they are, in the order in which they are read
SETTINGS = (
    *("loss", "alpha", "tau", "kd_reduction", "label_loss", "smoothing", "epochs", "batch_size", "accumulate"),
    *("optimizer", "lr", "warmup_epochs", "min_lr", "weight_decay", "layer_decay", "clip_grad", "drop_path", "ema"),
    *("precision", "seed", "preset", "init_tag", "init_sha256"),
)


def card(
    facts: StudentFacts,
    *,
    kind: str,
    weights: str,
    parameters: int,
    use: Sequence[str],
    config: Mapping[str, Any],
    result: Mapping[str, Any] | None,
) -> str:
    """Markdown with the header that model hubs read.

    Args:
        facts: of the student.
        kind: timm, huggingface or onnx.
        weights: result, best or last.
        parameters: how many.
        use: Python, line by line.
        config: the run's options; empty where it recorded none.
        result: of a finished run.
    """
    names = ", ".join(_text(name) for name in facts.class_names[:SHOWN_CLASSES])
    more = f" and {facts.num_classes - SHOWN_CLASSES:,} more" if facts.num_classes > SHOWN_CLASSES else ""
    lines = [
        "---",
        f"library_name: {LIBRARY[kind]}",
        "pipeline_tag: image-classification",
        "tags: [image-classification, knowledge-distillation, deit, deit-pipe]",
        "---",
        f"# {_text(facts.model)}, {facts.image_size} px, {facts.num_classes:,} classes",
        "",
        f"A student of {parameters:,} parameters, trained by deit-pipe. Classes: {names}{more}.",
        "",
        "## Use",
        "",
        "```python",
        *(line for line in use),
        "```",
        "",
        f"Images: RGB, short side resized to {int(facts.image_size / facts.crop_ratio)} px (bicubic), the "
        f"{facts.image_size} px in the centre cut out, divided by 255, mean {_plain(facts.mean)}, "
        f"std {_plain(facts.std)}.",
        "",
        "## Measured",
        "",
        *measured(weights, result),
        "",
        "## Made from",
        "",
        *_table(made_from(config)),
    ]
    return "\n".join(lines) + "\n"


def measured(weights: str, result: Mapping[str, Any] | None) -> list[str]:
    """The numbers of these very weights, with what they were measured on; or that there are none."""
    if weights == "best" and result and result.get("best"):
        best = result["best"]
        return [f"Top-1 {best['top1']:.2%} ({_text(result['answer'])}) on val, the best epoch: {best['epoch'] + 1}."]
    scores = result.get(result.get("selected", "val")) if result and weights == "result" else None
    if not result or not scores:
        return ["These weights were not measured."]
    about = [f"{result['images']:,} {result['split']} images"] if result.get("images") else []
    if result.get("chance") is not None:
        about.append(f"chance {result['chance']:.2%}")
    if result.get("teacher_top1") is not None:
        about.append(f"teacher {result['teacher_top1']:.2%} ({result.get('teacher_split') or result.get('split')})")
    rows = [
        f"| {HEADS.get(head, head)} | {score['top1']:.2%} | "
        f"{'-' if score.get('top5') is None else format(score['top5'], '.2%')} |"
        for head, score in scores.items()
    ]
    return [
        *([", ".join(about) + ".", ""] if about else []),
        "| answer | top-1 | top-5 |",
        "| --- | --: | --: |",
        *rows,
    ]


def made_from(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Data, cache, teacher and settings, by name; folders by their last name, for the rest is nobody's business."""
    if not config:
        return [("settings", "not recorded")]
    data = str(config.get("data") or "")
    rows = [("data", f"{Path(data).name or data}, samples sha256 {_short(config.get('samples_digest'))}")]
    cache = [f"identity {_short(config.get('cache_digest'))}", f"{config.get('cached_epochs')} epochs"]
    rows.append(("cache", ", ".join([*cache, *views_of(config)])))
    teachers = config.get("teacher")
    digests = ", ".join(_short(one) for one in config.get("teacher_digests") or [])
    rows.append(("teacher", f"{teachers or 'the one of the cache'}, sha256 {digests}" if digests else "none"))
    rows += [(name.replace("_", "-"), _plain(config[name])) for name in SETTINGS if config.get(name) is not None]
    return rows


def views_of(config: Mapping[str, Any]) -> list[str]:
    """Which views were trained on, where the cache is still there."""
    try:
        opened = open_if_there(str(config.get("cache")))
    except (DeitPipeError, OSError):
        return []
    if opened is None or opened.manifest.digest != config.get("cache_digest"):
        return []
    manifest = opened.manifest
    return [f"recipe {preset_name(opened.recipe)}", f"{manifest.image_size} px", f"seed {manifest.seed}"]


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    return ["| | |", "| --- | --- |", *(f"| {name} | {_text(value)} |" for name, value in rows)]


def _short(digest: object) -> str:
    return str(digest)[:12]


def _plain(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(_plain(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text(value: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(str(value).split()))
