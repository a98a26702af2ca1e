"""All stores as they were at one moment, in pages of columns for the kernel: what a report reads.

The database itself gathers the rows of a page into a few long values: arrays as `array_send` writes
them, and packed polls joined by `string_agg`. No Python code runs once per row.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple, TypeAlias

import asyncpg
import msgspec

from compute.axis import Ints
from compute.fingerprint import BLOCK
from compute.packed_rows import PackedRows
from compute.polls import WORD, PollDays
from compute.zones import StoresInZone
from service.database.pool import transaction
from service.stores.exclusions import Exclusions, exclusions_between
from service.stores.packed import from_array_send
from service.stores.polls import newest_poll, polls_kept_since, read_polls
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
_TABLES = "store, timezone, only poll_day, newest_poll, exclusion, polls_kept"
#: Locks the partitions of `poll_day`, as the planner looks at them all. To lock the table with them
#: would be to wait, too, for one that is just being detached, and that nobody reads who begins now.
_LOCK_PARTITIONS = "select from poll_day limit 0"
_AT_ONCE = "20ms"
#: Pause before the tables are locked again, while something else needs one of them for itself.
_RETRY_SECONDS = 0.05
_EXPORTED = re.compile("[0-9A-F]+-[0-9A-F]+-[0-9]+", re.ASCII)


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
        names: UTF-8 names, joined
        names_size: int64[stores] or int64[0], bytes of these
        tags: JSON objects, joined
        tags_size: int64[stores] or int64[0], bytes of these
        targets: int64[stores] or int64[0], hundred-millionths, -1: none of its own
        first: how many of the stores that are read come before these
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
    names: bytes
    names_size: Ints
    tags: bytes
    tags_size: Ints
    targets: Ints
    first: int


class Stretch(NamedTuple):
    """A stretch of ids, in byte order.

    Attributes:
        after: the ids come after this one
        last: the last of them; None: there is no end
        itself: `after` is one of them, too
        first: how many of the stores that are read come before
    """

    after: str
    last: str | None
    itself: bool = False
    first: int = 0


#: Every store.
ALL = Selection()
EVERY_ID = Stretch("", None)
#: What `Selection.arguments` ask of a store; the numbers of the three go into it.
_TAGGED = """
    (${1}::jsonb is null or store.tags @> ${1})
    and not coalesce(store.tags ?| ${2}::text[], false)
"""
#: Whoever names stores has them found by the index.
_WANTED = f"${{0}}::text[] is null and {_TAGGED}"
_WANTED_BY_NAME = f"store_id = any (${{0}}::text[]) and {_TAGGED}"


def _wants(wanted: Selection, first: int) -> str:
    """The condition that a store is wanted; the selection's arguments begin with this number."""
    condition = _WANTED if wanted.named is None else _WANTED_BY_NAME
    return condition.format(first, first + 1, first + 2)


Readers: TypeAlias = "asyncio.Queue[asyncpg.Connection]"


