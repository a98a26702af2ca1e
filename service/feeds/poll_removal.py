"""Delete polls of a stretch of time, to recover from a poller's wrong clock, or a whole store.

Polls dated in the future move `as_of` of every default report into the future. Deleting them, and
finding the newest of those that remain, puts it right.
"""

import asyncio
from datetime import datetime
from typing import Annotated

import asyncpg
import msgspec
import numpy as np
from msgspec import Meta

from compute.axis import DAY_MS
from compute.instants import LATEST_MS, instant_of
from compute.polls import WORD, PollDays, polls_outside
from service.database.pool import transaction
from service.feeds.storing import alone
from service.stores.polls import newest_poll

#: Greater than the number of any store.
_ALL = 2**31 - 1
#: Rows that are read together where a day is deleted in part: some tens of megabytes.
_PAGE = 20_000


class RemovedPolls(msgspec.Struct, frozen=True):
    """What became of the polls of a stretch of time."""

    polls: Annotated[int, Meta(ge=0, description="How many were deleted.")]
    newest_poll: Annotated[
        datetime | None,
        Meta(
            description="The instant of the newest poll that remains, over all stores; null: none "
            "remain."
        ),
    ]


async def count_polls(pool: asyncpg.Pool, first: int, end: int) -> int:
    """An upper bound of how many polls `delete_polls` would delete: those of all days it touches.

    Args:
        pool: the database
        first: milliseconds since 1970-01-01 UTC
        end: the same, not included
    """
    count = """
        select coalesce(sum(length(polls) / $3::integer), 0)
        from poll_day where day between $1 and $2
    """
    days = first // DAY_MS, (end - 1) // DAY_MS
    # A connection that died without a word would be waited for as long as for a feed's storing.
    async with asyncio.timeout(pool.waits.turn or None), transaction(pool) as connection:
        return int(await connection.fetchval(count, *days, WORD.itemsize))


async def delete_polls(pool: asyncpg.Pool, first: int, end: int) -> RemovedPolls:
    """Delete all polls from one instant up to another, not included, in one transaction.

    Doing it twice deletes nothing more. Completed reports do not change.

    Args:
        pool: the database
        first: milliseconds since 1970-01-01 UTC
        end: the same, not included; after `first`
    """
    rows = await count_polls(pool, first, end)
    async with alone(pool, rows) as connection:
        return await _delete(connection, 1, _ALL, first, end)


async def delete_polls_of(
    pool: asyncpg.Pool, store_id: str, first: int, end: int
) -> RemovedPolls | None:
    """The same of one store alone; None: there is no such store."""
    async with alone(pool, 1) as connection:
        store = await connection.fetchval("select id from store where store_id = $1", store_id)
        return None if store is None else await _delete(connection, store, store, first, end)


class RemovedStore(msgspec.Struct, frozen=True):
    """A store that was deleted, with all that feeds said of it."""

    store_id: Annotated[str, Meta(description="The id that feeds gave it.")]
    polls: Annotated[int, Meta(ge=0, description="How many of its polls were deleted.")]
    exclusions: Annotated[
        int, Meta(ge=0, description="How many exclusions were deleted: those of this store alone.")
    ]
    newest_poll: Annotated[
        datetime | None,
        Meta(
            description="The instant of the newest poll that remains, over all stores; null: none "
            "remain."
        ),
    ]


async def delete_store(pool: asyncpg.Pool, store_id: str) -> RemovedStore | None:
    """Delete a store and all that feeds said of it, in one transaction; None: there is none.

    Exclusions of several stores stay. Completed reports do not change.
    """
    async with alone(pool, 1) as connection:
        store = await connection.fetchval("select id from store where store_id = $1", store_id)
        if store is None:
            return None
        removed = await _delete(connection, store, store, 0, LATEST_MS + 1)
        exclusions = await connection.fetchval(
            """
            with gone as (delete from exclusion where store_ids = array[$1::text] returning 1)
            select count(*) from gone
            """,
            store_id,
        )
        await connection.execute("delete from store where id = $1", store)
    return RemovedStore(store_id, removed.polls, int(exclusions), removed.newest_poll)


