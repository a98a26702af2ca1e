"""The benchmark of very many stores still runs."""

import subprocess
import sys
from pathlib import Path


def test_a_report_over_copies_of_stores_is_measured(public_folder: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "--folder", str(public_folder), "large"]
    done = subprocess.run([*command, "--stores", "300"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "own workers: " in done.stdout
    assert "cluster: " in done.stdout
