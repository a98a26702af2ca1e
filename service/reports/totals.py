"""The exact totals of a report's stores, read back from the file beside its CSV, and kept a while.

A table is looked at page by page, so the reports that were asked about last stay in memory.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID

from compute.packed_totals import NotReadable, StoreTotals, unpack_totals
from service.reports.files import ReportFiles
from service.reports.queue import Report

Result = TypeVar("Result")

#: Bytes of reports that stay in memory; one that is larger stays alone.
_KEPT_BYTES = 256 << 20
#: Reports that are read, and questions that are computed, at the same time.
_READ_AT_ONCE, _COMPUTED_AT_ONCE = 2, 2


class NoTotals(Exception):  # noqa: N818
    """The report was made by a version that kept no totals, or keeps them in another form."""


class ReportTotals:
    """Reads the totals of completed reports.

    Args:
        files: where they are
        kept: bytes of reports that stay in memory

    Attributes:
        streams: answers that are sent piece by piece now
    """

    def __init__(self, files: ReportFiles, kept: int = _KEPT_BYTES) -> None:
        self.streams = 0
        self._files, self._most = files, kept
        self._kept: OrderedDict[UUID, StoreTotals] = OrderedDict()
        self._reads: dict[UUID, asyncio.Task[StoreTotals]] = {}
        self._reading = asyncio.Semaphore(_READ_AT_ONCE)
        self._computing = asyncio.Semaphore(_COMPUTED_AT_ONCE)

    async def of(self, report: Report) -> StoreTotals:
        """The totals of a completed report.

        Raises:
            NoTotals: it has none that can be read
            NoSuchFile: they are not where they should be
            StorageFailed: the place does not give them
        """
        if report.totals_size is None:
            raise NoTotals
        if (kept := self._kept.get(report.id)) is not None:
            self._kept.move_to_end(report.id)
            return kept
        read = self._reads.get(report.id)
        if read is None:  # all who ask meanwhile wait for the same
            read = self._reads[report.id] = asyncio.create_task(self._read(report))
            read.add_done_callback(lambda done: self._done(report.id, done))
        return await asyncio.shield(read)

    async def compute(self, question: Callable[[], Result]) -> Result:
        """Ask in a thread, few at the same time: what is computed holds no lock of the loop."""
        async with self._computing:
            return await asyncio.to_thread(question)

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Count an answer among those that are sent piece by piece, until the block ends."""
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1

    async def _read(self, report: Report) -> StoreTotals:
        async with self._reading:
            pieces = self._files.read(report.totals_file, 0, report.totals_size or 0)
            packed = b"".join([piece async for piece in pieces])
            try:
                return await asyncio.to_thread(unpack_totals, packed)
            except NotReadable:
                raise NoTotals from None

    def _done(self, report_id: UUID, read: asyncio.Task[StoreTotals]) -> None:
        del self._reads[report_id]
        if read.cancelled() or read.exception() is not None:  # seen, if by nobody
            return
        self._kept[report_id] = read.result()
        while len(self._kept) > 1 and sum(one.size for one in self._kept.values()) > self._most:
            self._kept.popitem(last=False)
