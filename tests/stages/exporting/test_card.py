"""The model card says what was measured of these very weights, and shows names as they are."""

from typing import Any

import pytest

from deit_pipe.stages.exporting.card import card
from deit_pipe.stages.networks.student import StudentFacts

FACTS = StudentFacts(
    model="custom",
    image_size=32,
    num_classes=22,
    class_names=("a|b", "[link](x)", *(f"class {number}" for number in range(20))),
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    crop_ratio=0.8,
)
RESULT: dict[str, Any] = {
    "answer": "fused",
    "selected": "val",
    "val": {"class": {"top1": 0.5, "top5": 0.75}, "fused": {"top1": 0.625, "top5": None}},
    "split": "val",
    "images": 360,
    "chance": 0.1,
    "teacher_top1": 0.9,
    "best": {"top1": 0.7, "epoch": 4},
}
CONFIG: dict[str, Any] = {
    "data": "/home/somebody/photos",
    "cache": "/nowhere",
    "cache_digest": "abcdef" * 8,
    "cached_epochs": 30,
    "teacher": "resnet10t",
    "teacher_digests": ["0123456789abcdef"],
    "loss": "hard",
    "lr": 0.003,
    "tau": None,
}


def text(weights: str = "result", result: dict[str, Any] | None = RESULT, config: dict[str, Any] = CONFIG) -> str:
    return card(FACTS, kind="timm", weights=weights, parameters=1234567, use=["x = 1"], config=config, result=result)


def test_numbers_names_and_settings_are_those_of_the_run() -> None:
    said = text()
    assert said.startswith("---\nlibrary_name: timm\npipeline_tag: image-classification\n")
    for line in (
        "# custom, 32 px, 22 classes",
        "| class head | 50.00% | 75.00% |",
        "| both, mean of logits | 62.50% | - |",
        "360 val images, chance 10.00%, teacher 90.00% (val).",
        "| teacher | resnet10t, sha256 0123456789ab |",
        "| cache | identity abcdefabcdef, 30 epochs |",
        "| lr | 0.003 |",
        "```python\nx = 1\n```",
    ):
        assert line in said
    assert "1,234,567 parameters" in said
    assert "short side resized to 40 px (bicubic), the 32 px in the centre" in said
    assert r"Classes: a\|b, \[link\](x), class 0" in said
    assert "class 17 and 2 more." in said
    assert "somebody" not in said
    assert "| tau |" not in said


@pytest.mark.parametrize(
    ("weights", "result", "says"),
    [
        ("best", RESULT, "Top-1 70.00% (fused) on val, the best epoch: 5."),
        ("last", RESULT, "These weights were not measured."),
        ("result", None, "These weights were not measured."),
    ],
)
def test_other_weights_do_not_get_the_results_numbers(weights: str, result: Any, says: str) -> None:
    said = text(weights, result)
    assert says in said
    assert "50.00%" not in said


def test_a_run_that_recorded_nothing_says_so() -> None:
    assert "| settings | not recorded |" in text(config={})
