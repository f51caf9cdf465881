"""Pictures of the report: what the student will see with the teacher's answers, and the samples it disagrees about."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.decode import decode
from deit_pipe.pipeline.samples import class_name
from deit_pipe.stages.inspection.analysis import Analysis
from deit_pipe.stages.inspection.cell import CellFacts, describe_cell
from deit_pipe.stages.opened.arrays import CachedArrays, damage_line
from deit_pipe.stages.opened.views import CachedViews
from deit_pipe.stages.pages.cell_picture import encoded, seen_pixels
from deit_pipe.stages.pages.html import Child, Html, data_uri, percent, tag
from deit_pipe.store.errors import CacheCorrupt

SHOWN_VIEWS = 24
SHOWN_SAMPLES = 12
PER_GROUP = 4


def gallery(views: CachedViews, teachers: Sequence[CachedArrays]) -> Html:
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
    return tag("div", *figures[:SHOWN_VIEWS], class_="gallery")


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


def view_figure(facts: CellFacts, pixels: NDArray[np.uint8]) -> Html:
    """One view: picture, true class or classes, answers, address."""
    mix = facts.mix
    true = [tag("span", tag("b", facts.class_name))]
    if mix is not None:
        own = round(mix.lam * 100)
        true = [
            tag("span", tag("b", facts.class_name), f" {own}\u00a0%"),
            tag("span", tag("b", mix.class_name), f" {100 - own}\u00a0%"),
        ]
    answers = [
        answer_line(answer.label_name, answer.label in facts.classes, answer.top[0].probability if answer.top else None)
        for answer in facts.answers
    ]
    where = tag("span", f"cell {facts.epoch}/{facts.slot}", class_="where")
    return figure(pixels, "; ".join(facts.draw), *true, *answers, where)


def answer_line(name: str, right: bool, probability: float | None) -> Html:
    """What a teacher says; right and wrong differ in sign, not only in colour."""
    sure = "" if probability is None else f", {percent(probability, 0)}"
    return tag("span", f"{'✓' if right else '✗'} {name}{sure}", class_="right" if right else "wrong")


def figure(pixels: NDArray[np.uint8], words: str, *caption: Child) -> Html:
    """A small picture with a caption; `words` are shown when it is pointed at, and read to those who cannot see it."""
    mime, data = encoded(pixels)
    image = tag(
        "img",
        src=data_uri(mime, data),
        alt=words,
        title=words,
        loading="lazy",
        class_="pixels" if mime == "image/png" else None,
    )
    return tag("figure", image, tag("figcaption", *caption))


def disagreed_samples(views: CachedViews, analysis: Analysis) -> Html | None:
    """The images on which teacher and label disagree most; None where they always agree."""
    names, keys = views.table.class_names, views.table.keys
    figures = []
    for sample in analysis.hardest_samples(SHOWN_SAMPLES).tolist():
        pixels = np.asarray(decode(views.table.read(sample)))
        total, right = int(analysis.sample_views[sample]), int(analysis.sample_right[sample])
        wrong, often = int(analysis.sample_wrong[sample]), int(analysis.sample_wrong_views[sample])
        figures.append(
            figure(
                pixels,
                keys[sample],
                tag("span", tag("b", class_name(names, int(views.table.labels[sample]))), f" {right} of {total}"),
                tag("span", f"✗ {names[wrong]} {often} of {total}", class_="wrong"),
                tag("span", f"sample {sample}", class_="where"),
                tag("span", keys[sample], class_="where") if keys[sample] != f"row {sample}" else None,
            )
        )
    return tag("div", *figures, class_="gallery") if figures else None