async def _delete(
    connection: asyncpg.Connection, low: int, high: int, first: int, end: int
) -> RemovedPolls:
    """Delete polls of the stores from one number to another, included."""
    whole_from, whole_to = -(-first // DAY_MS), end // DAY_MS  # days, the last one not included
    in_part = {first // DAY_MS, end // DAY_MS} - set(range(whole_from, whole_to))
    may_be_newest = await _may_have_newest(connection, low, high, first, end)
    removed = int(
        await connection.fetchval(
            """
            with gone as (
                delete from poll_day
                where day >= $1 and day < $2 and store between $4 and $5
                returning length(polls) / $3::integer as polls
            )
            select coalesce(sum(polls), 0) from gone
            """,
            *(whole_from, whole_to, WORD.itemsize, low, high),
        )
    )
    for day in in_part:
        removed += await _delete_from_day(connection, day, first, end, low, high)
    if removed and may_be_newest:
        await _find_newest(connection)
    newest = await newest_poll(connection)
    return RemovedPolls(removed, instant_of(newest))


async def _delete_from_day(
    connection: asyncpg.Connection, day: int, first: int, end: int, low: int, high: int
) -> int:
    removed, after = 0, low - 1
    while True:
        rows = await connection.fetch(
            """
            select store, polls from poll_day where day = $1 and store > $2 and store <= $4
            order by store limit $3
            """,
            *(day, after, _PAGE, high),
        )
        if not rows:
            return removed
        after = rows[-1]["store"]
        stored = PollDays(
            store=np.array([row["store"] for row in rows]),
            day=np.full(len(rows), day),
            size=np.array([len(row["polls"]) for row in rows]),
            packed=b"".join(row["polls"] for row in rows),
        )
        kept = await asyncio.to_thread(polls_outside, stored, first, end)
        gone = ~np.isin(stored.store, kept.store)
        await connection.execute(
            "delete from poll_day where day = $1 and store = any ($2::integer[])",
            day,
            stored.store[gone].tolist(),
        )
        shorter = kept.only(kept.size < stored.size[np.searchsorted(stored.store, kept.store)])
        await connection.execute(
            """
            update poll_day set polls = kept.polls
            from unnest($1::integer[], $2::integer[], $3::bytea[]) as kept (store, day, polls)
            where poll_day.store = kept.store and poll_day.day = kept.day
            """,
            *shorter.rows(),
        )
        removed += (len(stored.packed) - len(kept.packed)) // WORD.itemsize


async def _may_have_newest(
    connection: asyncpg.Connection, low: int, high: int, first: int, end: int
) -> bool:
    """Whether the newest poll of all may lie in a stretch of time and be of some stores."""
    known = await newest_poll(connection)
    if known is None or not first <= known < end:
        return False
    if low < high:
        return True
    # To find the newest again takes a look at every row, which most stores' polls are not worth.
    return bool(
        await connection.fetchval(
            """
            select exists (
                select from poll_day where store = $1 and day = $2
                    and packed_int4(polls, length(polls) / $3::integer - 1) >> 1 >= $4
            )
            """,
            *(low, known // DAY_MS, WORD.itemsize, known % DAY_MS),
        )
    )


async def _find_newest(connection: asyncpg.Connection) -> None:
    """Find the newest poll again: the one that was may be deleted."""
    await connection.execute("delete from newest_poll_row")
    await connection.execute(
        """
        insert into newest_poll_row (instant)
        select timestamptz '1970-01-01 00:00:00+00' + day * interval '24 hours'
            + (max(packed_int4(polls, length(polls) / $1::integer - 1)) >> 1)
                * interval '1 millisecond'
        from poll_day where day = (select max(day) from poll_day)
        group by day
        """,
        WORD.itemsize,
    )
