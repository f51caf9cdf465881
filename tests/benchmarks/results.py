"""RESULTS.md, one section per benchmark: each program replaces its own and leaves the others alone."""

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
_HEAD = (
    "# Benchmark results\n\n"
    "Each section is written by the command it names. Ratios travel between machines, absolutes do not.\n"
)


def write_section(name: str, markdown: str) -> None:
    """Replace section `## name` of RESULTS.md, or append it; `markdown` is the text below the heading."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else _HEAD
    head, *sections = text.split("\n## ")
    kept = {section.partition("\n")[0].strip(): section for section in sections}
    kept[name] = f"{name}\n\n{markdown.strip()}\n"
    parts = [head.rstrip() + "\n", *(section.rstrip() + "\n" for section in kept.values())]
    temporary = RESULTS.with_suffix(".md.tmp")
    temporary.write_text("\n## ".join(parts), encoding="utf-8")
    temporary.replace(RESULTS)


def environment_line(packages: tuple[str, ...] = ("numpy", "zarr", "pillow", "torch", "timm")) -> str:
    """One line: date, processor, cores, memory, load of the last minute, package versions, the running command."""
    versions = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} absent")
    command = " ".join(["python", _relative(sys.argv[0]), *sys.argv[1:]])
    return (
        f"{datetime.now(UTC):%Y-%m-%d} · {_processor()}, {os.cpu_count()} cores, {_memory()}, "
        f"load {os.getloadavg()[0]:.1f} at the end · "
        f"{', '.join(versions)} · `{command}`"
    )


def _relative(program: str) -> str:
    path = Path(program).resolve()
    root = Path(__file__).resolve().parents[2]
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> str:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    return "memory unknown"
