from dataclasses import replace

import pytest

from deit_pipe.stages.machine.cost_model import CORES, NETWORK, VIEWS, NetworkCost, Share, ViewCost
from deit_pipe.stages.measuring.forecast import Figures, Job, forecast

JOB = Job(cached_views=30_000, padding=0.0, trained_views=300_000, trained_epochs=30, evaluated=10_000)
GPU = Figures(
    view=ViewCost(core_seconds=0.001, rate=4000.0),
    raw=ViewCost(core_seconds=0.0005, rate=8000.0),
    teacher=NetworkCost(seconds=1 / 1000, core_seconds=0.0001),
    teacher_fed=1000.0,
    student=NetworkCost(seconds=1 / 6000, core_seconds=0.0001),
    student_fed=4000.0,
    write=0.00002,
    read=0.00001,
    evaluate=0.0005,
    save=0.0,
)
SHARE = Share(cores=8, workers=4)


def test_on_a_gpu_the_teacher_sets_the_pace_of_stage_one_and_the_views_that_of_stage_two() -> None:
    found = forecast(GPU, JOB, SHARE)
    assert (found.teacher.limit, found.student.limit) == (NETWORK, VIEWS)
    assert found.stage_one == pytest.approx(30)
    assert found.evaluation == pytest.approx(5)
    assert found.stage_two == pytest.approx(300_000 / 4000 + 5)
    # teacher and student in turn: 1/1000 + 1/6000 s a view
    assert found.online == pytest.approx(300_000 * 7 / 6000 + 5)
    assert found.students == pytest.approx(30 / (350 - 75))
    assert found.cores == pytest.approx(0.00111 * 6000)
    packed = forecast(GPU, JOB, SHARE, raw=True)
    assert packed.stage_two == pytest.approx(300_000 / 6000 + 5)
    assert packed.student.limit == NETWORK


def test_what_was_measured_with_both_at_work_counts() -> None:
    found = forecast(replace(GPU, student_fed=3000.0), JOB, SHARE)
    assert found.stage_two == pytest.approx(300_000 / 3000 + 5)
    # from raw pixels it is slower than its parts by as much
    packed = forecast(replace(GPU, student_fed=3000.0), JOB, SHARE, raw=True)
    assert packed.stage_two == pytest.approx(300_000 / 6000 * 4 / 3 + 5)


def test_views_and_networks_share_the_cores_of_a_cpu() -> None:
    cpu = replace(
        GPU,
        teacher=NetworkCost(seconds=0.004, core_seconds=0.008),
        teacher_fed=2 / 0.009,
        student=NetworkCost(seconds=0.002, core_seconds=0.004),
        student_fed=2 / 0.005,
        write=0.0,
        read=0.0,
    )
    found = forecast(cpu, JOB, Share(cores=2, workers=2))
    assert (found.teacher.limit, found.student.limit) == (CORES, CORES)
    assert found.stage_one == pytest.approx(30_000 * 0.009 / 2)
    assert found.stage_two == pytest.approx(300_000 * 0.005 / 2 + 5)
    assert found.online == pytest.approx(300_000 * 0.013 / 2 + 5)
    # so do the threads that write and read targets
    busy = replace(cpu, write=0.001, read=0.0005, student_fed=2 / 0.0055)
    found = forecast(busy, JOB, Share(cores=2, workers=2))
    assert found.stage_one == pytest.approx(30_000 * 0.010 / 2)
    assert found.stage_two == pytest.approx(300_000 * 0.0055 / 2 + 5)


def test_a_run_saves_after_every_epoch_but_not_more_often_than_every_two_seconds() -> None:
    saving = replace(GPU, save=0.5)  # 80 s without, 30 epochs of 2.7 s
    assert forecast(saving, JOB, SHARE).checkpoints == pytest.approx(30 * 0.5)
    assert forecast(saving, JOB, SHARE).stage_two == pytest.approx(300_000 / 4000 + 5 + 15)
    many = replace(JOB, trained_epochs=100)  # of 0.8 s: after every third
    assert forecast(saving, many, SHARE).checkpoints == pytest.approx(34 * 0.5)
    assert forecast(saving, many, replace(SHARE, processes=2)).checkpoints == pytest.approx(100 * 0.5)


def test_processes_share_the_work_and_padding_adds_to_it() -> None:
    one, two = forecast(GPU, JOB, SHARE), forecast(GPU, JOB, replace(SHARE, processes=2))
    assert (two.stage_one, two.stage_two, two.online) == pytest.approx(
        (one.stage_one / 2, one.stage_two / 2, one.online / 2)
    )
    assert two.students == pytest.approx(one.students)
    padded = forecast(GPU, replace(JOB, padding=0.25), SHARE)
    assert padded.stage_one == pytest.approx(one.stage_one * 1.25)
    assert padded.online == pytest.approx(one.online)
