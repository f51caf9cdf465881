"""A picture of images with what each head says of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from deit_pipe.stages.pages.lettering import lettered

COLUMNS, TILE, MARGIN, LINE, FONT = 4, 224, 8, 17, 13
INK, SOFT = (20, 20, 20), (110, 110, 110)


def answer_sheet(pixels: Sequence[NDArray[np.uint8]], captions: Sequence[Sequence[str]]) -> Image.Image:
    """Images in rows of four, the lines of each below it.

    Args:
        pixels: uint8 [S, S, 3] each, as they were seen.
        captions: as many lines for every image; the first is its name.
    """
    lines = max(map(len, captions))
    wide, high = TILE + MARGIN, TILE + lines * LINE + MARGIN
    rows, columns = -(-len(pixels) // COLUMNS), min(COLUMNS, len(pixels))
    sheet = Image.new("RGB", (columns * wide + MARGIN, rows * high + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (image, caption) in enumerate(zip(pixels, captions, strict=True)):
        x, y = MARGIN + place % COLUMNS * wide, MARGIN + place // COLUMNS * high
        how = Image.Resampling.NEAREST if len(image) < TILE // 2 else Image.Resampling.BICUBIC
        sheet.paste(Image.fromarray(image).resize((TILE, TILE), how), (x, y))
        for row, line in enumerate(caption):
            text, font = lettered(line, FONT)
            while text and pen.textlength(text, font=font) > TILE:
                text = text[:-2] + "…" if len(text) > 2 else ""
            pen.text((x, y + TILE + 1 + row * LINE), text, fill=INK if row else SOFT, font=font)
    return sheet
