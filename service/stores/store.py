"""What the database keeps of the stores, read as columns for the kernel.

Rows are gathered by the database itself into a few long values per batch: arrays as `array_send`
writes them, and packed polls joined by `string_agg`. Nothing here runs once per row.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import asyncpg
import msgspec
import numpy as np

from compute.axis import DAY_MS, Ints
from compute.feed_rows import LONGEST_STORE_ID
from compute.polls import PollDays
from compute.report_rows import Question, StoreBatch
from compute.zones import DEFAULT_TIMEZONE, StoresInZone, ZoneUnknown, zone_names
from service.database.pool import transaction

#: Whatever takes a statement.
Database: TypeAlias = "asyncpg.Connection | asyncpg.Pool"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ARRAY_HEADER = 20  # bytes: dimensions, flags, element type, length, lower bound

# A batch is large enough that per-batch costs do not count, and small enough for the cache.
_POLLS_PER_BATCH = 100_000
_FIRST_BATCH, _LARGEST_BATCH = 256, 4096
#: Connections that read the polls of one report.
_READERS = 2
#: What a report reads.
_TABLES = "store, timezone, poll_day, newest_poll"
_TURN_SECONDS = 0.05


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


async def newest_poll(connection: Database) -> int | None:
    """The newest poll's instant over all stores, milliseconds since 1970-01-01 UTC."""
    instant = await connection.fetchval("select instant from newest_poll")
    return None if instant is None else (instant - EPOCH) // timedelta(milliseconds=1)


async def read_polls(
    connection: Database, stores: list[int], first_day: int, last_day: int
) -> PollDays:
    """Polls of some stores on some days; rows in no certain order.

    Args:
        connection: where to ask
        stores: their numbers in the database
        first_day: days since 1970-01-01
        last_day: days since 1970-01-01, included
    """
    row = await connection.fetchrow(
        """
        select string_agg(polls, '') as polls,
               array_send(array_agg((store::bigint << 32) + day)) as store_day,
               array_send(array_agg(length(polls))) as size
        from poll_day where store = any ($1::integer[]) and day between $2 and $3
        """,
        stores,
        first_day,
        last_day,
    )
    return poll_days(row)


class KnownStore(msgspec.Struct, frozen=True):
    """What is known of one store.

    Attributes:
        number: its number in the database
        store_id: its id
        timezone: IANA name; None: none given
        business_hours: packed; empty: no row at all
        newest_poll: milliseconds since 1970-01-01 UTC << 1 | active; None: no poll
    """

    number: int
    store_id: str
    timezone: str | None
    business_hours: bytes
    newest_poll: int | None


async def read_store(connection: Database, store_id: str) -> KnownStore | None:
    """One store; None: no feed has named it."""
    stores = await read_stores(connection, [store_id])
    return stores[0] if stores else None


async def read_stores(connection: Database, store_ids: Sequence[str]) -> list[KnownStore]:
    """Some stores, in the order given; those that no feed has named are left out."""
    rows = await connection.fetch(
        """
        select store.id,
               store_id,
               (select name from timezone where timezone.id = store.timezone) as timezone,
               coalesce(business_hours, '') as business_hours,
               newest.day,
               newest.word
        from unnest($1::text[]) with ordinality as named (wanted, place)
        join store on store_id = wanted
        left join lateral (
            select day, packed_int4(polls, length(polls) / 4 - 1) as word
            from poll_day where poll_day.store = store.id order by day desc limit 1
        ) as newest on true
        order by place
        """,
        store_ids,
    )
    return [
        KnownStore(
            row["id"],
            row["store_id"],
            row["timezone"],
            row["business_hours"],
            None if row["day"] is None else row["day"] * (2 * DAY_MS) + row["word"],
        )
        for row in rows
    ]


async def read_batch(connection: Database, store: KnownStore, question: Question) -> StoreBatch:
    """One store as the kernel takes it, with the polls that matter to a question.

    Raises:
        ZoneUnknown: the tz database lacks its zone
    """
    return await batch_of(connection, [store], question)


