"""A picture of what a student answers: validation images with predicted, true and teacher class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from deit_pipe.pipeline.compose import compose, normalise
from deit_pipe.pipeline.loader import load_views
from deit_pipe.pipeline.plan import Cells
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.networks.student import load_student
from deit_pipe.stages.networks.teacher import load_teacher
from deit_pipe.stages.networks.two_heads import heads
from deit_pipe.stages.networks.weights import read_teacher_run
from deit_pipe.stages.opened.plain_views import eval_plan, eval_recipe
from deit_pipe.stages.pages.lettering import lettered

COLUMNS, ROWS = 10, 5
TILE, CAPTION, MARGIN, FONT = 96, 50, 6, 13
GOOD, BAD, INK = (20, 110, 50), (185, 25, 25), (60, 60, 60)


@torch.inference_mode()
def draw_predictions(student: Path, teacher: Path, table: SampleTable, picture: Path, device: torch.device) -> None:
    """Write a PNG of some images of the table; wrong answers stand first.

    Raises:
        Missing: no student or teacher there.
    """
    facts, model = load_student(student, device)
    known = read_teacher_run(teacher)
    assert known is not None
    guide = load_teacher(
        known.model,
        weights=str(teacher),
        num_classes=len(table.class_names),
        class_names=table.class_names,
        device=device,
    )
    recipe = eval_recipe(facts.crop_ratio)
    cells = [Cells(0, np.arange(len(table)))]
    views = next(iter(load_views(table, recipe, eval_plan(len(table)), cells, image_size=facts.image_size)))
    mixed = compose(views.to(device), recipe)
    class_logits, dist_logits = heads(model, normalise(mixed, facts.mean, facts.std))
    logits = class_logits if dist_logits is None else class_logits + dist_logits
    said, taught = logits.argmax(dim=1).cpu().numpy(), guide(mixed).argmax(dim=1).cpu().numpy()
    true = views.labels.numpy()
    order = np.argsort(said == true, kind="stable")[: COLUMNS * ROWS]
    names = table.class_names
    captions = [
        ((names[said[i]], said[i] == true[i]), (names[true[i]], True), (names[taught[i]], taught[i] == true[i]))
        for i in order
    ]
    _sheet(views.pixels.numpy()[order], captions).save(picture)


def _sheet(pixels: np.ndarray, captions: Sequence[tuple[tuple[str, bool], ...]]) -> Image.Image:
    wide, high = TILE + MARGIN, TILE + CAPTION + MARGIN
    rows = -(-len(pixels) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * wide + MARGIN, rows * high + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (image, lines) in enumerate(zip(pixels, captions, strict=True)):
        x, y = MARGIN + place % COLUMNS * wide, MARGIN + place // COLUMNS * high
        sheet.paste(Image.fromarray(image).resize((TILE, TILE), Image.Resampling.NEAREST), (x, y))
        for line, (title, (text, right)) in enumerate(zip(("student", "true", "teacher"), lines, strict=True)):
            colour = INK if title == "true" else GOOD if right else BAD
            words, font = lettered(f"{title} {text[:12]}", FONT)
            pen.text((x, y + TILE + 1 + 16 * line), words, fill=colour, font=font)
    return sheet
