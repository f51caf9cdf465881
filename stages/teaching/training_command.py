"""The command that trains a teacher for some data: what is printed where one does not know them."""

from pathlib import Path

from deit_pipe.pipeline.data_set import FIELDS, DataSet
from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.networks.teacher_sources import TEACHER_RUN
from deit_pipe.stages.networks.weights import read_teacher_run
from deit_pipe.stages.opened.plain_views import default_image_size
from deit_pipe.stages.options.train_teacher import TrainTeacherOptions


def training_command(model: str, data: DataSet, *, image_size: int) -> str:
    """`train-teacher` for these images and this choice of them, into a folder that is free."""
    out = TEACHER_RUN
    while read_teacher_run(out) is not None:
        out = Path(f"{out}-{Path(data.data).name}")
    choice = {name: getattr(data.choice, name) for name in FIELDS if name != "excluded"}  # `exclude` says which
    usual = default_image_size(data.train) == image_size
    choice["val_fraction"] = choice["val_fraction"] or None
    return command_line(
        "train-teacher",
        TrainTeacherOptions,
        teacher=model,
        data=data.data,
        out=None if out == TEACHER_RUN else str(out),
        img_size=None if usual else image_size,
        **choice,
    )
