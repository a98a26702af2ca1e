"""Rows of a feed that are known to be good → merged with what the database has."""

import asyncio

import asyncpg
import numpy as np

from compute.axis import DAY_MS, Ints
from compute.feed_header import Feed
from service.feeds.exclusions import count_named, write_exclusions
from service.feeds.history import Ingested
from service.feeds.hours import write_hours
from service.feeds.poll_rows import note_newest, write_polls
from service.feeds.special_hours import write_special_hours
from service.feeds.spool import Spool
from service.feeds.store_rows import add_or_set, lock_stores, make_stores, store_numbers
from service.feeds.store_tags import write_stores
from service.feeds.storing import patiently


async def merge(
    connection: asyncpg.Connection, feed: Feed, stores: list[str], names: list[str], spool: Spool
) -> Ingested:
    """Merge the rows that were set aside into the database, part by part, in the order of reports.

    Args:
        connection: in a transaction of `storing`
        feed: what the rows are about
        stores: ids; the number of a store in the spool is its index here
        names: of time zones; a zone's value in the spool is its index here; else empty
        spool: the rows

    Raises:
        FeedRefused: rows of a store contradict each other, or it would have too much; what was
            written of the feed has to be rolled back
    """
    in_order, rank = await asyncio.to_thread(_in_order, stores)
    writers = {
        "polls": _write_polls,
        "business_hours": write_hours,
        "timezones": _write_zones,
        "special_hours": write_special_hours,
        "exclusions": write_exclusions,
        "stores": write_stores,
    }
    counts = await writers[feed](connection, in_order, rank, names, spool)
    named = len(stores) if feed != "exclusions" else count_named(stores)
    return Ingested(spool.rows, named, *counts.tolist())


def _in_order(stores: list[str]) -> tuple[list[str], Ints]:
    """Ids in the order of reports, and the rank of each id as given: int64[stores]."""
    in_order = sorted(stores)  # code points and UTF-8 bytes have the same order
    rank_of = {store_id: rank for rank, store_id in enumerate(in_order)}
    return in_order, np.fromiter(map(rank_of.__getitem__, stores), np.int64, count=len(stores))


async def _write_polls(
    connection: asyncpg.Connection, store_ids: list[str], rank: Ints, names: list[str], spool: Spool
) -> Ints:
    await make_stores(connection, store_ids)
    counts = np.zeros(3, dtype=np.int64)
    newest: int | None = None
    # Polls are merged day by day, so the days of a store may be in different parts.
    parts = spool.parts(rank, apart=2 * DAY_MS)
    while (part := await asyncio.to_thread(next, parts, None)) is not None:
        first, last, rank_of_row, poll = part
        number = await store_numbers(connection, store_ids[first:last])
        counts += await write_polls(connection, number, rank_of_row - first, poll)
        newest = max(int(poll.max()), newest if newest is not None else int(poll.max()))
    if newest is not None:
        await note_newest(connection, newest)
    return counts


async def _write_zones(
    connection: asyncpg.Connection,
    store_ids: list[str],
    rank: Ints,
    names: list[str],
    spool: Spool,
) -> Ints:
    """The last row of each store that the feed names replaces the store's zone."""
    number_of = await _zone_numbers(connection, names)
    await lock_stores(connection, store_ids)
    counts = np.zeros(3, dtype=np.int64)
    parts = spool.parts(rank)
    while (part := await asyncio.to_thread(next, parts, None)) is not None:
        first, last, rank_of_row, zone = part
        # Every store has a row.
        _, at = np.unique(rank_of_row[::-1], return_index=True)
        zones = number_of[zone[::-1][at]].tolist()
        counts += await _set_zones(connection, store_ids[first:last], zones)
    return counts


async def _zone_numbers(connection: asyncpg.Connection, names: list[str]) -> Ints:
    """The numbers in the database of time zones."""
    await patiently(
        connection,
        """
        with added as (
            insert into timezone (name)
            select name from unnest($1::text[]) as given (name)
            where not exists (select from timezone where timezone.name = given.name)
            order by name
            on conflict (name) do nothing returning id
        )
        select count(*) from added
        """,
        names,
    )
    number = dict(await connection.fetch("select name, id from timezone"))
    return np.array([number[name] for name in names], dtype=np.int64)


async def _set_zones(
    connection: asyncpg.Connection, store_ids: list[str], zones: list[int]
) -> list[int]:
    """Set the zone of stores; those that there are must be locked.

    Returns:
        how many had none, another one and the same
    """
    return await add_or_set(
        connection,
        """
        with given as (
            select named.*, store.id, store.timezone as known
            from unnest($1::text[], $2::smallint[])
                with ordinality as named (store_id, value, ordinal)
            left join store on store.store_id = named.store_id
        ), added as (
            insert into store (store_id, timezone)
            select store_id, value from given where id is null order by ordinal
            on conflict (store_id) do nothing returning id
        ), written as (
            update store set timezone = given.value from given
            where store.id = given.id and given.known is distinct from given.value
        )
        select case
            when (select count(*) from added) = count(*) filter (where id is null)
            then array[
                count(*) filter (where known is null),
                count(*) filter (where known <> value),
                count(*) filter (where known = value)
            ]
        end
        from given
        """,
        store_ids,
        zones,
    )
