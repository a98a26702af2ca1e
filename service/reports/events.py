"""Changes of reports, which the database announces to every instance.

A trigger of the table `report` notifies a channel. A notification only wakes those that wait for
that report. The row is then read, once for all of them, so that nothing is lost when several
notifications come at once or while the connection is away. (Litestar's channels lose events and
subscribers with asyncpg: its issues 4110, 4871, 4894 and 5011.)
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from uuid import UUID

import asyncpg

from service.database.pool import DATABASE_FAILED, drop
from service.reports.queue import Report, read_report

log = logging.getLogger("storewatch.reports")

_CHANNEL = "storewatch_report"
#: How often the connection that listens is checked: one that is cut off without a word would stay
#: silent for ever. Also how long the check may take.
_CHECK_SECONDS = 15.0
#: Seconds between attempts to connect: the first, and then twice as long each time up to the last.
_SHORTEST_WAIT, _LONGEST_WAIT = 0.2, 5.0


def _heard(task: "asyncio.Task[Report | None]") -> None:
    """Take note of a failure: all who waited may have gone, and asyncio would log a stack."""
    if not task.cancelled():
        task.exception()


class ReportEvents:
    """Wakes those who wait for a report to change.

    Args:
        pool: the database; one of its connections is kept while this runs
        on_queued: called when a report may be waiting in the queue
        on_cancelled: called with the id of a report that was cancelled
        most: how many may wait at once: each takes up a client's connection for a long time
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        on_queued: Callable[[], None],
        on_cancelled: Callable[[UUID], None],
        most: int,
    ) -> None:
        self._pool = pool
        self._on_queued, self._on_cancelled = on_queued, on_cancelled
        self._waiting: dict[UUID, set[asyncio.Event]] = {}
        self._reads: dict[UUID, asyncio.Task[Report | None]] = {}
        self._most, self._open = most, 0
        self.closing = False

    @property
    def full(self) -> bool:
        """Whether as many wait as are allowed to."""
        return self._open >= self._most

    @contextlib.contextmanager
    def changes(self, report_id: UUID) -> Iterator[asyncio.Event]:
        """An event that is set whenever the report may have changed, and when the service ends."""
        event = asyncio.Event()
        self._waiting.setdefault(report_id, set()).add(event)
        self._open += 1
        try:
            yield event
        finally:
            self._open -= 1
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

    async def wait(self, changed: asyncio.Event, seconds: float) -> bool:
        """Wait for an event of `changes`; false: it did not come in time."""
        try:
            await asyncio.wait_for(changed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Wake everybody for the last time: the service ends."""
        self.closing = True
        self._wake_all()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen until the block ends."""
        task = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            self.close()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _listen(self) -> None:
        wait = _SHORTEST_WAIT
        while True:
            try:
                async with self._pool.acquire() as connection:
                    wait = _SHORTEST_WAIT
                    await self._listen_on(connection)
            except DATABASE_FAILED as error:
                log.warning("cannot listen for changes of reports, will try again: %s", error)
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    async def _listen_on(self, connection: asyncpg.Connection) -> None:
        """Listen until the connection ends, which may only show when it is used."""
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            await connection.add_listener(_CHANNEL, self._heard)
            # Catch up on what was announced while nothing listened.
            self._wake_all()
            self._on_queued()
            while not lost.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(lost.wait(), _CHECK_SECONDS)
                await connection.execute("select 1", timeout=_CHECK_SECONDS)
        finally:
            # Nothing else can use a connection that listens, and closing it could take for ever.
            drop(connection)

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        told = json.loads(payload)
        report_id = UUID(told["report"])
        if told["state"] == "queued":
            self._on_queued()
        elif told["state"] == "cancelled":
            self._on_cancelled(report_id)
        self._reads.pop(report_id, None)
        for event in self._waiting.get(report_id, ()):
            event.set()

    def _wake_all(self) -> None:
        self._reads.clear()
        for events in self._waiting.values():
            for event in events:
                event.set()
