"""Changes of reports, which the database announces to every instance.

A trigger of the table `report` notifies a channel. A notification only wakes those that wait for
that report. The row is then read, once for all of them.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from uuid import UUID

import asyncpg

from service.database.listening import Streams
from service.reports.queue import Report, read_report

#: What the trigger notifies.
CHANNEL = "storewatch_report"


def _heard(task: "asyncio.Task[Report | None]") -> None:
    """Take note of a failure: all who waited may have gone, and asyncio would log a stack."""
    if not task.cancelled():
        task.exception()


class ReportEvents:
    """Wakes those who wait for a report to change.

    Args:
        pool: the database
        on_queued: called when a report may be waiting in the queue
        on_cancelled: called with the id of a report that was cancelled
        streams: counts those who wait
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        on_queued: Callable[[], None],
        on_cancelled: Callable[[UUID], None],
        streams: Streams,
    ) -> None:
        self._pool = pool
        self._on_queued, self._on_cancelled = on_queued, on_cancelled
        self._waiting: dict[UUID, set[asyncio.Event]] = {}
        self._reads: dict[UUID, asyncio.Task[Report | None]] = {}
        self._streams = streams

    @contextlib.contextmanager
    def changes(self, report_id: UUID) -> Iterator[asyncio.Event]:
        """An event that is set whenever the report may have changed, and when the service ends."""
        with self._streams.open() as event:
            self._waiting.setdefault(report_id, set()).add(event)
            try:
                yield event
            finally:
                self._waiting[report_id].discard(event)
                if not self._waiting[report_id]:
                    del self._waiting[report_id]
                    self._reads.pop(report_id, None)

    async def read(self, report_id: UUID) -> Report | None:
        """The report since its last change, read once for all that wait for its changes."""
        task = self._reads.get(report_id)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._reads[report_id] = asyncio.create_task(read_report(self._pool, report_id))
            task.add_done_callback(_heard)
        return await asyncio.shield(task)

    def catch_up(self) -> None:
        """Any report may have changed."""
        self._reads.clear()
        for events in self._waiting.values():
            for event in events:
                event.set()
        self._on_queued()

    def heard(self, payload: str) -> None:
        """The report that a notification names has changed."""
        told = json.loads(payload)
        report_id = UUID(told["report"])
        if told["state"] == "queued":
            self._on_queued()
        elif told["state"] == "cancelled":
            self._on_cancelled(report_id)
        self._reads.pop(report_id, None)
        for event in self._waiting.get(report_id, ()):
            event.set()
