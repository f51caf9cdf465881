"""Options of `deit-pipe train-student`. An option whose default is None takes its value from the preset."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from deit_pipe.stages.options.fields import CheckedOptions, option, setting

FROM_PRESET = "[default: from the preset]"
# Headings of the help.
DATA, STUDENT, DISTILLATION, RUN, MACHINE = "Data and cache", "Student", "Distillation", "Run", "Machine"


@dataclass(frozen=True, kw_only=True)
class TrainStudentOptions(CheckedOptions):
    """Train a DeiT student from a cache, on exactly the views the teacher saw.

    Recipe, plan and seed of the views come from the cache; there is no augmentation option to get wrong. Every
    view's fingerprint is checked against the cache. Running the same command again resumes. Start it under torchrun
    to use several GPUs. The published hyperparameters come from the preset; --print-config shows every value, --set
    changes any, and deit-pipe.toml can keep them.

    Settings that the images cannot serve (a batch or a warm-up larger than there are views or epochs) are adapted,
    with a line that says so. The best epoch is selected on validation images only; without any, the last epoch is the
    result, and the test images, if there are some, are looked at once, at the end. Unlabelled images learn from the
    teacher alone. --loss none needs no teacher: a cache that is only planned will do.

    --json is RUN/result.json: out, student, loss, epochs, steps, answer (the head that counts), selected (the key of
    its scores: val, val_ema, test or test_ema), best (top1 and epoch on validation images, or null), val or test (by
    head: top1, and top5, null up to 5 classes), by_crop_ratio (the same at 0.875 and 1, of a run with --init-from),
    teacher_top1 (null where unknown); and of the images of `split` (val, test or null): images, chance, commonest
    (share of the largest class), near_chance, better_head (or null). With --seeds it is what compare says of the runs.

    Examples:
      deit-pipe train-student
      deit-pipe train-student --cache cache/ --data imagenet/ --student deit_tiny_distilled_patch16_224 --device cuda
      deit-pipe train-student --cache cache/ --loss soft --tau 3 --set alpha=0.1
      deit-pipe train-student --loss soft --teacher regnety_160.deit_in1k:2,convnext_base.fb_in1k:1
      deit-pipe train-student --loss soft --seeds 3 --out runs/soft
      deit-pipe train-student --epochs 100 --set ema=0.9999 --set clip-grad=1
      deit-pipe train-student --cache cache384/ --init-from runs/ti224
      deit-pipe train-student --cache photos/ --init-from deit_small_distilled_patch16_224
      torchrun --nproc-per-node 8 -m deit_pipe.cli train-student --cache cache/ --out runs/b
    """

    RENAMED: ClassVar[Mapping[str, str]] = {
        "width": "--student custom:WIDTHxDEPTHxHEADS, such as custom:64x3x2",
        "depth": "--student custom:WIDTHxDEPTHxHEADS, such as custom:64x3x2",
        "heads": "--student custom:WIDTHxDEPTHxHEADS, such as custom:64x3x2",
        "teacher_loss_weights": "--teacher A:2,B:1",
        "patch_size": "--student custom:WIDTHxDEPTHxHEADS/PATCH, such as custom:64x3x2/8",
    }

    cache: str = option("./teacher-cache", "The cache to train from: a folder, or a URL.", metavar="C", group=DATA)
    data: str | None = option(None, "The cached images.  [default: as recorded in the cache]", metavar="D", group=DATA)
    val_data: str | None = option(
        None,
        "Validation images.  [default: the data's val split; none if it has none]",
        metavar="D",
        group=DATA,
    )
    out: str = option(
        "./student-run",
        "Folder of this run: config, metrics, checkpoints.",
        metavar="RUN",
        flags=("-o",),
        group=DATA,
    )
    # -- student
    student: str | None = option(
        None,
        "A timm model, or one of your own sizes: custom:64x3x2 is width x depth x heads, custom:64x3x2/8 has "
        "patches of 8 px.  [default: deit_tiny_distilled_patch16_224; custom, which is custom:64x3x2 with patches of a "
        "quarter of the view, below 160 px]",
        metavar="M",
        group=STUDENT,
    )
    init_from: str | None = option(
        None,
        "Start from these weights; another resolution or other classes are fine: a run, an export, a weights file, a "
        "Hugging Face DeiT folder, a timm tag, or 'pretrained' (timm's of --student). They say which student it is.",
        metavar="RUN|FILE|TAG",
        group=STUDENT,
    )
    drop_path: float | None = setting(None, f"Stochastic depth rate. {FROM_PRESET}", minimum=0.0, maximum=0.99)
    grad_checkpointing: bool = setting(False, "Recompute activations in the backward pass to save memory.")
    # -- distillation
    loss: str | None = option(
        None,
        "none, hard (DeiT eq. 3), soft (eq. 2) or mse (of centred logits).  [default: hard; soft with preset patient]",
        choices=("none", "hard", "soft", "mse"),
        group=DISTILLATION,
    )
    tau: float = option(3.0, "Temperature of the soft loss.", minimum=0.01, group=DISTILLATION)
    teacher: str | None = option(
        None,
        "Which cached teacher(s), by name: a or a,b (their losses are averaged); a:2,b:1 with weights.  [default: the "
        "only one]",
        metavar="A[:W],B[:W]",
        group=DISTILLATION,
    )
    alpha: float | None = setting(
        None,
        "Share of the distillation term.  [default: 0.5 hard and mse, 0.1 soft, 0.9 with preset patient]",
        minimum=0.0,
        maximum=1.0,
    )
    dist_label: bool = setting(False, "The distillation head learns the label too: its loss is then Hinton's.")
    kd_reduction: str = setting(
        "batchmean",
        "Soft loss: batchmean, or deit, which divides by batch x classes as the official code does.",
        choices=("batchmean", "deit"),
    )
    label_loss: str | None = setting(None, f"Label term: ce, or DeiT III's bce. {FROM_PRESET}", choices=("ce", "bce"))
    smoothing: float | None = setting(
        None, f"Label smoothing, on true labels only. {FROM_PRESET}", minimum=0.0, maximum=0.9
    )
    # -- run
    preset: str | None = option(
        None,
        "deit, deit3, finetune, deit3-finetune, transfer (new heads on trained weights), small, few (less data "
        "than the published settings need), or patient (the one that would be taken, four times as long, to match the "
        "teacher).  [default: by the cache's recipe, number of images, and start]",
        choices=("deit", "deit3", "finetune", "deit3-finetune", "transfer", "small", "few", "patient"),
        group=RUN,
    )
    epochs: int | None = option(
        None, f"Passes over the data; cached epochs are reused in turn. {FROM_PRESET}", minimum=1, group=RUN
    )
    batch_size: int | None = option(
        None,
        f"Views in one optimiser step, over all GPUs; at most those of an epoch. {FROM_PRESET}",
        minimum=1,
        group=RUN,
    )
    lr: float | None = option(None, f"Base learning rate. {FROM_PRESET}", minimum=0.0, group=RUN)
    seed: int = option(
        0,
        "Seed of the student's weights and drop path (not of the views).",
        minimum=0,
        maximum=2**40,
        group=RUN,
    )
    seeds: int = option(
        1, "So many students, from --seed on, in OUT/seed-N; then their table.", minimum=1, maximum=100, group=RUN
    )
    print_config: bool = option(
        False, "Print every value that would be used, as TOML that deit-pipe.toml takes, and stop.", group=RUN
    )
    accumulate: int = setting(1, "Split each GPU's share of a step into this many passes.", minimum=1)
    optimizer: str | None = setting(None, f"timm optimiser: adamw, lamb, sgd, ... {FROM_PRESET}")
    lr_batch: int | None = setting(
        None, f"lr is for this global batch and scaled linearly; 0: not scaled. {FROM_PRESET}", minimum=0
    )
    warmup_epochs: int | None = setting(None, f"Linear warmup; must end before the run does. {FROM_PRESET}", minimum=0)
    warmup_lr: float | None = setting(None, f"First learning rate of the warmup. {FROM_PRESET}", minimum=0.0)
    min_lr: float | None = setting(None, f"Last learning rate of the cosine. {FROM_PRESET}", minimum=0.0)
    weight_decay: float | None = setting(
        None, f"Weight decay (not on biases, norms, tokens). {FROM_PRESET}", minimum=0.0
    )
    layer_decay: float | None = setting(
        None, "Learning-rate factor per layer, for fine-tuning.", minimum=0.01, maximum=1.0
    )
    clip_grad: float | None = setting(None, f"Largest gradient norm; 0: no clipping. {FROM_PRESET}", minimum=0.0)
    ema: float = setting(
        0.0,
        "Decay of averaged weights, such as 0.9999; reached slowly (see ema-warmup), so short runs work; 0: none.",
        minimum=0.0,
        maximum=1.0,
    )
    ema_warmup: bool = setting(
        True, "The decay grows to `ema`, as timm's does. false: at once, from the untrained weights on, as in DeiT."
    )
    select: str = setting(
        "model", "Weights that count as the result and for best: model or ema.", choices=("model", "ema")
    )
    order_seed: int | None = setting(
        None,
        "Shuffle the order of blocks and groups.  [default: plan order, shuffled from the second pass on]",
        minimum=0,
    )
    # -- machine
    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...", group=MACHINE)
    workers: int | None = option(
        None,
        "Threads that make views; processes without the native engine.  [default: one per core, at most 16]",
        minimum=0,
        group=MACHINE,
    )
    precision: str | None = setting(
        None,
        "fp32, bf16 or fp16 autocast.  [default: bf16 on CUDA, else fp32]",
        choices=("fp32", "bf16", "fp16"),
    )
    channels_last: bool = setting(False, "Channels-last memory format of images.")
    compile: bool = setting(False, "torch.compile the student.")
    threads: int | None = setting(
        None,
        "CPU threads of torch; they can change the last bits.  [default: 1 below 1 M parameters, else torch's own]",
        minimum=1,
    )
    # -- evaluation, records
    eval_every: int = setting(1, "Evaluate after every this many epochs (and at the end).", minimum=1)
    eval_crop_ratio: float | None = setting(
        None,
        "Evaluation: short side resized to S / ratio, then cropped.  [default: 0.875; 1 below 160 px]",
        minimum=0.1,
        maximum=1.0,
    )
    checkpoint_steps: int = setting(
        0, "Checkpoint also after every this many steps; 0: only after epochs, at most one in 2 s.", minimum=0
    )
    log_steps: int = setting(50, "A line in metrics.jsonl after every this many steps.", minimum=1)
    tensorboard: bool = setting(False, "Write TensorBoard events too (pip install 'deit-pipe[tensorboard]').")
    # -- baseline
    online_teacher: bool = setting(False, "Keep the teacher in the loop instead of reading its answers (the baseline).")
    teacher_weights: str | None = setting(
        None,
        "With online-teacher: the weights the cache was made with.  [default: as recorded in the cache]",
        metavar="FILE",
    )
