"""The benchmark of storage under live polls still runs, and loses no poll."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.storage import Choice


def test_live_polls_are_simulated_with_each_choice(public_folder: Path) -> None:
    small = ["--stores", "50", "--minutes", "20", "--group", "50", "--rounds", "1"]
    choices = ["--try", "", "--try", "fillfactor=50 toast_tuple_target=8160 storage=main"]
    command = [sys.executable, "-m", "tests.bench", "--folder", str(public_folder), "storage"]
    done = subprocess.run([*command, *small, *choices], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:]] == [
        "| as it is",
        "| fillfactor=50 storage=main toast_tuple_target=8160",
    ]


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="fillfaktor"):
        Choice.read("fillfaktor=50")
