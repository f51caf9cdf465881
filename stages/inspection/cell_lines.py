"""A cell or a sample for a person, as styled lines; names are made harmless to a terminal."""

from deit_pipe.pipeline.samples import UNLABELLED
from deit_pipe.pipeline.sources.left_out import printable
from deit_pipe.stages.console.words import Line, gauge
from deit_pipe.stages.inspection.cell import Answer, CellFacts, SampleFacts

FOUND = {True: "the cached one", False: "NOT the cached one", None: "no answer cached yet"}


def cell_lines(facts: CellFacts) -> list[Line]:
    """A cell: its image, its draw, its answers."""
    mix = facts.mix
    true = f"{facts.class_name} ({facts.class_})"
    if mix is not None:
        true += f" {mix.lam:.1%}, {mix.class_name} ({mix.class_}) {1 - mix.lam:.1%}"
    differs = facts.fingerprint_equal is False
    lines = [
        (f"cell {facts.epoch}/{facts.slot}  sample {facts.sample}  {facts.key}", "bold"),
        (f"  true class  {true}", ""),
        (f"  fingerprint {facts.fingerprint}, {FOUND[facts.fingerprint_equal]}", "bold red" if differs else ""),
    ]
    lines += [(f"  {'draw' if not place else '':<11} {word}", "") for place, word in enumerate(facts.draw)]
    if mix is not None:
        lines.append((f"  {'partner':<11} sample {mix.sample}  {mix.key}", ""))
    for answer in facts.answers:
        lines += _answer_lines(answer, right=answer.label in facts.classes)
    return _harmless(lines)


def _answer_lines(answer: Answer, *, right: bool) -> list[Line]:
    lines = [(f"  {answer.teacher} says {answer.label_name} ({answer.label})", "green" if right else "red")]
    lines += [
        (f"    {one.probability:7.2%}  {gauge(one.probability)}  {one.class_name} ({one.class_})", "")
        for one in answer.top
    ]
    if answer.tail_mass is not None:
        lines.append((f"    {answer.tail_mass:7.2%}  {gauge(answer.tail_mass)}  all other classes", "dim"))
    return lines


def sample_lines(facts: SampleFacts) -> list[Line]:
    """A sample: a line per view."""
    lines = [(f"sample {facts.sample}  {facts.key}  {facts.class_name} ({facts.class_})", "bold")]
    for cell in facts.cells:
        answers = [
            answer.label_name + (f" {answer.top[0].probability:.0%}" if answer.top else "") for answer in cell.answers
        ]
        right = facts.class_ == UNLABELLED or all(answer.label == facts.class_ for answer in cell.answers)
        place = f"{cell.epoch}/{cell.slot}"
        lines.append(
            (
                f"  {place:<12} {' | '.join(answers) or 'not cached yet':<24}  {'; '.join(cell.draw[1:])}",
                "" if right else "red",
            )
        )
    if not facts.cells:
        lines.append(("  in no cached epoch: with repeated augmentation an epoch shows a part of the samples", ""))
    return _harmless(lines)


def _harmless(lines: list[Line]) -> list[Line]:
    return [(printable(line), style) for line, style in lines]
