"""Numbers a person can read."""

import math


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
