"""The exact totals of a report's stores, read from the file beside its CSV as they are asked for.

A table is looked at page by page, so columns that were asked for last stay in memory, such as one
window of all stores of a report.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from compute.packed_totals import K, NotReadable, StoreTotals
from service.reports.files import LocalFile, ReportFiles
from service.reports.queue import Report

Result = TypeVar("Result")

#: Bytes of columns that stay in memory: one window of a million stores has 16 MB.
_KEPT_BYTES = 64 << 20
#: Reports whose files stay open, and bytes of those of them that are copies on this machine.
_MOST_OPEN, _COPIED_BYTES = 64, 4 << 30
#: Reports that are opened, and questions that are computed, at the same time.
_OPENED_AT_ONCE, _COMPUTED_AT_ONCE = 2, 2


class NoTotals(Exception):  # noqa: N818
    """The report was made by a version that kept no totals, or keeps them in another form."""


class _Open(NamedTuple):
    file: LocalFile
    stores: StoreTotals


class ReportTotals:
    """Opens the totals of completed reports.

    Args:
        files: where they are
        kept: bytes of columns that stay in memory
        most_open: reports whose files stay open
    """

    def __init__(
        self, files: ReportFiles, kept: int = _KEPT_BYTES, most_open: int = _MOST_OPEN
    ) -> None:
        self._files, self._most_open = files, most_open
        self._columns = _Columns(kept)
        self._open: OrderedDict[UUID, _Open] = OrderedDict()
        self._opens: dict[UUID, asyncio.Task[_Open]] = {}
        self._opening = asyncio.Semaphore(_OPENED_AT_ONCE)
        self._computing = asyncio.Semaphore(_COMPUTED_AT_ONCE)

    async def of(self, report: Report) -> StoreTotals:
        """The totals of a completed report. What is asked of them reads a file: ask in `compute`.

        Raises:
            NoTotals: it has none that can be read
            NoSuchFile: they are not where they should be
            StorageFailed: the place does not give them
        """
        if report.totals_size is None:
            raise NoTotals
        if (known := self._open.get(report.id)) is not None:
            self._open.move_to_end(report.id)
            return known.stores
        opened = self._opens.get(report.id)
        if opened is None:  # all who ask meanwhile wait for the same
            opened = asyncio.create_task(self._opened(report, report.totals_size))
            self._opens[report.id] = opened
            opened.add_done_callback(lambda done: self._done(report.id, done))
        return (await asyncio.shield(opened)).stores

    async def compute(self, question: Callable[[], Result]) -> Result:
        """Ask in a thread, few at the same time: what is computed holds no lock of the loop.

        Raises:
            NoSuchFile: the file was removed meanwhile
            StorageFailed: its disk does not give it
        """
        async with self._computing:
            return await asyncio.to_thread(question)

    async def pieces(self, made: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Pieces of a file that is made of totals, each made when the one before was taken."""
        while (piece := await self.compute(lambda: next(made, None))) is not None:
            if piece:
                yield piece

    async def _opened(self, report: Report, size: int) -> _Open:
        async with self._opening:
            file = await self._files.local(report.totals_file, size)
            keep = partial(self._columns.keep, report.id)
            try:
                return _Open(file, await asyncio.to_thread(StoreTotals, file.read, size, keep))
            except NotReadable:
                raise NoTotals from None

    def _done(self, report_id: UUID, opened: asyncio.Task[_Open]) -> None:
        del self._opens[report_id]
        if opened.cancelled() or opened.exception() is not None:  # seen, if by nobody
            return
        self._open[report_id] = opened.result()
        while len(self._open) > 1 and self._is_too_much():
            self._open.popitem(last=False)  # its file is closed when nobody reads it any more

    def _is_too_much(self) -> bool:
        known = self._open.values()
        return (
            len(known) > self._most_open
            or sum(one.file.size for one in known if one.file.copied) > _COPIED_BYTES
        )


class _Columns:
    """Columns of all reports that were asked for last; threads ask side by side."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self._kept: OrderedDict[tuple[UUID, str], Any] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, report_id: UUID, name: str, read: Callable[[], K]) -> K:
        """A column of a report by its name; it is read if it is not in memory."""
        place = (report_id, name)
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
                known: K = self._kept[place]
                return known
        column = read()  # two that ask at the same time both read it
        with self._lock:
            if place not in self._kept and column.nbytes <= self._most:
                self._kept[place] = column
                self._bytes += column.nbytes
                while self._bytes > self._most:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return column
