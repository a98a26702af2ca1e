"""Rows of `poll_day` as a large feed writes them: its polls, merged with those that are stored."""

import asyncio
from dataclasses import replace

import asyncpg
import numpy as np
import numpy.typing as npt

from compute.axis import Ints
from compute.instants import instant_of
from compute.polls import PollDays, merge_polls, pack_polls, unpack_polls
from service.feeds.storing import patiently
from service.stores.packed import from_array_send, indexes_of
from service.stores.polls import copy_polls, poll_days

Flags = npt.NDArray[np.bool_]


async def write_polls(
    connection: asyncpg.Connection, number: Ints, made: Ints, store: Ints, poll: Ints
) -> Ints:
    """Merge polls of some stores with those that are stored.

    Args:
        connection: in a transaction of `storing`
        number: int64[stores], the stores' numbers in the database, in the order of their ids
        made: numbers of stores that this transaction made
        store: int64[n], index into `number` of each poll, in order of arrival
        poll: int64[n], as `pack_polls` takes it

    Returns:
        int64[3], how many were new, replaced and unchanged
    """
    arrived = await asyncio.to_thread(pack_polls, store, poll)
    unseen = np.isin(number[arrived.store], made)
    new = arrived.only(unseen)  # and nobody else can add them: nobody sees these stores
    await copy_polls(connection, replace(new, store=number[new.store]))
    counts = np.array([new.polls, 0, 0])
    if unseen.all():
        return counts
    arrived = arrived.only(~unseen)
    added = await _add_or_lock(connection, number, arrived)
    counts[0] += arrived.only(added).polls
    if not added.all():
        counts += await _merge(connection, number, arrived.only(~added))
    return counts


async def _add_or_lock(connection: asyncpg.Connection, number: Ints, arrived: PollDays) -> Flags:
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
        *_in_database(number, arrived),
    )
    keys = (number[arrived.store] << 32) + arrived.day
    is_added: Flags = np.isin(keys, from_array_send(added, ">i8"))
    return is_added


async def _merge(connection: asyncpg.Connection, number: Ints, arrived: PollDays) -> Ints:
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
            number[arrived.store].tolist(),
            arrived.day.tolist(),
        )
    )
    stored = replace(stored, store=indexes_of(number, stored.store))
    merged = await asyncio.to_thread(merge_polls, stored, *unpack_polls(arrived))
    await connection.execute(
        # An `update` would be a join, for which outdated statistics may lead to a bad plan.
        """
        insert into poll_day (store, day, polls)
        select * from unnest($1::integer[], $2::integer[], $3::bytea[])
        on conflict (store, day) do update set polls = excluded.polls
        """,
        *_in_database(number, merged.days.only(merged.changed)),
    )
    counts: Ints = merged.counts[0]
    return counts


def _in_database(number: Ints, days: PollDays) -> tuple[list[int], list[int], list[bytes]]:
    """Stores' numbers, days and packed polls."""
    return replace(days, store=number[days.store]).rows()


async def note_newest(connection: asyncpg.Connection, poll: int) -> None:
    """Note the newest poll of those that a transaction adds."""
    await connection.execute("select note_newest_poll($1)", instant_of(poll >> 1))
