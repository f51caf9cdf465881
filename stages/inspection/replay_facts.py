"""What a replay of cached views found, and the lines that say it to a person."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deit_pipe.pipeline.sources.left_out import printable
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.words import Line, human_duration
from deit_pipe.stages.opened.encoded_files import FileVerdict, cause_lines
from deit_pipe.stages.opened.replay import version_pairs

SHOWN = 5


@dataclass(frozen=True)
class DifferingView(Facts):
    """A view whose fingerprint is not the cached one; both in hexadecimal. `file` says what is proven of its image."""

    epoch: int
    slot: int
    sample: int
    key: str
    teacher: str
    cached: str
    replayed: str
    file: FileVerdict


@dataclass(frozen=True)
class AnswerCheck(Facts):
    """What a teacher that was asked again answers.

    Attributes:
        teacher, source: its name in the cache; where its weights came from.
        checked, labels_equal: views; those with the cached label.
        compared: `logit` or `log-probability`; None where only labels are stored.
        largest_difference: of what is compared.
        tolerance: of the largest logit of a view.
        different: views that differ by more.
        blocks: (epoch, block, differing views), most first.
    """

    teacher: str
    source: str
    checked: int
    labels_equal: int
    compared: str | None
    largest_difference: float | None
    tolerance: float
    different: int
    blocks: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class WitnessFacts(Facts):
    """What composing made of the witnessed views among them, of all teachers together; zeros in format 1.

    Attributes:
        checked, different: views.
        examples: the first messages.
    """

    checked: int
    different: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class ReplayFacts(Facts):
    """What a replay found.

    Attributes:
        asked: which cells, as typed.
        checked, equal, different: views.
        seconds: it took.
        examples: the first views that differ.
        cause: what the differing views have in common; None where none differs.
        versions: library -> [cached, here], where they differ.
        answers: of teachers that were asked again.
        witnesses: of the views' composed pixels and labels; None for a cache of format 1, which has none.
        equal_to_cache: all fingerprints and witnesses, and all answers computed again, are the cached ones.
    """

    asked: str
    checked: int
    equal: int
    different: int
    seconds: float
    examples: tuple[DifferingView, ...]
    cause: str | None
    versions: Mapping[str, Sequence[str]]
    answers: tuple[AnswerCheck, ...]
    witnesses: WitnessFacts | None
    equal_to_cache: bool


def replay_lines(found: ReplayFacts, cache: str) -> list[Line]:
    """What a replay found, for a person."""
    rate = f"{human_duration(found.seconds)}, {found.checked / max(1e-9, found.seconds):,.0f} views/s"
    if not found.different:
        lines = [(f"replayed {found.checked:,} views: every fingerprint is the cached one ({rate})", "green")]
        if found.versions:
            lines.append((f"         although libraries differ: {version_pairs(found.versions)}", ""))
    else:
        lines = [(f"replay differs: {found.different:,} of {found.checked:,} views ({rate})", "bold red")]
        lines += [
            (
                f"  epoch {one.epoch}, slot {one.slot}, sample {one.sample} ({printable(one.key)}): "
                f"cached {one.cached}, replayed {one.replayed}",
                "red",
            )
            for one in found.examples
        ]
        lines.append((f"  {found.cause}", "bold"))
        files = [one.file for one in found.examples]
        telling = next((file for file in files if file.kind == "changed"), files[0])
        cause = cause_lines(telling, found.versions, version_pairs(found.versions))
        lines += [(f"  {part}", "") for part in cause]
    lines += _witness_lines(found.witnesses)
    for answer in found.answers:
        lines += _answer_lines(answer, cache)
    return lines


def _witness_lines(found: WitnessFacts | None) -> list[Line]:
    if found is None:
        return [("witness  format 1 has none: what is composed of these views is not proven", "")]
    if not found.checked:
        return []
    if not found.different:
        return [(f"witness  {found.checked:,} views: their composed pixels and labels are the cached ones", "green")]
    lines = [(f"witness  {found.different:,} of {found.checked:,} views differ", "bold red")]
    return lines + [(f"  {line}", "red") for line in found.examples[0].splitlines()]


def _answer_lines(answer: AnswerCheck, cache: str) -> list[Line]:
    size = answer.largest_difference
    far = "" if size is None else f", largest difference of a {answer.compared} {size:.2g}"
    style = "bold red" if answer.different else "green"
    lines = [
        (f"answers  {answer.teacher}: {answer.labels_equal:,} of {answer.checked:,} labels agree{far}", style),
    ]
    if answer.different:
        lines.append(
            (f"  {answer.different:,} views are answered otherwise, by more than {answer.tolerance:.0%}", style)
        )
        lines += [
            (f"  epoch {epoch}, block {block}: {count:,} views", style) for epoch, block, count in answer.blocks[:SHOWN]
        ]
        lines.append(
            (
                f"  free that teacher and cache it again: "
                f"deit-pipe remove-teacher {answer.teacher} --cache {shlex.quote(cache)}",
                "",
            )
        )
    return lines
