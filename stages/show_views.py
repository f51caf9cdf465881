"""`deit-pipe show-views`: a picture of the views that a recipe makes of some images."""

import textwrap
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from deit_pipe.pipeline.cells import RenderedCells, render_cells
from deit_pipe.pipeline.compose import compose
from deit_pipe.pipeline.decode import decode
from deit_pipe.pipeline.loader import to_batch
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import Recipe, load_recipe, preset_name
from deit_pipe.pipeline.samples import SampleTable, class_name
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.opened.images import given_choice, open_images
from deit_pipe.stages.opened.plain_views import default_image_size
from deit_pipe.stages.options.show_views import ShowViewsOptions
from deit_pipe.stages.pages.lettering import lettered

SIDE = 224  # of a picture in the grid; small views are enlarged without smoothing
MARGIN = 8
TEXT_LINES = 6
FONT_SIZE = 12
LINE = FONT_SIZE + 3


@dataclass(frozen=True)
class ViewFacts(Facts):
    """A view in the picture: its cell, its image, its `draw` in short, its `fingerprint` in hexadecimal."""

    epoch: int
    slot: int
    sample: int
    key: str
    draw: str
    fingerprint: str


@dataclass(frozen=True)
class ShownViews(Facts):
    """The written picture, the digest of its recipe, and the `views` in it."""

    out: str
    recipe_digest: str
    views: list[ViewFacts]


def run(options: ShowViewsOptions) -> CommandResult[ShownViews]:
    """Choose samples, find their first views, draw them, write the picture."""
    recipe = load_recipe(options.recipe)
    table = open_images(options.data, given_choice(options)).train
    size = options.img_size or default_image_size(table)
    plan = ViewPlan.for_recipe(len(table), recipe, options.seed)
    chosen = np.linspace(0, len(table) - 1, min(options.samples, len(table))).astype(int).tolist()
    cells = {sample: find_cells(plan, sample, options.views) for sample in chosen}
    rows, facts = [], []
    for sample, found in cells.items():
        tiles = [original_tile(table, sample)] if options.original else []
        for epoch, slot in found:
            tile, fact = view_tile(table, recipe, plan, epoch, slot, size)
            tiles.append(tile)
            facts.append(fact)
        rows.append(tiles)
    out = Path(options.out)
    picture = paste_grid(rows)
    picture.save(out)
    text = (
        f"{out}: {picture.width} x {picture.height} px, {len(rows)} samples of {table.name}, "
        f"{options.views} views each, recipe {preset_name(recipe)} at {size} px, seed {options.seed}"
    )
    return CommandResult(text, ShownViews(str(out), recipe.digest, facts))


def find_cells(plan: ViewPlan, sample: int, views: int) -> list[tuple[int, int]]:
    """Return the first `views` cells (epoch, slot) of a sample; with repeats it is not in every epoch."""
    found: list[tuple[int, int]] = []
    for epoch in count():
        found += [(epoch, int(slot)) for slot in np.flatnonzero(plan.sample_at(epoch) == sample)]
        if len(found) >= views:
            break
    return found[:views]


def view_tile(
    table: SampleTable, recipe: Recipe, plan: ViewPlan, epoch: int, slot: int, size: int
) -> tuple[Image.Image, ViewFacts]:
    """Make one view as it is trained on, with its draw below; and the same facts as data."""
    group = plan.group_slots(slot)
    rendered = render_cells(table, recipe, plan, Cells(epoch, group), size)
    position = int(np.flatnonzero(group == slot)[0])
    mixed = compose(to_batch(rendered), recipe)[position].permute(1, 2, 0)
    pixels = (mixed.clamp(0, 1) * 255).round().byte().numpy()
    view = rendered.views[position]
    lines = [f"epoch {epoch}, slot {slot}", str(view), *mix_line(table, rendered, position)]
    sample = int(rendered.samples[position])
    fact = ViewFacts(
        epoch=epoch,
        slot=slot,
        sample=sample,
        key=table.keys[sample],
        draw=str(view),
        fingerprint=f"{int(rendered.fingerprints[position]):08x}",
    )
    return tile_with_text(Image.fromarray(pixels), lines), fact


def mix_line(table: SampleTable, rendered: RenderedCells, position: int) -> list[str]:
    """Say how a view is mixed: kind, weight of the own image, class of the partner."""
    partner = int(rendered.partner[position])
    if partner == position:
        return []
    kind = "CutMix" if rendered.mix_box[position].any() else "Mixup"
    name = class_name(table.class_names, int(rendered.labels[partner]))
    return [f"{kind}: {rendered.lam[position]:.0%} own, the rest {name}"]


def original_tile(table: SampleTable, sample: int) -> Image.Image:
    """Show the whole image, with its class and key."""
    image = Image.fromarray(np.asarray(decode(table.read(sample))))
    lines = [
        class_name(table.class_names, int(table.labels[sample])),
        table.keys[sample],
        f"{image.width} x {image.height} px",
    ]
    return tile_with_text(image, lines)


def tile_with_text(image: Image.Image, paragraphs: list[str]) -> Image.Image:
    """Put an image, scaled to the grid, above its lines of text."""
    large = max(image.size) >= SIDE
    scaled = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC if large else Image.Resampling.NEAREST)
    tile = Image.new("RGB", (SIDE, SIDE + TEXT_LINES * LINE + 4), "white")
    tile.paste(scaled)
    pen = ImageDraw.Draw(tile)
    wrapped = [line for paragraph in paragraphs for line in textwrap.wrap(paragraph, 36)]
    for row, line in enumerate(wrapped[:TEXT_LINES]):
        words, font = lettered(line, FONT_SIZE)
        pen.text((0, SIDE + 4 + row * LINE), words, fill="black", font=font)
    return tile


def paste_grid(rows: list[list[Image.Image]]) -> Image.Image:
    """Put tiles of one size into rows on white."""
    width, height = rows[0][0].size
    columns = max(len(row) for row in rows)
    size = (columns * (width + MARGIN) + MARGIN, len(rows) * (height + MARGIN) + MARGIN)
    picture = Image.new("RGB", size, "white")
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            picture.paste(tile, (MARGIN + x * (width + MARGIN), MARGIN + y * (height + MARGIN)))
    return picture
