"""Write timm032.json: what timm 0.3.2, the code DeiT was trained with, does with DeiT's arguments.

    pip download --no-deps timm==0.3.2
    python tests/golden/regenerate_timm032.py timm-0.3.2-py3-none-any.whl

The wheel is imported as it is, with the torch of this environment; only one module that torch has dropped since is put
in its place. The default tests compare with the file, and do not need the wheel.
"""

import collections.abc
import json
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

GOLDEN = Path(__file__).with_name("timm032.json")
LAMBDAS = (0.0, 0.03125, 0.25, 0.5, 0.515625, 0.75, 0.96875, 1.0)
MIDDLES = ((0, 0), (5, 223), (112, 112), (223, 40), (100, 200))
MAGNITUDES = tuple(number / 4 for number in range(41))
DRAWS = 20_000
SHARES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def import_timm(wheel: str) -> None:
    """Make `import timm` mean the wheel's."""
    six = types.ModuleType("torch._six")
    six.container_abcs = collections.abc  # type: ignore[attr-defined]
    sys.modules["torch._six"] = six
    sys.path.insert(0, wheel)
    import timm

    assert timm.__version__ == "0.3.2", timm.__file__


def views() -> dict[str, Any]:
    """The training transform that DeiT's datasets.py makes, its ops, boxes and crops."""
    import random

    from timm.data import auto_augment, create_transform, random_erasing

    transform = create_transform(
        input_size=224,
        is_training=True,
        color_jitter=0.3,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        re_prob=0.25,
        re_mode="pixel",
        re_count=1,
    )
    crop, _, augment, _, normalise, erasing = transform.transforms
    random_erasing._get_pixels = lambda *arguments, **options: None
    signs: dict[str, dict[str, list[Any]]] = {}
    for op in augment.ops:
        if op.level_fn is not None:
            signs[op.aug_fn.__name__] = {}
            for sign, uniform in (("plus", 0.1), ("minus", 0.9)):
                random.random = lambda uniform=uniform: uniform  # type: ignore[method-assign]
                signs[op.aug_fn.__name__][sign] = [op.level_fn(m, op.hparams) for m in MAGNITUDES]
    random.random = random.Random(3).random  # type: ignore[method-assign]
    random.seed(3)
    image = types.SimpleNamespace(size=(500, 375))
    crops = np.array([crop.get_params(image, crop.scale, crop.ratio) for _ in range(DRAWS)], float)
    boxes = []

    class Recorder:
        def __setitem__(self, index: tuple[slice, slice, slice], value: object) -> None:
            boxes.append((index[1].stop - index[1].start, index[2].stop - index[2].start))

    for _ in range(DRAWS):
        erasing._erase(Recorder(), 3, 224, 224, torch.float32)
    height, width = np.array(boxes, float).T
    first = augment.ops[0]
    return {
        "transforms": [type(one).__name__ for one in transform.transforms],
        "crop": {
            "scale": crop.scale,
            "ratio": crop.ratio,
            "area": np.quantile(crops[:, 2] * crops[:, 3] / (500 * 375), SHARES).tolist(),
            "aspect": np.quantile(crops[:, 3] / crops[:, 2], SHARES).tolist(),
        },
        "normalise": [normalise.mean.tolist(), normalise.std.tolist()],
        "ops": [op.aug_fn.__name__ for op in augment.ops],
        "layers": augment.num_layers,
        "op": {
            "prob": first.prob,
            "magnitude": first.magnitude,
            "std": first.magnitude_std,
            "fill": first.kwargs["fillcolor"],
            "resample": int(first.kwargs["resample"]),
        },
        "weights": None if augment.choice_weights is None else list(augment.choice_weights),
        "arguments": signs,
        "erasing": {
            "prob": erasing.probability,
            "area": [erasing.min_area, erasing.max_area],
            "log_aspect": list(erasing.log_aspect_ratio),
            "count": [erasing.min_count, erasing.max_count],
            "share": len(boxes) / DRAWS,
            "areas": np.quantile(height * width / 224**2, SHARES).tolist(),
            "aspects": np.quantile(height / width, SHARES).tolist(),
        },
        "max_level": auto_augment._MAX_LEVEL,
    }


