"""A small disk of its own for a folder, so that it can be full without harm to anybody else."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BLOCK = b"\0" * (1 << 20)


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[bool]:
    """Put a file system in memory at a new folder; false: only root can, so it is a plain one."""
    folder.mkdir()
    mounted = _mount(folder, mebibytes)
    try:
        yield mounted
    finally:
        if mounted:
            # Lazily: whatever still has a file open there keeps it until it ends.
            _run("umount", "--lazy", str(folder))


def fill(folder: Path) -> Path:
    """Leave no room on a folder's disk; the file that takes it all."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(_BLOCK)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return ballast


def _mount(folder: Path, mebibytes: int) -> bool:
    return os.geteuid() == 0 and _run(
        "mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=1777", "tmpfs", str(folder)
    )


def _run(name: str, *arguments: str) -> bool:
    program = shutil.which(name)
    return (
        program is not None
        and not subprocess.run([program, *arguments], capture_output=True).returncode
    )
