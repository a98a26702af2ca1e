"""Hear what the database announces, on one connection per instance, and bound who waits for it.

A notification only wakes: what it is about is then read. So nothing is lost when several come at
once or while the connection is away. (Litestar's channels lose events and subscribers with asyncpg:
its issues 4110, 4871, 4894 and 5011.)
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Protocol

import asyncpg

from service.background import beside, happens
from service.database.pool import DATABASE_FAILED, drop

log = logging.getLogger("storewatch.database")

#: How often the connection that listens is checked: one that is cut off without a word would stay
#: silent for ever. Also how long the check may take.
_CHECK_SECONDS = 15.0
#: Seconds between attempts to connect: the first, and then twice as long each time up to the last.
_SHORTEST_WAIT, _LONGEST_WAIT = 0.2, 5.0


class Hears(Protocol):
    """Who is told of what is announced on a channel."""

    def heard(self, payload: str) -> None:
        """Something was announced."""

    def catch_up(self) -> None:
        """Something may have been announced while nobody listened."""


async def listen(pool: asyncpg.Pool, who: Mapping[str, Hears]) -> None:
    """Listen until cancelled.

    Args:
        pool: the database; one of its connections is kept
        who: is told of each channel
    """
    wait = _SHORTEST_WAIT
    while True:
        try:
            async with pool.acquire() as connection:
                wait = _SHORTEST_WAIT
                await _listen_on(connection, who)
        except DATABASE_FAILED as error:
            log.warning("cannot hear what the database announces, will try again: %s", error)
        await asyncio.sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT)


@contextlib.asynccontextmanager
async def listening(pool: asyncpg.Pool, who: Mapping[str, Hears]) -> AsyncIterator[None]:
    """Listen until the block ends."""
    async with beside(listen(pool, who)):
        yield


async def _listen_on(connection: asyncpg.Connection, who: Mapping[str, Hears]) -> None:
    """Listen until the connection ends, which may only show when it is used."""
    lost = asyncio.Event()
    connection.add_termination_listener(lambda _: lost.set())

    def heard(_connection: object, _pid: int, channel: str, payload: str) -> None:
        who[channel].heard(payload)

    try:
        for channel in who:
            await connection.add_listener(channel, heard)
        for one in who.values():
            one.catch_up()
        while not lost.is_set():
            await happens(lost, _CHECK_SECONDS)
            await connection.execute("select 1", timeout=_CHECK_SECONDS)
    finally:
        # Nothing else can use a connection that listens, and closing it could take for ever.
        drop(connection)


class Streams:
    """The event streams that are open: each takes up a client's connection for a long time.

    Args:
        most: how many may be open at once, of all kinds together
    """

    def __init__(self, most: int) -> None:
        self._most, self._open = most, 0
        self._waiting: set[asyncio.Event] = set()
        self.closing = False

    @property
    def full(self) -> bool:
        """Whether as many are open as are allowed to."""
        return self._open >= self._most

    @contextlib.contextmanager
    def open(self) -> Iterator[asyncio.Event]:
        """Count a stream; its event is set when the service ends, and by who has news for it."""
        event = asyncio.Event()
        self._open += 1
        self._waiting.add(event)
        try:
            yield event
        finally:
            self._open -= 1
            self._waiting.discard(event)

    def close(self) -> None:
        """Wake all for the last time: the service ends."""
        self.closing = True
        for event in self._waiting:
            event.set()
