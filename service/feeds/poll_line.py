"""The line of small requests with polls, and the task that stores all that wait in it together.

Pollers send each poll when they have it. A transaction takes a few milliseconds, hardly more for a
hundred polls than for one. So one task of the process stores whatever waits, in order of arrival,
while the next requests line up. It never waits for more to come.

A poll that comes when nothing waits is stored by its own task, with the connection that the other
one has at hand: to change from one task to another and back takes a tenth of the time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice

import asyncpg

from compute.feed_faults import FeedRefused
from compute.feed_rows import FeedRows
from service.background import beside
from service.database.pool import DATABASE_AWAY, drop, is_open
from service.feeds.history import Ingested, Sender
from service.feeds.kept_polls import check_kept
from service.feeds.poll_group import SETTINGS, PollRequest, append_polls, store_group
from service.feeds.storing import LOOK_SECONDS, end_frozen
from service.stores.polls import polls_kept_since

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
        on_stored: gets polls that have just been stored; must not wait or fail

    Attributes:
        small: polls of a request that it takes
    """

    small = SMALL

    def __init__(
        self, pool: asyncpg.Pool, on_stored: Callable[[FeedRows], None] | None = None
    ) -> None:
        self._pool, self._on_stored = pool, on_stored
        # In order of arrival; who gives up leaves from the middle.
        self._line: dict[asyncio.Future[Ingested], PollRequest] = {}
        self._polls = 0
        self._come = asyncio.Event()
        self._group: list[asyncio.Future[Ingested]] = []  # those that are being stored
        self._connection: asyncpg.Connection | None = None  # open, and with SETTINGS
        self._in_use = asyncio.Lock()  # held by whoever uses it
        self._alone = False  # whether a poll was stored alone of late
        # Whether something was, the last time: another transaction, or a later poll.
        self._in_the_way = False

    async def store(self, rows: FeedRows, sender: Sender | None = None) -> Ingested:
        """Store polls, all of them or none; they are durable when this returns.

        Args:
            rows: good ones, at most SMALL
            sender: who is noted to have sent them as a file; None: nobody

        Raises:
            FeedRefused: they are older than any are kept
            LineFull: too many wait
            TimeoutError: it took too long; it may still be stored, and sending it again is safe
        """
        count = len(rows.value)
        if not count:
            return Ingested(0, 0, 0, 0, 0)
        request = PollRequest(rows, sender)
        tried = self._may_be_alone(request)
        if tried and (became := await self._store_alone(request)) is not None:
            return became
        if len(self._line) >= _MOST_REQUESTS or self._polls + count > _MOST_POLLS:
            raise LineFull
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Ingested] = loop.create_future()
        if tried:  # what is in line has come meanwhile
            self._line = {done: request} | self._line
        else:
            self._line[done] = request
        self._polls += count
        self._come.set()
        # `asyncio.timeout` takes four times as long, as it has a task to interrupt.
        turn = self._pool.waits.turn
        late = loop.call_later(turn, _give_up, done) if turn else None
        try:
            return await done
        finally:
            if late is not None:
                late.cancel()
            self._line.pop(done, None)
            self._polls -= count

    def _may_be_alone(self, request: PollRequest) -> bool:
        """Whether a request need not wait for anything, and is a poll that may be appended."""
        return (
            self._connection is not None
            and is_open(self._connection)
            and not (self._line or self._in_use.locked() or self._in_the_way)
            and request.single is not None
        )

    async def _store_alone(self, request: PollRequest) -> Ingested | None:
        """Store a poll while nothing else is stored; None: something is in its way."""
        connection = self._connection
        async with self._in_use:
            self._alone = True
            try:
                (became,) = await append_polls(connection, [request])
            except BaseException as error:
                drop(connection)
                self._come.set()  # so that its owner sees it
                if isinstance(error, TimeoutError):
                    await self._pool.expire_connections()  # maybe all are dead that were open
                raise
        self._in_the_way = became is None
        if became is not None and self._on_stored is not None:
            self._on_stored(request.rows)
        return became

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Store what comes, until the block ends."""
        async with beside(self._run()):
            yield

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
        await connection.execute(SETTINGS)  # the pool sets them back
        time = asyncio.get_running_loop().time
        pause, looked = _SHORTEST_PAUSE, time()
        self._connection = connection
        try:
            while await self._is_wanted():
                async with self._in_use:
                    if not is_open(connection):  # it has ended while nothing came
                        return
                    became = await self._store_first(connection)
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
        finally:
            self._connection = None

    async def _is_wanted(self) -> bool:
        """Wait until something is in line; False: nobody has used the connection for a while."""
        while not (self._line or await self._comes_within(_IDLE_SECONDS)):
            if not (self._alone or self._in_use.locked()):
                return False
            self._alone = False
        return True

    async def _store_first(self, connection: asyncpg.Connection) -> list[Ingested | None]:
        """Store those that have waited longest; what became of each, None: it still waits."""
        self._group = self._first()
        requests = [self._line[done] for done in self._group]
        try:
            became = await self._store(connection, requests)
        except asyncpg.PostgresError as error:
            alone = len(requests) == 1 and not isinstance(error, asyncpg.CheckViolationError)
            if alone or isinstance(error, _OF_ALL):
                raise
            # One of them is to blame, although it looked good: it must not harm the others.
            await connection.execute("rollback")
            became = await self._each(connection, self._group)
        self._tell(self._group, became)
        if self._on_stored is not None:
            for request, ingested in zip(requests, became, strict=True):
                if ingested is not None:
                    self._on_stored(request.rows)
        return became

    async def _each(
        self, connection: asyncpg.Connection, group: list[asyncio.Future[Ingested]]
    ) -> list[Ingested | None]:
        """Store requests one by one, so that one that fails does so alone."""
        became: list[Ingested | None] = []
        for done in group:
            became.append(None)
            if request := self._line.get(done):
                try:
                    became[-1:] = await self._store(connection, [request])
                except asyncpg.PostgresError as error:
                    if isinstance(error, _OF_ALL):
                        raise
                    await connection.execute("rollback")
                    self._fail([done], await _too_old(connection, request.rows, error))
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
        # `wait_for` would make a task of it, which takes as long as all else here.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._come.wait()
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


def _give_up(waiting: asyncio.Future[Ingested]) -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())


async def _too_old(
    connection: asyncpg.Connection, rows: FeedRows, error: asyncpg.PostgresError
) -> Exception:
    """Why polls could not be stored: in words, if it is that they are too old; else as it was."""
    if isinstance(error, asyncpg.CheckViolationError):
        oldest = int(rows.value.argmin())
        store_id = rows.store_ids[int(rows.store[oldest])]
        try:
            check_kept(await polls_kept_since(connection), store_id, int(rows.value[oldest]))
        except FeedRefused as refused:
            return refused
    failure: Exception = error
    return failure


def _first_of_each_day(requests: Sequence[PollRequest]) -> list[int] | None:
    """Of each store and day the first request; None: not all of them are single polls."""
    first: dict[tuple[str, int], int] = {}
    for number, request in enumerate(requests):
        if (single := request.single) is None:
            return None
        first.setdefault(single, number)
    return list(first.values())
