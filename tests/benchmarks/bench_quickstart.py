"""The quickstart as a new user types it, and again with other seeds: how long it takes, what distillation gains.

    python tests/benchmarks/bench_quickstart.py [--seeds 0 3 6] [--work quickstarts] [--write]

Each run is a fresh folder and process; finished ones are kept in the work folder with the time they took and the load
meanwhile. The first run's own output is kept word for word.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from results import environment_line, write_section

from deit_pipe.stages.comparing.intervals import Difference
from deit_pipe.stages.comparing.tables import difference_words
from deit_pipe.stages.console.words import human_duration


def quickstart(seed: int, folder: str, *words: str) -> str:
    """What the command prints; in an existing folder it only reads what it made."""
    command = [sys.executable, "-m", "deit_pipe.cli", "quickstart", "--out", folder, "--seed", str(seed), *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 3, 6], help="first seed of each run")
    parser.add_argument("--work", type=Path, default=Path("quickstarts"))
    parser.add_argument("--write", action="store_true", help="replace this section of RESULTS.md")
    args = parser.parse_args()
    output = ""
    lines = ["| seeds | time | load | gain of all images over the labels alone | of the same images |"]
    lines.append("| --- | --: | --: | --: | --: |")
    for seed in args.seeds:
        folder = args.work / str(seed)
        kept = folder / "measured.json"
        if not kept.exists():
            shutil.rmtree(folder, ignore_errors=True)
            started = time.monotonic()
            text = quickstart(seed, str(folder))
            taken = {"seconds": time.monotonic() - started, "load": os.getloadavg()[1], "text": text}
            kept.write_text(json.dumps(taken))
        measured, found = json.loads(kept.read_text()), json.loads(quickstart(seed, str(folder), "--json"))
        output = output or measured["text"].partition("\n\neverything is in")[0]
        gains = [difference_words(Difference(**found[name])) for name in ("gain", "gain_same_images")]
        cells = [f"{seed} to {seed + 2}", human_duration(measured["seconds"]), f"{measured['load']:.1f}", *gains]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    text = "\n\n".join([environment_line(("torch", "timm")), "\n".join(lines), f"The first:\n\n```\n{output}\n```"])
    print(text)
    if args.write:
        write_section("Quickstart", text)


if __name__ == "__main__":
    main()
