"""Where files are delivered to: folders and object stores, of which the operator says which may be.

A file appears under its name complete or not at all, and takes the place of one that has it.
"""

import os
import re
import shutil
from asyncio import get_running_loop, timeout
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from service.object_store import object_store_failing_in_words
from service.storage import Folder, StorageFailed

#: Characters of a place.
LONGEST_PLACE = 500
#: A part of a place between slashes. None that is hidden, `..`, or would need escaping in a URL.
_PART = re.compile(r"[A-Za-z0-9_=+@-][A-Za-z0-9_=+@.-]*", re.ASCII)
#: As with the files of reports: for the service's account, and its group.
_FILE_MODE, _FOLDER_MODE = 0o640, 0o750
#: A place has this long, in seconds, to take a file. (obstore has shorter limits for each request:
#: 5 s to connect and 30 s in all, with retries for 3 minutes.)
_PUT_SECONDS = 900
#: Parts of a file, of 5 MiB each, that are in memory while they are uploaded side by side.
_PARTS = 4


class PlaceRefused(Exception):  # noqa: N818 - read by a person as a sentence
    """A place where nothing may be delivered; continues a sentence that begins with it."""


class Place(Protocol):
    """Where the files of a schedule go."""

    async def put(self, name: str, file: IO[bytes], media_type: str) -> str:
        """Make a file appear under a name, complete or not at all, in place of what has it.

        Args:
            name: within the place
            file: read from its beginning
            media_type: of the file

        Returns:
            the whole name: a path or a URL

        Raises:
            PlaceRefused: it leads to where nothing may be delivered
            StorageFailed: the place does not take it
        """


def checked_place(given: str, allowed: Sequence[str]) -> str:
    """A place as it is kept, without a slash at its end, if it is one of those allowed or below.

    Args:
        given: a folder, or a URL in an object store
        allowed: places of the setting STOREWATCH_DELIVER_TO

    Raises:
        PlaceRefused: it is not
    """
    return _allowed(given, allowed)[0]


def open_place(
    place: str, folder: str, allowed: Sequence[str], mark: str, threads: Executor
) -> Place:
    """A folder within a place, which is made with its first file.

    Args:
        place: as `checked_place` gave it, when other places may have been allowed
        folder: its name
        allowed: places of the setting STOREWATCH_DELIVER_TO
        mark: part of the names of files that are not complete, the delivery's own; an attempt's
            follows a dot
        threads: write to folders

    Raises:
        PlaceRefused: it is not allowed any more
        StorageFailed: the environment does not tell how to reach it
    """
    place, root = _allowed(place, allowed)
    if "://" in place:
        return _InObjectStore(place, folder)
    return _InFolder(Path(root), Path(place) / folder, mark, threads)


def _allowed(given: str, allowed: Sequence[str]) -> tuple[str, str]:
    """The place, and the one that allows it."""
    if not allowed:
        raise PlaceRefused(
            "cannot be used: the service delivers nowhere until the setting STOREWATCH_DELIVER_TO "
            "says where it may"
        )
    place = given.removeprefix("file://").removesuffix("/")
    for root in allowed:
        if place == root:
            return place, root
        if place.startswith(f"{root}/"):
            parts = place.removeprefix(f"{root}/").split("/")
            if not all(map(_PART.fullmatch, parts)):
                raise PlaceRefused(
                    "has a part between slashes that is empty, begins with a dot, or has other "
                    "characters than letters of ASCII, digits and _ = + @ . -"
                )
            return place, root
    raise PlaceRefused("lies in none of the places that the setting STOREWATCH_DELIVER_TO allows")


class _InFolder:
    """A folder on this machine, or on one that is mounted here."""

    def __init__(self, root: Path, folder: Path, mark: str, threads: Executor) -> None:
        self._root = Folder("the folder to deliver to", root)
        self._folder, self._mark, self._threads = folder, mark, threads

    async def put(self, name: str, file: IO[bytes], media_type: str) -> str:
        """Copy it beside, make sure that it is on disk, and rename it."""
        loop = get_running_loop()
        try:
            async with timeout(_PUT_SECONDS):
                await loop.run_in_executor(self._threads, self._put, name, file)
        except TimeoutError as error:
            told = "the folder to deliver to does not answer in time"
            raise StorageFailed(told, self._folder, "no answer") from error
        return str(self._folder / name)

    def _put(self, name: str, file: IO[bytes]) -> None:
        with self._root.failing_in_words():
            root = self._root.path.resolve(strict=True)  # never made: its disk may be away
            if not self._folder.resolve().is_relative_to(root):
                raise PlaceRefused("leads, by a link, out of what STOREWATCH_DELIVER_TO allows")
            self._folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            # What an attempt left whose instance died.
            for left in self._folder.glob(f".{name}.{self._mark.partition('.')[0]}.*"):
                left.unlink(missing_ok=True)
            unfinished = self._folder / f".{name}.{self._mark}"
            try:
                with open(unfinished, "xb", opener=_for_few) as copy:
                    file.seek(0)
                    shutil.copyfileobj(file, copy)
                    copy.flush()
                    os.fsync(copy.fileno())
                unfinished.replace(self._folder / name)
            finally:
                with suppress(OSError):
                    unfinished.unlink(missing_ok=True)
            _sync(self._folder)


class _InObjectStore:
    """Objects under a prefix of an object store."""

    def __init__(self, url: str, folder: str) -> None:
        from obstore.store import from_url

        self._url, self._folder = url, folder
        with object_store_failing_in_words(self._url):
            self._store = from_url(url)

    async def put(self, name: str, file: IO[bytes], media_type: str) -> str:
        """Upload it, in parts if it is large; the object appears when all parts are there."""
        import obstore

        file.seek(0)
        key = f"{self._folder}/{name}"
        with object_store_failing_in_words(self._url):
            async with timeout(_PUT_SECONDS):
                await obstore.put_async(
                    self._store,
                    key,
                    file,
                    attributes={"Content-Type": media_type},
                    max_concurrency=_PARTS,
                )
        return f"{self._url}/{key}"


def _for_few(path: str, flags: int) -> int:
    return os.open(path, flags, _FILE_MODE)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
