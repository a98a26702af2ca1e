"""Transactions that store feeds, several at the same time: what they lock, and how long they wait.

Two transactions wait for each other only where they write the same rows, and none waits in a
circle, because everybody locks in the same order:

1. `STORE_A_FEED`, shared by all who store a feed; whoever deletes polls or a store has it alone.
2. Rows of `store`: new ones, and those of which something is set, in the order of their ids.
3. Rows of `poll_day`, in the order of their stores' ids and days.
4. Rows of `exclusion`, in the order of whom they cover, as text, and of their begins and ends.

`service.feeds.poll_group` does not wait: for now, it leaves out what somebody else has locked.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import asyncpg

from service.database import locks
from service.database.pool import WORK, transaction

#: Storing may be as slow as this before it is cut off: a twentieth of what two busy cores achieve.
_FEWEST_ROWS_A_SECOND = 10_000
#: After this long, a waiter checks whether a session that stores a feed is frozen.
LOOK_SECONDS = 5
#: Whoever wants to be alone waits this long at a time, while nobody else can begin, and then leaves
#: the others as much time.
_ALONE_SECONDS = 0.2


@contextlib.asynccontextmanager
async def storing(pool: asyncpg.Pool, rows: int = 1) -> AsyncIterator[asyncpg.Connection]:
    """A transaction that stores a feed beside others.

    If the pool's wait for others is bounded, so is the time to store that many rows. So a database
    that vanishes without closing its connections does not hold anything up for long.

    Args:
        pool: the database
        rows: how many are stored

    Raises:
        TimeoutError: others were in the way for too long, or storing took too long
    """
    lane = pool.large_feeds if rows > _FEWEST_ROWS_A_SECOND else pool.small_feeds
    async with _bounded(pool, lane) as (connection, begin):
        await patiently(connection, "select pg_advisory_xact_lock_shared($1)", locks.STORE_A_FEED)
        begin(rows)
        await doubt_states(connection)
        yield connection


@contextlib.asynccontextmanager
async def alone(pool: asyncpg.Pool, rows: int) -> AsyncIterator[asyncpg.Connection]:
    """A transaction during which nobody stores a feed, for deleting rows in any order.

    Raises:
        TimeoutError: as `storing` does
    """
    async with _bounded(pool, pool.large_feeds) as (connection, begin):
        lock = "select pg_advisory_xact_lock($1)"
        while not await _done_within(connection, _ALONE_SECONDS, lock, locks.STORE_A_FEED):
            await end_frozen(connection)
            await asyncio.sleep(_ALONE_SECONDS)
        begin(rows)
        await doubt_states(connection)
        yield connection


async def doubt_states(connection: asyncpg.Connection) -> None:
    """Have the next look at all stores be one from scratch, if this transaction is committed.

    A row that another one has noted is as good, while it is locked: so it stays until that look.
    """
    await connection.execute(
        """
        with noted as (select from state_doubt limit 1 for key share skip locked)
        insert into state_doubt (noted_at) select now() where not exists (select from noted)
        """
    )


@contextlib.asynccontextmanager
async def _bounded(
    pool: asyncpg.Pool, lane: asyncio.Semaphore
) -> AsyncIterator[tuple[asyncpg.Connection, Callable[[int], None]]]:
    """A transaction, and what to call with the number of rows when their turn has come.

    Args:
        pool: the database
        lane: waiting in the database instead would take up a connection
    """
    try:
        async with (
            asyncio.timeout(pool.waits.turn or None) as patience,
            lane,
            transaction(pool) as connection,
        ):

            def begin(rows: int) -> None:
                if pool.waits.turn:
                    seconds = pool.waits.turn + rows / _FEWEST_ROWS_A_SECOND
                    patience.reschedule(asyncio.get_running_loop().time() + seconds)

            yield connection, begin
    except TimeoutError:
        await pool.expire_connections()  # maybe all are dead that were open
        raise


async def patiently(connection: asyncpg.Connection, statement: str, *args: Any) -> Any:
    """The first value of a statement that may wait for what others have locked.

    Whoever has it and is frozen loses it; else the wait is bounded by `storing`.
    """
    while not (done := await _done_within(connection, LOOK_SECONDS, statement, *args)):
        await end_frozen(connection)
    return done[0]


async def _done_within(
    connection: asyncpg.Connection, seconds: float, statement: str, *args: Any
) -> tuple[Any] | None:
    """The first value of a statement; None, and it did nothing: it had to wait for too long."""
    # asyncpg's own savepoint is rolled back when the wait is cut short: it would wait once more,
    # without a bound, for a server that does not answer.
    milliseconds = round(1000 * seconds)
    await connection.execute(f"savepoint waiting; set local lock_timeout = {milliseconds:d}")
    try:
        value = await connection.fetchval(statement, *args)
    except asyncpg.LockNotAvailableError:
        await connection.execute("rollback to waiting")  # which sets back the time-out, too
        return None
    await connection.execute("set local lock_timeout to default; release waiting")
    return (value,)


async def end_frozen(connection: asyncpg.Connection) -> None:
    """End sessions that store a feed and have been silent for so long that they must be frozen.

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
