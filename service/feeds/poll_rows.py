"""Rows of `poll_day` as a large feed writes them: its polls, merged with those that are stored."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import pairwise

import asyncpg
import numpy as np
import numpy.typing as npt

from compute.axis import DAY_MS, Ints
from compute.instants import instant_of
from compute.polls import PollDays, merge_polls, pack_polls, unpack_polls
from service.feeds.storing import patiently
from service.stores.packed import from_array_send
from service.stores.polls import copy_polls, poll_days

#: About how many polls are packed together, and by how many threads at the same time.
_SLICE, _PACKED_AT_ONCE = 250_000, 2

Flags = npt.NDArray[np.bool_]


async def write_polls(
    connection: asyncpg.Connection, number: Ints, store: Ints, poll: Ints
) -> Ints:
    """Merge polls of some stores with those that are stored.

    Args:
        connection: in a transaction of `storing`
        number: int64[stores], the stores' numbers in the database, in the order of their ids
        store: int64[n], index into `number` of each poll, in order of arrival
        poll: int64[n], as `pack_polls` takes it

    Returns:
        int64[3], how many were new, replaced and unchanged
    """
    packing = _pack(number, store, poll)
    try:
        if not await _is_any_stored(connection, number, store, poll):
            copied = await _copy(connection, packing)
            if copied is not None:
                return np.array([copied, 0, 0])
        counts = np.zeros(3, dtype=np.int64)
        for one in packing:
            counts += await _add_or_merge(connection, await one)
        return counts
    finally:
        for one in packing:
            one.cancel()


def _pack(number: Ints, store: Ints, poll: Ints) -> "list[asyncio.Task[PollDays]]":
    """Polls of some stores after the other, packed; the first ones soonest.

    While some are written, the next are packed: that takes about as long, on another core.
    """
    turn = asyncio.Semaphore(_PACKED_AT_ONCE)
    slices = -(-len(poll) // _SLICE)
    edges = [slice_ * len(number) // slices for slice_ in range(slices + 1)]

    def pack(first: int, last: int) -> PollDays:
        some = slice(None) if slices == 1 else (store >= first) & (store < last)
        packed = pack_polls(store[some], poll[some])
        return replace(packed, store=number[packed.store])

    async def packed(first: int, last: int) -> PollDays:
        async with turn:
            return await asyncio.to_thread(pack, first, last)

    return [asyncio.create_task(packed(first, last)) for first, last in pairwise(edges)]


async def _is_any_stored(
    connection: asyncpg.Connection, number: Ints, store: Ints, poll: Ints
) -> bool:
    """Whether anything is stored of these stores on these days, from the first to the last."""
    is_any: bool = await connection.fetchval(
        """
        select exists (
            select from unnest($1::integer[]) as arrived (store)
            cross join lateral (
                select from poll_day
                where poll_day.store = arrived.store and day between $2 and $3 limit 1
            ) as stored
        )
        """,
        number[np.flatnonzero(np.bincount(store))].tolist(),
        int(poll.min()) // (2 * DAY_MS),
        int(poll.max()) // (2 * DAY_MS),
    )
    return is_any


async def _copy(
    connection: asyncpg.Connection, packing: "Sequence[asyncio.Task[PollDays]]"
) -> int | None:
    """Add rows as they are packed: the fastest way, for which none may be stored.

    Returns:
        polls; None: another transaction has added one of the rows, so nothing was added
    """
    polls = 0

    async def packed() -> AsyncIterator[PollDays]:
        nonlocal polls
        for one in packing:
            days = await one
            polls += days.polls
            yield days

    await connection.execute("savepoint copying")
    try:
        await copy_polls(connection, packed())
    except (asyncpg.UniqueViolationError, asyncpg.LockNotAvailableError):
        await connection.execute("rollback to copying")
        return None
    await connection.execute("release copying")
    return polls


async def _add_or_merge(connection: asyncpg.Connection, arrived: PollDays) -> Ints:
    """Add the rows that there are not yet, and merge the others.

    Returns:
        int64[3], how many polls were new, replaced and unchanged
    """
    added = await _add_or_lock(connection, arrived)
    counts = np.array([arrived.only(added).polls, 0, 0])
    if not added.all():
        counts += await _merge(connection, arrived.only(~added))
    return counts


async def _add_or_lock(connection: asyncpg.Connection, arrived: PollDays) -> Flags:
    """Add the rows that there are not yet, and lock the others, all in one order.

    Returns:
        bool[rows], which were added
    """
    added = await patiently(
        connection,
        # Rows for which the condition is false are locked all the same.
        """
        with added as (
            insert into poll_day (store, day, polls)
            select * from unnest($1::integer[], $2::integer[], $3::bytea[])
            on conflict (store, day) do update set polls = excluded.polls where false
            returning (store::bigint << 32) + day as store_day
        )
        select array_send(array_agg(store_day)) from added
        """,
        *arrived.rows(),
    )
    keys = (arrived.store << 32) + arrived.day
    is_added: Flags = np.isin(keys, from_array_send(added, ">i8"))
    return is_added


async def _merge(connection: asyncpg.Connection, arrived: PollDays) -> Ints:
    """Merge polls into rows that are locked.

    Returns:
        int64[3], how many were new, replaced and unchanged
    """
    stored = poll_days(
        await connection.fetchrow(
            """
            select string_agg(polls, '') as polls,
                   array_send(array_agg((store::bigint << 32) + day)) as store_day,
                   array_send(array_agg(length(polls))) as size
            from unnest($1::integer[], $2::integer[]) as arrived (store, day)
            join poll_day using (store, day)
            """,
            arrived.store.tolist(),
            arrived.day.tolist(),
        )
    )
    merged = await asyncio.to_thread(merge_polls, stored, *unpack_polls(arrived))
    await connection.execute(
        # An `update` would be a join, for which outdated statistics may lead to a bad plan.
        """
        insert into poll_day (store, day, polls)
        select * from unnest($1::integer[], $2::integer[], $3::bytea[])
        on conflict (store, day) do update set polls = excluded.polls
        """,
        *merged.days.only(merged.changed).rows(),
    )
    counts: Ints = merged.counts[0]
    return counts


async def note_newest(connection: asyncpg.Connection, poll: int) -> None:
    """Note the newest poll of those that a transaction adds."""
    await connection.execute("select note_newest_poll($1)", instant_of(poll >> 1))
