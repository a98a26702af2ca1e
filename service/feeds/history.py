"""What the service knows of feeds: how much there is, and what became of the files sent last.

A file that is loaded is noted by the transaction that stores it, one that is refused afterwards, as
far as that can be done. JSON and NDJSON are not noted: pollers and programs that collect logs send
them every few seconds, and would push all else out. What is noted is bounded, for each feed by
itself.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import PurePath
from typing import Annotated, NamedTuple

import asyncpg
import msgspec
from msgspec import Meta

from compute.feed_faults import FeedRefused
from compute.feed_header import Feed, FeedUnknown
from service.database.pool import DATABASE_FAILED

log = logging.getLogger("storewatch.feeds")

#: Of each feed so many loads are remembered, and so many refusals.
KEPT = 20
#: Characters of a fault.
_LONGEST_FAULT = 300
#: Refusals that one instance notes at the same time; of more nothing is noted.
_NOTING = 2
_NOTING_SECONDS = 5
_SETTLE_SECONDS = 1
#: Bytes of polls that are looked at to count them: more are estimated from so many.
_COUNTED_BYTES = 64 << 20


class Sender(NamedTuple):
    """Who sent a file.

    Attributes:
        api_key: the name of the key that it came with; None: it came without
        command: whether `storewatch ingest` read it
    """

    api_key: str | None = None
    command: bool = False


NOBODY = Sender()
COMMAND = Sender(command=True)


class Ingested(msgspec.Struct, frozen=True):
    """What became of a feed."""

    rows: Annotated[int, Meta(description="Rows read.")]
    stores: Annotated[int, Meta(description="Stores that they name.")]
    new: Annotated[
        int,
        Meta(
            description="Polls of a store and instant that had none; exclusions that there were "
            "not; of all other feeds, the stores that had none of what it says."
        ),
    ]
    replaced: Annotated[
        int,
        Meta(description="Polls, exclusions or stores of which something else was known."),
    ]
    unchanged: Annotated[
        int, Meta(description="Polls, exclusions or stores of which the same was known.")
    ]
    removed: Annotated[
        int,
        Meta(
            description="What the feed took away without putting something else in its place: "
            "weeks with a date, by business hours without the column `valid_from`; names, tags "
            "and targets, by empty cells."
        ),
    ] = 0


class FeedLoad(msgspec.Struct, frozen=True):
    """A file, or the files of a command, that were loaded."""

    feed: Annotated[Feed, Meta(description="Which feed it was.")]
    at: Annotated[datetime, Meta(description="When.")]
    api_key: Annotated[
        str | None, Meta(description="The name of the API key that it came with; null: without.")
    ]
    command: Annotated[bool, Meta(description="Whether `storewatch ingest` read it.")]
    loaded: Annotated[Ingested, Meta(description="What became of it.")]


class FeedRefusal(msgspec.Struct, frozen=True):
    """A file, or the files of a command, with something wrong: nothing of it was stored."""

    feed: Annotated[
        Feed | None, Meta(description="Which feed it was; null: its first line did not tell.")
    ]
    at: Annotated[datetime, Meta(description="When.")]
    api_key: Annotated[
        str | None, Meta(description="The name of the API key that it came with; null: without.")
    ]
    command: Annotated[bool, Meta(description="Whether `storewatch ingest` read it.")]
    fault: Annotated[str, Meta(description="The first thing that was wrong, in words.")]
    faults: Annotated[int, Meta(description="How many things were wrong.")]


class Known(NamedTuple):
    """How much there is.

    Attributes:
        stores: that feeds have named
        without_hours: of those, stores without business hours
        without_zone: of those, stores without a time zone of their own
        polls: of all stores
        polls_exact: whether they were counted; else it is an estimate
        newest_poll: its instant; None: there is no poll
        now: when that was so, by the database's clock
    """

    stores: int
    without_hours: int
    without_zone: int
    polls: int
    polls_exact: bool
    newest_poll: datetime | None
    now: datetime


async def note_load(
    connection: asyncpg.Connection, feed: Feed, sender: Sender, done: Ingested
) -> None:
    """Note a file that was loaded, in the transaction that stores it."""
    await connection.execute(
        """
        with added as (
            insert into feed_load
                (feed, api_key, from_command, rows, stores, new, replaced, unchanged, removed)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        )
        delete from feed_load where id in (
            select id from feed_load where feed = $1 order by id desc offset $10
            for update skip locked
        )
        """,
        *(feed, *sender, *msgspec.structs.astuple(done), KEPT - 1),
    )


async def note_refusal(
    pool: asyncpg.Pool, feed: Feed | None, sender: Sender, refused: FeedRefused
) -> None:
    """Note a file that was refused, if the database takes it."""
    try:
        async with asyncio.timeout(_NOTING_SECONDS):
            await pool.execute(
                """
                with added as (
                    insert into feed_refusal (feed, api_key, from_command, fault, faults)
                    values ($1, $2, $3, $4, $5)
                )
                delete from feed_refusal where id in (
                    select id from feed_refusal where feed is not distinct from $1
                    order by id desc offset $6 for update skip locked
                )
                """,
                *(feed, *sender, *_faults(refused), KEPT - 1),
            )
    except DATABASE_FAILED as error:
        log.warning("cannot note that a feed was refused: %s", error or type(error).__name__)


def _faults(refused: FeedRefused) -> tuple[str, int]:
    """The first fault, in words, and how many there are."""
    if isinstance(refused, FeedUnknown):
        whose = "that of several feeds" if refused.feeds else "none of a feed's"
        told, count = f"the first line is {whose}: {refused.first_line!r}", 1
    else:
        first, count = refused.faults[0], refused.count
        # Of a file of a command the name tells enough; it may hold bytes that are no text.
        told = str(replace(first, source=PurePath(first.source).name))
    told = told.encode(errors="replace").decode().replace("\0", "\ufffd")
    return told if len(told) <= _LONGEST_FAULT else f"{told[: _LONGEST_FAULT - 1]}…", count


class Refusals:
    """Notes refusals behind the answers that tell of them."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._noting: set[asyncio.Task[None]] = set()

    def note(self, feed: Feed | None, sender: Sender, refused: FeedRefused) -> None:
        """Note one, unless too many are being noted."""
        if len(self._noting) < _NOTING:
            task = asyncio.create_task(note_refusal(self._pool, feed, sender, refused))
            self._noting.add(task)
            task.add_done_callback(self._noting.discard)

    async def settle(self) -> None:
        """Wait a moment for those that are being noted, so that whoever asks next is told them."""
        if self._noting:
            await asyncio.wait(self._noting, timeout=_SETTLE_SECONDS)


