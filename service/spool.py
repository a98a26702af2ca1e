"""Rows of a feed, set aside on disk until the whole feed is known to be good.

Memory stays the same whatever the feed's size: rows go to an unnamed temporary file, of which a
crash leaves nothing, and come back in parts, each with all rows of some stores, so that no store's
data is written twice.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np

from compute.axis import Ints
from service.storage import Folder

_ROW = np.dtype([("store", "<i4"), ("value", "<i8")])
_CHUNK_ROWS = 1 << 14


def spool_folder(home: Path) -> Folder:
    """Where feeds are set aside; created, unless it is there.

    Args:
        home: the service's folder

    Raises:
        StorageFailed: it cannot be created
    """
    folder = Folder("the folder in which feeds are set aside", home / "spool")
    folder.make()
    return folder


class Spool:
    """Rows of (store, value), in order of arrival.

    Whatever touches its files may raise StorageFailed.

    Args:
        folder: where its files are; None: the rows are few, and stay in memory
        part_rows: about how many rows a part has; a store with more has a part for itself
    """

    def __init__(self, folder: Folder | None, part_rows: int = 2_000_000) -> None:
        self._folder, self._part_rows = folder, part_rows
        self._files: list[IO[bytes]] = []
        self._file = self._new_file()
        self._rows_of_store = np.zeros(0, dtype=np.int64)
        self.rows = 0

    def append(self, store: Ints, value: Ints) -> None:
        """Set rows aside.

        Args:
            store: int64[n], a number for each store of the feed, from 0 without holes
            value: int64[n]
        """
        rows = np.empty(len(store), dtype=_ROW)
        rows["store"], rows["value"] = store, value
        with self._failing_in_words():
            self._file.write(rows.tobytes())
        self.rows += len(rows)
        count = np.bincount(store, minlength=len(self._rows_of_store))
        count[: len(self._rows_of_store)] += self._rows_of_store
        self._rows_of_store = count

    def parts(self, rank: Ints) -> Iterator[tuple[int, int, Ints, Ints]]:
        """The rows, in parts of neighbouring ranks; once.

        Args:
            rank: int64[stores], the place of each store's number in the wanted order

        Yields:
            first rank, last rank + 1, rank of each row, value of each row, in order of arrival
        """
        in_order = np.empty(len(rank), dtype=np.int64)
        in_order[rank] = self._rows_of_store
        part_of_rank = (np.cumsum(in_order) - in_order) // self._part_rows
        names, first = np.unique(part_of_rank, return_index=True)
        last = np.append(first[1:], len(rank))
        if len(names) <= 1:
            files = [self._file] * len(names)
        else:
            files = self._scatter(np.searchsorted(names, part_of_rank)[rank], len(names))
        for part, file in enumerate(files):
            with self._failing_in_words():
                file.seek(0)
                rows = _read(file, -1)
                file.close()
            yield int(first[part]), int(last[part]), rank[rows["store"]], rows["value"]

    def _scatter(self, part_of_store: Ints, parts: int) -> list[IO[bytes]]:
        files = [self._new_file() for _ in range(parts)]
        with self._failing_in_words():
            self._file.seek(0)
            while len(rows := _read(self._file, _CHUNK_ROWS * _ROW.itemsize)):
                part = part_of_store[rows["store"]]
                rows = rows[np.argsort(part, kind="stable")]
                ends = np.cumsum(np.bincount(part, minlength=parts)).tolist()
                for file, start, end in zip(files, [0, *ends], ends, strict=False):
                    file.write(rows[start:end].tobytes())
            self._file.close()
        return files

    def _new_file(self) -> IO[bytes]:
        if self._folder is None:
            file: IO[bytes] = BytesIO()
        else:
            with self._folder.failing_in_words():
                file = TemporaryFile(dir=self._folder.path)  # noqa: SIM115 - closed by `close`
        self._files.append(file)
        return file

    def _failing_in_words(self) -> AbstractContextManager[None]:
        return nullcontext() if self._folder is None else self._folder.failing_in_words()

    def close(self) -> None:
        """Give the disk space back."""
        for file in self._files:
            with suppress(OSError):  # a full disk does not take what was still to be written
                file.close()


def _read(file: IO[bytes], size: int) -> "np.ndarray[tuple[int], np.dtype[np.void]]":
    return np.frombuffer(file.read(size), dtype=_ROW)
