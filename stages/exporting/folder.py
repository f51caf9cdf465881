"""An export is a folder: written aside, checked, renamed; whole or not there. SUMS vouches for its files."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.networks.durable_files import PARTIAL, sync_file, sync_folder
from deit_pipe.stages.networks.sums import SUMS, file_sha256, read_sums, write_sums

FILES = (".safetensors", ".onnx")  # an export was a file once


def check_out(out: Path) -> None:
    """Refuse a place that cannot be written, before anything is computed for it.

    Raises:
        UsageProblem: the name of a file, or a folder with something that is no unchanged export.
    """
    if out.suffix in FILES:
        raise UsageProblem(
            f"--out {out} names a file",
            expected="a folder: weights, what is said of them, and a model card",
            cure=f"give it a folder's name: --out {out.with_suffix('')}",
        )
    if not out.is_dir():
        return
    sums = read_sums(out) or {}
    there = sorted(path.name for path in out.iterdir() if path.name != SUMS)
    for name in there:
        if name in sums and (out / name).is_file() and file_sha256(out / name) == sums[name]:
            continue
        raise UsageProblem(
            f"--out {out} holds {name}, which is {'changed since it was' if name in sums else 'not'} exported",
            cure="give another folder with --out, or move it away",
        )


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `out` when the block ends well, and is gone when it does not."""
    aside = out.with_name(out.name + PARTIAL)
    out.parent.mkdir(parents=True, exist_ok=True)
    if aside.is_dir():
        shutil.rmtree(aside)
    aside.mkdir()
    try:
        yield aside
        files = sorted(path for path in aside.iterdir() if path.is_file())
        for path in files:
            sync_file(path)
        write_sums(aside, {path.name: file_sha256(path) for path in files})
        if out.is_dir():
            shutil.rmtree(out)
        aside.rename(out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync_folder(out.parent)
