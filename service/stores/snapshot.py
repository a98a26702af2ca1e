"""All stores as they were at one moment, in pages of columns for the kernel: what a report reads.

Rows are gathered by the database itself into a few long values per page: arrays as `array_send`
writes them, and packed polls joined by `string_agg`. Nothing here runs once per row.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeAlias

import asyncpg
import msgspec

from compute.axis import Ints
from compute.polls import PollDays
from compute.zones import StoresInZone
from service.database.pool import transaction
from service.stores.packed import from_array_send
from service.stores.polls import newest_poll, read_polls

# A batch is large enough that per-batch costs do not count, and small enough for the cache.
_POLLS_PER_BATCH = 100_000


_FIRST_BATCH, _LARGEST_BATCH = 256, 4096


#: Connections that read the polls of one report.
_READERS = 2


#: What a report reads.
_TABLES = "store, timezone, poll_day, newest_poll"


_TURN_SECONDS = 0.05


class StorePage(msgspec.Struct, frozen=True):
    """Some stores, in byte order of their ids.

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


Connections: TypeAlias = "asyncio.Queue[asyncpg.Connection]"


class Snapshot:
    """The store as it was at one moment, on several connections."""

    def __init__(self, lead: asyncpg.Connection, readers: Connections) -> None:
        self._lead = lead
        self._readers = readers
        self._polls_per_store = _POLLS_PER_BATCH / _FIRST_BATCH

    async def newest_poll(self) -> int | None:
        """The newest poll's instant over all stores, milliseconds since 1970-01-01 UTC."""
        return await newest_poll(self._lead)

    async def count_stores(self, named: Sequence[str] | None = None) -> int:
        """How many stores there are, all or of those with these ids."""
        if named is None:
            return int(await self._lead.fetchval("select count(*) from store"))
        count = "select count(*) from store where store_id = any ($1::text[])"
        return int(await self._lead.fetchval(count, named))

    async def zone_names(self) -> dict[int, str]:
        """The zones' IANA names by their number in the database, also of zones without a store."""
        return dict(await self._lead.fetch("select id, name from timezone"))

    async def stores_in(
        self, zones: Sequence[int], named: Sequence[str] | None = None
    ) -> list[StoresInZone]:
        """Those of some zones that have stores, in the order of their names.

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

    async def pages(self, named: Sequence[str] | None = None) -> AsyncIterator[StorePage]:
        """Stores in byte order of their ids, in pages of about as many polls each.

        Args:
            named: ids of the stores to read; those that there are not are left out; None: all
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
            yield StorePage(
                id=from_array_send(page["id"]),
                store_ids=page["store_ids"],
                id_size=from_array_send(page["id_size"]),
                hours=page["hours"],
                hours_size=from_array_send(page["hours_size"]),
                timezone=from_array_send(page["timezone"]),
            )

    async def polls(self, stores: Ints, first_day: int, last_day: int) -> PollDays:
        """Polls of some stores on some days; rows in no certain order.

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
        polls_per_store = len(days.packed) / 4 / len(stores)
        self._polls_per_store = max(1, (self._polls_per_store + polls_per_store) / 2)
        return days


@asynccontextmanager
async def snapshot(pool: asyncpg.Pool) -> AsyncIterator[Snapshot]:
    """The store as it is now, whatever is loaded meanwhile."""
    while True:
        async with AsyncExitStack() as stack:
            store = await _opened(pool, stack)
            if store is not None:
                yield store
                return
        await asyncio.sleep(_TURN_SECONDS)


async def _opened(pool: asyncpg.Pool, stack: AsyncExitStack) -> Snapshot | None:
    """None: somebody else waits for a table to himself, and must have it first.

    All connections lock the tables before any reads. A connection that came later would wait for
    whoever waits for one that came before, as that does for the end of the report, for ever.
    """
    lead = await stack.enter_async_context(_reading(pool))
    await lead.execute(f"lock table {_TABLES} in access share mode")
    exported = await lead.fetchval("select pg_export_snapshot()")
    readers: Connections = asyncio.Queue()
    for _ in range(_READERS):
        reader = await stack.enter_async_context(_reading(pool))
        # The statement takes no parameter; the name is the server's own.
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
        # Between two pages a report may wait for its workers, and they for those of other reports.
        await connection.execute("set local idle_in_transaction_session_timeout = '10min'")
        yield connection
