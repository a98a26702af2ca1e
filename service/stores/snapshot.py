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
from compute.packed_rows import PackedRows
from compute.polls import WORD, PollDays
from compute.zones import StoresInZone
from service.database.pool import transaction
from service.stores.exclusions import Exclusions, exclusions_between
from service.stores.packed import from_array_send
from service.stores.polls import newest_poll, read_polls
from service.stores.selection import Selection

#: Batches of about this size make costs per batch negligible, and fit into the cache of a core.
_POLLS_PER_BATCH = 100_000
#: Stores of the first batch, before it is known how many polls a store has, and of any batch.
_FIRST_BATCH, _LARGEST_BATCH = 256, 4096
#: Dates of all stores of a batch: each may have some intervals of business hours.
_STORE_DAYS_PER_BATCH = 64 * _LARGEST_BATCH
#: Connections that read the polls of one report.
_READERS = 2
#: The tables that a report reads.
_TABLES = "store, timezone, poll_day, newest_poll, exclusion"
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
        dated_weeks: packed weeks with a date, joined
        dated_weeks_size: int64[stores], bytes of these; or int64[0]: no store has any
        special_hours: packed special hours, joined
        special_hours_size: int64[stores] or int64[0], bytes of these
        timezone: int64[stores], number of its zone in the database, 0: none given
    """

    id: Ints
    store_ids: bytes
    id_size: Ints
    hours: bytes
    hours_size: Ints
    dated_weeks: bytes
    dated_weeks_size: Ints
    special_hours: bytes
    special_hours_size: Ints
    timezone: Ints


#: Every store.
ALL = Selection()
#: What `Selection.arguments` ask of a store; the numbers of the three go into it.
_WANTED = """
    (${0}::text[] is null or store_id = any (${0}))
    and (${1}::jsonb is null or store.tags @> ${1})
    and not coalesce(store.tags ?| ${2}::text[], false)
"""


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

    async def count_stores(self, wanted: Selection = ALL) -> int:
        """How many stores there are of those that are wanted."""
        if wanted.is_all:
            return int(await self._lead.fetchval("select count(*) from store"))
        wants = _WANTED.format(1, 2, 3)
        count = f"select count(*) from store where {wants}"  # noqa: S608 - its text is above
        return int(await self._lead.fetchval(count, *wanted.arguments))

    async def zone_names(self) -> dict[int, str]:
        """IANA names by their number in the database, including zones that no store is in."""
        return dict(await self._lead.fetch("select id, name from timezone"))

    async def stores_in(self, zones: Sequence[int], wanted: Selection = ALL) -> list[StoresInZone]:
        """Those zones, out of the given ones, that have stores, in the order of their names.

        Args:
            zones: their numbers in the database
            wanted: the stores that count
        """
        rows = await self._lead.fetch(
            f"""
            select timezone.name, count(*), min(store_id)
            from store join timezone on timezone.id = store.timezone
            where store.timezone = any ($4::smallint[]) and {_WANTED.format(1, 2, 3)}
            group by timezone.name order by timezone.name
            """,  # noqa: S608 - the text that goes into it is above
            *wanted.arguments,
            zones,
        )
        return [StoresInZone(*row) for row in rows]

    async def exclusions_between(self, first: int, end: int) -> Exclusions:
        """All exclusions that touch a stretch of time, milliseconds since 1970-01-01 UTC."""
        return await exclusions_between(self._lead, first, end)

    async def covering(self, exclusions: Exclusions, page: StoreColumns) -> PackedRows:
        """Those exclusions that cover the stores of a page."""
        reader = await self._readers.get()
        try:
            return await exclusions.covering(reader, page.id, page.store_ids, page.id_size)
        finally:
            self._readers.put_nowait(reader)

    async def pages(self, wanted: Selection = ALL, days: int = 0) -> AsyncIterator[StoreColumns]:
        """Stores in byte order of their ids, in pages with about the same number of polls.

        Args:
            days: for which business time is computed; of very many, a page has fewer stores
            wanted: the stores to read; ids that no store has are left out
        """
        after = ""
        only = "" if wanted.is_all else f"and {_WANTED.format(3, 4, 5)}"
        arguments: Sequence[object] = () if wanted.is_all else wanted.arguments
        most = max(1, min(_LARGEST_BATCH, _STORE_DAYS_PER_BATCH // max(1, days)))
        while True:
            stores = int(_POLLS_PER_BATCH / self._polls_per_store)
            page = await self._lead.fetchrow(
                f"""
                with page as materialized (
                    select id, store_id, timezone, business_hours, dated_weeks, special_hours
                    from store where store_id > $1 {only} order by store_id limit $2
                )
                select array_send(array_agg(id)) as id,
                       convert_to(string_agg(store_id, ''), 'UTF8') as store_ids,
                       array_send(array_agg(octet_length(store_id))) as id_size,
                       coalesce(string_agg(business_hours, ''), '') as hours,
                       array_send(array_agg(coalesce(length(business_hours), 0))) as hours_size,
                       coalesce(string_agg(dated_weeks, ''), '') as dated_weeks,
                       case when count(dated_weeks) > 0 then
                           array_send(array_agg(coalesce(length(dated_weeks), 0)))
                       end as dated_weeks_size,
                       coalesce(string_agg(special_hours, ''), '') as special_hours,
                       case when count(special_hours) > 0 then
                           array_send(array_agg(coalesce(length(special_hours), 0)))
                       end as special_hours_size,
                       array_send(array_agg(coalesce(timezone, 0)::integer)) as timezone,
                       max(store_id) as last_store_id
                from page
                """,  # noqa: S608 - both texts are above
                after,
                max(1, min(stores, most)),
                *arguments,
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
                dated_weeks=page["dated_weeks"],
                dated_weeks_size=from_array_send(page["dated_weeks_size"]),
                special_hours=page["special_hours"],
                special_hours_size=from_array_send(page["special_hours_size"]),
                timezone=from_array_send(page["timezone"]),
            )

    async def polls(self, stores: Ints, day_ranges: Sequence[tuple[int, int]]) -> PollDays:
        """Polls of some stores on some days; the rows are in no particular order.

        Args:
            stores: int64[n], their numbers in the database
            day_ranges: as `read_polls` takes them
        """
        reader = await self._readers.get()
        try:
            days = await read_polls(reader, stores.tolist(), day_ranges)
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
