"""The benchmark of stores that can be queried by SQL still runs."""

import subprocess
import sys
from pathlib import Path


def test_reports_and_queries_are_measured(public_folder: Path) -> None:
    small = ["--stores", "700", "--rounds", "1", "--window", "2h", "--window", "1d"]
    command = [sys.executable, "-m", "tests.bench", "--folder", str(public_folder), "queryable"]
    done = subprocess.run([*command, *small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "20 stores with most downtime: 20 rows" in done.stdout
    assert "every row of a window: 700 rows" in done.stdout
