"""The benchmark of looks at stores still runs."""

import subprocess
import sys
from pathlib import Path


def test_looks_are_measured(public_folder: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "--folder", str(public_folder), "states"]
    done = subprocess.run(
        [*command, "--stores", "300", "--rounds", "1"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "when all is known: median" in done.stdout
