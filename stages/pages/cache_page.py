"""`inspect-cache --report`: one HTML page about a cache: figures, plots, views with their answers. No network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deit_pipe.pipeline.errors import PipelineError
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.target_file import check_target
from deit_pipe.stages.inspection.analysis import Analysis, analyse
from deit_pipe.stages.inspection.facts import CacheFacts, TeacherFacts
from deit_pipe.stages.inspection.summary import settled
from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.stages.opened.cache import open_cache
from deit_pipe.stages.opened.views import CachedViews, open_views
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.stages.pages.cache_boxes import SHOWN_OUTLIERS, about, folds, missing, outlier_words, stored_card, tiles
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
from deit_pipe.stages.pages.parts import Card, Figure, Tile
from deit_pipe.stages.pages.writing import write_page
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
    check_target(target, "--report")
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
    size = write_page(
        target,
        "cache.html",
        f"{Path(facts.cache).name or facts.cache}: teacher cache",
        facts=facts,
        about=about(facts, chosen),
        sections=[section(one, stored, analyses.get(one.name), samples) for one in chosen],
        pictures=shown,
        folds=folds(facts, chosen),
    )
    found = tuple(analysis_facts(name, analysis) for name, analysis in analyses.items())
    return facts, PageFacts(file=str(target), bytes=size, images=trouble is None, teachers=found)


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


@dataclass(frozen=True)
class Section:
    """What the page says of one teacher.

    Attributes:
        name: of the teacher.
        missing, odd_words, odd: warnings; None and empty where there is nothing to warn of.
        tiles: the numbers that are looked for first.
        looked: at which views `plots` and `classes` look; None before the first block.
        stored: the arrays.
    """

    name: str
    missing: str | None
    odd_words: str
    odd: Sequence[str]
    tiles: Sequence[Tile]
    looked: str | None
    plots: Sequence[Card]
    classes: Sequence[Card]
    stored: Card


def section(teacher: TeacherFacts, stored: StoredCache, found: Analysis | None, samples: SampleIndex) -> Section:
    """One teacher's part of the page."""
    looked, plots, classes = None, [], []
    if found is not None and teacher.health is not None:
        names = samples.class_names
        looked = f"{found.views:,} views" + (f" (of every {found.every}th sample, all)" if found.every > 1 else "")
        plots = [
            *block_cards(teacher, stored.teacher(teacher.name).coverage.columns),
            confidence_card(teacher.health.means),
            flip_card(found),
            classes_card(found) if len(names) > ALL_CLASSES else coverage_card(teacher),
        ]
        classes = [class_card(found, names), *confusion_cards(found, names)]
    return Section(
        name=teacher.name,
        missing=missing(teacher),
        odd_words=f"{len(teacher.outliers)} of {teacher.blocks_committed:,} blocks are unlike the others",
        odd=[outlier_words(odd) for odd in teacher.outliers[:SHOWN_OUTLIERS]],
        tiles=tiles(teacher),
        looked=looked,
        plots=plots,
        classes=classes,
        stored=stored_card(teacher),
    )


@dataclass(frozen=True)
class Pictures:
    """The images of the page, or why there are none: `views` as the teacher saw them, `disagreed` samples."""

    trouble: str | None
    views: Sequence[Figure] = ()
    disagreed: Sequence[Figure] = ()


def pictures(
    views: CachedViews | None, trouble: str | None, readers: list[CachedArrays], analyses: list[Analysis]
) -> Pictures | None:
    """Gallery and most disagreed samples; None before the first block."""
    if not analyses:
        return None
    if views is None:
        return Pictures(trouble)
    return Pictures(None, gallery(views, readers), disagreed_samples(views, analyses[0]))
