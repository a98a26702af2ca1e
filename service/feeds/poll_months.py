"""The partitions of `poll_day`: months are made ahead, and go when their polls are kept no longer.

`poll_day` has a partition for all time before some month, one for each month after it, and a last
one for all time after those, which is there for whoever loads polls without a service that makes
months. Nothing waits for any of this: a partition is attached and detached beside all others, but
for what `_bound_last` does.

Each step leaves something in the database by which whoever looks next goes on, so an instance may
die between any two.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import asyncpg

from compute.instants import date_on, day_of
from service.background import beside
from service.database import locks
from service.database.pool import DATABASE_FAILED, drop
from service.feeds.storing import doubt_states

log = logging.getLogger("storewatch.feeds")

#: The partition for all time after the months.
_LAST = "poll_day_after"
#: Months are made when fewer days than these lie ahead, so many at a time.
_DAYS_AHEAD, _MONTHS = 92, 12
#: A poll may be a day ahead of a clock, and clocks differ.
_DAYS_OF_CLOCKS = 2
_LOOK_SECONDS, _AGAIN_SECONDS = 3600.0, 60.0
#: To detach a partition is to wait for all reports and loads that may be at it; nobody waits for
#: us meanwhile. What is not done then is gone on with at the next look.
_DETACH_SECONDS = 600.0
#: How long others wait behind us for a lock of which we need all, and how often we ask for it.
_LOCK_SECONDS, _LOCK_PAUSE, _LOCK_ATTEMPTS = 1, 3.0, 20
#: Reading a partition that is as large as it may be.
_READ_SECONDS = 36_000.0

_BOUND = re.compile(r"FROM \(([-\w]+)\) TO \(([-\w]+)\)")


class _Partition(NamedTuple):
    """A partition of `poll_day`.

    Attributes:
        name: as SQL has it
        first: its first day, since 1970-01-01; None: it has no beginning
        beyond: the first day after it; None: it has no end
        going: whether somebody has begun to detach it
    """

    name: str
    first: int | None
    beyond: int | None
    going: bool


class PollMonths:
    """Sees to the partitions, as one of all instances.

    Args:
        pool: the database
        kept_for: how long polls are kept at least; 0: for ever
    """

    def __init__(self, pool: asyncpg.Pool, kept_for: timedelta) -> None:
        self._pool, self._kept_for = pool, kept_for

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """See to them now and every hour, until the block ends."""
        async with beside(self._run()):
            yield

    async def _run(self) -> None:
        while True:
            pause = _LOOK_SECONDS
            try:
                async with self._pool.acquire() as connection:
                    try:
                        now = await connection.fetchval("select now()")
                        await see_to_months(connection, self._kept_for, now)
                    except BaseException:
                        drop(connection)  # and with it the lock
                        raise
            except Exception as error:
                pause = _AGAIN_SECONDS
                log.warning(
                    "cannot see to the months of polls, will try again: %s",
                    error or type(error).__name__,
                    exc_info=None if isinstance(error, DATABASE_FAILED) else error,
                )
            await asyncio.sleep(pause)


async def see_to_months(connection: asyncpg.Connection, kept_for: timedelta, now: datetime) -> None:
    """Go on with what was begun, make months ahead, and let go of those that are too old.

    A month goes at the second look that finds it too old: the first one tells reports, so that none
    that is being made lacks polls without saying so.

    Args:
        connection: not in a transaction; its waits are set anew
        kept_for: how long polls are kept at least; 0: for ever
        now: the present
    """
    if not await connection.fetchval("select pg_try_advisory_lock($1)", locks.POLL_MONTHS):
        return  # another instance does
    try:
        await connection.execute(
            f"set statement_timeout = 0; set lock_timeout = '{_DETACH_SECONDS:.0f}s'"
        )
        for partition in await _partitions(connection):
            if partition.going:
                await _alter(connection, f"detach partition {partition.name} finalize")
        await _make_ahead(connection, day_of(now.astimezone(UTC).date()))
        await _let_go(connection, kept_for, now)
    finally:
        with suppress(asyncpg.InterfaceError):  # it has ended
            await connection.execute("select pg_advisory_unlock($1)", locks.POLL_MONTHS)


def _bound_after(day: int) -> int:
    """The first day of a month that begins at least four weeks after a day."""
    month = date_on(day).replace(day=1)
    for _ in range(2):
        month = (month + timedelta(days=31)).replace(day=1)
    return day_of(month)


async def _partitions(connection: asyncpg.Connection) -> list[_Partition]:
    """Those that are attached, in the order of their days."""
    rows = await connection.fetch(
        """
        select quote_ident(relname) as name, inhdetachpending,
               pg_get_expr(relpartbound, pg_class.oid) as bound
        from pg_inherits join pg_class on pg_class.oid = inhrelid
        where inhparent = 'poll_day'::regclass
        """
    )
    partitions = []
    for row in rows:
        found = _BOUND.search(row["bound"])
        if found is None:
            raise ValueError(f"{row['name']} is no partition for days: {row['bound']}")
        first, beyond = (None if "VALUE" in day else int(day) for day in found.groups())
        partitions.append(_Partition(row["name"], first, beyond, row["inhdetachpending"]))
    return sorted(partitions, key=lambda one: -1 if one.first is None else one.first)


async def _alter(connection: asyncpg.Connection, what: str) -> None:
    """Change which partitions there are, beside all others."""
    await connection.execute(f"alter table poll_day {what}", timeout=_DETACH_SECONDS + 60)


async def _make_ahead(connection: asyncpg.Connection, today: int) -> None:
    """Make months, if there are too few."""
    last = (await _partitions(connection))[-1]
    begin = last.beyond
    if begin is None:  # the last partition is attached
        begin = last.first or 0
        if begin - today >= _DAYS_AHEAD:
            return
        if begin <= today + _DAYS_OF_CLOCKS or await _has_rows(connection):
            await _bound_last(connection, begin, _bound_after(today))
            return
        await _alter(connection, f"detach partition {_LAST} concurrently")
    async with connection.transaction():
        if await connection.fetchval("select to_regclass($1) is not null", _LAST):
            if await _has_rows(connection):  # which came as we looked: they get a bound next time
                await _attach(connection, _LAST, begin, "maxvalue")
                return
            await connection.execute(f"drop table {_LAST}")
        await _add_months(connection, begin)
    log.info("made %d months of polls ahead", _MONTHS)


async def _has_rows(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval("select exists (select from poll_day_after)"))


async def _attach(connection: asyncpg.Connection, name: str, first: int, beyond: str) -> None:
    await _alter(connection, f"attach partition {name} for values from ({first:d}) to ({beyond})")


async def _add_months(connection: asyncpg.Connection, begin: int) -> None:
    await connection.execute("select add_months_of_polls($1, $2)", begin, _MONTHS)


async def _bound_last(connection: asyncpg.Connection, begin: int, beyond: int) -> None:
    """Make the last partition one with an end, with all that it has, and months after it.

    Polls of the present are in it, or could come at any moment: so it must not be missing, not even
    while it is detached. It gets its bound by one transaction that has `poll_day` alone, for which
    nothing is read.
    """
    newest = await connection.fetchval("select max(day) from poll_day_after", timeout=_READ_SECONDS)
    if newest is not None:
        beyond = max(beyond, _bound_after(newest))
    name = f"poll_day_{date_on(begin):%Y_%m}"
    check = f"check (day >= {begin:d} and day < {beyond:d})"

    async def add_check() -> None:
        await connection.execute(
            f"""
            alter table {_LAST} drop constraint if exists poll_day_until,
                add constraint poll_day_until {check} not valid
            """
        )

    async def bound() -> None:
        async with connection.transaction():
            await connection.execute("lock table only poll_day in access exclusive mode")
            await _alter(connection, f"detach partition {_LAST}")
            await connection.execute(f"alter table {_LAST} rename to {name}")
            await _attach(connection, name, begin, str(beyond))
            await connection.execute(f"alter table {name} drop constraint poll_day_until")
            await _add_months(connection, beyond)

    await _briefly(connection, add_check)
    await connection.execute(
        f"alter table {_LAST} validate constraint poll_day_until", timeout=_READ_SECONDS
    )
    await _briefly(connection, bound)
    log.info("polls from %s on got months", date_on(begin))


async def _briefly(connection: asyncpg.Connection, change: Callable[[], Awaitable[None]]) -> None:
    """Change what others use, in a moment in which nobody does; they never wait for it for long."""
    for attempt in range(_LOCK_ATTEMPTS):
        await connection.execute(f"set lock_timeout = '{_LOCK_SECONDS:d}s'")
        try:
            await change()
        except asyncpg.LockNotAvailableError:
            if attempt + 1 == _LOCK_ATTEMPTS:
                raise
            await asyncio.sleep(_LOCK_PAUSE)
        else:
            break
    await connection.execute(f"set lock_timeout = '{_DETACH_SECONDS:.0f}s'")


async def _let_go(connection: asyncpg.Connection, kept_for: timedelta, now: datetime) -> None:
    """Drop what an earlier look has told of, and tell of what is to go next."""
    going = set(await connection.fetchval("select going from polls_kept"))
    attached = await _partitions(connection)
    detached = going.difference(one.name for one in attached)
    end = day_of((now - kept_for).astimezone(UTC).date()) if kept_for else 0
    old = {one.name for one in attached if one.beyond is not None and one.beyond <= end}
    # What is still attached and not too old is kept: somebody has thought better of it.
    for name in sorted(detached | (going & old)):
        if name in old:
            await _alter(connection, f"detach partition {name} concurrently")
        await _drop(connection, name)
        log.info("polls dropped that were kept long enough: %s", name)
    kept = [one for one in attached if one.name not in old]
    await connection.execute(
        """
        update polls_kept set since_day = $1, going = $2
        where (since_day, going) is distinct from ($1, $2)
        """,
        kept[0].first,
        sorted(old - going),
    )


async def _drop(connection: asyncpg.Connection, name: str) -> None:
    """Drop what is detached, and forget what followed from it."""
    async with connection.transaction():
        await connection.execute(f"drop table if exists {name}", timeout=_DETACH_SECONDS + 60)
        await connection.execute(
            "update polls_kept set going = array_remove(going, $1::text)", name
        )
        # If one was the newest of all, none are left.
        await connection.execute(
            """
            delete from newest_poll_row using polls_kept
            where instant < timestamptz '1970-01-01 00:00Z' + since_day * interval '24 hours'
            """
        )
        await doubt_states(connection)
