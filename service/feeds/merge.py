"""Rows of a feed that are known to be good → merged with what the database has."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Literal

import asyncpg
import numpy as np

from compute.axis import DAY_MS, Ints
from compute.business_hours import pack_weeks
from compute.feed_header import Feed
from compute.instants import instant_of
from compute.polls import merge_polls, pack_polls
from service.feeds.history import Ingested
from service.feeds.spool import Spool
from service.stores.packed import from_array_send
from service.stores.polls import poll_days


async def forget(
    connection: asyncpg.Connection, feed: Literal["business_hours", "timezones"], store_id: str
) -> None:
    """Remove what feeds said of a store's hours or zone."""
    forgetting = {
        "business_hours": "update store set business_hours = null where id = $1",
        "timezones": "update store set timezone = null where id = $1",
    }
    [number] = (await _store_numbers(connection, [store_id])).tolist()
    await connection.execute(forgetting[feed], number)


async def merge(
    connection: asyncpg.Connection, feed: Feed, stores: list[str], names: list[str], spool: Spool
) -> Ingested:
    """Merge the rows that were set aside into the database, part by part, in the order of reports.

    Args:
        connection: in the transaction whose turn it is
        feed: what the rows are about
        stores: ids; the number of a store in the spool is its index here
        names: of time zones; a zone's value in the spool is its index here; else empty
        spool: the rows
    """
    in_order, rank = await asyncio.to_thread(_in_order, stores)
    writers: dict[Feed, Callable[..., Awaitable[tuple[int, int, int]]]] = {
        "polls": _write_polls,
        "business_hours": _write_hours,
        "timezones": partial(_write_zones, names),
    }
    counts = np.zeros(3, dtype=np.int64)
    # Polls are merged day by day, so the days of a store may be in different parts.
    parts = spool.parts(rank, apart=2 * DAY_MS if feed == "polls" else None)
    while (part := await asyncio.to_thread(next, parts, None)) is not None:
        first, last, rank_of_row, value = part
        counts += await writers[feed](connection, in_order[first:last], rank_of_row - first, value)
    new, replaced, unchanged = counts.tolist()
    return Ingested(spool.rows, len(stores), new, replaced, unchanged)


def _in_order(stores: list[str]) -> tuple[list[str], Ints]:
    """Ids in the order of reports, and the rank of each id as given: int64[stores]."""
    in_order = sorted(stores)  # code points and UTF-8 bytes have the same order
    rank_of = {store_id: rank for rank, store_id in enumerate(in_order)}
    return in_order, np.fromiter(map(rank_of.__getitem__, stores), np.int64, count=len(stores))


async def _store_numbers(connection: asyncpg.Connection, store_ids: list[str]) -> Ints:
    """The stores' numbers in the database; a store exists as soon as a feed names it."""
    await connection.execute(
        # In order of their ids, so that the polls of neighbours in a report are neighbours on disk.
        """
        insert into store (store_id)
        select store_id from unnest($1::text[]) with ordinality as named (store_id, ordinal)
        where not exists (select from store where store.store_id = named.store_id)
        order by ordinal
        """,
        store_ids,
    )
    numbers = await connection.fetchval(
        """
        select array_send(array_agg(store.id order by ordinal))
        from unnest($1::text[]) with ordinality as named (store_id, ordinal)
        join store on store.store_id = named.store_id
        """,
        store_ids,
    )
    return from_array_send(numbers)


async def _write_polls(
    connection: asyncpg.Connection, store_ids: list[str], store: Ints, poll: Ints
) -> tuple[int, int, int]:
    number = await _store_numbers(connection, store_ids)
    arrived = await asyncio.to_thread(pack_polls, number[store], poll)
    stored = await connection.fetchrow(
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
    merged = await asyncio.to_thread(merge_polls, poll_days(stored), arrived)
    await connection.copy_records_to_table(
        "poll_day",
        records=zip(*merged.days.rows(merged.changed & ~merged.known), strict=True),
        columns=["store", "day", "polls"],
    )
    await connection.execute(
        # An `update` would be a join, for which outdated statistics may lead to a bad plan.
        """
        insert into poll_day (store, day, polls)
        select * from unnest($1::integer[], $2::integer[], $3::bytea[])
        on conflict (store, day) do update set polls = excluded.polls
        """,
        *merged.days.rows(merged.changed & merged.known),
    )
    await connection.execute(
        """
        insert into newest_poll as known (instant) values ($1)
        on conflict (only_row) do update set instant = excluded.instant
        where known.instant < excluded.instant
        """,
        instant_of(int(poll.max()) >> 1),
    )
    return merged.new, merged.replaced, merged.unchanged


async def _write_hours(
    connection: asyncpg.Connection, store_ids: list[str], store: Ints, hours: Ints
) -> tuple[int, int, int]:
    """The week in the feed replaces the whole week of each store that the feed names."""
    _, weeks = await asyncio.to_thread(pack_weeks, store, hours)  # every store has a row
    return await _set(connection, "business_hours", "bytea", store_ids, weeks)


async def _write_zones(
    names: list[str],
    connection: asyncpg.Connection,
    store_ids: list[str],
    store: Ints,
    zone: Ints,
) -> tuple[int, int, int]:
    """The last row of each store that the feed names replaces the store's zone."""
    _, last = np.unique(store[::-1], return_index=True)  # every store has a row
    given = [names[number] for number in zone[::-1][last].tolist()]
    await connection.execute(
        """
        insert into timezone (name) select distinct name from unnest($1::text[]) as given (name)
        where not exists (select from timezone where timezone.name = given.name)
        """,
        given,
    )
    number = dict(await connection.fetch("select name, id from timezone"))
    zones = [number[name] for name in given]
    return await _set(connection, "timezone", "smallint", store_ids, zones)


async def _set(
    connection: asyncpg.Connection,
    column: Literal["business_hours", "timezone"],
    kind: Literal["bytea", "smallint"],
    store_ids: list[str],
    values: Sequence[bytes] | Sequence[int],
) -> tuple[int, int, int]:
    """Set a column of each store; new stores are inserted with it, which saves half of the time."""
    counts: tuple[int, int, int] = await connection.fetchrow(
        f"""
        with given as (
            select named.*, store.id, store.{column} as known
            from unnest($1::text[], $2::{kind}[])
                with ordinality as named (store_id, value, ordinal)
            left join store on store.store_id = named.store_id
        ), added as (
            insert into store (store_id, {column})
            select store_id, value from given where id is null order by ordinal
        ), written as (
            update store set {column} = given.value from given
            where store.id = given.id and given.known is distinct from given.value
        )
        select count(*) filter (where known is null),
               count(*) filter (where known <> value),
               count(*) filter (where known = value)
        from given
        """,  # noqa: S608 - column and kind are named above
        store_ids,
        values,
    )
    return counts
