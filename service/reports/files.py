"""Where the CSV files of reports are kept: a folder, or an object store that all instances reach.

A file is written under another name, hashed on the way, and then appears complete or not at all.
Each run of a report has its own file name, so no file ever replaces another. The row of the report
says which of them is the report's.
"""

import asyncio
import errno
import hashlib
import os
import re
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Protocol, runtime_checkable
from uuid import UUID

from service.object_store import object_store_failing_in_words
from service.storage import Folder, StorageFailed

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_CHUNK = 256 << 10  # bytes
#: Other accounts of the machine must not read reports, unless they are in the group.
_FILE_MODE = 0o640
#: That of the CSV has no kind.
_UNFINISHED = re.compile(r"\.([0-9a-f-]{36})\.([0-9]+)(?:\.[a-z]+)?", re.ASCII)

# An object store has this long, in seconds, to take a file, and to begin its answer to any other
# request. obstore has shorter limits for each attempt: 5 s to connect and 30 s in all, with retries
# for 3 minutes; AWS_TIMEOUT raises them for slow networks.
_UPLOAD_SECONDS = 900
_ANSWER_SECONDS = 15


class NoSuchFile(Exception):  # noqa: N818
    """The file of a report is not where it should be, or ends early."""


class LocalFile:
    """A finished file on this machine, which several threads read anywhere in it.

    It is closed when nobody has it any more: whoever reads it meanwhile reads no other file.

    Args:
        folder: where it is, for failures
        file: open for reading; it is this object's from now on
        copied: whether it is a copy, which takes room for as long as it is open

    Attributes:
        size: bytes
        copied: as above
    """

    def __init__(self, folder: Folder, file: IO[bytes], *, copied: bool = False) -> None:
        self._folder, self.copied = folder, copied
        self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        file.close()
        self.size = os.fstat(self._descriptor).st_size

    def read(self, start: int, length: int) -> bytes:
        """Some bytes from `start` on.

        Not through a mapping: on a network's file system, to touch one of a file that is removed
        ends the process.

        Raises:
            NoSuchFile: it ends before, or another machine removed it
            StorageFailed: the disk does not give it
        """
        pieces = []
        with self._folder.failing_in_words():
            while length:
                try:
                    piece = os.pread(self._descriptor, length, start)
                except OSError as error:
                    if error.errno == errno.ESTALE:
                        raise NoSuchFile from None
                    raise
                if not piece:
                    raise NoSuchFile
                pieces.append(piece)
                start, length = start + len(piece), length - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@runtime_checkable  # Litestar checks what it hands to a handler
