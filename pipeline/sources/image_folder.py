"""Class folders: every direct subfolder is a class, every image file below it a sample."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import BadImage, DataMissing
from deit_pipe.pipeline.samples import KeyList, SampleTable

# The list of torchvision 0.29 `IMG_EXTENSIONS`, plus .gif: what a class folder may hold without it being an
# accident.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")


class FolderSamples(SampleTable):
    """Samples of a class folder; the keys are paths below `root` with forward slashes."""

    def __init__(self, root: Path) -> None:
        classes = class_folders(root)
        keys: list[str] = []
        labels: list[int] = []
        for label, folder in enumerate(classes):
            found = _image_files(root / folder, folder)
            if not found:
                raise DataMissing(
                    f"no images in the class folder {root / folder}\n"
                    "  remove the folder or put images into it"
                )
            keys += found
            labels += [label] * len(found)
        super().__init__(str(root), KeyList(keys), np.asarray(labels, dtype=np.int64), classes)
        self.root = root

    def read(self, sample: int) -> bytes:
        """Return the file's bytes."""
        try:
            return (self.root / self.keys[sample]).read_bytes()
        except OSError as error:
            raise BadImage(
                f"cannot read image: sample {sample} ({self.keys[sample]}): {error.strerror}\n"
                f"  put the file back below {self.root}"
            ) from error

    def measure_bytes(self) -> NDArray[np.int64]:
        """Return the file sizes."""
        return np.asarray([(self.root / key).stat().st_size for key in self.keys], dtype=np.int64)


def class_folders(root: Path) -> list[str]:
    """Return the names of the subfolders of `root` in sorted order, without hidden ones."""
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def holds_images(root: Path) -> bool:
    """Tell whether any subfolder of `root` holds an image file, looking no further than the first."""
    return any(
        name.lower().endswith(IMAGE_SUFFIXES)
        for folder in class_folders(root)
        for _, _, names in os.walk(root / folder)
        for name in names
    )


def _image_files(folder: Path, prefix: str) -> list[str]:
    """Return paths of all image files below `folder`, relative, sorted, beginning with `prefix`."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        below = Path(parent).relative_to(folder).as_posix()
        head = prefix if below == "." else f"{prefix}/{below}"
        found += [f"{head}/{name}" for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    return sorted(found)
