"""Rows of a feed that are known to be good → merged with what the database has."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import asyncpg
import numpy as np

from compute.axis import DAY_MS, Ints
from compute.business_hours import pack_weeks
from compute.feed_header import Feed
from service.feeds.history import Ingested
from service.feeds.poll_rows import note_newest, write_polls
from service.feeds.spool import Spool
from service.feeds.storing import patiently
from service.stores.packed import from_array_send

#: Stores that one statement makes or locks.
_STORES_AT_ONCE = 100_000


async def forget(
    connection: asyncpg.Connection, feed: Literal["business_hours", "timezones"], store_id: str
) -> None:
    """Remove what feeds said of a store's hours or zone; it is there, and locked."""
    forgetting = {
        "business_hours": "update store set business_hours = null where store_id = $1",
        "timezones": "update store set timezone = null where store_id = $1",
    }
    await connection.execute(forgetting[feed], store_id)


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
    """
    in_order, rank = await asyncio.to_thread(_in_order, stores)
    writers = {"polls": _write_polls, "business_hours": _write_hours, "timezones": _write_zones}
    counts = await writers[feed](connection, in_order, rank, names, spool)
    new, replaced, unchanged = counts.tolist()
    return Ingested(spool.rows, len(stores), new, replaced, unchanged)


def _in_order(stores: list[str]) -> tuple[list[str], Ints]:
    """Ids in the order of reports, and the rank of each id as given: int64[stores]."""
    in_order = sorted(stores)  # code points and UTF-8 bytes have the same order
    rank_of = {store_id: rank for rank, store_id in enumerate(in_order)}
    return in_order, np.fromiter(map(rank_of.__getitem__, stores), np.int64, count=len(stores))


async def make_stores(
    connection: asyncpg.Connection,
    store_ids: list[str],
    run: Callable[..., Awaitable[Any]] = patiently,
) -> Ints:
    """Make the stores that there are not yet: one exists as soon as a feed names it.

    Args:
        connection: in a transaction of `storing`
        store_ids: in their order, so that the polls of neighbours in a report become neighbours on
            disk; distinct, or not
        run: runs a statement, like `patiently`

    Returns:
        int64[new stores], their numbers in the database
    """
    made = [np.empty(0, dtype=np.int64)]
    for first in range(0, len(store_ids), _STORES_AT_ONCE):
        numbers = await run(
            connection,
            # `on conflict` is for those that another transaction makes meanwhile: for each, it uses
            # up a number.
            """
            with made as (
                insert into store (store_id)
                select store_id from unnest($1::text[]) with ordinality as named (store_id, ordinal)
                where not exists (select from store where store.store_id = named.store_id)
                order by ordinal
                on conflict (store_id) do nothing returning id
            )
            select array_send(array_agg(id)) from made
            """,
            store_ids[first : first + _STORES_AT_ONCE],
        )
        made.append(from_array_send(numbers))
    return np.concatenate(made)


async def lock_stores(connection: asyncpg.Connection, store_ids: list[str]) -> None:
    """Lock stores that there are, before their hours or zones are set.

    Args:
        connection: in a transaction of `storing`
        store_ids: in their order
    """
    for first in range(0, len(store_ids), _STORES_AT_ONCE):
        await patiently(
            connection,
            """
            with locked as (
                select id from store where store_id = any ($1::text[]) order by store_id for update
            )
            select count(*) from locked
            """,
            store_ids[first : first + _STORES_AT_ONCE],
        )


async def store_numbers(connection: asyncpg.Connection, store_ids: list[str]) -> Ints:
    """The numbers in the database of stores that there are."""
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


async def _write_hours(
    connection: asyncpg.Connection, store_ids: list[str], rank: Ints, names: list[str], spool: Spool
) -> Ints:
    """The week in the feed replaces the whole week of each store that the feed names."""
    await lock_stores(connection, store_ids)
    counts = np.zeros(3, dtype=np.int64)
    parts = spool.parts(rank)
    while (part := await asyncio.to_thread(next, parts, None)) is not None:
        first, last, rank_of_row, hours = part
        # Every store has a row.
        _, weeks = await asyncio.to_thread(pack_weeks, rank_of_row - first, hours)
        counts += await _set(connection, "business_hours", "bytea", store_ids[first:last], weeks)
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
        counts += await _set(connection, "timezone", "smallint", store_ids[first:last], zones)
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


async def _set(
    connection: asyncpg.Connection,
    column: Literal["business_hours", "timezone"],
    kind: Literal["bytea", "smallint"],
    store_ids: list[str],
    values: Sequence[bytes] | Sequence[int],
) -> Ints:
    """Set a column of each store; new stores are inserted with it, which saves half of the time.

    Those that there are must be locked.

    Returns:
        int64[3], how many had none, another one and the same
    """
    while True:
        await connection.execute("savepoint setting")
        counts: list[int] | None = await patiently(
            connection,
            f"""
            with given as (
                select named.*, store.id, store.{column} as known
                from unnest($1::text[], $2::{kind}[])
                    with ordinality as named (store_id, value, ordinal)
                left join store on store.store_id = named.store_id
            ), added as (
                insert into store (store_id, {column})
                select store_id, value from given where id is null order by ordinal
                on conflict (store_id) do nothing returning id
            ), written as (
                update store set {column} = given.value from given
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
            """,  # noqa: S608 - column and kind are named above
            store_ids,
            values,
        )
        if counts is not None:
            await connection.execute("release setting")
            return np.array(counts, dtype=np.int64)
        # Another transaction has made one of the new stores meanwhile: now it is there, and locked
        # like the others.
        await connection.execute("rollback to setting")
        await lock_stores(connection, store_ids)
