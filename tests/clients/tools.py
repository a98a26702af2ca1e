"""Commands of others that the tests run: generators, compilers and linters, those of npm too."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

HERE = Path(__file__).parent
#: Where npm's packages stay between runs.
_NPM = HERE.parents[1] / "build" / "npm"
#: The commands that came with the packages of this environment: node and npm too.
_BIN = Path(sys.executable).parent


def install_npm_packages() -> Path:
    """Have npm fetch what package.json names; where it cannot, only CI must. The node_modules."""
    _NPM.mkdir(parents=True, exist_ok=True)
    options = ("--no-package-lock", "--no-audit", "--no-fund")
    with (_NPM / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests that run side by side share the packages
        shutil.copy(HERE / "package.json", _NPM)
        try:
            run("npm", "install", *options, cwd=_NPM, silent=False)
        except AssertionError as error:
            if "CI" in os.environ:
                raise
            pytest.skip(f"npm cannot fetch the tools of package.json: {error}")
    return _NPM / "node_modules"


def run(
    *command: str | Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    silent: bool = True,
) -> str:
    """Run a command that must succeed; its standard output.

    Args:
        command: and its arguments
        cwd: where it runs
        environment: variables to add
        silent: whether it must not say a word on standard error
    """
    path = f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [shutil.which(command[0], path=path) or command[0], *map(str, command[1:])],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PATH": path, **(environment or {})},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (silent and done.stderr), done.stderr
    return done.stdout
