"""Write tests/golden/cache_vN and cache_vN.npz, N being the format version: a small cache made by the command itself.

    python tests/golden/regenerate_cache.py

One epoch of DeiT's recipe over the embedded digits, three teachers, one per target format; the .npz holds every value
as it was read back on the day. To be run once, in the version that raises the format version: a cache that is there is
not written anew, and those of earlier versions stay, and stay readable.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from deit_pipe.store.identity import FORMAT_VERSION
from deit_pipe.store.manifest import list_teachers, read_manifest
from deit_pipe.store.reader import TargetReader

CACHE = Path(__file__).with_name(f"cache_v{FORMAT_VERSION}")
TEACHERS = {"dense": "dense", "topk-3": "topk:3", "none": "none"}
FIELDS = ("teacher_label", "fingerprint", "logits", "topk_class", "topk_logp", "lse_tau")


def command(name: str, targets: str, cache: Path) -> list[str]:
    """The words of `deit-pipe` that make one teacher of the golden cache."""
    options = {
        "teacher": "test_resnet",
        "teacher-weights": "random",
        "data": "digits",
        "recipe": "deit",
        "img-size": 32,
        "epochs": 1,
        "seed": 7,
        "logits": f"{targets}@1,3",
        "name": name,
        "cache": cache,
        "device": "cpu",
        "workers": 0,
    }
    return ["cache-teacher", *(f"--{option}={value}" for option, value in options.items())]


def main() -> None:
    if CACHE.exists():
        raise SystemExit(f"{CACHE} is there and stays as it is\n  only a new format version gets a new one")
    for name, targets in TEACHERS.items():
        subprocess.run([sys.executable, "-m", "deit_pipe.cli", *command(name, targets, CACHE)], check=True)
    shutil.rmtree(CACHE / "hints", ignore_errors=True)
    slots = np.arange(read_manifest(CACHE).num_samples)
    arrays = {}
    for name in list_teachers(CACHE):
        targets = TargetReader(CACHE, name).read(0, slots)
        for field in FIELDS:
            if getattr(targets, field) is not None:
                arrays[f"{name}/{field}"] = getattr(targets, field)
    np.savez_compressed(CACHE.with_suffix(".npz"), **arrays)


if __name__ == "__main__":
    main()
