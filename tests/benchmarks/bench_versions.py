"""Does a cache train under another torch and another number of threads without a false alarm?

    python tests/benchmarks/bench_versions.py OTHER_PYTHON [--caches 5] [--write]

OTHER_PYTHON is the interpreter of an environment with another torch (and everything else that the package needs). Each
cache is made here with one thread, and trained from by every (interpreter, threads) in a process of its own; and made
there and trained from here. Then the witnesses of all caches are computed again, and their largest distance is shown.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from results import environment_line, write_section
from stage_fakes import write_idx

from deit_pipe.pipeline.proof.witness import TOLERANCE

PACKAGE = Path(__file__).resolve().parents[2]
RECIPES = ("deit", "deit3", "basic", "small", "everything")
EVERYTHING = 'base = "deit"\nerase_prob = 0.5\nmix_group = 4\n'
DISTANCE = """
import sys
import numpy as np
from deit_pipe.pipeline.compose import compose, normalise
from deit_pipe.pipeline.loader import to_batch
from deit_pipe.pipeline.proof.witness import witness_sums
from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.stages.opened.views import open_views
from deit_pipe.store.manifest import list_teachers
views = open_views(sys.argv[1], None)
arrays = CachedArrays(sys.argv[1], list_teachers(sys.argv[1])[0])
mean, std, far = arrays.identity.mean, arrays.identity.std, 0.0
for epoch in range(arrays.epochs):
    found = arrays.witnesses(epoch)
    batch = to_batch(views.render(epoch, np.arange(views.plan.num_slots)))
    sums = witness_sums(normalise(compose(batch, views.recipe), mean, std)[found.slots], mean, std).numpy()
    far = max(far, float(np.abs(sums - found.sums).max()))
print(far)
"""


def run(python: str, threads: int, root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root / "path"), "OMP_NUM_THREADS": str(threads)}
    return subprocess.run(
        [python, *words], env=environment, cwd=root, capture_output=True, text=True, timeout=900, check=False
    )


def torch_of(python: str, root: Path) -> str:
    return run(python, 1, root, "-c", "import torch; print(torch.__version__)").stdout.strip()


def make(python: str, root: Path, cache: Path, recipe: str, seed: int) -> None:
    words = (
        f"-m deit_pipe.cli cache-teacher --teacher test_resnet --teacher-weights random --data {root / 'data'} "
        f"--recipe {recipe} --img-size 64 --epochs 1 --seed {seed} --batch-size 32 --set block=32 --val-split test "
        f"--cache {cache} --workers 0 --device cpu"
    )
    done = run(python, 1, root, *words.split())
    assert done.returncode == 0, done.stderr


def train(python: str, threads: int, root: Path, cache: Path) -> int:
    out = root / f"run-{cache.name}-{threads}-{python.replace('/', '-')}"
    words = (
        f"-m deit_pipe.cli train-student --cache {cache} --out {out} --student custom:16x1x1 --epochs 1 "
        "--batch-size 32 --set smoothing=0.1 --workers 0 --device cpu"
    )
    return run(python, threads, root, *words.split()).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", help="another interpreter")
    parser.add_argument("--caches", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="replace this section of RESULTS.md")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("pipeline", "stages", "store"):
            shutil.copytree(PACKAGE / name, root / "path" / "deit_pipe" / name)
        for name in ("cli.py", "__init__.py"):
            shutil.copy(PACKAGE / name, root / "path" / "deit_pipe" / name)
        (root / "everything.toml").write_text(EVERYTHING, encoding="utf-8")
        write_idx(root / "data", train=128, val=16, side=48)
        here, other = sys.executable, args.other
        versions = {python: torch_of(python, root) for python in (here, other)}
        assert versions[here] != versions[other], versions
        for maker, users in ((here, ((here, 1), (here, 2), (other, 1), (other, 2))), (other, ((here, 1), (here, 2)))):
            caches = []
            for seed in range(args.caches):
                name = RECIPES[seed % len(RECIPES)]
                recipe = name if name != "everything" else str(root / "everything.toml")
                caches.append(root / f"cache-{versions[maker]}-{seed}")
                make(maker, root, caches[-1], recipe, seed)
            for python, threads in users:
                codes = [train(python, threads, root, cache) for cache in caches]
                far = max(float(run(python, threads, root, "-c", DISTANCE, str(cache)).stdout) for cache in caches)
                trained = f"{codes.count(0)} of {len(codes)}"
                rows.append(f"| {versions[maker]} | {versions[python]} | {threads} | {trained} | {far:.1e} |")
                print(rows[-1], flush=True)
    table = "\n".join(
        [
            environment_line(("numpy", "pillow", "torch", "timm")),
            "",
            f"{args.caches} caches of 128 views at 64 px, recipes {', '.join(RECIPES)} (deit with mix groups of 4 and "
            "erasing .5), made with one thread; trained from by each torch and number of threads. Sums are compared "
            f"with a tolerance of {TOLERANCE:g}.",
            "",
            "| made with torch | trained with torch | threads | no alarm | sums apart, at most |",
            "| --- | --- | --: | --: | --: |",
            *rows,
        ]
    )
    print(table)
    if args.write:
        write_section("Proof: other versions", table)


if __name__ == "__main__":
    main()
