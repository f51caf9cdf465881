"""What a deep check has read so far, in a small file: the same command goes on after an interruption."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from deit_pipe.stages.checking.images import CheckedImages, CheckedSplit
from deit_pipe.stages.checking.one_image import ImageFacts
from deit_pipe.stages.console.errors import UsageProblem

VERSION = 1
WHAT = "check-data"


class ScanState:
    """A file of lines: first what is checked, then one line per image."""

    def __init__(self, file: Path, images: CheckedImages) -> None:
        self.file = file
        self._images = images
        self._stamps = [stamps_of(split) for split in images.splits]
        self._head = {
            WHAT: VERSION,
            "splits": [[split.kind, split.named.data, split.table.digest] for split in images.splits],
        }
        self._open: TextIO | None = None

    def stamp(self, image: int) -> str:
        """Size and time of the file that an image is in."""
        split, sample = self._images.find(image)
        stamps = self._stamps[int(self._images.split_of[image])]
        return stamps[sample] if len(stamps) == len(split.table) else ",".join(stamps)

    def read(self) -> Iterator[tuple[int, ImageFacts]]:
        """What an earlier run found of images that are still the same.

        Raises:
            UsageProblem: the file is something else, which must not be overwritten.
        """
        if not self.file.exists():
            return
        try:
            lines = self.file.read_text(encoding="utf-8").splitlines()
            head = json.loads(lines[0]) if lines else {}
            if not isinstance(head, dict) or WHAT not in head:
                raise ValueError
        except (OSError, ValueError) as error:
            raise UsageProblem(
                f"--state {self.file} is no state of a check", cure="give another name, or remove the file"
            ) from error
        if head != self._head:
            return  # of other images: it is written anew
        for line in lines[1:]:
            entry = _entry(line)
            if entry is None:
                continue
            image, stamp, key, *facts = entry
            if 0 <= image < len(self._images) and (stamp, key) == (self.stamp(image), self._images.name(image)):
                yield image, ImageFacts(*facts)

    def write(self, found: Iterable[tuple[int, ImageFacts]]) -> None:
        """Append what was read; of a check of other images nothing is kept.

        Raises:
            UsageProblem: the file cannot be written.
        """
        try:
            if self._open is None:
                self._open = self._begin()
            for image, facts in found:
                entry = [image, self.stamp(image), self._images.name(image), *facts]
                self._open.write(json.dumps(entry) + "\n")
            self._open.flush()
        except OSError as error:
            raise UsageProblem(
                f"--state {self.file} cannot be written: {error.strerror}", cure="give another name: --state FILE"
            ) from error

    def remove(self) -> None:
        """Everything is read: nothing needs to be kept."""
        self.close()
        self.file.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; it stays."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _begin(self) -> TextIO:
        mine = self.file.exists() and self.file.read_text(encoding="utf-8").startswith(json.dumps(self._head) + "\n")
        opened = self.file.open("a" if mine else "w", encoding="utf-8")
        # an interrupted writer may have left half a line
        opened.write("\n" if mine else json.dumps(self._head) + "\n")
        return opened


def stamps_of(split: CheckedSplit) -> list[str]:
    """Size and time of every file of a split; of one that is gone, nothing."""
    return [_stamp(file) for file in split.files()]


def _stamp(file: Path) -> str:
    try:
        about = os.stat(file)  # noqa: PTH116 - a million times
    except OSError:
        return ""
    return f"{about.st_size}:{about.st_mtime_ns}"


def _entry(line: str) -> list[Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, list) and len(entry) == 3 + len(ImageFacts._fields) else None
