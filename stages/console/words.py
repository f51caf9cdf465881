"""Numbers a person can read."""

import math
from collections.abc import Iterable

Line = tuple[str, str]
"""A line of text, and its style."""


def human_bytes(count: float) -> str:
    """Bytes in powers of 1000, as disks are sold.

    >>> human_bytes(1536)
    '1.5 kB'
    """
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    value, place = float(count), 0
    while abs(value) >= 999.5 and place < len(units) - 1:
        value, place = value / 1000, place + 1
    unit = units[place]
    return f"{value:.0f} {unit}" if unit == "B" or abs(value) >= 100 else f"{value:.1f} {unit}"


def human_duration(seconds: float) -> str:
    """Seconds in two units.

    >>> human_duration(75)
    '1 min 15 s'
    """
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {secs} s" if minutes else f"{secs} s"


def percent(share: float | None, digits: int = 2, *, absent: str = "-") -> str:
    """`0.1234` -> `12.34 %`."""
    return absent if share is None else f"{share * 100:.{digits}f} %"


def number(value: float | None, digits: int = 2) -> str:
    """`1.234` -> `1.23`; `-` where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def sides(lengths: Iterable[int], sign: str = "x") -> str:
    """`(30, 1437)` -> `30 x 1,437`."""
    return f" {sign} ".join(f"{length:,}" for length in lengths)


def short(digest: str) -> str:
    """The first 12 digits of a digest."""
    return digest[:12]


def bar(share: float, width: int = 20) -> str:
    """A bar of how much is there; never full before all is, never empty once something is."""
    filled = max(1, int(share * width)) if share > 0 else 0
    return "█" * filled + "░" * (width - filled)


def gauge(share: float, width: int = 20) -> str:
    """A bar of how large a share is, to the nearest place."""
    filled = round(share * width)
    return "█" * filled + "·" * (width - filled)
