"""`inspect-cache --report`: one HTML page about a cache: figures, plots, views with their answers. No network."""

import time
from dataclasses import dataclass
from pathlib import Path

from deit_pipe import __version__
from deit_pipe.pipeline.errors import PipelineError
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.inspection.analysis import Analysis, analyse
from deit_pipe.stages.inspection.facts import CacheFacts, TeacherFacts
from deit_pipe.stages.inspection.summary import Columns, settled
from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.stages.opened.cache import open_cache
from deit_pipe.stages.opened.views import CachedViews, open_views
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.stages.pages.cache_boxes import details, heading, stored_card
from deit_pipe.stages.pages.cache_charts import (
    ALL_CLASSES,
    block_cards,
    class_card,
    classes_card,
    confidence_card,
    confusion_cards,
    coverage_card,
    flip_card,
)
from deit_pipe.stages.pages.cache_gallery import disagreed_samples, gallery
from deit_pipe.stages.pages.html import Child, page, tag
from deit_pipe.stages.pages.style import STYLE
from deit_pipe.store.errors import StoreError
from deit_pipe.store.manifest import SampleIndex
from deit_pipe.store.stored_cache import StoredCache


@dataclass(frozen=True)
class AnalysisFacts(Facts):
    """What a teacher's labels say: numbers that only the page has; classes and samples by number.

    Attributes:
        name: of the teacher.
        views, every, flip_rate: as `Analysis` has them.
        class_views, class_right: views of each true class, and those of them that are answered right.
        confused: most frequent mistakes, (true class, teacher's class, views).
        hardest_samples: on which teacher and label disagree most.
    """

    name: str
    views: int
    every: int
    flip_rate: float | None
    class_views: tuple[int, ...]
    class_right: tuple[int, ...]
    confused: tuple[tuple[int, int, int], ...]
    hardest_samples: tuple[int, ...]


@dataclass(frozen=True)
class PageFacts(Facts):
    """The written page: its file and size, and whether it has the images."""

    file: str
    bytes: int
    images: bool
    teachers: tuple[AnalysisFacts, ...]


def write_report(options: InspectCacheOptions, facts: CacheFacts, stored: StoredCache) -> tuple[CacheFacts, PageFacts]:
    """Write the page; damage that is met on the way is left out of the plots.

    Returns:
        The facts, with that damage; and what was written.

    Raises:
        UsageProblem: the file cannot be written there. CacheMissing: no such teacher.
    """
    assert options.report is not None
    target = Path(options.report)
    if target.is_dir() or not target.parent.is_dir():
        raise UsageProblem(
            f"--report {target} cannot be written\n  expected a file in an existing folder\ngive another name"
        )
    samples = stored.samples
    if options.teacher:
        stored.teacher(options.teacher)
    chosen = [one for one in facts.teachers if options.teacher in (None, one.name)]
    readers = {one.name: CachedArrays(stored, one.name) for one in chosen if one.views}
    opened = open_cache(stored)
    recipe, plan = opened.recipe, opened.plan
    analyses = {name: analyse(arrays, recipe, plan, samples.labels) for name, arrays in readers.items()}
    views, trouble = images(stored, options.data)
    shown = pictures(views, trouble, list(readers.values()), list(analyses.values()))
    facts = settled(facts, [line for arrays in readers.values() for line in arrays.damage], stored)
    body: list[Child] = [*heading(facts, chosen)]
    for teacher in chosen:
        name = teacher.name
        body.append(tag("h2", f"Teacher {name}" if len(chosen) > 1 else "Was the teacher healthy?"))
        if name in analyses:
            body += teacher_sections(teacher, stored.teacher(name).coverage.columns, analyses[name], samples)
        else:
            body.append(tag("p", "No block is cached yet.", class_="soft"))
    body += shown
    body += [tag("h2", "What is stored"), *(stored_card(one) for one in chosen), *details(facts, chosen)]
    made = f"deit-pipe {__version__}, {time.strftime('%Y-%m-%d %H:%M')}. Next: "
    body.append(tag("footer", made, tag("code", facts.next)))
    text = page(f"{Path(facts.cache).name or facts.cache}: teacher cache", STYLE, [tag("main", *body)])
    target.write_text(text, encoding="utf-8")
    written = PageFacts(
        file=str(target),
        bytes=len(text.encode()),
        images=trouble is None,
        teachers=tuple(analysis_facts(name, found) for name, found in analyses.items()),
    )
    return facts, written


def analysis_facts(name: str, found: Analysis) -> AnalysisFacts:
    """What the labels say."""
    return AnalysisFacts(
        name=name,
        views=found.views,
        every=found.every,
        flip_rate=found.flip_rate,
        class_views=tuple(found.class_views.tolist()),
        class_right=tuple(found.confusion.diagonal().tolist()),
        confused=tuple(found.confused_pairs(10)),
        hardest_samples=tuple(found.hardest_samples(12).tolist()),
    )


def images(stored: StoredCache, data: str | None) -> tuple[CachedViews | None, str | None]:
    """The images, or why there are none: the page is worth having without them."""
    try:
        return open_views(stored, data), None
    except (PipelineError, StoreError) as error:
        if data:
            raise
        return None, str(error).partition("\n")[0]


def teacher_sections(teacher: TeacherFacts, columns: Columns, found: Analysis, samples: SampleIndex) -> list[Child]:
    """Plots of one teacher."""
    assert teacher.health is not None
    names = samples.class_names
    looked = f"{found.views:,} views"
    if found.every > 1:
        looked += f" (of every {found.every}th sample, all)"
    plots = [
        *block_cards(teacher, columns),
        confidence_card(teacher.health.means),
        flip_card(found),
        classes_card(found) if len(names) > ALL_CLASSES else coverage_card(teacher),
    ]
    return [
        tag("p", "Every block is a random part of the same views, so blocks should look alike.", class_="soft"),
        tag("div", *plots, class_="cards"),
        tag("h2", "Which classes are hard?"),
        tag(
            "p",
            f"From the labels of {looked}; of a mixed view the label with the larger share counts.",
            class_="soft",
        ),
        tag("div", class_card(found, names), *confusion_cards(found, names), class_="cards"),
    ]


def pictures(
    views: CachedViews | None, trouble: str | None, readers: list[CachedArrays], analyses: list[Analysis]
) -> list[Child]:
    """Gallery and most disagreed samples."""
    if not analyses:
        return []
    parts: list[Child] = [tag("h2", "What the student will see")]
    if views is None:
        return [
            *parts,
            tag("p", f"The images are not here ({trouble}); name them with --data.", class_="soft"),
        ]
    parts.append(
        tag(
            "p",
            "Views as the teacher saw them, spread over the cache, with their true class (and share, where mixed) "
            "and the teacher's answer.",
            class_="soft",
        )
    )
    parts.append(gallery(views, readers))
    parts += [
        tag("h2", "Where teacher and label disagree most"),
        tag(
            "p",
            "The images before augmentation; how many views of each are answered with the label, and what else is said "
            "most. Wrong labels are often among them.",
            class_="soft",
        ),
        disagreed_samples(views, analyses[0]) or tag("p", "They agree on every view that was looked at."),
    ]
    return parts
