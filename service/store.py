"""What the database keeps of the stores, read as columns for the kernel.

Rows are gathered by the database itself into a few long values per batch: arrays as `array_send`
writes them, and packed polls joined by `string_agg`. Nothing here runs once per row.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import asyncpg
import msgspec
import numpy as np

from compute.axis import Ints
from compute.polls import PollDays

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ARRAY_HEADER = 20  # bytes: dimensions, flags, element type, length, lower bound

# A batch is large enough that per-batch costs do not count, and small enough for the cache.
_POLLS_PER_BATCH = 100_000
_FIRST_BATCH, _LARGEST_BATCH = 256, 4096
#: Connections that read the polls of one report.
_READERS = 2


def from_array_send(sent: bytes | None, element: str = ">i4") -> Ints:
    """An integer array as PostgreSQL's `array_send` writes it, without nulls; None is empty.

    Args:
        sent: a 20-byte header, then the length and the value of each element, big-endian
        element: ">i4" or ">i8"
    """
    if sent is None:
        return np.empty(0, dtype=np.int64)
    rows = np.frombuffer(sent, dtype=[("size", ">i4"), ("value", element)], offset=_ARRAY_HEADER)
    return rows["value"].astype(np.int64)


def poll_days(record: asyncpg.Record) -> PollDays:
    """Rows of `poll_day` as the queries gather them: `store_day`, `size`, `polls`."""
    key = from_array_send(record["store_day"], ">i8")
    day = key.astype(np.int32).astype(np.int64)
    return PollDays(
        store=(key - day) >> 32,
        day=day,
        size=from_array_send(record["size"]),
        packed=record["polls"] or b"",
    )


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
        instant = await self._lead.fetchval("select instant from newest_poll")
        return None if instant is None else (instant - EPOCH) // timedelta(milliseconds=1)

    async def count_stores(self) -> int:
        """How many stores there are."""
        return int(await self._lead.fetchval("select count(*) from store"))

    async def zone_names(self) -> dict[int, str]:
        """The zones' IANA names by their number in the database."""
        return dict(await self._lead.fetch("select id, name from timezone"))

    async def pages(self) -> AsyncIterator[StorePage]:
        """All stores in byte order of their ids, in pages of about as many polls each."""
        after = ""
        while True:
            stores = int(_POLLS_PER_BATCH / self._polls_per_store)
            page = await self._lead.fetchrow(
                """
                with page as materialized (
                    select id, store_id, timezone, business_hours
                    from store where store_id > $1 order by store_id limit $2
                )
                select array_send(array_agg(id)) as id,
                       convert_to(string_agg(store_id, ''), 'UTF8') as store_ids,
                       array_send(array_agg(octet_length(store_id))) as id_size,
                       coalesce(string_agg(business_hours, ''), '') as hours,
                       array_send(array_agg(coalesce(length(business_hours), 0))) as hours_size,
                       array_send(array_agg(coalesce(timezone, 0)::integer)) as timezone,
                       max(store_id) as last_store_id
                from page
                """,
                after,
                max(1, min(stores, _LARGEST_BATCH)),
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
            rows = await reader.fetchrow(
                """
                select string_agg(polls, '') as polls,
                       array_send(array_agg((store::bigint << 32) + day)) as store_day,
                       array_send(array_agg(length(polls))) as size
                from poll_day where store = any ($1::integer[]) and day between $2 and $3
                """,
                stores.tolist(),
                first_day,
                last_day,
            )
        finally:
            self._readers.put_nowait(reader)
        days = poll_days(rows)
        polls_per_store = len(days.packed) / 4 / len(stores)
        self._polls_per_store = max(1, (self._polls_per_store + polls_per_store) / 2)
        return days


@asynccontextmanager
async def snapshot(pool: asyncpg.Pool) -> AsyncIterator[Snapshot]:
    """The store as it is now, whatever is loaded meanwhile."""
    async with AsyncExitStack() as stack:
        lead = await stack.enter_async_context(pool.acquire())
        await stack.enter_async_context(
            lead.transaction(isolation="repeatable_read", readonly=True)
        )
        exported = await lead.fetchval("select pg_export_snapshot()")
        readers: Connections = asyncio.Queue()
        for _ in range(_READERS):
            reader = await stack.enter_async_context(pool.acquire())
            await stack.enter_async_context(
                reader.transaction(isolation="repeatable_read", readonly=True)
            )
            # The statement takes no parameter; the name is the server's own.
            await reader.execute(f"set transaction snapshot '{exported}'")
            readers.put_nowait(reader)
        yield Snapshot(lead, readers)