class Snapshot:
    """All stores as they were at one moment, on several connections.

    Attributes:
        exported: its name, by which others can read the same while this one is open
    """

    def __init__(self, lead: asyncpg.Connection, readers: Readers, exported: str) -> None:
        self._lead = lead
        self._readers = readers
        self.exported = exported
        self._polls_per_store = _POLLS_PER_BATCH / _FIRST_BATCH

    async def newest_poll(self) -> int | None:
        """The newest poll's instant over all stores, milliseconds since 1970-01-01 UTC."""
        return await newest_poll(self._lead)

    async def polls_kept_since(self) -> int | None:
        """From when on polls are kept, milliseconds since 1970-01-01 UTC; None: all are."""
        return await polls_kept_since(self._lead)

    async def count_stores(self, wanted: Selection = ALL) -> int:
        """How many stores there are of those that are wanted."""
        if wanted.is_all:
            return int(await self._lead.fetchval("select count(*) from store"))
        wants = _wants(wanted, 1)
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
            where store.timezone = any ($4::smallint[]) and {_wants(wanted, 1)}
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
        async with self.reader() as reader:
            return await exclusions.covering(reader, page.id, page.store_ids, page.id_size)

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection that sees the same, and that nobody else uses meanwhile."""
        reader = await self._readers.get()
        try:
            yield reader
        finally:
            self._readers.put_nowait(reader)

    async def parts(self, stores: int, wanted: Selection = ALL) -> AsyncIterator[Stretch]:
        """Stretches of ids with so many stores each, in byte order; the last one has no end."""
        after, first = "", 0
        only = "" if wanted.is_all else f"and {_wants(wanted, 3)}"
        arguments: Sequence[object] = () if wanted.is_all else wanted.arguments
        while True:
            last = await self._lead.fetchval(
                f"""
                select store_id from store where store_id > $1 {only}
                order by store_id offset $2 limit 1
                """,  # noqa: S608 - the text that goes into it is above
                after,
                stores - 1,
                *arguments,
            )
            yield Stretch(after, last, first=first)
            if last is None:
                return
            after, first = last, first + stores

    async def pages(
        self,
        wanted: Selection = ALL,
        days: int = 0,
        stretch: Stretch = EVERY_ID,
        *,
        described: bool = True,
    ) -> AsyncGenerator[StoreColumns, None]:
        """Stores in byte order of their ids, in pages with about the same number of polls.

        Args:
            days: for which business time is computed; of very many, a page has fewer stores
            wanted: the stores to read; ids that no store has are left out
            stretch: of ids; only these are read
            described: whether names and tags are read, or left out
        """
        after, comes, first = stretch.after, ">=" if stretch.itself else ">", stretch.first
        texts = "name, tags::text as tags" if described else "null as name, null as tags"
        only = "" if wanted.is_all else f"and {_wants(wanted, 4)}"
        arguments: Sequence[object] = () if wanted.is_all else wanted.arguments
        most = max(1, min(_LARGEST_BATCH, _STORE_DAYS_PER_BATCH // max(1, days)))
        while True:
            stores = max(1, min(int(_POLLS_PER_BATCH / self._polls_per_store), most))
            if stores > BLOCK:
                stores -= stores % BLOCK
            page = await self._lead.fetchrow(
                f"""
                with page as materialized (
                    select id, store_id, timezone, business_hours, dated_weeks, special_hours,
                           {texts}, target
                    from store
                    where store_id {comes} $1 and ($3::text is null or store_id <= $3) {only}
                    order by store_id limit $2
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
                       convert_to(coalesce(string_agg(name, ''), ''), 'UTF8') as names,
                       case when count(name) > 0 then
                           array_send(array_agg(coalesce(octet_length(name), 0)))
                       end as names_size,
                       convert_to(coalesce(string_agg(tags, ''), ''), 'UTF8') as tags,
                       case when count(tags) > 0 then
                           array_send(array_agg(coalesce(octet_length(tags), 0)))
                       end as tags_size,
                       case when count(target) > 0 then
                           array_send(array_agg(coalesce(target, -1)))
                       end as targets,
                       max(store_id) as last_store_id
                from page
                """,  # noqa: S608 - all of its texts are above
                after,
                stores,
                stretch.last,
                *arguments,
            )
            if page["id"] is None:
                return
            after, comes = page["last_store_id"], ">"
            ids = from_array_send(page["id"])
            yield StoreColumns(
                id=ids,
                store_ids=page["store_ids"],
                id_size=from_array_send(page["id_size"]),
                hours=page["hours"],
                hours_size=from_array_send(page["hours_size"]),
                dated_weeks=page["dated_weeks"],
                dated_weeks_size=from_array_send(page["dated_weeks_size"]),
                special_hours=page["special_hours"],
                special_hours_size=from_array_send(page["special_hours_size"]),
                timezone=from_array_send(page["timezone"]),
                names=page["names"],
                names_size=from_array_send(page["names_size"]),
                tags=page["tags"],
                tags_size=from_array_send(page["tags_size"]),
                targets=from_array_send(page["targets"]),
                first=first,
            )
            first += len(ids)

    async def polls(self, stores: Ints, day_ranges: Sequence[tuple[int, int]]) -> PollDays:
        """Polls of some stores on some days; the rows are in no particular order.

        Args:
            stores: int64[n], their numbers in the database
            day_ranges: as `read_polls` takes them
        """
        async with self.reader() as reader:
            days = await read_polls(reader, stores.tolist(), day_ranges)
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


@asynccontextmanager
async def shared_snapshot(pool: asyncpg.Pool, exported: str) -> AsyncIterator[Snapshot]:
    """What somebody else's snapshot shows, on one connection.

    Raises:
        asyncpg.InvalidParameterValueError, asyncpg.UndefinedObjectError: it is no longer open, or
            of another server
    """
    if not _EXPORTED.fullmatch(exported):
        raise ValueError(f"{exported!r} is no name of a snapshot")
    async with _reading(pool) as lead:
        # This statement takes no parameters.
        await lead.execute(f"set transaction snapshot '{exported}'")
        readers: Readers = asyncio.Queue()
        readers.put_nowait(lead)
        yield Snapshot(lead, readers, exported)


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
    await lead.execute(_LOCK_PARTITIONS)
    exported = await lead.fetchval("select pg_export_snapshot()")
    readers: Readers = asyncio.Queue()
    for _ in range(_READERS):
        reader = await stack.enter_async_context(_reading(pool))
        # This statement takes no parameters. The name comes from the server.
        await reader.execute(f"set transaction snapshot '{exported}'")
        try:
            await reader.execute(
                f"lock table {_TABLES} in access share mode nowait; "
                f"set local lock_timeout = '{_AT_ONCE}'; {_LOCK_PARTITIONS}; "
                "set local lock_timeout to default"
            )
        except asyncpg.LockNotAvailableError:
            return None
        readers.put_nowait(reader)
    return Snapshot(lead, readers, exported)


@asynccontextmanager
async def _reading(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    async with transaction(pool, isolation="repeatable_read", readonly=True) as connection:
        # Between two pages a report may wait for workers that are busy with other reports.
        await connection.execute("set local idle_in_transaction_session_timeout = '10min'")
        yield connection
