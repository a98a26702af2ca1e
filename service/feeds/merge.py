"""Rows of a feed that are known to be good → merged with what the database has."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import asyncpg
import numpy as np

from compute.axis import DAY_MS, Ints
from compute.feed_header import Feed
from service.feeds.history import Ingested
from service.feeds.spool import Spool
from service.feeds.store_rows import add_or_set, lock_stores, numbers_of_stores
from service.feeds.storing import patiently
from service.stores.polls import polls_kept_since

#: Connection, ids in the order of reports, rank of each, names, and the rows → how many were new,
#: replaced, unchanged and, of some feeds, taken away.
Writer: TypeAlias = Callable[
    [asyncpg.Connection, list[str], Ints, list[str], Spool], Awaitable[Ints]
]


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
        FeedRefused: rows of a store contradict each other, it would have too much, or polls are
            older than any are kept; what was written of the feed has to be rolled back
    """
    in_order, rank = await asyncio.to_thread(_in_order, stores)
    counts = await _writer(feed)(connection, in_order, rank, names, spool)
    named = len(stores)
    if feed == "exclusions":
        from service.feeds.exclusions import count_named

        named = count_named(stores)
    return Ingested(spool.rows, named, *counts.tolist())


def _writer(feed: Feed) -> Writer:
    """What writes the rows of a feed: loaded only now, as a small command needs one of them."""
    match feed:
        case "polls":
            return _write_polls
        case "business_hours":
            from service.feeds.hours import write_hours

            return write_hours
        case "timezones":
            return _write_zones
        case "special_hours":
            from service.feeds.special_hours import write_special_hours

            return write_special_hours
        case "exclusions":
            from service.feeds.exclusions import write_exclusions

            return write_exclusions
        case "stores":
            from service.feeds.store_tags import write_stores

            return write_stores


def _in_order(stores: list[str]) -> tuple[list[str], Ints]:
    """Ids in the order of reports, and the rank of each id as given: int64[stores]."""
    in_order = sorted(stores)  # code points and UTF-8 bytes have the same order
    rank_of = {store_id: rank for rank, store_id in enumerate(in_order)}
    return in_order, np.fromiter(map(rank_of.__getitem__, stores), np.int64, count=len(stores))


async def _write_polls(
    connection: asyncpg.Connection, store_ids: list[str], rank: Ints, names: list[str], spool: Spool
) -> Ints:
    from service.feeds.kept_polls import check_kept
    from service.feeds.poll_rows import ArrivedPolls, note_newest, write_polls

    # Polls are merged day by day, so the days of a store may be in different parts.
    parts = spool.parts(rank, apart=2 * DAY_MS)

    async def next_part() -> tuple[int, int, ArrivedPolls] | None:
        part = await asyncio.to_thread(next, parts, None)
        if part is None:
            return None
        first, last, rank_of_row, poll = part
        return first, last, ArrivedPolls(last - first, rank_of_row - first, poll)

    ahead = asyncio.create_task(next_part())
    numbers = await numbers_of_stores(connection, store_ids)
    counts = np.zeros(3, dtype=np.int64)
    newest: int | None = None
    kept_since = await polls_kept_since(connection)
    while (part := await ahead) is not None:
        first, last, arrived = part
        store, oldest = arrived.oldest
        check_kept(kept_since, store_ids[first + store], oldest)
        counts += await write_polls(connection, numbers[first:last], arrived)
        newest = arrived.newest if newest is None else max(newest, arrived.newest)
        del part, arrived  # two parts at once would be too much memory
        ahead = asyncio.create_task(next_part())
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
        ), written as (
            update store set timezone = given.value from given
            where store.id = given.id and given.known is distinct from given.value
        )
        select array[
            count(*) filter (where known is null),
            count(*) filter (where known <> value),
            count(*) filter (where known = value)
        ]
        from given
        """,
        store_ids,
        zones,
    )
