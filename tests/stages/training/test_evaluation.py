import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stage_fakes import student_options

from deit_pipe.pipeline.compose import normalise
from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.stages import evaluate, train_student
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.networks.student import load_student
from deit_pipe.stages.networks.two_heads import heads
from deit_pipe.stages.opened.plain_views import default_crop_ratio
from deit_pipe.stages.options.evaluate import EvaluateOptions
from deit_pipe.stages.training.evaluation import evaluate_student, evaluate_students, head_scores

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student") / "run"
    train_student.run(student_options(cache, folder, epochs=2, ema=0.9))
    return folder


def test_logit_mean_and_softmax_sum_are_different_predictors() -> None:
    sure, unsure = torch.tensor([[10.0, 0.0, 9.0]]), torch.tensor([[0.0, 3.0, 2.0]])
    scores = head_scores(sure, unsure)
    assert scores["fused"].argmax() == 2
    assert scores["fused_softmax"].argmax() == 0
    torch.testing.assert_close(scores["fused_softmax"], sure.softmax(1) + unsure.softmax(1))


@pytest.mark.parametrize("batch", [7, 32, 100])
def test_ragged_tails_are_counted_once(batch: int, run: Path, data: Path) -> None:
    facts, model = load_student(run, CPU)
    table = open_samples(str(data), "test")
    assert table is not None
    scores = evaluate_student(model, facts, table, Processes(0, 1, CPU), batch_size=batch)
    for values in scores.values():
        assert values["top1"] * len(table) == pytest.approx(round(values["top1"] * len(table)))
    assert scores == evaluate_student(model, facts, table, Processes(0, 1, CPU), batch_size=1)


def test_several_models_share_one_decode_of_each_image(run: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts, model = load_student(run, CPU)
    other, draw = copy.deepcopy(model), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_(generator=draw)
    model.train()
    table = open_samples(str(data), "test")
    assert table is not None
    read: list[int] = []
    real = table.read
    monkeypatch.setattr(table, "read", lambda sample: read.append(sample) or real(sample))
    alone = Processes(0, 1, CPU)
    both = evaluate_students([model, other], facts, table, alone, batch_size=7)
    assert sorted(read) == list(range(len(table)))
    assert both == [evaluate_student(one, facts, table, alone, batch_size=7) for one in (model, other)]
    assert both[0] != both[1]
    assert (model.training, other.training) == (True, False)


def test_scores_are_those_of_a_straight_computation(run: Path, data: Path) -> None:
    from PIL import Image

    facts, model = load_student(run, CPU)
    table = open_samples(str(data), "test")
    assert table is not None
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (facts.mean, facts.std))
    right = np.zeros(2)
    for sample in range(len(table)):
        image = (
            Image.fromarray(np.asarray(table.read(sample))).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
        )
        pixels = torch.tensor(np.asarray(image)).permute(2, 0, 1) / 255
        with torch.inference_mode():
            tokens = model.forward_features(((pixels - mean) / std)[None])  # type: ignore[operator]
            a, b = model.head(tokens[:, 0]), model.head_dist(tokens[:, 1])  # type: ignore[operator]
        right += [int(a.argmax()) == table.labels[sample], int((a + b).argmax()) == table.labels[sample]]
    scores = evaluate_student(model, facts, table, Processes(0, 1, CPU))
    assert scores["class"]["top1"] == right[0] / len(table)
    assert scores["fused"]["top1"] == right[1] / len(table)


def test_agreement_with_a_teacher(run: Path, data: Path) -> None:
    facts, model = load_student(run, CPU)
    table = open_samples(str(data), "test")
    assert table is not None
    predicted: list[torch.Tensor] = []

    def says_what_the_class_head_says(mixed: torch.Tensor) -> torch.Tensor:
        one, other = heads(model, normalise(mixed, facts.mean, facts.std))
        assert other is not None
        predicted.append(one.argmax(dim=1) == other.argmax(dim=1))
        return one

    def agreement(teacher: Any) -> dict[str, float]:
        scores = evaluate_student(model, facts, table, Processes(0, 1, CPU), teacher=teacher)
        return {name: values["agree"] for name, values in scores.items()}

    same = agreement(says_what_the_class_head_says)
    assert same["class"] == 1
    assert same["dist"] == pytest.approx(float(torch.cat(predicted).float().mean()))
    stubborn = [agreement(lambda mixed, says=label: torch.eye(4)[says].expand(len(mixed), 4)) for label in range(4)]
    for name in same:  # every answer agrees with exactly one of four teachers that always say the same
        assert sum(one[name] for one in stubborn) == pytest.approx(1)
    assert model.training is False


def test_evaluate_takes_result_best_and_last_weights(run: Path) -> None:
    scores = {
        which: evaluate.run(EvaluateOptions(run=str(run), weights=which, workers=0, device="cpu")).data["scores"]
        for which in ("result", "best", "last")
    }
    assert scores["result"] == scores["last"]
    assert scores["best"]["fused"]["top1"] >= scores["result"]["fused"]["top1"]


def test_images_of_other_classes_are_refused(run: Path) -> None:
    with pytest.raises(Mismatch, match="has other classes than the student"):
        evaluate.run(EvaluateOptions(run=str(run), data="digits", workers=0, device="cpu"))


@pytest.mark.parametrize(
    ("size", "model", "ratio"),
    [
        (224, "deit_tiny_distilled_patch16_224", 0.875),
        (384, "deit_base_distilled_patch16_384", 1.0),
        (224, "deit3_small_patch16_224", 1.0),
        (32, "custom", 1.0),
    ],
)
def test_crop_ratios_by_size_and_model(size: int, model: str, ratio: float) -> None:
    assert default_crop_ratio(size, model) == ratio
