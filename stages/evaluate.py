"""`deit-pipe evaluate`: accuracy of a trained student's heads."""

import time
from pathlib import Path

from deit_pipe.stages.data import check_same_classes, choose_workers, open_validation
from deit_pipe.stages.distributed import processes
from deit_pipe.stages.errors import Missing
from deit_pipe.stages.evaluation import evaluate_student
from deit_pipe.stages.options.evaluate import EvaluateOptions
from deit_pipe.stages.report import CommandResult
from deit_pipe.stages.run_folder import CONFIG, read_json, weights_file
from deit_pipe.stages.student import load_student
from deit_pipe.stages.teacher import load_teacher
from deit_pipe.stages.weights import read_teacher_run

LABELS = {
    "class": "class head",
    "dist": "distillation head",
    "fused": "fused (mean logit)",
    "fused_softmax": "fused (softmax)",
}


def run(options: EvaluateOptions) -> CommandResult:
    """Load the student, run it over the images, report."""
    folder = Path(options.run)
    with processes(options.device) as group:
        facts, model = load_student(folder, group.device, weights_file(folder, options.weights))
        config = read_json(folder / CONFIG) or {}
        if options.data is not None:
            table = open_validation(options.data, options.data)
        else:
            table = open_validation(str(config.get("data") or "digits"), config.get("val_data"))
        if table is None:
            raise Missing(f"the data of {folder} has no validation images\n  name some with --data D")
        check_same_classes(table, facts.class_names, f"the student in {folder}")
        teacher = None
        if options.teacher_weights:
            known = read_teacher_run(Path(options.teacher_weights))
            if known is None:
                raise Missing(
                    f"{options.teacher_weights} is no train-teacher folder\n  make one with: deit-pipe train-teacher"
                )
            teacher = load_teacher(
                known.model, weights=options.teacher_weights, num_classes=len(table.class_names),
                class_names=table.class_names, device=group.device,
            )  # fmt: skip
        started = time.perf_counter()
        scores = evaluate_student(
            model, facts, table, group, batch_size=options.batch_size, workers=choose_workers(options.workers),
            crop_ratio=options.eval_crop_ratio, teacher=teacher, quiet=False,
        )  # fmt: skip
        rate = len(table) / (time.perf_counter() - started)
    ratio = options.eval_crop_ratio or facts.crop_ratio
    lines = [
        f"{folder}: {facts.model} {facts.image_size} px on {len(table):,} images, crop ratio {ratio:g}, {rate:,.0f}/s"
    ]
    for name, values in scores.items():
        agree = f"   agrees with the teacher {values['agree']:7.2%}" if "agree" in values else ""
        top5 = "" if values["top5"] is None else f"   top-5 {values['top5']:7.2%}"
        lines.append(f"  {LABELS[name]:<20} top-1 {values['top1']:7.2%}{top5}{agree}")
    data = {
        "run": str(folder),
        "images": len(table),
        "crop_ratio": ratio,
        "images_per_second": rate,
        "scores": scores,
    }
    return CommandResult("\n".join(lines), data)
