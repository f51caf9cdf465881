"""The page of `deit-pipe report`: one training run, or two against each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deit_pipe.stages.console.words import human_duration, number
from deit_pipe.stages.pages.parts import Card, Column, Fold, Table, Tile, percent
from deit_pipe.stages.pages.run_answers import answers_of
from deit_pipe.stages.pages.run_charts import (
    HEADS,
    LOSSES,
    agreement_card,
    heads_card,
    loss_card,
    rate_card,
    speed_card,
    wait_card,
)
from deit_pipe.stages.pages.run_metrics import WAITS, Run, top1_of
from deit_pipe.stages.pages.writing import write_page

NOT_SETTINGS = ("data", "val_data", "out", "cache", "workers", "device")
SHOWN_EPOCHS = 20


@dataclass(frozen=True)
class Section:
    """What the page says of one run alone: the numbers looked for first, a table of epochs, all settings."""

    name: str
    tiles: Sequence[Tile]
    epochs: Card
    settings: Fold


def write_run_page(target: Path, runs: Sequence[Run]) -> None:
    """Write the page of one run, or of two."""
    first = runs[0]
    heading = first.name if len(runs) == 1 else f"{first.name} against {runs[1].name}"
    about = ", ".join(
        str(first.config[key]) for key in ("student", "loss", "preset") if first.config.get(key) is not None
    )
    write_page(
        target,
        "run.html",
        f"{heading}: training",
        heading=heading,
        state="complete" if first.result else "incomplete",
        state_words="finished" if first.result else "not finished",
        about=f"{about}; cache {first.config.get('cache', 'unknown')}",
        sections=[Section(one.name, tiles(one), epochs_card(one), settings(one)) for one in runs],
        learning=[heads_card(runs), loss_card(runs), agreement_card(runs)],
        answers=[found for one in runs if (found := answers_of(one)) is not None],
        running=[rate_card(runs), speed_card(runs), wait_card(runs)],
        difference=difference_card(runs[0], runs[1]) if len(runs) > 1 else None,
    )


def tiles(one: Run) -> list[Tile]:
    """The numbers that are looked for first."""
    best, scores, tested = one.best(), top1_of(one.last_scores()), top1_of(one.test_scores())
    entries = []
    if best is not None:
        entries.append(Tile(number(best.top1 * 100), "%", f"best top-1, {one.answer}, after epoch {best.epoch + 1}"))
    for head, words, _ in HEADS:
        if head in scores:
            entries.append(Tile(number(scores[head] * 100), "%", f"{words}, last evaluation"))
        if head in tested:
            entries.append(Tile(number(tested[head] * 100), "%", f"{words}, test images"))
    for key, words in (("teacher_top1", "the teacher"), ("chance", "chance")):
        share = one.result.get(key)
        if isinstance(share, float):
            entries.append(Tile(number(share * 100), "%", words))
    if (seconds := one.seconds()) is not None:
        entries.append(Tile(human_duration(seconds), "", "training steps, without evaluation"))
    if (speed := one.speed()) is not None:
        entries.append(Tile(f"{speed:,.0f}", "/s", "views, median"))
    if (wait := one.share(WAITS[0])) is not None:
        entries.append(Tile(number(wait * 100, 1), "%", "of the time waiting for views"))
    return entries


def epochs_card(one: Run) -> Card:
    """Numbers of the epochs: all of a short run, about twenty of a long one."""
    step = max(1, -(-len(one.epochs) // SHOWN_EPOCHS))
    chosen = [line for place, line in enumerate(one.epochs) if place % step == 0 or place == len(one.epochs) - 1]
    names = ["epoch", "step", "lr", *(words for _, words, _ in LOSSES), "agreement", *(words for _, words, _ in HEADS)]
    rows = [
        [
            str(line.epoch + 1),
            f"{line.step:,}",
            "-" if line.lr is None else f"{line.lr:.2e}",
            *(number(value(line), 4) for value, _, _ in LOSSES),
            percent(line.agreement, 2),
            *(percent(line.top1.get(head), 2) for head, _, _ in HEADS),
        ]
        for line in chosen
    ]
    return Card(one.name, table=Table([Column(name, "n") for name in names], rows), wide=True)


def difference_card(one: Run, two: Run) -> Card | None:
    """Settings in which two runs differ; None where they are the same."""
    names = [
        name
        for name in dict.fromkeys([*one.config, *two.config])
        if name not in NOT_SETTINGS and one.config.get(name) != two.config.get(name)
    ]
    rows = [[name.replace("_", "-"), str(one.config.get(name)), str(two.config.get(name))] for name in names]
    columns = [Column(name) for name in ("setting", one.name, two.name)]
    return Card(None, table=Table(columns, rows), wide=True) if rows else None


def settings(one: Run) -> Fold:
    """All settings, folded away."""
    return Fold(f"Settings of {one.name}", [(name.replace("_", "-"), str(value)) for name, value in one.config.items()])
