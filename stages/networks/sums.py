"""SUMS: what the files of a run folder were when they were written, as `sha256sum -c SUMS` reads it. No torch.

    3a5c...e1  checkpoints/00001200/model.safetensors
    90f0...77  config.json
    # sha256 of the lines above: 5d41...

Files are committed together: each is written beside its name (`NAME.partial`), then SUMS is replaced, which is the
commit, then they take their names. Whoever goes on with a folder finishes a commit that was stopped. A folder without
SUMS, of an earlier version, is used as it is, and that is said.
"""

import hashlib
import re
import shlex
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from pathlib import Path

from deit_pipe.stages.console.errors import Corrupt
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.networks.durable_files import (
    PARTIAL,
    naming,
    open_regular,
    partial_of,
    replace_durably,
    write_partial,
)
from deit_pipe.stages.networks.file_names import CHECKPOINTS

SUMS = "SUMS"
MOST_BYTES = 4_000_000
PAUSE = 0.1  # seconds; a run that goes on needs less between SUMS and the files' names

_LINE = re.compile(r"([0-9a-f]{64})  ([^\x00-\x1f\x7f\\]{1,1000})")
_LAST = "# sha256 of the lines above: "


def read_sums(folder: Path, file: str = SUMS) -> dict[str, str] | None:
    """SHA-256 by path below the folder, as a file of this name says; None where there is none.

    Raises:
        Corrupt: SUMS is damaged.
    """
    path = folder / file
    if not path.exists():
        return None
    with open_regular(path) as opened:
        text = opened.read(MOST_BYTES).decode(errors="replace")
    *lines, last, end = text.split("\n") if text.count("\n") else ["", "", text]
    found = [_LINE.fullmatch(line) for line in lines]
    above = "".join(f"{line}\n" for line in lines)
    whole = end == "" and last == _LAST + hashlib.sha256(above.encode()).hexdigest()
    sums = {match[2]: match[1] for match in found if match is not None}
    inside = all(not name.startswith("/") and ".." not in name.split("/") for name in sums)
    if not whole or not inside or len(sums) != len(lines):
        raise Corrupt(
            f"{path} is damaged",
            expected="lines of sha256sum, and their own SHA-256 in the last one",
            got=f"{len(text):,} characters that are not that",
            cure=f"restore it from a copy; or use the folder as it is, unchecked: {unchecked(path)}",
        )
    return sums


def unchecked(sums: Path) -> str:
    """The command after which files are taken as they are."""
    return f"rm {shlex.quote(str(sums))}"


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Replace SUMS, durably."""
    write_partial(folder / SUMS, sums_text(sums).encode())
    replace_durably(folder / SUMS)


def sums_text(sums: Mapping[str, str]) -> str:
    """The content of SUMS, its own SHA-256 last."""
    above = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    return f"{above}{_LAST}{hashlib.sha256(above.encode()).hexdigest()}\n"


def file_sha256(path: Path) -> str:
    """SHA-256 of a regular file, hex; anything else (a pipe would be waited for) is refused.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    with naming(path), open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def commit(
    folder: Path,
    names: Iterable[str],
    *,
    placed: Iterable[str] = (),
    dropped: Callable[[str], bool] = lambda name: False,
    fresh: bool = False,
) -> None:
    """Let files that were written aside take their names, all of them or none.

    Args:
        folder: whose SUMS vouches for them.
        names: of the files, below the folder; each was written as `NAME.partial`.
        placed: files that have their names already, and that nothing has vouched for yet.
        dropped: which of the names in SUMS it no longer vouches for.
        fresh: it vouches for nothing else any more.
    """
    names = tuple(names)
    sums = {} if fresh else {name: value for name, value in (read_sums(folder) or {}).items() if not dropped(name)}
    sums |= {name: file_sha256(partial_of(folder / name)) for name in names}
    sums |= {name: file_sha256(folder / name) for name in placed}
    write_sums(folder, sums)
    for name in names:
        replace_durably(folder / name)


def finish_commit(folder: Path, sums: Mapping[str, str]) -> None:
    """Finish what a killed process was committing; what it had not come to commit is removed."""
    for name, value in sums.items():
        partial = partial_of(folder / name)
        if partial.is_file() and not partial.is_symlink() and file_sha256(partial) == value:
            replace_durably(folder / name)
    for left in (*folder.glob(f"*{PARTIAL}"), *(folder / CHECKPOINTS).glob(f"*{PARTIAL}")):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def check_sums(folder: Path, names: Collection[str], cure: Callable[[str], str] | None = None) -> None:
    """Refuse files that are not what was written.

    Args:
        folder: a run folder; one without SUMS is not checked, and that is said once.
        names: of the files, below the folder.
        cure: for the file of a name; by default to restore it, or to do without SUMS.

    Raises:
        Corrupt: names the first file that differs, is gone, or is not in SUMS.
    """
    sums = read_sums(folder)
    if sums is None:
        if names:
            say_unchecked(folder)
        return
    for name in names:
        problem = _problem(folder, name, sums)
        if problem is not None:  # a run that goes on may be replacing this very file: look again
            time.sleep(PAUSE)
            problem = _problem(folder, name, read_sums(folder) or {})
        if problem is not None:
            expected, got = problem
            restore = f"restore it from a copy; or use the folder as it is, unchecked: {unchecked(folder / SUMS)}"
            raise Corrupt(
                f"{folder / name} is not the file that was written",
                expected=expected,
                got=got,
                cure=cure(name) if cure is not None else restore,
            )


def check_beside(file: Path) -> None:
    """Refuse an exported file, or what describes it, that is not what was written, where `FILE.sums` says what was.

    Raises:
        Corrupt: it differs, or the sums are damaged.
    """
    listed = f"{file.name}.sums"
    sums = read_sums(file.parent, listed) or {}
    for one in [file.name, *(name for name in sums if (file.parent / name).exists())] if sums else []:
        problem = _problem(file.parent, one, sums)
        if problem is not None:
            raise Corrupt(
                f"{file.parent / one} is not the file that was written",
                expected=problem[0],
                got=problem[1],
                cure=f"export it again; or use it as it is, unchecked: {unchecked(file.with_name(listed))}",
            )


def _problem(folder: Path, name: str, sums: Mapping[str, str]) -> tuple[str, str] | None:
    """What was expected of a file and what is there; None when it is whole."""
    if name not in sums:
        return f"a line for it in {SUMS}", "none"
    try:
        found = file_sha256(folder / name)
    except (FileNotFoundError, NotADirectoryError) as error:
        return f"sha256 {sums[name]}", (error.strerror or str(error)).lower()
    return None if found == sums[name] else (f"sha256 {sums[name]}", f"sha256 {found}")


@cache
def say_unchecked(folder: Path) -> None:
    """Say, once, that nothing vouches for the files of a folder."""
    note(f"{folder} has no {SUMS}, as an earlier version left it: its files are used unchecked")
