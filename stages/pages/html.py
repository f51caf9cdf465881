"""HTML that cannot be injected into: text becomes markup only through `tag`, which escapes whatever is not `Html`."""

import html
from base64 import b64encode
from collections.abc import Iterable

VOID = {"meta", "img", "br", "hr", "link"}

# No script runs and nothing is fetched, whatever the page may hold.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Html:
    """An element. Children that are not `Html` are escaped, None is left out, iterables are joined.

    Attributes: a final underscore is dropped, other underscores become hyphens, True is an attribute without value,
    None and False are left out.
    """
    written = [
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    ]
    start = f"<{name}{''.join(written)}>"
    return Html(start if name in VOID else f"{start}{join(children)}</{name}>")


def join(children: Iterable[Child], between: str = "") -> Html:
    """Children one after the other, escaped where they are not markup."""
    parts = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            parts.append(str(child))
        elif isinstance(child, str | int | float):
            parts.append(escape(str(child)))
        else:
            parts.append(join(child))
    return Html(between.join(parts))


def escape(text: str) -> str:
    """Text for content and for quoted attributes; what UTF-8 cannot hold (odd file names) is written as an escape."""
    return html.escape(text.encode("utf-8", "backslashreplace").decode("utf-8"), quote=True)


def data_uri(mime: str, data: bytes) -> str:
    """A file as an address, so that the page needs no other file."""
    return f"data:{mime};base64,{b64encode(data).decode('ascii')}"


def page(title: str, style: str, body: Iterable[Child]) -> str:
    """A whole document in one file. `style` is CSS of our own, never of the data."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        Html(f"<style>{style}</style>"),
    )
    return f'<!doctype html>\n<html lang="en">{head}\n{tag("body", *body)}</html>\n'


def table(columns: Iterable[tuple[str, str | None]], rows: Iterable[Iterable[Child]], total: bool = False) -> Html:
    """A table that scrolls inside its box where it is too wide.

    Args:
        columns: heading and style class of each (`n`: numbers, right-aligned).
        rows: a cell for each column.
        total: the last row is a sum.
    """
    described = list(columns)
    head = tag("tr", *(tag("th", word, class_=style) for word, style in described))
    lines = [[tag("td", cell, class_=style) for cell, (_, style) in zip(row, described, strict=True)] for row in rows]
    body = [
        tag("tr", *cells, class_="sum" if total and place == len(lines) - 1 else None)
        for place, cells in enumerate(lines)
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll")


def track(share: float) -> Html:
    """A bar inside a table cell, `share` (0..1) of its width."""
    return tag("span", tag("i", style=f"--v:{share:.4f}"), class_="track")


def percent(share: float, digits: int = 1) -> str:
    """`12.3 %`, never broken into two lines."""
    return f"{share * 100:.{digits}f}\u00a0%"
