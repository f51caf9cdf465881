"""A whole training run: epochs of steps, evaluation, records, checkpoints, and going on after any stop."""

import math
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from deit_pipe.pipeline.loader import named_worker_death
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.errors import Terminated
from deit_pipe.stages.console.progress import Progress, progress
from deit_pipe.stages.machine.interrupts import StopRequest, deferred_stop
from deit_pipe.stages.machine.watched_views import watched
from deit_pipe.stages.networks.file_names import BEST_WEIGHTS, STUDENT_FACTS
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.checkpoint import (
    Checkpoint,
    check_finite,
    finish_run,
    load_checkpoint,
    random_states,
    restore_optimizer,
    restore_random,
    restore_threads,
    save_checkpoint,
    save_weights,
)
from deit_pipe.stages.training.evaluation import best_answer, by_crop_ratio, evaluate_students
from deit_pipe.stages.training.optim import learning_rate, make_schedule
from deit_pipe.stages.training.outcome import outcome
from deit_pipe.stages.training.proven_batches import ProvenBatches, checked_views
from deit_pipe.stages.training.published import TrainingSettings
from deit_pipe.stages.training.run_folder import Metrics, put_json
from deit_pipe.stages.training.shown_answers import ShownAnswers
from deit_pipe.stages.training.target_sources import CachedTargets, NoTargets, OnlineTargets
from deit_pipe.stages.training.trainer import Position, Schedule, StepTimes, Trainer

STOP_CHECK_STEPS = 20  # with several processes, asking all of them whether to stop costs a message
SAVE_SECONDS = 2.0  # epochs of one or two steps took half as long again with a checkpoint after each
SLOW_STEP = 0.25  # seconds; then the message costs nothing
TargetsFrom = Callable[[int, int], CachedTargets | OnlineTargets | NoTargets]


