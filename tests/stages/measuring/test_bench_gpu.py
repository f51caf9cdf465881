"""The GPU benchmark works: its dry run, with miniatures on the CPU."""

import re

import pytest
from benchmarks import bench_gpu


def test_the_dry_run_fills_every_table(capsys: pytest.CaptureFixture[str]) -> None:
    report = bench_gpu.main(["--dry-run"])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in report.splitlines() if line[:1] == "|"]
    table = {(row[0], row[1]): row for row in rows}
    for images in ("JPEG", "raw"):
        (row,) = (row for row in rows if row[0] == images)
        assert all(float(cell.replace(",", "")) > 0 for cell in row[1:5])
    for kind in ("fixed pixels", "cached, JPEG", "cached, raw", "with the teacher in the loop"):
        row = table["custom:16x2x2", kind]
        assert float(row[2].replace(",", "")) > 0
        assert float(row[3]) > 0
    for kind in ("cached-again", "online", "resumed"):  # bit for bit on the CPU
        (row,) = (row for row in rows if row[0] == kind)
        assert float(row[1]) == 0
    assert re.search(r"CPU, 2 workers; teacher test_resnet fp32", report)
