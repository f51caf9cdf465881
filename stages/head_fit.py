"""A new classifier on frozen features: multinomial logistic regression, as one fits a head for new classes."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deit_pipe.pipeline.compose import compose
from deit_pipe.pipeline.loader import load_views
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.data import eval_cells, eval_plan, eval_recipe
from deit_pipe.stages.report import progress
from deit_pipe.stages.teacher import Teacher, with_head

L2 = 1e-4
STEPS = 200


def fit_head(
    teacher: Teacher, table: SampleTable, *, image_size: int, batch_size: int, workers: int, crop_ratio: float
) -> Teacher:
    """The teacher with a classifier for the table's classes, fitted on one plain view of every image.

    All features are held in memory: 4 bytes x features x images.
    """
    recipe = eval_recipe(crop_ratio)
    features: list[Tensor] = []
    with progress("reading features", len(table), "images") as shown:
        for views in load_views(
            table, recipe, eval_plan(len(table)), eval_cells(len(table), batch_size),
            image_size=image_size, workers=workers,
        ):  # fmt: skip
            features.append(teacher.features(compose(views.to(teacher.device), recipe)).cpu())
            shown.advance(len(views))
    head = logistic_regression(
        torch.cat(features), torch.as_tensor(np.asarray(table.labels)), len(table.class_names)
    )
    return with_head(teacher, head, table.class_names)


def logistic_regression(features: Tensor, labels: Tensor, num_classes: int) -> nn.Linear:
    """Linear layer minimising cross entropy + L2/2 |W|^2 on standardised features, by full-batch L-BFGS.

    Args:
        features: float32 [N, F].
        labels: int64 [N], 0..C-1.
        num_classes: C.
    """
    mean, scale = features.mean(dim=0), features.std(dim=0, correction=0).clamp_min(1e-6)
    inputs = (features - mean) / scale
    weight = torch.zeros(num_classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(num_classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(F.linear(inputs, weight, bias), labels) + L2 / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    # fold the standardisation into the layer, so that it takes raw features
    head = nn.Linear(features.shape[1], num_classes)
    with torch.no_grad():
        head.weight.copy_(weight / scale)
        head.bias.copy_(bias - (weight / scale) @ mean)
    return head