@dataclass
class Fit:
    """One training run. `make_targets(epoch, step)` gives the targets of all cells from there on.

    Attributes:
        table: what is trained on.
        validation: images that select the best epoch; None: nothing is selected.
        test: images for the last word, looked at once, when there are none for validation and training is over.
        teacher: accuracy of the teacher, 0..1, and the split it was measured on, where known; said at the end.
    """

    trainer: Trainer
    schedule: Schedule
    settings: TrainingSettings
    options: TrainStudentOptions
    table: SampleTable
    validation: SampleTable | None
    test: SampleTable | None
    image_size: int
    workers: int
    run_folder: Path
    make_targets: TargetsFrom
    teacher: tuple[float, str] | None = None
    position: Position = field(default_factory=Position, init=False)
    best: dict[str, Any] | None = field(default=None, init=False)
    metrics: Metrics | None = field(default=None, init=False)
    metrics_mark: tuple[int, str | None] = field(default=(0, None), init=False)
    saved: tuple[int, int] | None = field(default=None, init=False)
    saved_at: float = field(default=-math.inf, init=False)
    stop_every: int = field(default=1, init=False)
    step_seconds: float = field(default=0.0, init=False)
    shown: ShownAnswers | None = field(default=None, init=False)

    def run(self) -> dict[str, Any]:
        """Train to the end from wherever the run folder says; the result, as in `result.json`.

        Raises:
            Terminated: SIGTERM; KeyboardInterrupt: Ctrl-C. Both after saving a checkpoint.
        """
        self.answer = best_answer(
            self.trainer.student, self.trainer.loss, labelled=bool((self.table.labels >= 0).any())
        )
        self.rates = make_schedule(self.trainer.optimizer, self.settings)
        self._restore()
        position, group = self.position, self.trainer.group
        if group.first:
            put_json(self.run_folder, STUDENT_FACTS, self.trainer.facts.to_json())
        scores: dict[str, Any] = {}
        with named_worker_death(), ExitStack() as stack:
            stop = stack.enter_context(deferred_stop())
            if group.first:
                self.metrics = Metrics(
                    self.run_folder,
                    *self.metrics_mark,
                    tensorboard=self.options.tensorboard,
                    step=position.total,
                )
                stack.callback(self.metrics.close)
            cells = self.schedule.cells(group, position.epoch, position.step)
            checked = checked_views(
                self.table,
                self.trainer.recipe,
                self.schedule.plan,
                cells,
                image_size=self.image_size,
                workers=self.workers,
                device=group.device,
            )
            shared, quiet = group.device.type == "cpu", not group.first
            views = watched(checked, "student", self.workers, shares_cores=shared, quiet=quiet)
            stack.callback(views.close)  # ends its workers
            targets = stack.enter_context(closing(self.make_targets(position.epoch, position.step)))
            batches = self.trainer.batches(views, targets)
            steps = self.settings.epochs * self.schedule.steps
            shown = stack.enter_context(
                progress("training", steps, "steps", done=position.total, quiet=not group.first)
            )
            while position.epoch < self.settings.epochs:
                self._train_epoch(batches, shown, stop)
                scores = self._end_epoch() or scores
                if self._due():
                    self._save()
        return self._finish(scores)

    def _train_epoch(self, batches: ProvenBatches, shown: Progress, stop: StopRequest) -> None:
        """The rest of the current epoch."""
        position, trainer = self.position, self.trainer
        self.rates.step(position.epoch)
        trainer.network.train()
        sizes = self.schedule.part_sizes(trainer.group)
        since, since_started, since_steps = StepTimes(), time.perf_counter(), 0
        while position.step < self.schedule.steps:
            times = trainer.step(batches, sizes, position.epoch)
            since.add(times)
            self.step_seconds = times.data + times.targets + times.compute
            position.step += 1
            position.total += 1
            since_steps += 1
            trainer.update_ema(position.total)
            if position.total % self.options.log_steps == 0:
                elapsed = time.perf_counter() - since_started
                self._log_step(since, elapsed, since_steps)
                since, since_started, since_steps = StepTimes(), time.perf_counter(), 0
            if trainer.group.first:
                waited = since.data / max(1e-9, since.data + since.targets + since.compute)
                shown.advance(1, f"epoch {position.epoch + 1}/{self.settings.epochs}, data wait {waited:.0%}")
            every = self.options.checkpoint_steps
            if every and position.total % every == 0 and position.step < self.schedule.steps:
                self._save()
            self._stop_if_asked(stop)

    def _log_step(self, times: StepTimes, elapsed: float, steps: int) -> None:
        means = self.trainer.means()
        if self.metrics is not None:
            views = steps * self.settings.batch_size
            self.metrics.write(
                "step",
                self.position.total,
                {
                    "epoch": self.position.epoch,
                    "lr": learning_rate(self.trainer.optimizer),
                    **means,
                    "data_wait_seconds": times.data / steps,
                    "target_wait_seconds": times.targets / steps,
                    "compute_seconds": times.compute / steps,
                    "views_per_second": views / elapsed,
                },
            )

    def _end_epoch(self) -> dict[str, Any] | None:
        """Record the epoch, evaluate when due, keep the best; the scores if evaluated."""
        position, trainer, group = self.position, self.trainer, self.trainer.group
        line: dict[str, Any] = {
            "epoch": position.epoch,
            "lr": learning_rate(trainer.optimizer),
            **trainer.means(),
        }
        trainer.sums.zero_()
        position.epoch, position.step = position.epoch + 1, 0
        last = position.epoch == self.settings.epochs
        scores: dict[str, Any] | None = None
        if self.validation is not None and (last or position.epoch % self.options.eval_every == 0):
            scores = self._scores("val", self.validation)
            line |= scores
            chosen = scores[self._selected_scores][self.answer]["top1"]
            if self.best is None or chosen > self.best["top1"]:
                self.best = {"top1": chosen, "epoch": position.epoch - 1}
                if group.first:
                    save_weights(self.run_folder, BEST_WEIGHTS, dict(self._selected_model.state_dict()))
        if self.metrics is not None:
            self.metrics.write("epoch", position.total, line)
        return scores

    @property
    def _selected_scores(self) -> str:
        """Key of the scores of the weights that count."""
        split = "test" if self.validation is None and self.test is not None else "val"
        return f"{split}_ema" if self.options.select == "ema" else split

    def _scores(self, split: str, table: SampleTable) -> dict[str, Any]:
        """Accuracy of the student and, where there is one, of its average, under the name of the split."""
        models = {split: self.trainer.student}
        if self.trainer.ema is not None:
            models[f"{split}_ema"] = self.trainer.ema.module
        workers = self.workers if len(table) > 5000 else 0  # a small set is decoded faster than workers start
        facts, group, shown_of = self.trainer.facts, self.trainer.group, self._selected_model
        self.shown = ShownAnswers(self.answer, table)
        found = evaluate_students(
            list(models.values()), facts, table, group, workers=workers, shown=self.shown, shown_of=shown_of
        )
        return dict(zip(models, found, strict=True))

    @property
    def _selected_model(self) -> torch.nn.Module:
        """The weights that count."""
        ema = self.trainer.ema if self.options.select == "ema" else None
        return self.trainer.student if ema is None else ema.module

    def _stop_if_asked(self, stop: StopRequest) -> None:
        group, position = self.trainer.group, self.position
        if group.world > 1 and position.total % self.stop_every:
            return
        asked, seconds = group.sum([float(stop.signal is not None), self.step_seconds])
        # torchrun kills 30 s after it asked; all processes take the same number from the sum
        self.stop_every = 1 if seconds / group.world > SLOW_STEP else STOP_CHECK_STEPS
        if not asked:
            return
        if position.step == self.schedule.steps:  # the epoch is over: its end belongs to the checkpoint
            self._end_epoch()
        self._save()
        if stop.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated(
            f"terminated after step {position.total}; a checkpoint was saved in {self.run_folder}",
            cure="run the same command again to go on",
        )

    def _due(self) -> bool:
        """Whether the end of this epoch is worth a checkpoint: of epochs of a few steps not each one is.

        Several processes would have to agree on the time: they save after every epoch.
        """
        last = self.position.epoch == self.settings.epochs
        return last or self.trainer.group.world > 1 or time.perf_counter() - self.saved_at >= SAVE_SECONDS

    def _save(self) -> None:
        """Checkpoint at the current position, unless that is the last one.

        Raises:
            TrainingDiverged: a weight is not finite; the checkpoint before is kept.
        """
        trainer, group, position = self.trainer, self.trainer.group, self.position
        here = (position.epoch, position.total)
        if self.saved == here:
            return
        check_finite(trainer.student, f"after step {position.total} (epoch {position.epoch})")
        random = random_states(group.device, group.rank)
        sums = trainer.settled_sums()
        if group.world > 1:
            gathered: list[Any] = [None] * group.world
            torch.distributed.all_gather_object(gathered, (random, sums))
            random = {name: state for states, _ in gathered for name, state in states.items()}
            all_sums = [part for _, part in gathered]
        else:
            all_sums = [sums]
        if group.first:
            assert self.metrics is not None
            state = {
                "epoch": position.epoch,
                "step": position.step,
                "total": position.total,
                "best": self.best,
                "sums": all_sums,
                **self.metrics.mark(),
                "scaler": trainer.scaler.state_dict(),
            }
            save_checkpoint(
                self.run_folder,
                Checkpoint(
                    model=trainer.student.state_dict(),
                    optimizer=trainer.optimizer.state_dict(),
                    ema=trainer.ema.module.state_dict() if trainer.ema else None,
                    random=random,
                    state=state,
                ),
                f"{position.total:08d}",
            )
        self.saved, self.saved_at = here, time.perf_counter()
        group.barrier()

    def _restore(self) -> None:
        """Go back to the last checkpoint, if there is one."""
        saved = load_checkpoint(self.run_folder)
        if saved is None:
            return
        trainer, group, state = self.trainer, self.trainer.group, saved.state
        trainer.student.load_state_dict(saved.model)
        restore_optimizer(trainer.optimizer, saved.optimizer)
        if trainer.ema is not None and saved.ema is not None:
            trainer.ema.module.load_state_dict(saved.ema)
        restore_random(saved.random, group.device, group.rank)
        restore_threads(state)
        if len(state["sums"]) == group.world:
            trainer.sums.copy_(torch.tensor(state["sums"][group.rank], dtype=torch.float64))
        elif group.first:  # another number of processes: what they all have seen
            trainer.sums.copy_(torch.tensor(state["sums"], dtype=torch.float64).sum(dim=0))
        if state["scaler"]:
            trainer.scaler.load_state_dict(state["scaler"])
        self.saved = (state["epoch"], state["total"])
        self.position = Position(state["epoch"], state["step"], state["total"])
        self.best, self.metrics_mark = state["best"], (state["metrics_bytes"], state.get("metrics_sha256"))

    def _finish(self, scores: dict[str, Any]) -> dict[str, Any]:
        """Write the student and the result."""
        group = self.trainer.group
        if not scores and self.validation is not None:  # resumed after the last epoch
            scores = self._scores("val", self.validation)
        if self.validation is None and self.test is not None:
            scores = self._scores("test", self.test)
        result: dict[str, Any] = {
            "out": str(self.run_folder),
            "student": self.trainer.facts.model,
            "loss": self.trainer.loss.kind,
            "epochs": self.settings.epochs,
            "steps": self.position.total,
            "answer": self.answer,
            "selected": self._selected_scores,
            "best": self.best,
            "teacher_top1": self.teacher and self.teacher[0],
            "teacher_split": self.teacher and self.teacher[1],
            **scores,
        }
        measured = self.test if self.validation is None else self.validation
        known, source = scores.get(self._selected_scores), self.options.init_from
        both = by_crop_ratio(self._selected_model, self.trainer.facts, measured, group, known, source)
        result |= ({"by_crop_ratio": both} if both else {}) | outcome(result, measured)
        if group.first:
            shown = self.shown.to_json() if self.shown else None
            finish_run(self.run_folder, self._selected_model.state_dict(), result, shown)
        group.barrier()
        return result
