import timm
import torch
from timm.scheduler import CosineLRScheduler, create_scheduler_v2

from deit_pipe.stages.training.optim import learning_rate, make_optimizer, make_schedule
from deit_pipe.stages.training.settings import PRESETS


def student() -> torch.nn.Module:
    model: torch.nn.Module = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=10)
    return model


def test_biases_norms_and_tokens_are_not_decayed() -> None:
    model = student()
    optimizer = make_optimizer(model, PRESETS["deit"])
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {
        group["weight_decay"]: sorted(names[id(parameter)] for parameter in group["params"])
        for group in optimizer.param_groups
    }
    assert set(groups) == {0.0, 0.05}
    undecayed = set(groups[0.0])
    assert {"pos_embed", "cls_token", "dist_token"} <= undecayed
    for name, parameter in model.named_parameters():
        expected = parameter.ndim <= 1 or name in ("pos_embed", "cls_token", "dist_token")
        assert (name in undecayed) == expected, name


def test_peak_rate_is_scaled_by_the_global_batch() -> None:
    assert PRESETS["deit"].scaled_lr == 1e-3  # 5e-4 x 1024 / 512
    assert PRESETS["deit3"].scaled_lr == 4e-3
    assert PRESETS["finetune"].scaled_lr == 5e-6


def test_schedule_equals_timms_in_every_epoch() -> None:
    settings = PRESETS["deit"]
    ours = make_optimizer(student(), settings)
    theirs = torch.optim.AdamW(student().parameters(), lr=settings.scaled_lr)
    schedule = make_schedule(ours, settings)
    reference, epochs = create_scheduler_v2(
        theirs, sched="cosine", num_epochs=300, warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-5
    )
    assert isinstance(reference, CosineLRScheduler)
    assert epochs == 300
    for epoch in range(300):
        schedule.step(epoch)
        reference.step(epoch)
        assert learning_rate(ours) == theirs.param_groups[0]["lr"], epoch


def test_schedule_gives_the_published_rates() -> None:
    """Recomputed from the published settings at 1024 images: warmup from 1e-6, cosine to 1e-5."""
    optimizer = make_optimizer(student(), PRESETS["deit"])
    schedule = make_schedule(optimizer, PRESETS["deit"])
    rates = []
    for epoch in range(300):
        schedule.step(epoch)
        rates.append(learning_rate(optimizer))
    assert abs(rates[0] - 1e-6) < 1e-12
    assert abs(rates[1] - 2.008e-4) < 1e-8
    assert abs(rates[5] - 9.9932e-4) < 1e-8
    assert abs(rates[299] - 1.0027e-5) < 1e-9


def test_layer_decay_gives_early_blocks_smaller_rates() -> None:
    optimizer = make_optimizer(student(), PRESETS["finetune"], layer_decay=0.5)
    schedule = make_schedule(optimizer, PRESETS["finetune"])
    schedule.step(10)
    rates = {group["lr"] for group in optimizer.param_groups}
    assert len(rates) > 10
    assert max(rates) == learning_rate(optimizer) or learning_rate(optimizer) == PRESETS["finetune"].scaled_lr
