"""Pictures of the report: what the student will see with the teacher's answers, and the samples it disagrees about."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.decode import decode
from deit_pipe.pipeline.samples import class_name
from deit_pipe.stages.inspection.analysis import Analysis
from deit_pipe.stages.inspection.cell import Answer, CellFacts, describe_cell
from deit_pipe.stages.opened.arrays import CachedArrays, damage_line
from deit_pipe.stages.opened.views import CachedViews
from deit_pipe.stages.pages.cell_picture import data_uri, encoded, seen_pixels
from deit_pipe.stages.pages.parts import CaptionLine, Figure, percent
from deit_pipe.store.errors import CacheCorrupt

SHOWN_VIEWS = 24
SHOWN_SAMPLES = 12
PER_GROUP = 4


def gallery(views: CachedViews, teachers: Sequence[CachedArrays]) -> list[Figure]:
    """Cells spread evenly over what is cached, each with its labels and every teacher's answer."""
    figures = []
    for epoch, group in chosen_groups(views, teachers[0]):
        rendered = views.render(epoch, group)
        pixels = seen_pixels(views, rendered)
        for place in range(min(len(group), PER_GROUP)):
            try:
                facts = describe_cell(views, teachers, rendered, place)
            except CacheCorrupt as error:
                teachers[0].damage.append(damage_line(error))
            else:
                figures.append(view_figure(facts, pixels[place]))
    return figures[:SHOWN_VIEWS]


def chosen_groups(views: CachedViews, arrays: CachedArrays) -> list[tuple[int, NDArray[np.int64]]]:
    """Whole mix groups, evenly spread over the committed blocks."""
    size = views.plan.mix_group
    wanted = -(-SHOWN_VIEWS // min(size, PER_GROUP))
    blocks = arrays.blocks
    if not blocks:
        return []
    chosen: dict[tuple[int, int], None] = {}
    for turn in range(wanted):
        epoch, index = blocks[turn * len(blocks) // wanted]
        start, stop = arrays.slots_of(index)
        groups = max(1, (stop - start) // size)
        # another place in each block: with few blocks the same one comes several times
        chosen[epoch, start + turn * 7919 % groups * size] = None
    return [(epoch, views.plan.group_slots(slot)) for epoch, slot in sorted(chosen)]


def view_figure(facts: CellFacts, pixels: NDArray[np.uint8]) -> Figure:
    """One view: picture, true class or classes, answers, address."""
    mix = facts.mix
    true = [CaptionLine(facts.class_name)]
    if mix is not None:
        own = round(mix.lam * 100)
        true = [CaptionLine(facts.class_name, f" {own}\u00a0%"), CaptionLine(mix.class_name, f" {100 - own}\u00a0%")]
    answers = [answer_line(answer, right=answer.label in facts.classes) for answer in facts.answers]
    where = CaptionLine("", f"cell {facts.epoch}/{facts.slot}", "where")
    return figure(pixels, "; ".join(facts.draw), *true, *answers, where)


def answer_line(answer: Answer, *, right: bool) -> CaptionLine:
    """What a teacher says; right and wrong differ in sign, not only in colour."""
    sure = f", {percent(answer.top[0].probability, 0)}" if answer.top else ""
    return CaptionLine("", f"{'✓' if right else '✗'} {answer.label_name}{sure}", "right" if right else "wrong")


def figure(pixels: NDArray[np.uint8], words: str, *caption: CaptionLine) -> Figure:
    """A small picture with a caption."""
    mime, data = encoded(pixels)
    return Figure(data_uri(mime, data), mime == "image/png", words, caption)


def disagreed_samples(views: CachedViews, analysis: Analysis) -> list[Figure]:
    """The images on which teacher and label disagree most; none where they always agree."""
    names, keys = views.table.class_names, views.table.keys
    figures = []
    for sample in analysis.hardest_samples(SHOWN_SAMPLES).tolist():
        pixels = np.asarray(decode(views.table.read(sample)))
        total, right = int(analysis.sample_views[sample]), int(analysis.sample_right[sample])
        wrong, often = int(analysis.sample_wrong[sample]), int(analysis.sample_wrong_views[sample])
        caption = [
            CaptionLine(class_name(names, int(views.table.labels[sample])), f" {right} of {total}"),
            CaptionLine("", f"✗ {names[wrong]} {often} of {total}", "wrong"),
            CaptionLine("", f"sample {sample}", "where"),
        ]
        if keys[sample] != f"row {sample}":
            caption.append(CaptionLine("", keys[sample], "where"))
        figures.append(figure(pixels, keys[sample], *caption))
    return figures
