"""Where the CSV files of reports are kept: a folder, or an object store that all instances reach.

A file is written beside, hashed on the way, and appears under its name complete or not at all.
"""

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, runtime_checkable
from uuid import UUID

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_CHUNK = 256 << 10  # bytes
#: Reports are not for every account of the machine; a group's members may be let in.
_FOLDER_MODE, _FILE_MODE = 0o750, 0o640
_UNFINISHED = re.compile(r"\.([0-9a-f-]{36})\.([0-9]+)", re.ASCII)


class NoSuchFile(Exception):  # noqa: N818
    """The file of a report is not where it should be."""


@runtime_checkable  # Litestar checks what it hands to a handler
class ReportFiles(Protocol):
    """A place of finished files.

    Attributes:
        unfinished: folder of files that are being written, of this instance and maybe of others
    """

    unfinished: Path

    async def publish(self, written: Path, report_id: UUID) -> None:
        """Make a written file the report's, complete or not at all; another's is replaced."""

    def read(self, report_id: UUID, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `end`.

        Raises:
            NoSuchFile: with the first piece
        """

    async def delete(self, report_id: UUID) -> None:
        """Remove the file, if it is there."""


def open_report_files(place: str, home: Path) -> ReportFiles:
    """The place that the settings name.

    Args:
        place: a folder, or the URL of a place in an object store; credentials and endpoint of the
            latter come from the environment that its own tools use, such as AWS_ACCESS_KEY_ID
        home: the service's folder
    """
    return ObjectStoreFiles(place, home) if "://" in place else FolderFiles(Path(place))


class FolderFiles:
    """Files in a folder; several instances may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = self.unfinished = folder
        _make(folder)

    async def publish(self, written: Path, report_id: UUID) -> None:
        """Rename it, and have the disk know."""
        await asyncio.to_thread(self._publish, written, report_id)

    def _publish(self, written: Path, report_id: UUID) -> None:
        _sync(written)
        written.replace(self._file(report_id))
        _sync(self._folder)

    async def read(self, report_id: UUID, start: int, end: int) -> AsyncIterator[bytes]:
        """Read it in pieces, each in a thread."""
        try:
            file = await asyncio.to_thread(self._file(report_id).open, "rb")
        except FileNotFoundError:
            raise NoSuchFile from None
        with file:
            file.seek(start)
            while start < end:
                piece = await asyncio.to_thread(file.read, min(_CHUNK, end - start))
                if not piece:
                    return
                start += len(piece)
                yield piece

    async def delete(self, report_id: UUID) -> None:
        """Remove it."""
        await asyncio.to_thread(self._file(report_id).unlink, missing_ok=True)

    def _file(self, report_id: UUID) -> Path:
        return self._folder / f"{report_id}.csv"


class ObjectStoreFiles:
    """Objects under a prefix of an object store."""

    def __init__(self, url: str, home: Path) -> None:
        from obstore.store import from_url

        self._store: ObjectStore = from_url(url)
        self.unfinished = home / "unfinished"
        _make(self.unfinished)

    async def publish(self, written: Path, report_id: UUID) -> None:
        """Upload it, in parts where it is large; an object appears when the last part is there."""
        import obstore

        await obstore.put_async(self._store, _key(report_id), written)
        await asyncio.to_thread(written.unlink)

    async def read(self, report_id: UUID, start: int, end: int) -> AsyncIterator[bytes]:
        """Read it in pieces as they come."""
        import obstore

        if start >= end:
            return
        try:
            found = await obstore.get_async(
                self._store, _key(report_id), options={"range": (start, end)}
            )
        except FileNotFoundError:
            raise NoSuchFile from None
        async for piece in found.stream(min_chunk_size=_CHUNK):
            yield bytes(piece)

    async def delete(self, report_id: UUID) -> None:
        """Remove it."""
        import obstore

        try:
            await obstore.delete_async(self._store, _key(report_id))
        except FileNotFoundError:  # a folder's object store says so, others do not mind
            return


def _make(folder: Path) -> None:
    """Make a folder; one that is there keeps the mode that it was given."""
    folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)


def _key(report_id: UUID) -> str:
    return f"{report_id}.csv"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class HashedFile:
    """A file that is being written.

    Attributes:
        path: where it is
        size: bytes so far
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self._file, self.size = path, file, 0
        self._sha256 = hashlib.sha256()

    def write(self, rows: bytes, /) -> None:
        """Append to it."""
        self._file.write(rows)
        self._sha256.update(rows)
        self.size += len(rows)

    @property
    def sha256(self) -> bytes:
        """The hash of what was written so far."""
        return self._sha256.digest()

    def flush(self) -> None:
        """Give the system all that was written."""
        self._file.flush()


def _for_few(path: str, flags: int) -> int:
    return os.open(path, flags, _FILE_MODE)


@contextmanager
def unfinished_file(files: ReportFiles, report_id: UUID, run: int) -> Iterator[HashedFile]:
    """A file for one run of a report; what is not published when the block ends is removed."""
    path = files.unfinished / f".{report_id}.{run}"
    try:
        with open(path, "xb", opener=_for_few) as file:
            yield HashedFile(path, file)
    finally:
        path.unlink(missing_ok=True)


def unfinished_files(files: ReportFiles) -> list[tuple[Path, UUID, int]]:
    """Files that are being written, or that instances which died left: report and run of each."""
    return [
        (path, UUID(name[1]), int(name[2]))
        for path in files.unfinished.iterdir()
        if (name := _UNFINISHED.fullmatch(path.name))
    ]
