"""Rows of a feed, set aside on disk until the whole feed is known to be good.

Memory stays the same whatever the feed's size: rows go to an unnamed temporary file, of which a
crash leaves nothing, and come back in parts. Each part has all rows of some stores, so that no
store's data is written twice. Only a store that has more rows than a part may have, and has parts
of its own then, comes in several.

A row is a store's number and a value, which `feed_rows` describes. Texts that values refer to are
set aside beside the rows.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from io import BufferedRandom, BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeAlias

import numpy as np

from compute.axis import AnyInts, Ints
from service.storage import Folder

_File: TypeAlias = BufferedRandom | BytesIO

#: A reference to a text: where it begins among them << this | its bytes.
_SIZE_BITS = 20
#: How many rows a piece of a file has.
_COUNT = struct.Struct("<q")
_STORE, _VALUE = np.dtype("<i4"), np.dtype("<i8")
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
        self._files: list[_File] = []
        self._file = _RowFile(self._new_file())
        self._texts: _File | None = None
        self._texts_end = 0
        self._rows_of_store = np.zeros(0, dtype=np.int64)
        self.rows = 0

    def append(self, store: Ints, value: Ints) -> None:
        """Set rows aside.

        Args:
            store: int64[n], a number for each store of the feed, from 0 without holes
            value: int64[n] or int64[n, numbers], the same in all calls
        """
        with self._failing_in_words():
            self._file.append(store, value)
        self.rows += len(store)
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
            store, value = self._file.all()
        return store.astype(np.int64), value

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
            files = self._scatter(self._file, lambda store, _: part_of_store[store], len(first))
        for part, file in enumerate(files):
            cut = apart if alone[first[part]] else None
            for piece in self._by_value(file, int(rows[first[part]]), cut):
                with self._failing_in_words():
                    store, value = piece.all()
                    piece.close()
                if len(store):
                    yield int(first[part]), int(last[part]), rank[store], value

    def _by_value(self, file: "_RowFile", count: int, apart: int | None) -> "list[_RowFile]":
        """The rows of one store that has so many, cut into pieces by value; None: as they are."""
        if apart is None:
            return [file]
        pieces = -(-count // self._part_rows)
        samples = [value[::_SAMPLED] // apart for _, value in self._pieces(file)]
        sample = np.sort(np.concatenate(samples))
        cuts = np.unique(sample[np.arange(1, pieces) * len(sample) // pieces])
        return self._scatter(
            file,
            lambda _, value: np.searchsorted(cuts, value // apart, side="right"),
            len(cuts) + 1,
        )

    def _scatter(
        self, file: "_RowFile", part_of: Callable[[AnyInts, Ints], Ints], parts: int
    ) -> "list[_RowFile]":
        files = [_RowFile(self._new_file()) for _ in range(parts)]
        for store, value in self._pieces(file):
            part = part_of(store, value)
            order = np.argsort(part, kind="stable")
            store, value = store[order], value[order]
            ends = np.cumsum(np.bincount(part, minlength=parts)).tolist()
            with self._failing_in_words():
                for to, start, end in zip(files, [0, *ends], ends, strict=False):
                    to.append(store[start:end], value[start:end])
        with self._failing_in_words():
            file.close()
        return files

    def _pieces(self, file: "_RowFile") -> Iterator[tuple[AnyInts, Ints]]:
        pieces = file.pieces()
        while True:
            with self._failing_in_words():
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    def _new_file(self) -> _File:
        if self._folder is None:
            file: _File = BytesIO()
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


class _RowFile:
    """Rows in a file, piece by piece: how many, then their stores and then their values.

    Column by column they are written and read several times as fast as row by row.
    """

    def __init__(self, file: _File) -> None:
        self._file = file
        self._rows = 0
        self._numbers: tuple[int, ...] = ()  # that a value has beside the rows

    def append(self, store: AnyInts, value: Ints) -> None:
        """Add a piece; its values have the same shape as those before."""
        if not len(store):
            return
        self._numbers = value.shape[1:]
        self._file.write(_COUNT.pack(len(store)))
        self._file.write(store.astype(_STORE).tobytes())
        self._file.write(value.astype(_VALUE, copy=False).tobytes())
        self._rows += len(store)

    def pieces(self) -> Iterator[tuple[AnyInts, Ints]]:
        """Stores and values, as they were added."""
        for rows in self._sizes():
            yield self._read(*self._room_for(rows))

    def all(self) -> tuple[AnyInts, Ints]:
        """Stores and values of all rows."""
        stores, values = self._room_for(self._rows)
        end = 0
        for rows in self._sizes():
            begin, end = end, end + rows
            self._read(stores[begin:end], values[begin:end])
        return stores, values

    def _sizes(self) -> Iterator[int]:
        """Rows of each piece, which has to be read then."""
        self._file.seek(0)
        while count := self._file.read(_COUNT.size):
            yield _COUNT.unpack(count)[0]

    def _room_for(self, rows: int) -> tuple[AnyInts, Ints]:
        return np.empty(rows, dtype=_STORE), np.empty((rows, *self._numbers), dtype=_VALUE)

    def _read(self, stores: AnyInts, values: Ints) -> tuple[AnyInts, Ints]:
        """Fill both with the piece that follows."""
        for column in (stores, values):
            if self._file.readinto(column.data) < column.nbytes:
                raise EOFError("rows that were set aside are no longer there")
        return stores, values

    def close(self) -> None:
        self._file.close()