def mixing() -> dict[str, Any]:
    """Boxes, corrected lambdas, targets and a mixed batch."""
    from timm.data import mixup

    boxes = []
    for lam in LAMBDAS:
        for middle in MIDDLES:
            queue = list(middle)
            original, np.random.randint = np.random.randint, lambda low, high=None, size=None, q=queue: q.pop(0)
            try:
                box, corrected = mixup.cutmix_bbox_and_lam((2, 3, 224, 224), lam)
            finally:
                np.random.randint = original
            boxes.append([lam, *middle, *(int(edge) for edge in box), float(corrected)])
    labels = torch.tensor([0, 3, 1, 4])
    targets = mixup.mixup_target(labels, 5, lam=0.3125, smoothing=0.1, device="cpu")
    np.random.seed(8)  # noqa: NPY002  # timm draws from the global generator
    made = mixup.Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, prob=1.0, switch_prob=0.5, mode="batch", label_smoothing=0.1)
    drawn = [made._params_per_batch() for _ in range(DRAWS)]
    shares = {
        kind: np.quantile([lam for lam, cut in drawn if cut == wanted], SHARES).tolist()
        for kind, wanted in (("mixup", False), ("cutmix", True))
    }
    return {
        "boxes": boxes,
        "targets": targets.tolist(),
        "cutmix": float(np.mean([cut for _, cut in drawn])),
        "lambdas": shares,
        "mode": made.mode,
    }


def optimisation() -> dict[str, Any]:
    """Rates of every epoch, what is not decayed, rates of drop path, averages, losses."""
    from timm.loss import SoftTargetCrossEntropy
    from timm.models.vision_transformer import VisionTransformer
    from timm.optim.optim_factory import add_weight_decay
    from timm.scheduler.cosine_lr import CosineLRScheduler
    from timm.utils import ModelEma

    rates = {}
    for name, epochs, lr, low in (("fresh", 300, 1e-3, 1e-5), ("finetune", 30, 5e-6, 5e-6)):
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=lr)
        schedule = CosineLRScheduler(
            optimizer,
            t_initial=epochs,
            t_mul=1.0,
            lr_min=low,
            decay_rate=0.1,
            warmup_lr_init=1e-6,
            warmup_t=5,
            cycle_limit=1,
            t_in_epochs=True,
        )
        rates[name] = []
        for epoch in range(epochs):
            schedule.step(epoch)
            rates[name].append(optimizer.param_groups[0]["lr"])
    # DeiT-Ti, as the official models.py makes it from this class
    model = VisionTransformer(
        patch_size=16,
        embed_dim=192,
        depth=12,
        num_heads=3,
        mlp_ratio=4,
        qkv_bias=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        drop_path_rate=0.1,
    )
    kept = {id(parameter) for parameter in add_weight_decay(model, 0.05, model.no_weight_decay())[0]["params"]}
    small = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(small.weight, 1.0)
    average = ModelEma(small, decay=0.99996)
    averages = []
    for value in (2.0, 5.0, -3.0):
        torch.nn.init.constant_(small.weight, value)
        average.update(small)
        averages.append(float(average.ema.weight))
    logits = torch.linspace(-2, 2, 20).reshape(4, 5) ** 3
    soft = torch.softmax(torch.linspace(0, 3, 20).reshape(4, 5), dim=1)
    return {
        "rates": rates,
        "not_decayed": [name for name, parameter in model.named_parameters() if id(parameter) in kept],
        "drop_path": [float(getattr(block.drop_path, "drop_prob", 0.0)) for block in model.blocks],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "averages": averages,
        "soft_target_loss": float(SoftTargetCrossEntropy()(logits, soft)),
    }


def main() -> None:
    """Regenerate the file."""
    import_timm(sys.argv[1])
    document = {"views": views(), "mixing": mixing(), "optimisation": optimisation()}
    GOLDEN.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
