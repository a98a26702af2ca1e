"""Polls as the database keeps them. It gathers those of a batch into a few long values itself."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import numpy as np

from compute.instants import milliseconds_of
from compute.polls import PollDays
from service.database.pool import Database
from service.stores.packed import from_array_send

# How PostgreSQL's binary COPY begins and ends, and what it wants before the polls of a row: the
# number of fields, and the length of each before its value. All is big-endian.
_COPY_BEGIN, _COPY_END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
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


async def copy_polls(connection: asyncpg.Connection, rows: AsyncIterator[PollDays]) -> None:
    """Add rows of polls; the database has none of these stores on these days.

    asyncpg's own way takes a tuple a row, and several times as long.
    """

    async def pieces() -> AsyncIterator[bytes]:
        yield _COPY_BEGIN
        async for days in rows:
            for first in range(0, len(days.store), _COPIED_ROWS):
                yield await asyncio.to_thread(_copied, days, first, first + _COPIED_ROWS)
        yield _COPY_END

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
    instant = await connection.fetchval("select instant from newest_poll")
    return None if instant is None else milliseconds_of(instant)


async def read_polls(
    connection: Database, stores: list[int], first_day: int, last_day: int
) -> PollDays:
    """Polls of some stores on some days; the rows are in no particular order.

    Args:
        connection: where to ask
        stores: their numbers in the database
        first_day: days since 1970-01-01
        last_day: days since 1970-01-01, included
    """
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
