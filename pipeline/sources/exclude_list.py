"""Lists of images that are left away: a file with one name per line, and what it leaves of the splits.

A name is that of `check-data`: the split's kind and the image's key, such as `train/cat/001.jpg` or `val/row 17`; of a
training image the key alone will do. Lines that begin with # say something to people. A name that a line cannot hold
(control characters, spaces at its ends, broken bytes) is a JSON string.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import ChoiceError, DataMissing
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.sources.left_out import listed, printable
from deit_pipe.pipeline.sources.split_names import Kind

MOST_BYTES = 16 << 20  # of a list
NEARBY = 2000  # names that a misspelt one is compared with


def read_exclude_list(file: str) -> tuple[str, ...]:
    """Read a list: its names, sorted, each once.

    Raises:
        DataMissing: no such file.
        ChoiceError: not a list of names.
    """
    path = Path(file)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ChoiceError(f"--exclude {file} is no list of images: more than {MOST_BYTES >> 20} MB")
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except FileNotFoundError as error:
        raise DataMissing(f"no exclude list {file}", cure="write one: deit-pipe check-data --write-exclude") from error
    except OSError as error:
        raise ChoiceError(f"--exclude {file} cannot be read: {error.strerror}", cure="name a file") from error
    if "\0" in text:
        raise ChoiceError(f"--exclude {file} is no list of images", cure="one name per line, as check-data writes it")
    names = (_name_of(line, file, number) for number, line in enumerate(text.split("\n"), 1))
    return tuple(sorted({name for name in names if name}))


def write_exclude_list(file: Path, names: Iterable[tuple[str, str]]) -> None:
    """Write a list of (why, name); the reasons become comments."""
    lines = ["# images to leave away: deit-pipe ... --exclude FILE"]
    before = ""
    for why, name in names:
        if why != before:
            lines.append(f"# {printable(why)}")
            before = why
        lines.append(line_of(name))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def line_of(name: str) -> str:
    """A name as a line of the list."""
    plain = name.isprintable() and name == name.strip() and not name.startswith(("#", '"'))
    return name if plain else json.dumps(name)


def digest_of(names: Sequence[str]) -> str:
    """SHA-256 of the names of a list, in hexadecimal."""
    return hashlib.sha256("\n".join(map(json.dumps, names)).encode()).hexdigest()


def find_excluded(
    names: Sequence[str], tables: Mapping[Kind, SampleTable | None], data: str
) -> dict[Kind, NDArray[np.int64]]:
    """Find the images that a list names.

    Args:
        names: of the list.
        tables: the whole splits.
        data: the path, for messages.

    Returns:
        Their positions in each split, int64, increasing.

    Raises:
        DataMissing: a name that no image has; the nearest ones are named.
    """
    found: dict[Kind, set[int]] = {kind: set() for kind in tables}
    missing = set(names)
    for spelling in (str, _composed):  # as it is first; then as another system may have written the list
        if missing:
            wanted = {spelling(name): name for name in sorted(missing)}
            for kind, table in tables.items():
                for position, key in enumerate(table.keys if table is not None else ()):
                    key = spelling(key)
                    name = wanted.get(f"{kind}/{key}", wanted.get(key) if kind == "train" else None)
                    if name is not None:
                        found[kind].add(position)
                        missing.discard(name)
    if missing:
        raise _not_there(sorted(missing), tables, data)
    return {kind: np.asarray(sorted(positions), dtype=np.int64) for kind, positions in found.items()}


def _name_of(line: str, file: str, number: int) -> str:
    line = line.removesuffix("\r")
    if not line.startswith('"'):
        return "" if line.startswith("#") else line.strip(" \t")
    try:
        name = json.loads(line)
    except ValueError:
        name = None
    if not isinstance(name, str):
        raise ChoiceError(
            f"line {number} of the exclude list {file} begins with a quote and is no JSON string",
            got=printable(line[:80]),
            cure="correct the line, or have the list written: deit-pipe check-data --write-exclude FILE",
        )
    return name


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _not_there(missing: list[str], tables: Mapping[Kind, SampleTable | None], data: str) -> DataMissing:
    name = missing[0]
    near = _nearest(name, tables)
    return DataMissing(
        f"--exclude: no image of {data} is called {printable(name)}",
        details=[
            *([f"nearest   {listed(near)}"] if near else []),
            *([f"and {len(missing) - 1:,} more names are of no image"] if len(missing) > 1 else []),
        ],
        cure="correct the list, or have it written: deit-pipe check-data DATA --deep --write-exclude FILE",
    )


def _nearest(name: str, tables: Mapping[Kind, SampleTable | None]) -> list[str]:
    """The nearest names among those that share the file's name or its folder, else among the first of all."""
    folder, _, file = name.rpartition("/")
    shared: list[str] = []
    first: list[str] = []
    for kind, table in tables.items():
        for key in table.keys if table is not None else ():
            full = f"{kind}/{key}"
            if len(shared) < NEARBY and (full.endswith(f"/{file}") or (folder and full.startswith(f"{folder}/"))):
                shared.append(full)
            elif len(first) < NEARBY:
                first.append(full)
    return get_close_matches(name, shared, n=3, cutoff=0.5) or get_close_matches(name, first, n=3, cutoff=0.5)
