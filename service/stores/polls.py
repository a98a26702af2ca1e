"""Polls as the database keeps them. It gathers those of a batch into a few long values itself."""

import asyncpg
import numpy as np

from compute.instants import milliseconds_of
from compute.polls import PollDays
from service.database.pool import Database
from service.stores.packed import from_array_send


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
