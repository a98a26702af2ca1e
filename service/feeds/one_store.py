"""What a request sets of one store, as a feed would."""

from collections.abc import Awaitable, Callable
from typing import cast

import asyncpg

from compute.feed_header import Feed
from compute.feed_rows import FeedRows
from service import counts
from service.feeds.ingest import checked_rows
from service.feeds.merge import merge
from service.feeds.store_rows import lock_stores, make_stores
from service.feeds.storing import storing
from service.stores.known import KnownStore, read_store


async def set_of_store(
    pool: asyncpg.Pool,
    feed: Feed,
    store_id: str,
    rows: FeedRows | None,
    check: Callable[[KnownStore | None], None],
    forget: Callable[[asyncpg.Connection, str], Awaitable[None]] | None = None,
) -> KnownStore:
    """Set what feeds say of one store as a feed would, if a check of what is known of it passes.

    The check, the write and the result are of one transaction, and nobody else sets the same of
    the store in between.

    Args:
        pool: the database
        feed: what is set
        store_id: the store; a new one is made, unless the check does not pass
        rows: of this store alone; None: none
        check: gets what is known of the store, or None; what it raises is passed on
        forget: removes what feeds said of the store, given its id, before the rows are merged

    Returns:
        what is known of the store then

    Raises:
        FeedRefused: something is wrong with the rows
    """
    checked = None if rows is None else checked_rows(feed, rows)
    async with storing(pool) as connection:
        made = await make_stores(connection, [store_id])
        await lock_stores(connection, [store_id])
        check(None if len(made) else await read_store(connection, store_id))
        if forget is not None:
            await forget(connection, store_id)
        if checked is not None:
            await merge(connection, *checked)
        written = cast(KnownStore, await read_store(connection, store_id))  # it is there now
    counts.INGEST_ROWS[feed] += 0 if checked is None else checked.spool.rows
    return written
