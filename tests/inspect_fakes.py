"""A small cache made by the real pipeline and store, with a teacher whose every answer is known; a page reader."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from deit_pipe.pipeline.compose import compose, normalise
from deit_pipe.pipeline.loader import to_batch
from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.provenance import library_versions
from deit_pipe.pipeline.recipe import PRESETS, Recipe
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.stages.opened.same_samples import manifest_for, sample_index
from deit_pipe.stages.opened.views import CachedViews
from deit_pipe.stages.teaching.block_witness import WitnessTaker
from deit_pipe.store.layout import Block
from deit_pipe.store.manifest import Manifest, TeacherIdentity, create_cache
from deit_pipe.store.proof.witness import BlockWitness
from deit_pipe.store.writer import TargetWriter

CLASSES = ("ant", "bee", "cat", "dog")
MIXED = Recipe(
    rand_layers=2,
    erase_prob=0.4,
    mix_group=4,
    mixup_alpha=0.8,
    cutmix_alpha=1.0,
    mix_prob=0.8,
    repeats=2,
    window=16,
)
BASIC = PRESETS["basic"]


def write_images(folder: Path, count: int = 40, side: int = 24, classes: Iterable[str] = CLASSES) -> Path:
    """Class folders of PNG files, `count` in all, every one different."""
    names = list(classes)
    random = np.random.Generator(np.random.Philox(key=np.array([1, 2], np.uint64)))
    for number in range(count):
        home = folder / names[number % len(names)]
        home.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(home / f"image-{number:03d}.png")
    return folder


@dataclass
class Made:
    """A cache, and what was put into it."""

    cache: Path
    data: Path
    table: SampleTable
    views: CachedViews
    teacher: TeacherIdentity
    logits: dict[int, np.ndarray] = field(default_factory=dict)
    fingerprints: dict[int, np.ndarray] = field(default_factory=dict)
    labels: dict[int, np.ndarray] = field(default_factory=dict)
    """Of the larger share of each view."""
    partners: dict[int, np.ndarray] = field(default_factory=dict)


def answer(epoch: int, labels: np.ndarray, classes: int, seed: int = 0, right: float = 0.8) -> np.ndarray:
    """Logits [N, C] of a teacher that is right on about `right` of the views."""
    random = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64)))
    logits = random.standard_normal((len(labels), classes)).astype(np.float32)
    said = np.where(random.random(len(labels)) < right, labels, (labels + 1) % classes)
    logits[np.arange(len(labels)), said] += 5
    return logits


def make_cache(
    folder: Path,
    *,
    recipe: Recipe = BASIC,
    epochs: int = 3,
    targets: str = "dense",
    block: int = 8,
    count: int = 40,
    data: Path | None = None,
    blocks: int | None = None,
    spoil: Block | None = None,
    seed: int = 0,
    name: str = "known",
    size: int = 32,
) -> Made:
    """Make `folder/cache` (or the first `blocks` of its blocks); logits of the block `spoil` are of another scale."""
    data = data or write_images(folder / "images", count)
    table = open_samples(str(data))
    manifest: Manifest = manifest_for(table, recipe, 7, size)
    plan = ViewPlan.for_recipe(len(table), recipe, 7)
    classes = len(table.class_names)
    teacher = TeacherIdentity(
        name=name,
        model="resnet18.a1_in1k",
        weights_sha256="ab" * 32,
        head="trained",
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        image_size=size,
        precision="fp32",
        num_classes=classes,
        batch_size=8,
        targets=targets,
        taus=(1.0,),
        block_slots=block,
    )
    made = Made(folder / "cache", data, table, CachedViews(manifest, recipe, plan, table), teacher)
    create_cache(
        made.cache,
        manifest,
        sample_index(table),
        {"data": str(data), "recipe": "custom", **library_versions()},
    )
    for epoch in range(epochs):
        rendered = made.views.render(epoch, np.arange(len(table)))
        own, other = rendered.labels, rendered.labels[rendered.partner]
        made.labels[epoch] = np.where(rendered.lam >= 0.5, own, other)
        made.partners[epoch] = np.where(rendered.lam >= 0.5, other, own)
        made.fingerprints[epoch] = rendered.fingerprints
        made.logits[epoch] = answer(epoch, made.labels[epoch], classes, seed)
        if spoil is not None and spoil.epoch == epoch:
            made.logits[epoch][spoil.start : spoil.stop] = answer(epoch + 99, own, classes, right=0)[
                spoil.start : spoil.stop
            ]
    # no test here pulls the plug, and syncing hundreds of small files takes most of the time
    provenance = {"weights": "my weights.pt"}
    with (
        patch("os.fsync"),
        TargetWriter.open(made.cache, teacher, epochs=epochs, provenance=provenance) as writer,
    ):
        for place in writer.mine[:blocks]:
            rows = slice(place.start, place.stop)
            columns = (made.logits, made.fingerprints, made.labels, made.partners)
            values = (column[place.epoch][rows] for column in columns)
            writer.write(place, *values, real_witness(made.views, teacher, place))
    return made


def real_witness(views: CachedViews, teacher: TeacherIdentity, block: Block) -> BlockWitness:
    """What stage one would keep of a block."""
    batch = to_batch(views.render(block.epoch, np.arange(block.start, block.stop)))
    taker = WitnessTaker(teacher, block)  # type: ignore[arg-type]  # it asks for mean and std only
    watch = taker.look_at(batch)
    assert watch is not None
    watch(normalise(compose(batch, views.recipe), teacher.mean, teacher.std))
    return taker.finish()


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


class Reader(HTMLParser):
    """Tags with their attributes, texts, and whether everything that is opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())
