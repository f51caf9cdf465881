"""From what was measured to what both stages will take: arithmetic only, by the one cost model."""

import math
from dataclasses import dataclass

from deit_pipe.stages.machine.cost_model import (
    NetworkCost,
    Pace,
    Share,
    ViewCost,
    break_even,
    cores_needed,
    measured_drag,
    online_cost,
    pace,
)
from deit_pipe.stages.training.fit import SAVE_SECONDS


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured, for one process.

    Attributes:
        view: of these images as they are.
        raw: of the same images, decoded.
        teacher: alone, of one view.
        teacher_fed: views a second, with the workers at work.
        student: alone, of one view.
        student_fed: views a second, with the workers at work.
        write: seconds of a core to write one view's targets.
        read: seconds to read one view's targets.
        evaluate: seconds to evaluate the student on one image.
        save: seconds of a checkpoint.
    """

    view: ViewCost
    raw: ViewCost
    teacher: NetworkCost
    teacher_fed: float
    student: NetworkCost
    student_fed: float
    write: float
    read: float
    evaluate: float
    save: float


@dataclass(frozen=True, kw_only=True)
class Job:
    """How much is to be done, by all processes.

    Attributes:
        cached_views: stage one's, over all epochs.
        padding: of its batches: views computed for nothing, as a share.
        trained_views: stage two's, over all epochs.
        trained_epochs: of stage two.
        evaluated: images, over all epochs.
    """

    cached_views: int
    padding: float
    trained_views: int
    trained_epochs: int
    evaluated: int


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What it will take, in seconds by the clock, start-up apart.

    Attributes:
        teacher: pace of stage one.
        student: pace of stage two.
        stage_one: seconds of stage one.
        stage_two: seconds of stage two for one student, with evaluation and checkpoints.
        evaluation: of it.
        checkpoints: of it.
        online: seconds to train one student with the teacher in every step.
        students: from how many students on the cache is quicker than that; infinite: never.
        cores: of each process that stage two takes when the student never waits.
    """

    teacher: Pace
    student: Pace
    stage_one: float
    stage_two: float
    evaluation: float
    checkpoints: float
    online: float
    students: float
    cores: float


def forecast(figures: Figures, job: Job, share: Share, *, raw: bool = False) -> Forecast:
    """What both stages take; `raw`: from packed raw pixels.

    What both at once cost beyond their parts is taken from the fed measurements, of these images as they are.
    """
    view = figures.raw if raw else figures.view
    # a thread writes blocks beside the teacher, one reads targets beside the step
    teacher_cost = padded(figures.teacher, job.padding).beside(figures.write)
    student_cost = figures.student.beside(figures.read)
    drag = {
        "teacher": measured_drag(figures.view, figures.teacher, share, figures.teacher_fed),
        "student": measured_drag(figures.view, student_cost, share, figures.student_fed),
    }
    teacher = pace(view, teacher_cost, share, drag["teacher"])
    student = pace(view, student_cost, share, drag["student"])
    online = pace(view, online_cost(figures.student, figures.teacher), share, drag["student"])
    evaluation = job.evaluated * figures.evaluate / share.processes
    stage_one = job.cached_views / teacher.rate
    saving, stage_two = with_checkpoints(job.trained_views / student.rate + evaluation, figures, job, share)
    _, with_teacher = with_checkpoints(job.trained_views / online.rate + evaluation, figures, job, share)
    return Forecast(
        teacher=teacher,
        student=student,
        stage_one=stage_one,
        stage_two=stage_two,
        evaluation=evaluation,
        checkpoints=saving,
        online=with_teacher,
        students=break_even(stage_one, stage_two, with_teacher),
        cores=cores_needed(view, student_cost),
    )


def with_checkpoints(seconds: float, figures: Figures, job: Job, share: Share) -> tuple[float, float]:
    """Seconds of a run's checkpoints, and of the run with them.

    Several processes save after every epoch, one when the last time was long enough ago, as `Fit` does.
    """
    apart = 1 if share.processes > 1 else math.ceil(SAVE_SECONDS * job.trained_epochs / seconds)
    saving = math.ceil(job.trained_epochs / apart) * figures.save
    return saving, seconds + saving


def padded(teacher: NetworkCost, padding: float) -> NetworkCost:
    """Per view that is needed."""
    return NetworkCost(seconds=teacher.seconds * (1 + padding), core_seconds=teacher.core_seconds * (1 + padding))
