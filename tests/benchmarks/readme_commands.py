"""What the commands in the README print, word for word: run in an empty folder, kept in RESULTS.md.

    python tests/benchmarks/readme_commands.py [--write]

A test compares the blocks of the README with these (tests/test_readme_figures.py). Two minutes.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from results import environment_line, write_section

FIRST = "deit-pipe train-teacher --teacher resnet10t --init scratch"
BLOCKS = (
    ("deit-pipe cache-teacher --teacher resnet10t", "deit-pipe train-student", "deit-pipe inspect-cache"),
    ("deit-pipe cache-teacher --teacher regnety_160 --estimate --samples 1281167",),
)


def printed(command: str, folder: str) -> str:
    """What a command writes to stdout."""
    words = [sys.executable, "-m", "deit_pipe.cli", *shlex.split(command)[1:]]
    return subprocess.run(words, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout.rstrip("\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace this section of RESULTS.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        printed(FIRST, folder)
        blocks = [
            "\n".join(line for command in block for line in (f"$ {command}", printed(command, folder)))
            for block in BLOCKS
        ]
    shown = "\n\n".join(f"```\n{block}\n```" for block in blocks)
    text = f"{environment_line(('torch', 'timm'))}\n\nAfter `{FIRST}`, in an empty folder.\n\n{shown}"
    print(text)
    if args.write:
        write_section("README commands", text)


if __name__ == "__main__":
    main()
