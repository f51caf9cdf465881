"""What a training run does beside its steps: it evaluates, and keeps what it would go on with."""

import tempfile
from pathlib import Path

import numpy as np

from deit_pipe.pipeline.selected_samples import SelectedSamples
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.measuring.clocks import repeat
from deit_pipe.stages.measuring.subject import Subject
from deit_pipe.stages.training.checkpoint import Checkpoint, check_finite, random_states, save_checkpoint
from deit_pipe.stages.training.evaluation import evaluate_student
from deit_pipe.stages.training.trainer import Trainer

EVALUATED = 256  # images


def evaluation_seconds(subject: Subject, group: Processes, seconds: float) -> float:
    """Of one image, in the way a run evaluates; of training images where there are no others."""
    table = subject.data.val or subject.data.test or subject.source.table
    labelled = np.flatnonzero(table.labels >= 0)[: EVALUATED * group.world]
    if not len(labelled):
        return 0.0
    part, facts = SelectedSamples(table, positions=labelled), subject.trainer.facts
    share = max(1, len(labelled) // group.world)

    def work() -> int:
        evaluate_student(subject.trainer.student, facts, part, group)
        return share

    # once to know how long it takes; all processes the same number of times: they wait for each other
    first = group.sum([repeat(work, 0.0, group.device, least=1).seconds])[0] / group.world
    taken = repeat(work, 0.0, group.device, warm_up=0, least=max(1, round(seconds / first)))
    return taken.seconds / taken.units


def checkpoint_seconds(trainer: Trainer, group: Processes) -> float:
    """Of one checkpoint, which the first process writes, to a scratch folder, and the others wait for."""
    if not group.first:
        return 0.0
    names = iter(range(1, 10))
    with tempfile.TemporaryDirectory() as scratch:

        def work() -> int:
            check_finite(trainer.student, "in a measurement")
            checkpoint = Checkpoint(
                model=trainer.student.state_dict(),
                optimizer=trainer.optimizer.state_dict(),
                ema=trainer.ema.module.state_dict() if trainer.ema else None,
                random=random_states(group.device, group.rank),
                state={},
            )
            save_checkpoint(Path(scratch), checkpoint, f"{next(names):08d}")
            return 1

        taken = repeat(work, 0.0, group.device, least=3)
    return taken.seconds / taken.units
