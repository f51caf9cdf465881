"""A new classifier on frozen features: multinomial logistic regression, as one fits a head for new classes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.console.progress import progress
from deit_pipe.stages.networks.teacher import Teacher
from deit_pipe.stages.networks.teacher_head import plain_classifier, with_head
from deit_pipe.stages.teaching.plain_images import PlainImages

L2 = 1e-4
STEPS = 200


def fit_head(teacher: Teacher, table: SampleTable, *, image_size: int, batch_size: int, workers: int) -> Teacher:
    """The teacher with a classifier for the table's classes, fitted on one plain view of every labelled image.

    All features are held in memory: 4 bytes x features x images.

    Raises:
        Mismatch: no image has a label. UsageProblem: its classifier is no single linear layer.
    """
    plain_classifier(teacher)
    images = PlainImages(table, batch_size, workers)
    if not len(images):
        raise Mismatch(
            f"no head can be fitted: none of the {len(table)} images of {table.name} has a label",
            expected="some images of every class",
            cure="give labelled images with --data, or a teacher that knows the classes with --teacher-weights",
        )
    features: list[Tensor] = []
    labels: list[Tensor] = []
    with progress("reading features", len(images), "images") as shown:
        for pixels, of_these in images.read(image_size, teacher.device):
            features.append(teacher.features(pixels).cpu())
            labels.append(torch.from_numpy(of_these))
            shown.advance(len(of_these))
    head = logistic_regression(torch.cat(features), torch.cat(labels), len(table.class_names))
    return with_head(teacher, head, table)


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
