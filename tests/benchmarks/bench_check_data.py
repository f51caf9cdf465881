"""What `check-data --deep` finds in data that many have used: the embedded digits and Fashion-MNIST.

apt-get install dataset-fashion-mnist
python tests/benchmarks/bench_check_data.py [--fashion-mnist /usr/share/datasets/fashion-mnist] [--write]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from results import environment_line, write_section

SHOWN = 3


def check(data: str, folder: str) -> tuple[dict[str, Any], float]:
    """What the command says as JSON, and its seconds."""
    begun = time.monotonic()
    words = [sys.executable, "-m", "deit_pipe.cli", "check-data", data, "--deep", "--json"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if not done.stdout.startswith("{"):
        raise SystemExit(done.stderr[-2000:])
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts, time.monotonic() - begun


def section(name: str, facts: dict[str, Any], seconds: float) -> list[str]:
    """Counts by kind, and the first findings of each."""
    splits = ", ".join(f"{kind} {about['images']:,}" for kind, about in facts["splits"].items())
    counts = Counter(one["kind"] for one in facts["findings"])
    lines = [
        f"**{name}** ({splits}; {facts['images_read']:,} images read in {seconds:.0f} s, exit {facts['exit_code']})",
        "",
    ]
    if not counts:
        lines.append("- nothing is wrong")
    for kind, count in counts.items():
        found = [one for one in facts["findings"] if one["kind"] == kind]
        images = sum(len(one["names"]) for one in found)
        first = "; ".join(", ".join(one["names"][:4]) + f": {one['note']}" for one in found[:SHOWN])
        lines.append(f"- {kind}: {count:,} ({images:,} images), such as {first}")
    if facts["not_compared"]:
        lines.append(f"- {facts['not_compared']:,} images are too small to say which look alike")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion-mnist", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, data in (("digits", "digits"), ("Fashion-MNIST", args.fashion_mnist)):
            lines += section(name, *check(data, folder))
    text = "\n".join([*lines, environment_line(("numpy", "pillow"))])
    print(text)
    if args.write:
        write_section("check-data on digits and Fashion-MNIST", text)


if __name__ == "__main__":
    main()
