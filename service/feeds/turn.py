"""Whose turn it is to store a feed: one at a time over all instances, first come, first served."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg

from service.database import locks
from service.database.pool import WORK, transaction

#: A twentieth of what two cores store that do something else, too.
_FEWEST_ROWS_A_SECOND = 10_000


# After so long a waiter looks whether the one whose turn it is still lives.
_LOOK_SECONDS = 30


@contextlib.asynccontextmanager
async def turn(pool: asyncpg.Pool, rows: int = 1) -> AsyncIterator[asyncpg.Connection]:
    """A transaction that no other ingest writes beside; first come, first served.

    Where the pool's patience for a turn is bounded, so is the time to store that many rows: a
    database that is gone without a word holds up nobody for longer.

    TimeoutError: it was not our turn in time, or it took too long.

    If turns were drawn by lot, an older request could replace a newer poll of the same instant
    that was acknowledged already.
    """
    async with (
        asyncio.timeout(pool.waits.turn or None) as patience,
        pool.line,  # who waits for the lock itself keeps a connection from others
        transaction(pool) as connection,
    ):
        while not await _lock_within(connection, _LOOK_SECONDS):
            await _end_frozen(connection)
        if pool.waits.turn:
            seconds = pool.waits.turn + rows / _FEWEST_ROWS_A_SECOND
            patience.reschedule(asyncio.get_running_loop().time() + seconds)
        yield connection


async def _lock_within(connection: asyncpg.Connection, seconds: int) -> bool:
    try:
        async with connection.transaction():
            await connection.execute(f"set local lock_timeout = {1000 * seconds:d}")
            await connection.execute("select pg_advisory_xact_lock($1)", locks.STORE_A_FEED)
    except asyncpg.LockNotAvailableError:
        return False
    return True


async def _end_frozen(connection: asyncpg.Connection) -> None:
    """End the session whose turn it is, if it has said nothing for so long that it must be frozen.

    `idle_in_transaction_session_timeout` does not see who is frozen in the middle of a COPY.
    """
    await connection.execute(
        """
        select pg_terminate_backend(activity.pid)
        from pg_locks join pg_stat_activity as activity using (pid)
        where locktype = 'advisory' and granted and objid = $1 and classid = 0 and objsubid = 1
            and database = (select oid from pg_database where datname = current_database())
            and wait_event = 'ClientRead'
            and greatest(query_start, state_change) < clock_timestamp() - $2::interval
        """,
        locks.STORE_A_FEED,
        timedelta(seconds=WORK.idle),
    )