async def batch_of(
    connection: Database, stores: Sequence[KnownStore], question: Question
) -> StoreBatch:
    """Different stores as the kernel takes them, with the polls that matter to a question.

    Raises:
        ZoneUnknown: the tz database lacks the zone of one of them
    """
    for store in stores:
        if store.timezone is not None and store.timezone not in zone_names():
            raise ZoneUnknown([StoresInZone(store.timezone, 1, store.store_id)])
    number = np.array([store.number for store in stores], dtype=np.int64)
    polls = await read_polls(connection, number.tolist(), *question.days)
    ids = [store.store_id.encode() for store in stores]
    hours = [store.business_hours for store in stores]
    names = tuple(sorted({store.timezone for store in stores if store.timezone is not None}))
    return StoreBatch(
        store_ids=b"".join(ids),
        id_size=np.array([len(store_id) for store_id in ids], dtype=np.int64),
        hours=b"".join(hours),
        hours_rows=np.array([len(packed) // 8 for packed in hours], dtype=np.int64),
        zone=np.array(
            [-1 if store.timezone is None else names.index(store.timezone) for store in stores],
            dtype=np.int64,
        ),
        zone_names=names,
        polls=polls.packed,
        poll_store=places_of(number, polls.store),
        poll_day=polls.day,
        poll_size=polls.size,
    )


def places_of(stores: Ints, wanted: Ints) -> Ints:
    """Where each wanted number stands among some, each of which there is once."""
    order = np.argsort(stores)
    places: Ints = order[np.searchsorted(stores, wanted, sorter=order)]
    return places


class ListedStore(msgspec.Struct, frozen=True):
    """A store among others.

    Attributes:
        store_id: its id
        timezone: IANA name; None: none given
    """

    store_id: str
    timezone: str | None


async def unknown_stores(connection: Database, store_ids: Sequence[str]) -> list[str]:
    """Those ids that no feed has named, in the order given."""
    rows = await connection.fetch(
        """
        select named.store_id
        from unnest($1::text[]) with ordinality as named (store_id, place)
        where not exists (select from store where store.store_id = named.store_id)
        order by place
        """,
        store_ids,
    )
    return [row["store_id"] for row in rows]


#: Above every store id, in code points.
_LAST = "\U0010ffff"


async def list_stores(
    connection: Database, size: int, after: str = "", prefix: str = "", timezone: str | None = None
) -> list[ListedStore]:
    """Stores in byte order of their ids, from the index alone.

    Args:
        connection: where to ask
        size: how many at most
        after: only those whose ids come after it
        prefix: only those whose ids begin with it
        timezone: only those in it, without a zone of their own included where it is the default
    """
    places = (after, prefix, _end_of_prefix(prefix), size)
    if timezone is None:
        rows = await connection.fetch(
            """
            select store_id, (select name from timezone where id = store.timezone) as timezone
            from store where store_id > $1 and store_id >= $2 and store_id < $3
            order by store_id limit $4
            """,
            *places,
        )
    else:
        rows = await connection.fetch(
            # `timezone is null` alone does not tell the planner that the index is in order.
            """
            (
                select store_id, $5::text as timezone from store
                where timezone = (select id from timezone where name = $5)
                    and store_id > $1 and store_id >= $2 and store_id < $3
                order by store_id limit $4
            ) union all (
                select store_id, null from store
                where timezone is null and $6
                    and store_id > $1 and store_id >= $2 and store_id < $3
                order by timezone, store_id limit $4
            ) order by store_id limit $4
            """,
            *places,
            timezone,
            timezone == DEFAULT_TIMEZONE,
        )
    return [ListedStore(*row) for row in rows]


def _end_of_prefix(prefix: str) -> str:
    """The first text, in order of code points, after all that begin with the prefix."""
    stem = prefix.rstrip(_LAST)
    if not stem:
        return _LAST * (LONGEST_STORE_ID + 1)
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)


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
