"""A feed of polls, business hours or time zones, as CSV text → checked → merged into the store.

First the whole feed is read, checked and set aside; then, if all of it is good, it is written in
one transaction. So a bad feed leaves the store as it was, and memory does not grow with the feed.
"""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Literal, NamedTuple

import asyncpg
import msgspec
import numpy as np

from compute.axis import Ints
from compute.business_hours import pack_weeks
from compute.feed_rows import (
    FAULTS_SHOWN,
    Fault,
    Feed,
    FeedRefused,
    FeedRows,
    parse_csv,
    read_header,
    zone_names,
)
from compute.polls import merge_polls, pack_polls
from compute.workers import Workers
from service import metrics
from service.spool import Spool
from service.storage import Folder
from service.store import EPOCH, from_array_send, poll_days
from service.stream import stream

_BLOCK = 4 << 20  # bytes of text that one worker parses at a time
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: Ingests take turns: taken for the transaction that writes.
_INGEST_LOCK = 7_305_001
_TURN_SECONDS = 0.02


class Ingested(msgspec.Struct, frozen=True):
    """What became of a feed.

    Attributes:
        rows: rows read
        new: polls of an instant that had none; stores that had no hours, no zone
        replaced: polls whose status, stores whose hours or zone are now others
        unchanged: polls and stores of which the feed said what was known
    """

    rows: int
    new: int
    replaced: int
    unchanged: int


async def ingest(
    pool: asyncpg.Pool,
    workers: Workers,
    feed: Feed,
    source: str,
    text: AsyncIterator[bytes],
    *,
    aside: Folder,
) -> Ingested:
    """Load a feed, all of it or nothing.

    Args:
        pool: the database
        workers: parse the text
        feed: what the text is about
        source: the feed's name in messages
        text: CSV, plain or gzip, in pieces of any size
        aside: where its rows are kept until all of it is known to be good

    Raises:
        FeedRefused: something is wrong with it; nothing of it is stored
        StorageFailed: it cannot be set aside; nothing of it is stored
    """
    return await _store(pool, await _check(workers, feed, source, text, aside))


async def ingest_each(
    pool: asyncpg.Pool,
    workers: Workers,
    feeds: Iterable[tuple[Feed, str, AsyncIterator[bytes]]],
    *,
    aside: Folder,
) -> AsyncIterator[Ingested | FeedRefused]:
    """Load feeds in their order, each by itself; while one is stored, the next is checked.

    Args:
        pool: the database
        workers: parse the texts
        feeds: feed, source and text of each, as `ingest` takes them
        aside: as `ingest` takes it

    Yields:
        what became of each

    Raises:
        StorageFailed: one cannot be set aside; nothing of it is stored
    """

    async def check(feed: Feed, source: str, text: AsyncIterator[bytes]) -> _Checked | FeedRefused:
        try:
            return await _check(workers, feed, source, text, aside)
        except FeedRefused as refused:
            return refused

    checks = (asyncio.create_task(check(*feed)) for feed in feeds)
    ahead = next(checks, None)
    try:
        while ahead is not None:
            checked = await ahead
            ahead = next(checks, None)
            yield checked if isinstance(checked, FeedRefused) else await _store(pool, checked)
    finally:
        if ahead is not None:
            ahead.cancel()


async def ingest_rows(pool: asyncpg.Pool, feed: Feed, source: str, rows: FeedRows) -> Ingested:
    """Load rows that are already in memory, all of them or nothing.

    Args:
        pool: the database
        feed: what the rows are about
        source: the feed's name in messages
        rows: parsed

    Raises:
        FeedRefused: something is wrong with them; nothing of them is stored
    """
    with _counted(feed):
        if rows.fault_count:
            raise FeedRefused(source, rows.faults, rows.fault_count)
    spool = Spool(None)
    spool.append(rows.store, rows.value)
    return await _store(pool, _Checked(feed, rows.store_ids, spool))


class _Checked(NamedTuple):
    """A good feed, set aside."""

    feed: Feed
    store_ids: list[str]
    spool: Spool


async def _check(
    workers: Workers, feed: Feed, source: str, text: AsyncIterator[bytes], aside: Folder
) -> _Checked:
    spool = Spool(aside)
    try:
        with _counted(feed):
            return _Checked(feed, await _set_aside(workers, feed, source, text, spool), spool)
    except BaseException:
        spool.close()
        raise


async def _store(pool: asyncpg.Pool, checked: _Checked) -> Ingested:
    try:
        async with turn(pool) as connection:
            done = await _write(connection, *checked)
    finally:
        checked.spool.close()
    metrics.INGEST_ROWS.labels(checked.feed).inc(done.rows)
    return done


