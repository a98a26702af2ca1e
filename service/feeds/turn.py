"""Whose turn it is to store a feed: one at a time over all instances, first come, first served."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg

from service.database import locks
from service.database.pool import WORK, transaction

#: Storing may be as slow as this before it is cut off: a twentieth of what two busy cores achieve.
_FEWEST_ROWS_A_SECOND = 10_000
#: After this long, a waiter checks whether the session whose turn it is is frozen.
_LOOK_SECONDS = 30


@contextlib.asynccontextmanager
async def turn(pool: asyncpg.Pool, rows: int = 1) -> AsyncIterator[asyncpg.Connection]:
    """A transaction during which no other feed is stored; first come, first served.

    The order matters: a request that came earlier must not be stored later, or it could replace a
    newer poll of the same instant that is already acknowledged.

    If the pool's wait for a turn is bounded, so is the time to store that many rows. So a database
    that vanishes without closing its connections does not hold up everybody else.

    Raises:
        TimeoutError: it was not our turn in time, or storing took too long
    """
    async with (
        asyncio.timeout(pool.waits.turn or None) as patience,
        pool.line,  # waiting in the database instead would take up a connection
        transaction(pool) as connection,
    ):
        while not await _lock_within(connection, _LOOK_SECONDS):
            await _end_frozen(connection)
        if pool.waits.turn:
            seconds = pool.waits.turn + rows / _FEWEST_ROWS_A_SECOND
            patience.reschedule(asyncio.get_running_loop().time() + seconds)
        yield connection


async def _lock_within(connection: asyncpg.Connection, seconds: int) -> bool:
    # asyncpg's own savepoint is rolled back when the wait is cut short: it would wait once more,
    # without a bound, for a server that does not answer.
    await connection.execute(f"savepoint turn; set local lock_timeout = {1000 * seconds:d}")
    try:
        await connection.execute("select pg_advisory_xact_lock($1)", locks.STORE_A_FEED)
    except asyncpg.LockNotAvailableError:
        await connection.execute("rollback to turn")  # which sets back the time-out, too
        return False
    await connection.execute("set local lock_timeout to default")
    return True


async def _end_frozen(connection: asyncpg.Connection) -> None:
    """End the session whose turn it is, if it has been silent for so long that it must be frozen.

    `idle_in_transaction_session_timeout` does not apply to a session that is in a COPY.
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
