"""The benchmark of pages and downloads still runs."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "more", [[], ["--windows", "30", "--every-option"]], ids=["default", "every-option"]
)
def test_pages_and_downloads_are_measured(public_folder: Path, more: list[str]) -> None:
    small = ["--stores", "300", "--rounds", "1", *more]
    command = [sys.executable, "-m", "tests.bench", "--folder", str(public_folder), "pages"]
    done = subprocess.run([*command, *small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("by downtime, 300 stores", "NDJSON", "Parquet", "CSV by downtime"):
        assert name in done.stdout
