"""The one writer of pages: templates and a style beside this file, filled in by jinja2 into a single HTML file.

Whatever comes from data is escaped (autoescape), a name that a template does not get is an error (StrictUndefined),
no script runs and nothing is fetched (the page's own policy).
"""

import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deit_pipe import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(target: Path, template: str, title: str, **values: Any) -> int:
    """Fill in a template and write it as one self-contained file; its size in bytes."""
    data = render(template, title=title, **values).encode()
    target.write_bytes(data)
    return len(data)


def render(template: str, **values: Any) -> str:
    """A whole document; what UTF-8 cannot hold (odd file names) is written as an escape."""
    from markupsafe import Markup

    text = (
        templates()
        .get_template(template)
        .render(
            policy=POLICY,
            style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
            version=__version__,
            time=time.strftime("%Y-%m-%d %H:%M"),
            **values,
        )
    )
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@cache
def templates() -> "Environment":
    """The templates; jinja2 is imported when the first page is made."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
