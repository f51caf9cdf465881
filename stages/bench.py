"""`deit-pipe bench`: what this machine can do for both stages, measured in a minute or two."""

from deit_pipe.stages.console.progress import Progress, note, progress
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.machine.cost_model import NetworkCost, Share, ViewCost
from deit_pipe.stages.machine.distributed import Processes, processes
from deit_pipe.stages.machine.engine_words import engine_line
from deit_pipe.stages.machine.workers import choose_workers, own_cores
from deit_pipe.stages.measuring.bench_words import BenchFacts, bench_text, facts_of
from deit_pipe.stages.measuring.beside_steps import checkpoint_seconds, evaluation_seconds
from deit_pipe.stages.measuring.forecast import Figures, forecast
from deit_pipe.stages.measuring.networks import student_alone, student_fed, teacher_alone, teacher_fed
from deit_pipe.stages.measuring.subject import Subject, open_subject
from deit_pipe.stages.measuring.target_reads import scratch_targets
from deit_pipe.stages.measuring.views import decoded, part_costs, rates_by_workers, view_cost
from deit_pipe.stages.options.bench import BenchOptions

SECONDS = 5.0  # of each measurement
MEASUREMENTS = 10


def run(options: BenchOptions) -> CommandResult[BenchFacts]:
    """Open, measure, forecast, say."""
    with processes(options.device) as group:
        workers = choose_workers(None)
        if group.first:
            note(engine_line(workers))
        subject = open_subject(options, group)
        share = Share(cores=own_cores(), workers=workers, processes=group.world)
        with progress("measuring", MEASUREMENTS, "parts", quiet=not group.first) as bar:
            parts, by_workers, figures = measure(subject, group, workers, SECONDS, bar)
        found, packed = (forecast(figures, subject.job, share, raw=raw) for raw in (False, True))
        facts = facts_of(subject, share, parts, by_workers, figures, found, packed)
        return CommandResult(bench_text(facts), facts)


def measure(
    subject: Subject, group: Processes, workers: int, seconds: float, bar: Progress
) -> tuple[dict[str, float], dict[int, float], Figures]:
    """Parts of a view, views a second by workers, and what the forecast needs: means over all processes."""
    source, trainer, schedule = subject.source, subject.trainer, subject.schedule

    def one(what: str) -> None:
        bar.advance(1, what)
        group.barrier()

    def mean(values: list[float]) -> list[float]:
        return [value / group.world for value in group.sum(values)]

    parts = part_costs(source)
    one("a view by part")
    by_workers = rates_by_workers(source, workers, seconds / 2)
    one("views by workers")
    cores = view_cost(source, 0, seconds / 2).core_seconds
    raw = view_cost(decoded(source), workers, seconds / 2)
    one("views from raw pixels")
    with subject.teacher_threads():
        teacher = teacher_alone(subject.teacher, source, subject.batch_size, seconds)
        one("teacher")
        teacher_rate = teacher_fed(subject.teacher, source, subject.batch_size, subject.block_slots, workers, seconds)
        one("teacher, fed")
    student = student_alone(trainer, source, schedule, seconds)
    one("student")
    with scratch_targets(source, subject.targets, subject.block_slots) as there:
        write, read = there.write_seconds, there.read_seconds()
        one("targets")
        student_rate = student_fed(trainer, source, schedule, workers, seconds, there)
        one("student, fed")
    evaluation = evaluation_seconds(subject, group, seconds / 5)
    one("evaluation")
    save = checkpoint_seconds(trainer, group) * group.world  # of the first process; the mean is taken
    one("checkpoints")
    rates = mean([by_workers[count] for count in by_workers])
    by_workers = dict(zip(by_workers, rates, strict=True))
    numbers = [cores, raw.core_seconds, raw.rate, teacher.seconds, teacher.core_seconds, teacher_rate]
    numbers += [student.seconds, student.core_seconds, student_rate, write, read, evaluation, save]
    cores, raw_cores, raw_rate, *rest = mean(numbers)
    return (
        dict(zip(parts, mean(list(parts.values())), strict=True)),
        by_workers,
        Figures(
            view=ViewCost(core_seconds=cores, rate=by_workers.get(workers, 1 / cores)),
            raw=ViewCost(core_seconds=raw_cores, rate=raw_rate),
            teacher=NetworkCost(seconds=rest[0], core_seconds=rest[1]),
            teacher_fed=rest[2],
            student=NetworkCost(seconds=rest[3], core_seconds=rest[4]),
            student_fed=rest[5],
            write=rest[6],
            read=rest[7],
            evaluate=rest[8],
            save=rest[9],
        ),
    )
