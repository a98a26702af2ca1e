"""Polls as the database keeps them. It gathers those of a batch into a few long values itself."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import asyncpg
import numpy as np

from compute.axis import DAY_MS, Ints
from compute.instants import milliseconds_of
from compute.polls import WORD, PollDays, join_days
from service.database.pool import Database
from service.stores.packed import COPY_BEGIN, COPY_END, from_array_send

# What PostgreSQL's binary COPY wants before the polls of a row: the number of fields, and the
# length of each before its value. All is big-endian.
_BEFORE_POLLS = np.dtype(
    [
        ("fields", ">i2"),
        ("4", ">i4"),
        ("store", ">i4"),
        ("_4", ">i4"),
        ("day", ">i4"),
        ("size", ">i4"),
    ]
)
#: Rows that are copied at a time: while the server takes some, the next are made.
_COPIED_ROWS = 10_000
#: Days of a store that are read at a time.
_DAYS_AT_ONCE = 32


async def copy_polls(connection: asyncpg.Connection, rows: AsyncIterator[PollDays]) -> None:
    """Add rows of polls; the database has none of these stores on these days.

    asyncpg's own way takes a tuple a row, and several times as long.
    """

    async def pieces() -> AsyncIterator[bytes]:
        yield COPY_BEGIN
        async for days in rows:
            for first in range(0, len(days.store), _COPIED_ROWS):
                yield await asyncio.to_thread(_copied, days, first, first + _COPIED_ROWS)
        yield COPY_END

    await connection.copy_to_table(
        "poll_day", source=pieces(), columns=["store", "day", "polls"], format="binary"
    )


def _copied(days: PollDays, first: int, last: int) -> bytes:
    """Some of the rows, as PostgreSQL's binary COPY has them."""
    size = days.size[first:last]
    before = np.empty(len(size), dtype=_BEFORE_POLLS)
    before["fields"], before["4"], before["_4"] = 3, 4, 4
    before["store"], before["day"] = days.store[first:last], days.day[first:last]
    before["size"] = size
    begin = int(days.size[:first].sum())
    turns = np.stack([np.full(len(size), before.itemsize), size], axis=1).ravel()
    is_before = np.repeat(np.tile([True, False], len(size)), turns)
    copied = np.empty(len(is_before), dtype=np.uint8)
    copied[is_before] = before.view(np.uint8)
    copied[~is_before] = np.frombuffer(days.packed, np.uint8, int(size.sum()), begin)
    return copied.tobytes()


def poll_days(record: asyncpg.Record) -> PollDays:
    """Rows of `poll_day` as the queries gather them: `store_day`, `size`, `polls`."""
    key = from_array_send(record["store_day"], ">i8")
    day = key.astype(np.int32).astype(np.int64)
    return PollDays(
        store=(key - day) >> 32,
        day=day,
        size=from_array_send(record["size"]),
        packed=record["polls"] or b"",
    )


async def newest_poll(connection: Database) -> int | None:
    """The newest poll's instant over all stores, milliseconds since 1970-01-01 UTC."""
    instant: datetime | None = await connection.fetchval("select instant from newest_poll")
    return milliseconds_of(instant)


async def polls_kept_since(connection: Database) -> int | None:
    """From when on polls are kept, milliseconds since 1970-01-01 UTC; None: all are."""
    day = await connection.fetchval("select since_day from polls_kept")
    return None if day is None else int(day) * DAY_MS


async def newest_and_kept(connection: Database) -> tuple[int | None, int | None]:
    """`newest_poll` and `polls_kept_since`, in one round trip."""
    instant, day = await connection.fetchrow(
        "select (select instant from newest_poll), (select since_day from polls_kept)"
    )
    return milliseconds_of(instant), None if day is None else int(day) * DAY_MS


async def read_polls(
    connection: Database, stores: list[int], day_ranges: Sequence[tuple[int, int]]
) -> PollDays:
    """Polls of some stores on some days; the rows are in no particular order.

    Args:
        connection: where to ask
        stores: their numbers in the database
        day_ranges: first and last day of each, days since 1970-01-01; disjoint
    """
    return join_days([await _read_range(connection, stores, *days) for days in day_ranges])


async def _read_range(
    connection: Database, stores: list[int], first_day: int, last_day: int
) -> PollDays:
    row = await connection.fetchrow(
        """
        select string_agg(polls, '') as polls,
               array_send(array_agg((store::bigint << 32) + day)) as store_day,
               array_send(array_agg(length(polls))) as size
        from poll_day where store = any ($1::integer[]) and day between $2 and $3
        """,
        stores,
        first_day,
        last_day,
    )
    return poll_days(row)


async def count_polls(
    connection: Database, store: int, day_ranges: Sequence[tuple[int, int]]
) -> int:
    """How many polls of a store `read_polls` would read; none of them is read for it."""
    counts = [
        await connection.fetchval(
            """
            select coalesce(sum(length(polls)), 0) / $4 from poll_day
            where store = $1 and day between $2 and $3
            """,
            *(store, first_day, last_day, WORD.itemsize),
        )
        for first_day, last_day in day_ranges
    ]
    return sum(map(int, counts))


async def count_polls_of_each(
    connection: Database, stores: list[int], day_ranges: Sequence[tuple[int, int]]
) -> dict[int, int]:
    """The same of some stores, by their numbers; those without any are left out."""
    counts: dict[int, int] = {}
    for first_day, last_day in day_ranges:
        rows = await connection.fetch(
            """
            select store, sum(length(polls)) / $4 from poll_day
            where store = any ($1::integer[]) and day between $2 and $3 group by store
            """,
            *(stores, first_day, last_day, WORD.itemsize),
        )
        for store, count in rows:
            counts[store] = counts.get(store, 0) + int(count)
    return counts


async def polls_of_store(
    pool: asyncpg.Pool, store: int, first: int, end: int
) -> AsyncIterator[Ints]:
    """Polls of a store in a stretch of time, ascending, some days at a time.

    Args:
        pool: the database, which is asked anew for each page: whoever reads on slowly holds up
            nobody, and sees what is loaded meanwhile
        store: its number in the database
        first: milliseconds since 1970-01-01 UTC
        end: the same, not included

    Yields:
        int64[n], as `compute.polls` describes a `poll`
    """
    after = first // DAY_MS - 1
    while True:
        rows = await pool.fetch(
            """
            select day, polls from poll_day where store = $1 and day > $2 and day <= $3
            order by day limit $4
            """,
            *(store, after, (end - 1) // DAY_MS, _DAYS_AT_ONCE),
        )
        if not rows:
            return
        after = rows[-1]["day"]
        for row in rows:
            poll = np.frombuffer(row["polls"], dtype=WORD).astype(np.int64) + row["day"] * (
                2 * DAY_MS
            )
            yield poll[(poll >= 2 * first) & (poll < 2 * end)]
