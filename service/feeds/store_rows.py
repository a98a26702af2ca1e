"""Rows of `store`: made as soon as a feed names them, and locked before what they say is set."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import numpy as np

from compute.axis import Ints
from service.feeds.storing import patiently
from service.stores.packed import from_array_send

#: Stores that one statement makes or locks.
_STORES_AT_ONCE = 100_000


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


async def hold_stores(connection: asyncpg.Connection, store_ids: list[str]) -> None:
    """Lock stores, and make those that there are not yet.

    Those that there are first, as `add_or_set` has them locked before it adds others: two that do
    it the other way round would wait for each other.

    Args:
        connection: in a transaction of `storing`
        store_ids: in their order
    """
    await lock_stores(connection, store_ids)
    await make_stores(connection, store_ids)
    await lock_stores(connection, store_ids)  # those that somebody else has made meanwhile


async def numbers_of_stores(
    connection: asyncpg.Connection,
    store_ids: list[str],
    run: Callable[..., Awaitable[Any]] = patiently,
) -> Ints:
    """The numbers in the database of stores; those that there are not yet are made.

    Args:
        connection: in a transaction of `storing`
        store_ids: in their order; distinct, or not
        run: runs a statement, like `patiently`

    Returns:
        int64[stores]
    """
    number = await _known_numbers(connection, store_ids)
    missing = np.flatnonzero(number == 0)
    if len(missing):
        named = [store_ids[index] for index in missing.tolist()]
        await make_stores(connection, named, run)
        number[missing] = await _known_numbers(connection, named)
    return number


async def _known_numbers(connection: asyncpg.Connection, store_ids: list[str]) -> Ints:
    """The number of each store, 0 if there is none."""
    numbers = [np.empty(0, dtype=np.int64)]
    for first in range(0, len(store_ids), _STORES_AT_ONCE):
        sent = await connection.fetchval(
            """
            select array_send(array_agg(coalesce(store.id, 0) order by ordinal))
            from unnest($1::text[]) with ordinality as named (store_id, ordinal)
            left join store on store.store_id = named.store_id
            """,
            store_ids[first : first + _STORES_AT_ONCE],
        )
        numbers.append(from_array_send(sent))
    return np.concatenate(numbers)


async def add_or_set(
    connection: asyncpg.Connection, statement: str, store_ids: list[str], *values: Any
) -> list[int]:
    """Set something of stores; new ones are inserted with it, which saves half of the time.

    Args:
        connection: in a transaction of `storing`
        statement: inserts as if nobody else made stores meanwhile: `on conflict` would take twice
            as long
        store_ids: its first argument, in their order; those that there are must be locked
        values: its other arguments

    Returns:
        what the statement gives
    """
    while True:
        await connection.execute("savepoint setting")
        try:
            counts: list[int] = await patiently(connection, statement, store_ids, *values)
        except asyncpg.UniqueViolationError:  # somebody else has made one of them
            await connection.execute("rollback to setting")
            await lock_stores(connection, store_ids)  # now they are all there
            continue
        await connection.execute("release setting")
        return counts
