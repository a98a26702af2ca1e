"""Which server a report is read from: a streaming replica that has caught up, or the primary.

A report reads one server alone, by a snapshot of that server, so it sees all stores as they are at
one moment. A replica is asked only when it has replayed all that the primary had written when the
report began: nothing that was acknowledged before is missing in it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import asyncpg

from service.database.pool import DATABASE_FAILED, READING, DatabaseUnavailable, pool_of

log = logging.getLogger("storewatch.reports")

#: How long a report waits for a replica to catch up, and how often it looks, seconds.
_CATCH_UP_SECONDS, _LOOK_SECONDS = 2.0, 0.05
#: How long a replica is left alone that failed, or was behind, seconds.
_REST_SECONDS = 30.0
_FAILED = (DatabaseUnavailable, *DATABASE_FAILED)


class ReplicaFailed(ConnectionError):  # noqa: N818 - read by a person as a sentence
    """A replica did not give what a report needed: the report is run again, from elsewhere."""


class Source(NamedTuple):
    """A server that a report is read from.

    Attributes:
        number: 0: the primary; else which of the replicas, from 1 on
        pool: its connections
    """

    number: int
    pool: asyncpg.Pool


class Sources:
    """The primary and its replicas, which take turns. They are opened when they are first wanted.

    Args:
        primary: connections to it
        replicas: URLs of streaming replicas of it
        size: connections to each of these, at most

    Attributes:
        primary: as given
    """

    def __init__(self, primary: asyncpg.Pool, replicas: Sequence[str], size: int) -> None:
        self.primary, self._replicas, self._size = primary, replicas, size
        self._open: dict[int, asyncpg.Pool] = {}
        self._rest_until = dict.fromkeys(range(1, len(replicas) + 1), 0.0)
        self._next = 0
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Close what was opened when the block ends."""
        async with self._stack:
            yield

    async def choose(self) -> Source:
        """The next replica that has caught up; the primary if there is none."""
        awake = [number for number, rest in self._rest_until.items() if rest <= time.monotonic()]
        if awake:
            written = await self.primary.fetchval("select pg_current_wal_lsn()")
            self._next += 1
            for turn in range(len(awake)):
                number = awake[(self._next + turn) % len(awake)]
                try:
                    pool = await self._opened(number)
                    async with asyncio.timeout(_CATCH_UP_SECONDS):
                        await self._caught_up(pool, written)
                    return Source(number, pool)
                except _FAILED as error:
                    self.rest(number, str(error) or "it is behind")
        return Source(0, self.primary)

    def rest(self, number: int, why: str) -> None:
        """Leave a replica alone for a while."""
        log.warning("replica %d rests for %.0f s: %s", number, _REST_SECONDS, why)
        self._rest_until[number] = time.monotonic() + _REST_SECONDS

    async def _opened(self, number: int) -> asyncpg.Pool:
        async with self._opening:
            if number not in self._open:
                async with AsyncExitStack() as opening:
                    url = self._replicas[number - 1]
                    pool = await opening.enter_async_context(pool_of(url, READING, self._size))
                    await self._check(pool)
                    await self._stack.enter_async_context(opening.pop_all())
                self._open[number] = pool
            return self._open[number]

    async def _check(self, replica: asyncpg.Pool) -> None:
        server = "select system_identifier from pg_control_system()"
        if await replica.fetchval(server) != await self.primary.fetchval(server):
            raise ReplicaFailed("it is no replica of the server at DATABASE_URL")

    async def _caught_up(self, replica: asyncpg.Pool, written: int) -> None:
        """Wait until it has replayed what the primary had written."""
        while True:
            replayed = await replica.fetchval(
                """
                select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() >= $1::pg_lsn
                end
                """,
                written,
            )
            if replayed is None:
                raise ReplicaFailed("it is a server of its own now, no replica any more")
            if replayed:
                return
            await asyncio.sleep(_LOOK_SECONDS)
