"""Write tests/golden/cache_v1, a tiny cache of format version 1: three teachers, one per format, two epochs.

    python tests/golden/regenerate_cache.py

Only when the format version is raised, into a new folder: the old ones stay, and stay readable.
"""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from store_fakes import FORMATS, create, fill, make_teacher

from deit_pipe.store.reader import TargetReader

CACHE = Path(__file__).with_name("cache_v1")
NUM_SAMPLES = 20
FIELDS = ("teacher_label", "fingerprint", "logits", "topk_class", "topk_logp", "lse_tau")


def main() -> None:
    shutil.rmtree(CACHE, ignore_errors=True)
    create(CACHE, NUM_SAMPLES)
    arrays = {}
    for text in FORMATS:
        teacher = make_teacher(text, block_slots=16)
        fill(CACHE, teacher, 2, provenance={"why": "golden"})
        for epoch in range(2):
            targets = TargetReader(CACHE, teacher.name).read(epoch, np.arange(NUM_SAMPLES))
            for field in FIELDS:
                if getattr(targets, field) is not None:
                    arrays[f"{teacher.name}/{epoch}/{field}"] = getattr(targets, field)
    shutil.rmtree(CACHE / "locks")
    np.savez_compressed(CACHE.with_suffix(".npz"), **arrays)


if __name__ == "__main__":
    main()
