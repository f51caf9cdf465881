"""A picture of a cell: the image as it is, the view as rendered, and what the teacher saw after erasing and mixing."""

import io
from base64 import b64encode
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deit_pipe.pipeline.cells import RenderedCells
from deit_pipe.pipeline.decode import decode
from deit_pipe.stages.opened.views import CachedViews

SIDE = 256
GAP = 8


def seen_pixels(views: CachedViews, rendered: RenderedCells) -> NDArray[np.uint8]:
    """What the networks see, uint8 [B, S, S, 3]: erased and mixed (noise beyond black and white is clipped).

    torch is imported only if there is something to erase or to mix.
    """
    mixed = (rendered.partner != np.arange(len(rendered.partner))).any()
    if not mixed and not rendered.erase.any():
        return rendered.pixels
    from deit_pipe.pipeline.compose import compose
    from deit_pipe.pipeline.loader import to_batch

    pixels = compose(to_batch(rendered), views.recipe).clamp(0, 1).mul(255).round()
    return np.asarray(pixels.permute(0, 2, 3, 1).numpy().astype(np.uint8))


def save_cell(views: CachedViews, epoch: int, slot: int, path: Path) -> None:
    """Write a PNG: image, view, and the mixed view where it differs.

    Raises:
        OSError: the file cannot be written.
    """
    group = views.groups(np.array([slot]))
    rendered = views.render(epoch, group)
    place = int(np.flatnonzero(group == slot)[0])
    view, seen = rendered.pixels[place], seen_pixels(views, rendered)[place]
    source = decode(views.table.read(int(rendered.samples[place])))
    panels = [source if isinstance(source, Image.Image) else Image.fromarray(source), Image.fromarray(view)]
    if not np.array_equal(view, seen):
        panels.append(Image.fromarray(seen))
    tiles = [fit(panel, SIDE) for panel in panels]
    sheet = Image.new("RGB", (len(tiles) * (SIDE + GAP) - GAP, SIDE), (255, 255, 255))
    for column, tile in enumerate(tiles):
        sheet.paste(tile, (column * (SIDE + GAP), (SIDE - tile.height) // 2))
    sheet.save(path, "PNG")


def fit(image: Image.Image, side: int) -> Image.Image:
    """The image with its longer side made `side`; small ones keep their hard pixels."""
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)


def encoded(pixels: NDArray[np.uint8], side: int = 160) -> tuple[str, bytes]:
    """MIME type and bytes of a small picture: PNG up to 64 px, JPEG above, at most `side` px."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    if max(image.size) <= 64:
        image.save(buffer, "PNG", optimize=True)
        return "image/png", buffer.getvalue()
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    image.save(buffer, "JPEG", quality=82)
    return "image/jpeg", buffer.getvalue()


def data_uri(mime: str, data: bytes) -> str:
    """A file as an address, so that a page needs no other file."""
    return f"data:{mime};base64,{b64encode(data).decode('ascii')}"
