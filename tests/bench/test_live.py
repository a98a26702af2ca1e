"""The benchmark of single polls still runs, and still counts what is stored."""

import subprocess
import sys
from pathlib import Path


def test_single_polls_are_measured(public_folder: Path) -> None:
    small = ["--stores", "200", "--connections", "1,4", "--seconds", "0.5", "--rounds", "1"]
    command = [sys.executable, "-m", "tests.bench", "--folder", str(public_folder), "live"]
    done = subprocess.run(
        [*command, *small, "--bulk-polls", "5000"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for told in (
        "a row per poll",
        " completed",
        "Reads of",
        "Bulk load of 3,978 older polls",
        "first polls",
    ):
        assert told in done.stdout
