"""Where a command writes its result: a file that appears complete or not at all, or a device.

A device, a FIFO and the like are written to as they are. A file is first written in the same folder
under a name that no other process uses, and then renamed.
"""

import asyncio
import errno
import io
import os
import secrets
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class OutputFailed(Exception):  # noqa: N818 - read by a person as a sentence
    """What was to be written cannot be; the message says where, and why."""


class Output(io.FileIO):
    """Writes everything at once, without a buffer, so it can be closed while a write is waiting.

    Args:
        name: for messages
        file: path or descriptor
        closefd: whether closing it closes the descriptor
    """

    def __init__(self, name: str, file: str | int, *, closefd: bool = True) -> None:
        super().__init__(file, "w", closefd=closefd)
        self._told = name

    def write(self, data: Any, /) -> int:
        """Write bytes, and return how many.

        Raises:
            OutputFailed: not all of them can be written
            BrokenPipeError: whoever reads them has gone
        """
        rest = memoryview(data)
        with _explained(self._told):
            while rest:
                written = super().write(rest)
                if written is None:
                    raise BlockingIOError(
                        errno.EAGAIN, "it is full, and does not wait for a reader"
                    )
                rest = rest[written:]
        return len(data)


@asynccontextmanager
async def open_output(path: str) -> AsyncIterator[Output]:
    """Open what a command is to write; `-` is standard output, and links are followed.

    A file appears when the block has ended; a block that fails or is cancelled leaves nothing. The
    file has the permissions and the group of the file that it replaces and, if we are root, its
    owner; otherwise it is ours. A file that we may not write to is not replaced. Opening a FIFO
    waits for its reader.

    Raises:
        OutputFailed: it cannot be opened, written or renamed
    """
    with _explained(path):
        before = None
        with suppress(FileNotFoundError):
            before = os.stat(path) if path != "-" else None
    if path == "-" or (before and _is_standard_output(before)):
        if sys.stdout is None:
            raise OutputFailed("standard output is closed")
        yield Output("standard output", 1, closefd=False)
    elif before and not stat.S_ISREG(before.st_mode):
        with _explained(path):
            file = await asyncio.to_thread(_open_as_it_is, path)
        with file:
            yield file
    else:
        async with _written_beside(path, before) as file:
            yield file


def _is_standard_output(found: os.stat_result) -> bool:
    # /dev/stdout, for one. Where the shell appends it to a file, that must not be replaced.
    with suppress(OSError):
        return os.path.samestat(found, os.fstat(1))
    return False


def _open_as_it_is(path: str) -> Output:
    return Output(path, os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC))


@asynccontextmanager
async def _written_beside(path: str, before: os.stat_result | None) -> AsyncIterator[Output]:
    target = _target(path)
    unfinished = target.with_name(f".storewatch-{secrets.token_hex(8)}")
    with _explained(f"{path}, by way of a new file in {target.parent},"):
        descriptor = os.open(unfinished, _NEW, 0o600 if before else 0o666)
    try:
        with Output(path, descriptor) as file:
            if before:
                _make_alike(descriptor, before)
            yield file
            with _explained(path):
                await asyncio.to_thread(os.fsync, descriptor)
        with _explained(path):
            unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _target(path: str) -> Path:
    """The real path of a file that we may write, whether it exists yet or not."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise OutputFailed(f"{path} cannot be written: there is no folder {target.parent}")
    if target.exists() and not os.access(target, os.W_OK):
        raise OutputFailed(f"{path} cannot be written: {os.strerror(errno.EACCES)}")
    return target


def _make_alike(descriptor: int, before: os.stat_result) -> None:
    # Only root can change the owner, and only members the group; some file systems have neither.
    for uid, gid in ((-1, before.st_gid), (before.st_uid, -1)):
        with suppress(OSError):
            os.fchown(descriptor, uid, gid)
    with suppress(OSError):
        os.fchmod(descriptor, before.st_mode & 0o777)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(f"{name} cannot be written: {error.strerror or error}") from error