async def read_loads(pool: asyncpg.Pool) -> list[FeedLoad]:
    """The files that were loaded last, the newest first."""
    rows = await pool.fetch("select * from feed_load order by id desc")
    return [
        FeedLoad(row["feed"], row["at"], row["api_key"], row["from_command"], _counts(row))
        for row in rows
    ]


def _counts(row: Mapping[str, int]) -> Ingested:
    return Ingested(*(row[name] for name in Ingested.__struct_fields__))


async def read_refusals(pool: asyncpg.Pool) -> list[FeedRefusal]:
    """The files that were refused last, the newest first."""
    rows = await pool.fetch(
        """
        select feed, at, api_key, from_command, fault, faults from feed_refusal order by id desc
        """
    )
    return [FeedRefusal(*row) for row in rows]


async def read_known(pool: asyncpg.Pool) -> Known:
    """How much there is; at millions of stores within some tenths of a second."""
    row = await pool.fetchrow(
        """
        with size as (
            select greatest(sum(pg_relation_size(relid)), 1)::bigint as bytes
            from pg_partition_tree('poll_day')
        )
        select stores.*, counted.polls, bytes, newest.instant, now() as now
        from size,
            (
                select count(*) as stores,
                       count(*) filter (
                           where business_hours is null and dated_weeks is null
                       ) as without_hours,
                       count(*) filter (where timezone is null) as without_zone
                from store
            ) as stores,
            (
                select coalesce(sum(length(polls)), 0) / 4 as polls
                from poll_day tablesample system (
                    least(100, 100.0 * $1::bigint / (select bytes from size))
                )
            ) as counted
            left join newest_poll as newest on true
        """,
        _COUNTED_BYTES,
    )
    polls, size = int(row["polls"]), row["bytes"]
    exact = size <= _COUNTED_BYTES
    if not exact:
        polls = round(polls * size / _COUNTED_BYTES)
        polls = round(polls, 2 - len(str(polls)))
    return Known(
        row["stores"],
        row["without_hours"],
        row["without_zone"],
        polls,
        exact,
        row["instant"],
        row["now"],
    )
