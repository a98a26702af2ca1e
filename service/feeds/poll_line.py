"""The line of small requests with polls, and the task that stores all that wait in it together.

Pollers send each poll when they have it. A transaction takes a few milliseconds, hardly more for a
hundred polls than for one. So one task of the process stores whatever waits, in order of arrival,
while the next requests line up. It never waits for more to come.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice

import asyncpg

from compute.feed_rows import FeedRows
from service.database.pool import DATABASE_AWAY, drop
from service.feeds.history import Ingested, Sender
from service.feeds.poll_group import LOCK_TIMEOUT, PollRequest, append_polls, store_group
from service.feeds.storing import LOOK_SECONDS, end_frozen

#: Polls of a request that is small.
SMALL = 10_000
#: Most requests, and their polls, that wait in line.
_MOST_REQUESTS, _MOST_POLLS = 4_096, 400_000
#: Most that are stored together: it should take less than a second.
_GROUP_REQUESTS, _GROUP_POLLS = 1_024, 20_000
_GROUP_SECONDS = 10.0
#: What another transaction is in the way of is tried again after a pause, which doubles, seconds.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.005, 0.2
#: The connection is kept for so long after the last request, seconds.
_IDLE_SECONDS = 1.0
#: Failures that no single request can be blamed for.
_OF_ALL = (*DATABASE_AWAY, asyncpg.DiskFullError)


class LineFull(Exception):  # noqa: N818 - read by a person as a sentence
    """So many requests wait that no more are let into the line."""


class PollLine:
    """The line of a process.

    Args:
        pool: the database; of its connections one is used, by short statements
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        # In order of arrival; who gives up leaves from the middle.
        self._line: dict[asyncio.Future[Ingested], PollRequest] = {}
        self._polls = 0
        self._come = asyncio.Event()
        self._group: list[asyncio.Future[Ingested]] = []  # those that are being stored
        self._in_the_way = False  # whether another transaction was, the last time

    async def store(self, rows: FeedRows, sender: Sender | None = None) -> Ingested:
        """Store polls, all of them or none; they are durable when this returns.

        Args:
            rows: good ones, at most SMALL
            sender: who is noted to have sent them as a file; None: nobody

        Raises:
            LineFull: too many wait
            TimeoutError: it took too long; it may still be stored, and sending it again is safe
        """
        count = len(rows.value)
        if not count:
            return Ingested(0, 0, 0, 0, 0)
        if len(self._line) >= _MOST_REQUESTS or self._polls + count > _MOST_POLLS:
            raise LineFull
        done: asyncio.Future[Ingested] = asyncio.get_running_loop().create_future()
        self._line[done] = PollRequest(rows, sender)
        self._polls += count
        self._come.set()
        try:
            async with asyncio.timeout(self._pool.waits.turn or None):
                return await done
        finally:
            self._line.pop(done, None)
            self._polls -= count

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Store what comes, until the block ends."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            if not self._line:
                self._come.clear()
            await self._come.wait()
            try:
                async with self._pool.acquire() as connection:
                    try:
                        await self._store_all(connection)
                    except BaseException:
                        drop(connection)
                        raise
            except Exception as error:
                if self._group or not isinstance(error, TimeoutError):
                    self._fail(self._group or list(self._line), error)
                # Else there was no connection in time: who waits still has some.
            self._group = []

    async def _store_all(self, connection: asyncpg.Connection) -> None:
        """Store what waits, until nothing more comes for a while."""
        await connection.execute(LOCK_TIMEOUT)  # the pool sets it back
        time = asyncio.get_running_loop().time
        pause, looked = _SHORTEST_PAUSE, time()
        while self._line or await self._comes_within(_IDLE_SECONDS):
            if connection.is_closed():  # while nothing came
                return
            self._group = self._first()
            requests = [self._line[done] for done in self._group]
            try:
                became = await self._store(connection, requests)
            except asyncpg.PostgresError as error:
                if len(requests) == 1 or isinstance(error, _OF_ALL):
                    raise
                # One of them is to blame, although it looked good: it must not harm the others.
                await connection.execute("rollback")
                became = await self._each(connection, self._group)
            self._tell(self._group, became)
            if all(became):
                looked = time()
            elif time() - looked > LOOK_SECONDS:
                await end_frozen(connection)
                looked = time()
            if any(became):
                pause = _SHORTEST_PAUSE
            elif self._line:
                await self._comes_within(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _each(
        self, connection: asyncpg.Connection, group: list[asyncio.Future[Ingested]]
    ) -> list[Ingested | None]:
        """Store requests one by one, so that one that fails does so alone."""
        became: list[Ingested | None] = []
        for done in group:
            became.append(None)
            if done in self._line:
                try:
                    became[-1:] = await self._store(connection, [self._line[done]])
                except asyncpg.PostgresError as error:
                    if isinstance(error, _OF_ALL):
                        raise
                    await connection.execute("rollback")
                    self._fail([done], error)
        return became

    async def _store(
        self, connection: asyncpg.Connection, requests: list[PollRequest]
    ) -> list[Ingested | None]:
        """Store requests; those of which nothing is told stay in line."""
        async with asyncio.timeout(_GROUP_SECONDS):
            first_of_day = None if self._in_the_way else _first_of_each_day(requests)
            if first_of_day is None:
                became = await store_group(connection, requests)
                self._in_the_way = not all(became)
                return became
            became = [None] * len(requests)
            for added in (append_polls, store_group):
                left = [one for one in first_of_day if became[one] is None]
                if left:
                    told = await added(connection, [requests[one] for one in left])
                    for one, ingested in zip(left, told, strict=True):
                        became[one] = ingested
            self._in_the_way = any(became[one] is None for one in first_of_day)
            return became

    async def _comes_within(self, seconds: float) -> bool:
        """Whether another request comes in time."""
        self._come.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._come.wait(), seconds)
        came = self._come.is_set()
        self._come.set()
        return came

    def _first(self) -> list[asyncio.Future[Ingested]]:
        """Those that are stored next."""
        polls = 0
        first: list[asyncio.Future[Ingested]] = []
        for done, request in islice(self._line.items(), _GROUP_REQUESTS):
            polls += len(request.rows.value)
            if first and polls > _GROUP_POLLS:
                break
            first.append(done)
        return first

    def _tell(
        self, group: Sequence[asyncio.Future[Ingested]], became: Sequence[Ingested | None]
    ) -> None:
        for done, ingested in zip(group, became, strict=True):
            if ingested is not None:
                self._line.pop(done, None)
                if not done.done():  # done: whoever waited has given up
                    done.set_result(ingested)

    def _fail(self, waiting: Sequence[asyncio.Future[Ingested]], error: Exception) -> None:
        for done in waiting:
            self._line.pop(done, None)
            if not done.done():
                done.set_exception(error)


def _first_of_each_day(requests: Sequence[PollRequest]) -> list[int] | None:
    """Of each store and day the first request; None: not all of them are single polls."""
    first: dict[tuple[str, int], int] = {}
    for number, request in enumerate(requests):
        if (single := request.single) is None:
            return None
        first.setdefault(single, number)
    return list(first.values())
