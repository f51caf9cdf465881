"""`deit-pipe train-student`: stage two. The cache's views and targets -> a student."""

import os
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path

from deit_pipe.pipeline.data_set import DataSet
from deit_pipe.stages import compare
from deit_pipe.stages.compare import ComparedRuns
from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.face.cache import Cache
from deit_pipe.stages.machine.distributed import Processes, processes
from deit_pipe.stages.machine.engine_words import engine_line
from deit_pipe.stages.machine.workers import choose_workers
from deit_pipe.stages.opened.cache import OpenedCache, open_cache
from deit_pipe.stages.opened.same_samples import check_same_classes
from deit_pipe.stages.options.compare import CompareOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.adapted_settings import step_slots
from deit_pipe.stages.training.building import build_trainer, say_start
from deit_pipe.stages.training.cached_run import block_slots, check_labelled, online_targets, open_readers
from deit_pipe.stages.training.chosen_student import student_facts
from deit_pipe.stages.training.decisions import DERIVED, Decisions, check_options, decide
from deit_pipe.stages.training.fit import Fit
from deit_pipe.stages.training.outcome import RunSettings, TrainedStudent, result_text
from deit_pipe.stages.training.run_folder import begin, finished, only_writer
from deit_pipe.stages.training.settings import config_as_toml
from deit_pipe.stages.training.target_sources import NoTargets, OnlineTargets
from deit_pipe.stages.training.trainer import Schedule
from deit_pipe.store.gates import read_gate


def run(options: TrainStudentOptions) -> CommandResult[TrainedStudent | RunSettings | ComparedRuns]:
    """One student, or several that differ in their seed only."""
    if options.seeds == 1 or options.print_config:
        return run_one(options)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageProblem(
            "--seeds trains one student after the other", cure="start each with its own --seed under torchrun"
        )
    folders: list[str] = []
    for seed in range(options.seed, options.seed + options.seeds):
        one = replace(options, seed=seed, seeds=1, out=str(Path(options.out) / f"seed-{seed}"))
        note(f"student {len(folders) + 1} of {options.seeds}: seed {seed}, in {one.out}")
        run_one(one)
        folders.append(one.out)
    found = compare.run(CompareOptions(runs=tuple(folders)))
    return CommandResult(
        f"{found.text}\nnext: {command_line('compare', CompareOptions, runs=tuple(folders))}", found.facts
    )


def run_one(options: TrainStudentOptions) -> CommandResult[TrainedStudent | RunSettings]:
    """Open the cache, decide, open its images, build the student, train; the run folder holds the result."""
    with processes(options.device) as group, ExitStack() as stack:
        if group.first and not options.print_config:
            note(engine_line(choose_workers(options.workers)))
        opened = open_cache(options.cache)
        decided = decide(options, opened, group)
        if options.print_config:
            shown = {name: value for name, value in decided.config.items() if name not in DERIVED}
            return CommandResult(config_as_toml(shown), RunSettings(decided.config))
        check_options(options, decided.settings)
        images = open_run_images(options, opened, decided)
        facts = student_facts(options, opened.manifest, images.train, decided.settings)
        epochs = decided.config["cached_epochs"]
        readers = open_readers(options, opened.stored, decided.names, decided.loss, epochs)
        cache = Cache(opened, images, readers)
        run_folder = Path(options.out)
        if group.first:
            stack.enter_context(only_writer(run_folder))
            given = {item.name for item in fields(options) if getattr(options, item.name) != item.default}
            begin(run_folder, decided.config, given)
        group.barrier()
        done = finished(run_folder)
        if done is not None:
            text = f"{run_folder}: nothing to do, this run is finished\n{result_text(done)}"
            return CommandResult(text, TrainedStudent.of(done))

        schedule = schedule_of(options, opened, decided)
        alone = None if cache.teachers else targets_alone(options, opened, decided, group, cache)
        if group.first:
            say_proof(opened)
        cache.check_program(facts.mean, facts.std, group.device)
        trainer = build_trainer(options, decided, facts, cache.recipe, group)
        trainer.taught = not isinstance(alone, NoTargets)
        if group.first:
            say_start(options, decided, schedule, facts, trainer.student)
        fit = Fit(
            trainer=trainer,
            schedule=schedule,
            settings=decided.settings,
            options=options,
            table=images.train,
            validation=images.val,
            test=images.test,
            teacher=known_teacher(options, decided.names),
            image_size=cache.image_size,
            workers=choose_workers(options.workers),
            run_folder=run_folder,
            make_targets=lambda epoch, step: alone or cache.targets(lambda: schedule.cells(group, epoch, step)),
        )
        result = fit.run()
    return CommandResult(result_text(result), TrainedStudent.of(result))


def open_run_images(options: TrainStudentOptions, cache: OpenedCache, decided: Decisions) -> DataSet:
    """The cache's own images, with labels that serve the loss.

    Raises:
        CacheMismatch: other images. Mismatch: other classes in val or test; no labels for a loss that needs them.
    """
    images = cache.open_images(decided.config["data"], options.val_data)
    for held_out in (images.val, images.test):
        if held_out is not None:
            check_same_classes(held_out, images.train.class_names, f"the cached images {images.train.name}")
    check_labelled(images.train, decided.loss)
    return images


def schedule_of(options: TrainStudentOptions, cache: OpenedCache, decided: Decisions) -> Schedule:
    """Which cells each step trains on."""
    return Schedule(
        plan=cache.plan,
        epochs=decided.settings.epochs,
        cached_epochs=decided.config["cached_epochs"],
        batch_size=step_slots(decided.settings.batch_size, cache.plan),
        accumulate=options.accumulate,
        order_seed=options.order_seed,
        block_slots=block_slots(cache.stored, decided.names),
    )


def targets_alone(
    options: TrainStudentOptions, opened: OpenedCache, decided: Decisions, group: Processes, cache: Cache
) -> OnlineTargets | NoTargets:
    """What stands in for cached targets: the teacher in the loop, or nothing at all for the loss `none`."""
    if options.online_teacher:
        return online_targets(
            options, group, opened.stored.teacher(decided.names[0]), cache.images.train, cache.context
        )
    if group.first:
        note(f"no teacher in {options.cache} is complete: --loss none can train, its views are compared with nothing")
    return NoTargets()


def say_proof(cache: OpenedCache) -> None:
    """Say what is not proven of an older cache."""
    if cache.manifest.format_version == 1:
        note(
            f"{cache.place} has format 1: no witness; views are proven by fingerprints, what is composed of them is not"
        )


def known_teacher(options: TrainStudentOptions, names: list[str]) -> tuple[float, str] | None:
    """Accuracy of the only teacher, 0..1, as its gate measured it, and on which split; None where nobody knows."""
    if len(names) != 1 or options.val_data is not None:
        return None
    gate = read_gate(options.cache, names[0])
    return (float(gate["accuracy"]), str(gate["split"])) if gate and gate.get("accuracy") is not None else None
