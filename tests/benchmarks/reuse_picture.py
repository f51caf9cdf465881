"""The reuse curve as an SVG: a panel for each data set, a line for each loss, bars of one standard deviation."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from deit_pipe.stages.comparing.intervals import Spread
from deit_pipe.stages.pages.charts import nice_ticks, padded_range

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 280, 46, 12, 44, 44
COLOURS = ("#2166ac", "#b2182b", "#4d9221", "#762a83")
INK, SOFT = "#333", "#ccc"


def draw(curves: Mapping[str, Mapping[int, Spread]]) -> str:
    """Curves named `DATA, KIND`, each from cached epochs to top-1 (0..1); the horizontal axis is logarithmic."""
    panels: dict[str, dict[str, Mapping[int, Spread]]] = {}
    for name, points in curves.items():
        data, _, kind = name.rpartition(", ")
        panels.setdefault(data, {})[kind] = points
    width = WIDTH * len(panels)
    drawn = [
        f'<g transform="translate({place * WIDTH} 0)">{panel(data, kinds)}</g>'
        for place, (data, kinds) in enumerate(panels.items())
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}" role="img">'
        f"<title>Accuracy of a student by the number of cached epochs it was trained from</title>"
        f'<rect width="{width}" height="{HEIGHT}" fill="white"/>{"".join(drawn)}</svg>\n'
    )


def panel(data: str, kinds: Mapping[str, Mapping[int, Spread]]) -> str:
    """One data set."""
    xs = sorted({cached for points in kinds.values() for cached in points})
    ends = [one.mean + side * (one.sd or 0) for points in kinds.values() for one in points.values() for side in (-1, 1)]
    low, high = padded_range(ends, (0, 1))
    ticks = nice_ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    parts = [text(LEFT, 16, data, weight="bold"), text(LEFT, 32, "top-1, %", colour="#666")]
    parts += [text((LEFT + WIDTH) / 2, HEIGHT - 6, f"cached epochs, of {xs[-1]} trained", "middle", "#666")]
    for tick in ticks:
        y = place_y(tick, low, high)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{SOFT}"/>')
        parts.append(text(LEFT - 6, y + 4, f"{tick * 100:g}", "end"))
    parts += [text(place_x(x, xs), HEIGHT - BOTTOM + 18, str(x), "middle") for x in xs]
    for number, (kind, points) in enumerate(kinds.items()):
        colour = COLOURS[number]
        shift = 3 * (number - (len(kinds) - 1) / 2)  # bars side by side, not on each other
        dots = [(place_x(x, xs) + shift, points[x]) for x in xs]
        line = " ".join(f"{x:.1f},{place_y(one.mean, low, high):.1f}" for x, one in dots)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, one in dots:
            y, sd = place_y(one.mean, low, high), one.sd or 0.0
            top, base = place_y(one.mean + sd, low, high), place_y(one.mean - sd, low, high)
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{base:.1f}" stroke="{colour}"/>')
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        parts.append(text(WIDTH - RIGHT - 60 * (len(kinds) - number) + 24, 32, kind, colour=colour, weight="bold"))
    return "".join(parts)


def place_x(cached: int, xs: Sequence[int]) -> float:
    """Horizontal place of a number of cached epochs."""
    share = math.log(cached / xs[0]) / (math.log(xs[-1] / xs[0]) or 1)
    return LEFT + 14 + share * (WIDTH - LEFT - RIGHT - 28)


def place_y(value: float, low: float, high: float) -> float:
    """Vertical place of an accuracy."""
    return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def text(x: float, y: float, words: str, anchor: str = "start", colour: str = INK, weight: str = "normal") -> str:
    """A label."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">'
        f"{escape(words)}</text>"
    )
