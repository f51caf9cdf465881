"""Run commands one after the other, each in a fork of a warm process, and say what each took.

    python hostile_process.py < jobs.json      jobs: [[NAME, WORDS], ...]; a line of JSON for each on stdout

A fork starts with the memory of this process, so that what it takes beyond is its own.
"""

import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import pyarrow.compute
import pyarrow.parquet  # noqa: F401  warm
import rich.console
import rich.text  # noqa: F401  warm

from deit_pipe.cli import main
from deit_pipe.stages import inspect_cache  # noqa: F401  warm
from deit_pipe.store import verify  # noqa: F401  warm

SECONDS = 60  # until a fork that waits for something is killed


def status(name: str) -> int:
    """Bytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def in_fork(words: list[str], out: Path) -> None:
    """Never returns."""
    handle = os.open(out, os.O_WRONLY | os.O_CREAT)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    signal.alarm(SECONDS)
    code = 99
    try:
        main(words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:  # what a user would see
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    (out.parent / "peak").write_text(str(status("VmHWM")))
    os._exit(code)


def run(words: list[str]) -> dict[str, Any]:
    """Exit code, output, seconds of a processor, and bytes of memory beyond this process's own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        before = status("VmRSS")
        child = os.fork()
        if not child:
            in_fork(words, out)
        _, ended, used = os.wait4(child, 0)
        seconds = used.ru_utime + used.ru_stime  # a busy machine takes longer; what waits is killed
        peak = Path(folder) / "peak"
        return {
            "code": os.waitstatus_to_exitcode(ended),
            "output": out.read_text(errors="replace"),
            "seconds": seconds,
            "memory": int(peak.read_text()) - before if peak.exists() else None,
        }


if __name__ == "__main__":
    for name, words in json.load(sys.stdin):
        print(json.dumps([name, run(words)]), flush=True)