class ReportFiles(Protocol):
    """Where finished files are kept.

    Attributes:
        unfinished: where files are that are being written, of this instance and maybe of others
    """

    unfinished: Folder

    async def publish(self, written: Path, name: str) -> None:
        """Make a written file appear under a name that no other has, complete or not at all.

        Raises:
            StorageFailed: the storage does not take it
        """

    def read(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `end`.

        Raises:
            NoSuchFile: with the first piece; later, if the file ends before `end`
            StorageFailed: the storage does not give it
        """

    async def local(self, name: str, size: int) -> LocalFile:
        """A file of so many bytes, to be read anywhere in it; one from afar is copied first.

        Raises:
            NoSuchFile: there is none, or it has another size
            StorageFailed: the storage does not give it, or there is no room for the copy
        """

    async def delete(self, names: Sequence[str]) -> None:
        """Remove those of the files that exist.

        Raises:
            StorageFailed: maybe some of them are still there
        """


def open_report_files(location: str, home: Path) -> ReportFiles:
    """The storage that the settings name.

    Args:
        location: a folder, or a URL in an object store, whose credentials and endpoint come from
            the environment variables that its own tools use, such as AWS_ACCESS_KEY_ID
        home: the service's folder

    Raises:
        StorageFailed: its folder cannot be created
    """
    return ObjectStoreFiles(location, home) if "://" in location else FolderFiles(Path(location))


async def storage_problem(files: ReportFiles) -> str | None:
    """Why no report can be written now, in words without paths; None: it can.

    It tries with an unnamed file of a few bytes. An object store is not asked.
    """

    def write() -> None:
        folder = files.unfinished
        with folder.failing_in_words(), TemporaryFile(dir=folder.path) as file:
            file.write(b"storewatch")
            file.flush()

    try:
        await asyncio.to_thread(write)
    except StorageFailed as failed:
        return failed.told
    return None


class FolderFiles:
    """Files in a folder; several instances may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = self.unfinished = Folder("the reports folder", folder)
        self._folder.make()

    async def publish(self, written: Path, name: str) -> None:
        """Rename it, and make sure that both are on disk."""
        await asyncio.to_thread(self._publish, written, name)

    def _publish(self, written: Path, name: str) -> None:
        with self._folder.failing_in_words():
            _sync(written)
            written.replace(self._folder.path / name)
            _sync(self._folder.path)

    async def read(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Read it in pieces, each in a thread."""
        with self._folder.failing_in_words(), await asyncio.to_thread(self._open, name) as file:
            file.seek(start)
            while start < end:
                piece = await asyncio.to_thread(file.read, min(_CHUNK, end - start))
                if not piece:
                    raise NoSuchFile
                start += len(piece)
                yield piece

    def _open(self, name: str) -> IO[bytes]:
        try:
            return (self._folder.path / name).open("rb")
        except FileNotFoundError:
            self._folder.path.stat()  # if the folder is missing, its files may not be
            raise NoSuchFile from None

    async def local(self, name: str, size: int) -> LocalFile:
        """Open it where it is."""

        def open_() -> LocalFile:
            with self._folder.failing_in_words():
                return LocalFile(self._folder, self._open(name))

        file = await asyncio.to_thread(open_)
        if file.size != size:
            raise NoSuchFile
        return file

    async def delete(self, names: Sequence[str]) -> None:
        """Remove them."""
        await asyncio.to_thread(self._delete, names)

    def _delete(self, names: Sequence[str]) -> None:
        with self._folder.failing_in_words():
            self._folder.path.stat()  # fails if the folder is missing: its files may come back
            for name in names:
                (self._folder.path / name).unlink(missing_ok=True)


class ObjectStoreFiles:
    """Objects under a prefix of an object store."""

    def __init__(self, url: str, home: Path) -> None:
        from obstore.store import from_url

        self._url = url
        self._store: ObjectStore = from_url(url)
        self.unfinished = Folder("the folder of unfinished reports", home / "unfinished")
        self.unfinished.make()

    async def publish(self, written: Path, name: str) -> None:
        """Upload it, in parts if it is large; the object appears when all parts are there."""
        import obstore

        with object_store_failing_in_words(self._url):
            async with asyncio.timeout(_UPLOAD_SECONDS):
                await obstore.put_async(self._store, name, written)

    async def read(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Read it in pieces as they come."""
        import obstore

        if start >= end:
            return
        with object_store_failing_in_words(self._url):
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    found = await obstore.get_async(
                        self._store, name, options={"range": (start, end)}
                    )
            except FileNotFoundError:
                raise NoSuchFile from None
            async for piece in found.stream(min_chunk_size=_CHUNK):
                start += len(piece)
                yield bytes(piece)
            if start < end:
                raise NoSuchFile

    async def local(self, name: str, size: int) -> LocalFile:
        """Copy it into a file without a name: nothing is left of it when this process ends."""
        with self.unfinished.failing_in_words():
            copy = TemporaryFile(dir=self.unfinished.path)  # noqa: SIM115 - `LocalFile` closes it
        with copy:
            async for piece in self.read(name, 0, size):
                with self.unfinished.failing_in_words():
                    await asyncio.to_thread(copy.write, piece)
            with self.unfinished.failing_in_words():
                copy.flush()
            return LocalFile(self.unfinished, copy, copied=True)

    async def delete(self, names: Sequence[str]) -> None:
        """Remove them."""
        with object_store_failing_in_words(self._url):
            async with asyncio.timeout(_ANSWER_SECONDS):
                await asyncio.gather(*map(self._delete, names))

    async def _delete(self, name: str) -> None:
        import obstore

        with suppress(FileNotFoundError):  # some object stores raise this, others do not
            await obstore.delete_async(self._store, name)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class UnfinishedFile:
    """A file that is being written.

    Attributes:
        path: where it is
        size: bytes so far
    """

    def __init__(self, folder: Folder, path: Path, file: IO[bytes]) -> None:
        self._folder, self.path, self._file, self.size = folder, path, file, 0
        self._sha256 = hashlib.sha256()

    def write(self, rows: bytes, /) -> None:
        """Append to it.

        Raises:
            StorageFailed: its folder does not take it
        """
        with self._folder.failing_in_words():
            self._file.write(rows)
        self._sha256.update(rows)
        self.size += len(rows)

    def reopened(self) -> LocalFile:
        """All that was written, to be read also after the file has got another name.

        Raises:
            StorageFailed: its folder does not take it
        """
        self.flush()
        with self._folder.failing_in_words():
            return LocalFile(self._folder, self.path.open("rb"))

    @property
    def sha256(self) -> bytes:
        """The hash of what was written so far."""
        return self._sha256.digest()

    def flush(self) -> None:
        """Hand everything that was written to the operating system.

        Raises:
            StorageFailed: its folder does not take it
        """
        with self._folder.failing_in_words():
            self._file.flush()


def _for_few(path: str, flags: int) -> int:
    return os.open(path, flags, _FILE_MODE)


@contextmanager
def unfinished_file(
    files: ReportFiles, report_id: UUID, run: int, kind: str = ""
) -> Iterator[UnfinishedFile]:
    """A file for one run of a report; what is not published when the block ends is removed.

    Args:
        files: where it goes later
        report_id: of the report
        run: of the report
        kind: tells it from others of the same run; letters

    Raises:
        StorageFailed: it cannot be created
    """
    folder = files.unfinished
    path = folder.path / (f".{report_id}.{run}.{kind}" if kind else f".{report_id}.{run}")
    with folder.failing_in_words():
        file = open(path, "xb", opener=_for_few)  # noqa: SIM115 - closed below, in its own way
    try:
        yield UnfinishedFile(folder, path, file)
    finally:
        with suppress(OSError):  # an error of a full disk here must not hide why the block ended
            file.close()
        with suppress(OSError):  # if this fails, tidying up will remove it
            path.unlink()


def unfinished_files(files: ReportFiles) -> list[tuple[Path, UUID, int]]:
    """Files that are being written, or that dead instances left: path, report and run of each.

    Raises:
        StorageFailed: their folder cannot be read
    """
    with files.unfinished.failing_in_words():
        return [
            (path, UUID(name[1]), int(name[2]))
            for path in files.unfinished.path.iterdir()
            if (name := _UNFINISHED.fullmatch(path.name))
        ]
