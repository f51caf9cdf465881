"""A training run's folder with round numbers."""

import json
from pathlib import Path
from typing import Any


def write_run(folder: Path, epochs: int = 6, *, loss: str = "hard", lr: float = 1.0, result: bool = True) -> Path:
    """A run folder as train-student writes it, with round numbers."""
    folder.mkdir(parents=True)
    config = {
        "student": "custom",
        "loss": loss,
        "preset": "small",
        "cache": "<i>cache",
        "lr": lr,
        "workers": 3,
    }
    (folder / "config.json").write_text(json.dumps(config))
    lines: list[dict[str, Any]] = []
    for epoch in range(epochs):
        for part in range(2):
            lines.append(
                {
                    "kind": "step",
                    "step": 10 * (2 * epoch + part + 1),
                    "epoch": epoch,
                    "lr": lr,
                    "loss": 1.0,
                    "data_wait_seconds": 0.1,
                    "target_wait_seconds": 0.05,
                    "compute_seconds": 0.35,
                    "views_per_second": 100.0 + 10 * epoch,
                }
            )
        top1 = [0.5, 0.6, 0.8, 0.7, 0.75, 0.78][epoch]
        heads = {
            name: {"top1": top1 + shift, "top5": 1.0}
            for name, shift in (("class", 0.0), ("dist", 0.01), ("fused", 0.02), ("fused_softmax", 0.02))
        }
        lines.append(
            {
                "kind": "epoch",
                "step": 20 * (epoch + 1),
                "epoch": epoch,
                "lr": lr / (epoch + 1),
                "loss": 2.0 / (epoch + 1),
                "label_loss": 1.5 / (epoch + 1),
                "distillation_loss": 2.5 / (epoch + 1),
                "agreement": 0.1 * epoch,
                "val": heads,
            }
        )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if result:
        (folder / "result.json").write_text(json.dumps({"answer": "fused"}))
    return folder


def write_shown(folder: Path, classes: int = 3) -> None:
    """What the end of a run keeps of its last evaluation: class k has k + 1 images, one of them wrong; two pictures."""
    picture = {"image": "<b>.png", "class": "c1", "kind": "png", "data": "AAAA"}
    said = {"fused": ["c2", 0.75], "class": ["c2", 0.5], "dist": ["c1", 0.625]}
    rows = [{"class": f"c{k}", "images": k + 1, "right": k} for k in range(classes)]
    both = [picture | {"said": said}, picture | {"said": {head: ["c1", 1.0] for head in said}}]
    (folder / "shown.json").write_text(json.dumps({"answer": "fused", "classes": rows, "pictures": both}))
