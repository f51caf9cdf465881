"""Text in pictures: Pillow's own font for what it has, DejaVu Sans beside this file for Greek, Cyrillic and more.

A font of the system draws what neither has, such as Chinese; without one it is named by its code point. A letter that a
font lacks would be drawn as an empty box, the same for all of them.
"""

from functools import cache
from pathlib import Path
from typing import Any

from PIL import ImageFont

BUNDLED = Path(__file__).with_name("fonts") / "DejaVuSans.ttf"
# Of Linux, macOS and Windows, the widest coverage first; Pillow looks for them where each system keeps its fonts.
SYSTEM_FONTS = (
    *(
        "NotoSansCJK-Regular.ttc",
        "NotoSans-Regular.ttf",
        "FreeSans.ttf",
        "LiberationSans-Regular.ttf",
    ),
    *("Arial Unicode.ttf", "PingFang.ttc", "msyh.ttc", "segoeui.ttf", "arial.ttf"),
)
NO_LETTER = "\uffff"  # no font has it: what is drawn for it is the box


def lettered(text: str, size: int) -> tuple[str, Any]:
    """Text that can be drawn, and the font for it: the first that has all its letters, else most of them.

    Args:
        text: a line.
        size: in pixels.

    Returns:
        The text, with `U+732B` where the font has no such letter, and the font.
    """
    letters = set(text)
    font = min(fonts(size), key=lambda one: sum(not has_letter(one, letter) for letter in letters))
    return "".join(one if has_letter(font, one) else f"U+{ord(one):04X}" for one in text), font


@cache
def fonts(size: int) -> tuple[Any, ...]:
    """Pillow's own, the bundled one, then what there is of the system's."""
    found = [ImageFont.load_default(size), ImageFont.truetype(BUNDLED, size)]
    for name in SYSTEM_FONTS:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return tuple(found)


@cache
def has_letter(font: Any, letter: str) -> bool:
    """Whether a font draws a letter, rather than the box it has for all that it lacks."""
    if letter.isspace():
        return True
    drawn, box = font.getmask(letter), font.getmask(NO_LETTER)
    return bool(drawn.size != box.size or bytes(drawn) != bytes(box))
