"""All stores as they were at one moment, in pages of columns for the kernel: what a report reads.

The database itself gathers the rows of a page into a few long values: arrays as `array_send` writes
them, and packed polls joined by `string_agg`. No Python code runs once per row.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeAlias

import asyncpg
import msgspec

from compute.axis import Ints
from compute.polls import WORD, PollDays
from compute.zones import StoresInZone
from service.database.pool import transaction
from service.stores.packed import from_array_send
from service.stores.polls import newest_poll, read_polls

#: Batches of about this size make costs per batch negligible, and fit into the cache of a core.
_POLLS_PER_BATCH = 100_000
#: Stores of the first batch, before it is known how many polls a store has, and of any batch.
_FIRST_BATCH, _LARGEST_BATCH = 256, 4096
#: Connections that read the polls of one report.
_READERS = 2
#: The tables that a report reads.
_TABLES = "store, timezone, poll_day, newest_poll"
#: Pause before the tables are locked again, while something else needs one of them for itself.
_RETRY_SECONDS = 0.05


class StoreColumns(msgspec.Struct, frozen=True):
    """A page of stores, column by column, in byte order of their ids.

    Attributes:
        id: int64[stores], their numbers in the database
        store_ids: UTF-8 ids, joined
        id_size: int64[stores], bytes of each id
        hours: packed business hours, joined
        hours_size: int64[stores], bytes of hours of each store
        timezone: int64[stores], number of its zone in the database, 0: none given
    """

    id: Ints
    store_ids: bytes
    id_size: Ints
    hours: bytes
    hours_size: Ints
    timezone: Ints


Readers: TypeAlias = "asyncio.Queue[asyncpg.Connection]"


class Snapshot:
    """All stores as they were at one moment, on several connections."""

    def __init__(self, lead: asyncpg.Connection, readers: Readers) -> None:
        self._lead = lead
        self._readers = readers
        self._polls_per_store = _POLLS_PER_BATCH / _FIRST_BATCH

    async def newest_poll(self) -> int | None:
        """The newest poll's instant over all stores, milliseconds since 1970-01-01 UTC."""
        return await newest_poll(self._lead)

    async def count_stores(self, named: Sequence[str] | None = None) -> int:
        """How many stores there are in all, or how many of these ids."""
        if named is None:
            return int(await self._lead.fetchval("select count(*) from store"))
        count = "select count(*) from store where store_id = any ($1::text[])"
        return int(await self._lead.fetchval(count, named))

    async def zone_names(self) -> dict[int, str]:
        """IANA names by their number in the database, including zones that no store is in."""
        return dict(await self._lead.fetch("select id, name from timezone"))

    async def stores_in(
        self, zones: Sequence[int], named: Sequence[str] | None = None
    ) -> list[StoresInZone]:
        """Those zones, out of the given ones, that have stores, in the order of their names.

        Args:
            zones: their numbers in the database
            named: ids of the stores that count; None: all
        """
        rows = await self._lead.fetch(
            """
            select timezone.name, count(*), min(store_id)
            from store join timezone on timezone.id = store.timezone
            where store.timezone = any ($1::smallint[])
                and ($2::text[] is null or store_id = any ($2))
            group by timezone.name order by timezone.name
            """,
            zones,
            named,
        )
        return [StoresInZone(*row) for row in rows]

    async def pages(self, named: Sequence[str] | None = None) -> AsyncIterator[StoreColumns]:
        """Stores in byte order of their ids, in pages with about the same number of polls.

        Args:
            named: ids of the stores to read; ids that no store has are left out; None: all stores
        """
        after = ""
        only, ids = ("", ()) if named is None else ("and store_id = any ($3::text[])", (named,))
        while True:
            stores = int(_POLLS_PER_BATCH / self._polls_per_store)
            page = await self._lead.fetchrow(
                f"""
                with page as materialized (
                    select id, store_id, timezone, business_hours
                    from store where store_id > $1 {only} order by store_id limit $2
                )
                select array_send(array_agg(id)) as id,
                       convert_to(string_agg(store_id, ''), 'UTF8') as store_ids,
                       array_send(array_agg(octet_length(store_id))) as id_size,
                       coalesce(string_agg(business_hours, ''), '') as hours,
                       array_send(array_agg(coalesce(length(business_hours), 0))) as hours_size,
                       array_send(array_agg(coalesce(timezone, 0)::integer)) as timezone,
                       max(store_id) as last_store_id
                from page
                """,  # noqa: S608 - both texts are above
                after,
                max(1, min(stores, _LARGEST_BATCH)),
                *ids,
            )
            if page["id"] is None:
                return
            after = page["last_store_id"]
            yield StoreColumns(
                id=from_array_send(page["id"]),
                store_ids=page["store_ids"],
                id_size=from_array_send(page["id_size"]),
                hours=page["hours"],
                hours_size=from_array_send(page["hours_size"]),
                timezone=from_array_send(page["timezone"]),
            )

    async def polls(self, stores: Ints, first_day: int, last_day: int) -> PollDays:
        """Polls of some stores on some days; the rows are in no particular order.

        Args:
            stores: int64[n], their numbers in the database
            first_day: days since 1970-01-01
            last_day: days since 1970-01-01, included
        """
        reader = await self._readers.get()
        try:
            days = await read_polls(reader, stores.tolist(), first_day, last_day)
        finally:
            self._readers.put_nowait(reader)
        polls_per_store = len(days.packed) / WORD.itemsize / len(stores)
        self._polls_per_store = max(1, (self._polls_per_store + polls_per_store) / 2)
        return days


@asynccontextmanager
async def snapshot(pool: asyncpg.Pool) -> AsyncIterator[Snapshot]:
    """All stores as they are now, whatever is loaded meanwhile."""
    while True:
        async with AsyncExitStack() as stack:
            opened = await _opened(pool, stack)
            if opened is not None:
                yield opened
                return
        await asyncio.sleep(_RETRY_SECONDS)


async def _opened(pool: asyncpg.Pool, stack: AsyncExitStack) -> Snapshot | None:
    """A snapshot; None: another session waits to lock a table exclusively, and must get it first.

    All connections of the report lock the tables before any of them reads. Otherwise a deadlock
    would be possible that PostgreSQL cannot see: a session that wants a table for itself, for a
    migration for example, waits until our first connection ends; a connection of ours that locks
    the table only then queues behind that session; and our first connection does not end before the
    report does, which needs the other one. So the readers lock without waiting, and if one of them
    cannot, all connections let go and the report tries again a little later.
    """
    lead = await stack.enter_async_context(_reading(pool))
    await lead.execute(f"lock table {_TABLES} in access share mode")
    exported = await lead.fetchval("select pg_export_snapshot()")
    readers: Readers = asyncio.Queue()
    for _ in range(_READERS):
        reader = await stack.enter_async_context(_reading(pool))
        # This statement takes no parameters. The name comes from the server.
        await reader.execute(f"set transaction snapshot '{exported}'")
        try:
            await reader.execute(f"lock table {_TABLES} in access share mode nowait")
        except asyncpg.LockNotAvailableError:
            return None
        readers.put_nowait(reader)
    return Snapshot(lead, readers)


@asynccontextmanager
async def _reading(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    async with transaction(pool, isolation="repeatable_read", readonly=True) as connection:
        # Between two pages a report may wait for workers that are busy with other reports.
        await connection.execute("set local idle_in_transaction_session_timeout = '10min'")
        yield connection