@contextlib.contextmanager
def _counted(feed: Feed) -> Iterator[None]:
    """Count a feed that is refused."""
    try:
        yield
    except FeedRefused:
        metrics.INGEST_REFUSED.labels(feed).inc()
        raise


async def forget(
    pool: asyncpg.Pool, feed: Literal["business_hours", "timezones"], store_id: str
) -> None:
    """Take from a store what feeds said of its hours or its zone; a new store has neither."""
    forgetting = {
        "business_hours": "update store set business_hours = null where id = $1",
        "timezones": "update store set timezone = null where id = $1",
    }
    async with turn(pool) as connection:
        [number] = (await _store_numbers(connection, [store_id])).tolist()
        await connection.execute(forgetting[feed], number)


@contextlib.asynccontextmanager
async def turn(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    """A transaction that no other ingest writes beside."""
    while True:
        async with pool.acquire() as connection, connection.transaction():
            # Tried again and again: who waits for the lock itself keeps a connection from others.
            if await connection.fetchval("select pg_try_advisory_xact_lock($1)", _INGEST_LOCK):
                yield connection
                return
        await asyncio.sleep(_TURN_SECONDS)


class _Places(dict[str, int]):
    """Numbers each store id that is asked for, from 0, in order of appearance."""

    def __missing__(self, store_id: str) -> int:
        place = self[store_id] = len(self)
        return place


async def _set_aside(
    workers: Workers, feed: Feed, source: str, text: AsyncIterator[bytes], spool: Spool
) -> list[str]:
    """Check the whole feed; its rows go to the spool. Returns the ids of its stores."""
    places = _Places()
    faults: list[Fault] = []
    fault_count = 0
    blocks = _blocks(unpacked(text))
    try:
        _, first = await anext(blocks)
        header = read_header(feed, first)
    except StopAsyncIteration:
        nothing = Fault(1, "", "", "it is empty, without even a header")
        raise FeedRefused(source, [nothing], 1) from None
    except FeedRefused as refused:
        raise FeedRefused(source, refused.faults, refused.count) from None

    async def parse(block: tuple[int, bytes]) -> FeedRows:
        return await workers.run(parse_csv, feed, header, block[1], block[0])

    async def keep(rows: FeedRows) -> float:
        nonlocal fault_count
        faults.extend(rows.faults[: FAULTS_SHOWN - len(faults)])
        fault_count += rows.fault_count
        if not fault_count:
            place = np.fromiter(map(places.__getitem__, rows.store_ids), dtype=np.int64)
            spool.append(place[rows.store], rows.value)
        return 0

    try:
        await stream(workers, blocks, parse, keep)
    except FeedRefused as refused:
        raise FeedRefused(source, [*faults, *refused.faults], fault_count + refused.count) from None
    if fault_count:
        raise FeedRefused(source, faults, fault_count)
    return list(places)


async def unpacked(text: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The text without gzip, where it is gzip.

    Raises:
        FeedRefused: the gzip data cannot be read; source is empty
    """
    begin = b""
    async for piece in text:
        begin += piece
        if len(begin) >= 3:
            break
    pieces = _chain(begin, text)
    if begin.startswith(b"\x1f\x8b"):
        pieces = _gunzip(pieces)
    async for piece in pieces:
        yield piece


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


async def _gunzip(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    gzip = zlib.decompressobj(wbits=31)
    try:
        async for piece in pieces:
            while piece:
                if gzip.eof:  # another member follows
                    gzip = zlib.decompressobj(wbits=31)
                # In a thread: inflating takes as long as parsing. At most a block at once: a small
                # piece may inflate to a thousand times its size.
                yield await asyncio.to_thread(gzip.decompress, piece, _BLOCK)
                piece = gzip.unconsumed_tail or gzip.unused_data
        yield gzip.flush()
        if not gzip.eof:
            raise zlib.error("the file ends early")
    except zlib.error as error:
        fault = Fault(1, "", "", f"the gzip data cannot be read: {error}")
        raise FeedRefused("", [fault], 1) from None


async def _blocks(text: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    """The header, then whole rows in blocks, each with the physical line it begins on."""
    pending = b""
    line = 1
    async for piece in text:
        pending += piece
        if line == 1:
            end = pending.find(b"\n") + 1
        else:
            end = _end_of_rows(pending) if len(pending) >= _BLOCK else 0
        if end:
            block, pending = pending[:end], pending[end:]
            yield line, block.removeprefix(_BYTE_ORDER_MARK if line == 1 else b"")
            # Six times as fast as `bytes.count`, which looks for one after the other.
            line += int(np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")))
        elif len(pending) > 2 * _BLOCK:
            problem = f"no row ends within {len(pending)} bytes from here"
            raise FeedRefused("", [Fault(line, "", "", problem)], 1)
    if pending:
        yield line, pending.removeprefix(_BYTE_ORDER_MARK if line == 1 else b"")


def _end_of_rows(text: bytes) -> int:
    """Where the last whole row ends: after a line end that no quoted field holds."""
    end = text.rfind(b"\n") + 1
    quotes = text.count(b'"', 0, end) if b'"' in text else 0  # looking is faster than counting
    while end and quotes % 2:
        shorter = text.rfind(b"\n", 0, end - 1) + 1
        quotes -= text.count(b'"', shorter, end)
        end = shorter
    return end


async def _write(
    connection: asyncpg.Connection, feed: Feed, stores: list[str], spool: Spool
) -> Ingested:
    """Merge the set-aside rows into the store, a part at a time, stores in the order of reports."""
    in_order = sorted(stores)  # code points and UTF-8 bytes have the same order
    place = {store_id: rank for rank, store_id in enumerate(in_order)}
    rank = np.array([place[store_id] for store_id in stores], dtype=np.int64)
    write = {"polls": _write_polls, "business_hours": _write_hours, "timezones": _write_zones}[feed]
    counts = np.zeros(3, dtype=np.int64)
    parts = spool.parts(rank)
    while (part := await asyncio.to_thread(next, parts, None)) is not None:
        first, last, rank_of_row, value = part
        counts += await write(connection, in_order[first:last], rank_of_row - first, value)
    new, replaced, unchanged = counts.tolist()
    return Ingested(spool.rows, new, replaced, unchanged)


async def _store_numbers(connection: asyncpg.Connection, store_ids: list[str]) -> Ints:
    """The stores' numbers in the database; a store exists as soon as a feed names it."""
    await connection.execute(
        # In order of their ids, so that the polls of neighbours in a report are neighbours on disk.
        """
        insert into store (store_id)
        select store_id from unnest($1::text[]) with ordinality as named (store_id, place)
        where not exists (select from store where store.store_id = named.store_id)
        order by place
        """,
        store_ids,
    )
    numbers = await connection.fetchval(
        """
        select array_send(array_agg(store.id order by place))
        from unnest($1::text[]) with ordinality as named (store_id, place)
        join store on store.store_id = named.store_id
        """,
        store_ids,
    )
    return from_array_send(numbers)


async def _write_polls(
    connection: asyncpg.Connection, store_ids: list[str], place: Ints, poll: Ints
) -> tuple[int, int, int]:
    number = await _store_numbers(connection, store_ids)
    arrived = await asyncio.to_thread(pack_polls, number[place], poll)
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
        # As an update, which would be a join, it takes a plan that depends on old statistics.
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
        EPOCH + timedelta(milliseconds=int(poll.max()) >> 1),
    )
    return merged.new, merged.replaced, merged.unchanged


async def _write_hours(
    connection: asyncpg.Connection, store_ids: list[str], place: Ints, hours: Ints
) -> tuple[int, int, int]:
    """Each store that the feed names gets the feed's whole week instead of the one it had."""
    _, weeks = await asyncio.to_thread(pack_weeks, place, hours)  # every store has a row
    return await _set(connection, "business_hours", "bytea", store_ids, weeks)


async def _write_zones(
    connection: asyncpg.Connection, store_ids: list[str], place: Ints, zone: Ints
) -> tuple[int, int, int]:
    """Each store that the feed names gets the zone of its last row."""
    _, last = np.unique(place[::-1], return_index=True)  # every store has a row
    names = [zone_names()[number] for number in zone[::-1][last].tolist()]
    await connection.execute(
        """
        insert into timezone (name) select distinct name from unnest($1::text[]) as given (name)
        where not exists (select from timezone where timezone.name = given.name)
        """,
        names,
    )
    number = dict(await connection.fetch("select name, id from timezone"))
    zones = [number[name] for name in names]
    return await _set(connection, "timezone", "smallint", store_ids, zones)


async def _set(
    connection: asyncpg.Connection,
    column: Literal["business_hours", "timezone"],
    kind: Literal["bytea", "smallint"],
    store_ids: list[str],
    values: Sequence[bytes] | Sequence[int],
) -> tuple[int, int, int]:
    """Give each store its value; a new store comes with it: an update takes as long again."""
    counts: tuple[int, int, int] = await connection.fetchrow(
        f"""
        with given as (
            select named.*, store.id, store.{column} as known
            from unnest($1::text[], $2::{kind}[]) with ordinality as named (store_id, value, place)
            left join store on store.store_id = named.store_id
        ), added as (
            insert into store (store_id, {column})
            select store_id, value from given where id is null order by place
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
