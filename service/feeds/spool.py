"""Rows of a feed, set aside on disk until the whole feed is known to be good.

Memory stays the same whatever the feed's size: rows go to an unnamed temporary file, of which a
crash leaves nothing, and come back in parts. Each part has all rows of some stores, so that no
store's data is written twice. Only a store that has more rows than a part may have, and has parts
of its own then, comes in several.

A row is a store's number and a value, which `feed_rows` describes. Texts that values refer to are
set aside beside the rows.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TypeAlias

import numpy as np

from compute.axis import Ints
from service.storage import Folder

Rows: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.void]]"

#: A reference to a text: where it begins among them << this | its bytes.
_SIZE_BITS = 20
_CHUNK_ROWS = 1 << 14
#: One row of this many is sampled to find where to cut.
_SAMPLED = 100
#: For its id, a store takes as much memory as some rows. So feeds of many stores have more parts.
_ROWS_LIKE_A_STORE = 7


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
        part_rows: about how many rows a part has, or an eighth as many stores
    """

    def __init__(self, folder: Folder | None, part_rows: int = 2_000_000) -> None:
        self._folder, self._part_rows = folder, part_rows
        self._files: list[IO[bytes]] = []
        self._file = self._new_file()
        self._texts: IO[bytes] | None = None
        self._texts_end = 0
        self._row = _row_of(())
        self._rows_of_store = np.zeros(0, dtype=np.int64)
        self.rows = 0

    def append(self, store: Ints, value: Ints) -> None:
        """Set rows aside.

        Args:
            store: int64[n], a number for each store of the feed, from 0 without holes
            value: int64[n] or int64[n, numbers], the same in all calls
        """
        if not self.rows:
            self._row = _row_of(value.shape[1:])
        rows = np.empty(len(store), dtype=self._row)
        rows["store"], rows["value"] = store, value
        with self._failing_in_words():
            self._file.write(rows.tobytes())
        self.rows += len(rows)
        count = np.bincount(store, minlength=len(self._rows_of_store))
        count[: len(self._rows_of_store)] += self._rows_of_store
        self._rows_of_store = count

    def refer(self, texts: Sequence[str]) -> Ints:
        """Set texts aside, each of less than a megabyte.

        Returns:
            int64[texts], what to give `texts_of` for each
        """
        if self._texts is None:
            self._texts = self._new_file()
        encoded = [text.encode() for text in texts]
        size = np.array([len(text) for text in encoded], dtype=np.int64)
        references: Ints = (self._texts_end + np.cumsum(size) - size) << _SIZE_BITS | size
        with self._failing_in_words():
            self._texts.write(b"".join(encoded))
        self._texts_end += int(size.sum())
        return references

    def texts_of(self, references: Ints) -> list[str]:
        """The texts that were set aside, by their references."""
        texts = []
        with self._failing_in_words():
            for reference in references.tolist():
                if self._texts is None:
                    raise ValueError("no text was set aside")
                self._texts.seek(reference >> _SIZE_BITS)
                texts.append(self._texts.read(reference & ((1 << _SIZE_BITS) - 1)).decode())
        return texts

    def all(self) -> tuple[Ints, Ints]:
        """Store and value of all rows, in order of arrival: for a few rows."""
        with self._failing_in_words():
            self._file.seek(0)
            rows = self._read(self._file, -1)
        return rows["store"].astype(np.int64), rows["value"]

    @property
    def most_rows(self) -> int:
        """Rows of the store that has the most."""
        return int(self._rows_of_store.max(initial=0))

    def parts(self, rank: Ints, apart: int | None = None) -> Iterator[tuple[int, int, Ints, Ints]]:
        """The rows, in parts of neighbouring ranks; once.

        Args:
            rank: int64[stores], where each store comes in the wanted order
            apart: rows of a store with very many may be in different parts, in the order of their
                values, where these, divided by this, differ; None: they are all in one part

        Yields:
            first rank, last rank + 1, rank of each row, value of each row, in order of arrival
        """
        rows = np.empty(len(rank), dtype=np.int64)
        rows[rank] = self._rows_of_store
        weight = rows + _ROWS_LIKE_A_STORE
        part_of_rank = (np.cumsum(weight) - weight) // self._part_rows
        alone = rows > self._part_rows
        begins = np.append(True, np.diff(part_of_rank) > 0)[: len(rank)] | alone
        begins[1:] |= alone[:-1]
        first = np.flatnonzero(begins)
        last = np.append(first[1:], len(rank))
        if len(first) <= 1:
            files = [self._file] * len(first)
        else:
            part_of_store = (np.cumsum(begins) - 1)[rank]
            files = self._scatter(self._file, lambda some: part_of_store[some["store"]], len(first))
        for part, file in enumerate(files):
            cut = apart if alone[first[part]] else None
            for piece in self._by_value(file, int(rows[first[part]]), cut):
                with self._failing_in_words():
                    piece.seek(0)
                    some = self._read(piece, -1)
                    piece.close()
                if len(some):
                    yield int(first[part]), int(last[part]), rank[some["store"]], some["value"]

    def _by_value(self, file: IO[bytes], count: int, apart: int | None) -> list[IO[bytes]]:
        """The rows of one store that has so many, cut into pieces by value; None: as they are."""
        if apart is None:
            return [file]
        pieces = -(-count // self._part_rows)
        samples = [some["value"][::_SAMPLED] // apart for some in self._chunks(file)]
        sample = np.sort(np.concatenate(samples))
        cuts = np.unique(sample[np.arange(1, pieces) * len(sample) // pieces])
        return self._scatter(
            file,
            lambda some: np.searchsorted(cuts, some["value"] // apart, side="right"),
            len(cuts) + 1,
        )

    def _scatter(
        self, file: IO[bytes], part_of: Callable[[Rows], Ints], parts: int
    ) -> list[IO[bytes]]:
        files = [self._new_file() for _ in range(parts)]
        for rows in self._chunks(file):
            part = part_of(rows)
            rows = rows[np.argsort(part, kind="stable")]
            ends = np.cumsum(np.bincount(part, minlength=parts)).tolist()
            with self._failing_in_words():
                for to, start, end in zip(files, [0, *ends], ends, strict=False):
                    to.write(rows[start:end].tobytes())
        with self._failing_in_words():
            file.close()
        return files

    def _chunks(self, file: IO[bytes]) -> Iterator[Rows]:
        with self._failing_in_words():
            file.seek(0)
        while True:
            with self._failing_in_words():
                rows = self._read(file, _CHUNK_ROWS * self._row.itemsize)
            if not len(rows):
                return
            yield rows

    def _read(self, file: IO[bytes], size: int) -> Rows:
        return np.frombuffer(file.read(size), dtype=self._row)

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
            with suppress(OSError):  # a full disk fails to take what is still buffered
                file.close()


def _row_of(numbers: tuple[int, ...]) -> "np.dtype[np.void]":
    """A row whose value has so many numbers; one, if none is given."""
    return np.dtype([("store", "<i4"), ("value", "<i8", numbers)])
