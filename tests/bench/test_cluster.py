"""The benchmark of the cluster still runs."""

import subprocess
import sys
from pathlib import Path


def test_a_cluster_is_measured_beside_own_workers(public_folder: Path) -> None:
    small = ["--stores", "700", "--rounds", "1"]
    command = [sys.executable, "-m", "tests.bench", "--folder", str(public_folder), "cluster"]
    done = subprocess.run([*command, *small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cluster: " in done.stdout
    assert "s of the service's own process per 1,000,000 stores" in done.stdout
