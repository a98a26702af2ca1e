"""Take the polls of a stretch of time away, of all stores: the way back from a poller's bad clock.

Polls dated in the future move `as_of` of every default report there. Deleting them, and finding the
newest of those that remain, puts it right.
"""

import asyncio
from datetime import datetime
from typing import Annotated

import asyncpg
import msgspec
import numpy as np
from msgspec import Meta

from compute.axis import DAY_MS
from compute.instants import instant_of
from compute.polls import PollDays, polls_outside
from service.database.pool import transaction
from service.feeds.turn import turn
from service.stores.polls import newest_poll

#: Rows of a day that is deleted in part that are looked at together: some tens of megabytes.
_PAGE = 20_000


class RemovedPolls(msgspec.Struct, frozen=True):
    """What became of the polls of a stretch of time."""

    polls: Annotated[int, Meta(ge=0, description="How many were deleted.")]
    newest_poll: Annotated[
        datetime | None,
        Meta(
            description="The instant of the newest that remains, over all stores; null: none does."
        ),
    ]


async def count_polls(pool: asyncpg.Pool, first: int, end: int) -> int:
    """How many polls `delete_polls` would delete, as far as whole days tell: at the most so many.

    Args:
        pool: the database
        first: milliseconds since 1970-01-01 UTC
        end: the same, not included
    """
    count = "select coalesce(sum(length(polls) / 4), 0) from poll_day where day between $1 and $2"
    # A connection that died without a word would be waited for as long as for a feed's storing.
    async with asyncio.timeout(pool.waits.turn or None), transaction(pool) as connection:
        return int(await connection.fetchval(count, first // DAY_MS, (end - 1) // DAY_MS))


async def delete_polls(pool: asyncpg.Pool, first: int, end: int) -> RemovedPolls:
    """Delete all polls from one instant to before another, all or none of them.

    Doing it twice deletes nothing more. Reports that are completed stay as they are.

    Args:
        pool: the database
        first: milliseconds since 1970-01-01 UTC
        end: the same, not included; after `first`
    """
    whole_from, whole_to = -(-first // DAY_MS), end // DAY_MS  # days, the last one not included
    rows = await count_polls(pool, first, end)
    in_part = {first // DAY_MS, end // DAY_MS} - set(range(whole_from, whole_to))
    async with turn(pool, rows) as connection:
        removed = int(
            await connection.fetchval(
                """
                with gone as (
                    delete from poll_day where day >= $1 and day < $2
                    returning length(polls) / 4 as polls
                )
                select coalesce(sum(polls), 0) from gone
                """,
                whole_from,
                whole_to,
            )
        )
        for day in in_part:
            removed += await _delete_from_day(connection, day, first, end)
        await _find_newest(connection, first, end)
        newest = await newest_poll(connection)
    return RemovedPolls(removed, None if newest is None else instant_of(newest))


async def _delete_from_day(connection: asyncpg.Connection, day: int, first: int, end: int) -> int:
    removed, after = 0, 0
    while True:
        rows = await connection.fetch(
            """
            select store, polls from poll_day where day = $1 and store > $2
            order by store limit $3
            """,
            *(day, after, _PAGE),
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
        shorter = kept.size < stored.size[np.searchsorted(stored.store, kept.store)]
        await connection.execute(
            """
            update poll_day set polls = kept.polls
            from unnest($1::integer[], $2::integer[], $3::bytea[]) as kept (store, day, polls)
            where poll_day.store = kept.store and poll_day.day = kept.day
            """,
            *kept.rows(shorter),
        )
        removed += (len(stored.packed) - len(kept.packed)) // 4


async def _find_newest(connection: asyncpg.Connection, first: int, end: int) -> None:
    """Look for the newest poll again, if it was one of those."""
    known = await newest_poll(connection)
    if known is None or not first <= known < end:
        return
    await connection.execute("delete from newest_poll")
    await connection.execute(
        """
        insert into newest_poll (instant)
        select timestamptz '1970-01-01 00:00:00+00' + day * interval '24 hours'
            + (max(packed_int4(polls, length(polls) / 4 - 1)) >> 1) * interval '1 millisecond'
        from poll_day where day = (select max(day) from poll_day)
        group by day
        """
    )
