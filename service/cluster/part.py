"""A part of a report, as a worker of the cluster makes it: it reads what it needs by itself.

The worker's own environment names the database, as DATABASE_URL: no password goes through the
scheduler.
"""

import asyncio
import os
import traceback
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import NamedTuple

import asyncpg
import msgspec
import numpy as np

from compute.batch import Question
from compute.polls import WORD
from compute.report_rows import ReportRows, joined, report_rows
from compute.zones import TZ_VERSION
from service.database.pool import (
    DATABASE_FAILED,
    READING,
    Database,
    DatabaseUnavailable,
    pool_of,
)
from service.stores.batches import read_batch
from service.stores.selection import Selection
from service.stores.snapshot import Stretch, shared_snapshot

#: Connections of a worker process: each of its threads makes a part.
_CONNECTIONS = 16
_URL, _REPLICAS = "DATABASE_URL", "DATABASE_REPLICAS"
_FAILED = (DatabaseUnavailable, *DATABASE_FAILED)


class Software(msgspec.Struct, frozen=True):
    """What has to be the same everywhere, or parts would not fit together.

    Attributes:
        storewatch: its version
        tz: version of the tz database
        numpy: its version
    """

    storewatch: str
    tz: str
    numpy: str


SOFTWARE = Software(version("storewatch"), TZ_VERSION, np.__version__)


class DatabaseName(NamedTuple):
    """Which database it is, however it is reached.

    Attributes:
        server: the server's own number
        oid: the database's number there
    """

    server: int
    oid: int


class Introduction(msgspec.Struct, frozen=True):
    """What a worker says of itself.

    Attributes:
        software: what it runs
        database: which one it reads; None: it cannot
        problem: why not; empty: it can
    """

    software: Software
    database: DatabaseName | None
    problem: str = ""


class Part(msgspec.Struct, frozen=True):
    """What is to be made.

    Attributes:
        snapshot: name of the report's snapshot, which is open until all parts are there
        stretch: of ids of stores
        wanted: the stores that count
        question: of the report
        server: that has the snapshot: 0: the primary, else which of the replicas, from 1 on
    """

    snapshot: str
    stretch: Stretch
    wanted: Selection
    question: Question
    server: int = 0


class PartFailed(msgspec.Struct, frozen=True):
    """A part was not made.

    Attributes:
        why: in words, or the stack of what nobody expected: not all of them can be sent as such
        again: whether the database did not give what was needed
    """

    why: str
    again: bool


class MadePart(msgspec.Struct, frozen=True):
    """A part that was made.

    Attributes:
        rows: of its stores
        polls: how many were read
    """

    rows: ReportRows
    polls: int


async def database_name(connection: Database) -> DatabaseName:
    """Which database a connection is of."""
    row = await connection.fetchrow(
        """
        select system_identifier, pg_database.oid::bigint
        from pg_control_system(), pg_database where datname = current_database()
        """
    )
    return DatabaseName(*row)


async def introduce() -> Introduction:
    """What this process says of itself, if it is a worker of the cluster."""
    if _URL not in os.environ:
        return Introduction(SOFTWARE, None, f"its environment has no {_URL}")
    try:
        return Introduction(SOFTWARE, await database_name(await _own.pool()))
    except _FAILED as error:
        return Introduction(SOFTWARE, None, f"its database: {error or type(error).__name__}")


async def make_part(part: Part) -> MadePart | PartFailed:
    """Read and compute a part of a report: runs in a worker of the cluster."""
    question = part.question
    days = sum(last - first + 1 for first, last in question.day_ranges)
    rows: list[ReportRows] = []
    polls = 0
    try:
        async with shared_snapshot(await _own.pool(part.server), part.snapshot) as stored:
            zones = await stored.zone_names()
            excluded = await stored.exclusions_between(*question.stretch)
            async for page in stored.pages(part.wanted, days, part.stretch):
                batch = await read_batch(stored, page, zones, question, excluded)
                rows.append(await asyncio.to_thread(report_rows, batch, question))
                polls += len(batch.polls) // WORD.itemsize
    except _FAILED as error:
        return PartFailed(str(error) or type(error).__name__, again=True)
    except Exception:
        return PartFailed(traceback.format_exc(), again=False)
    return MadePart(joined(rows, len(question.windows)), polls)


class _OwnDatabase:
    """The connections of this process, opened when the first part comes."""

    def __init__(self) -> None:
        self._opening = asyncio.Lock()
        self._opened: dict[int, asyncpg.Pool] = {}
        self._stack = AsyncExitStack()

    async def pool(self, server: int = 0) -> asyncpg.Pool:
        async with self._opening:
            if server not in self._opened:
                opened = pool_of(_url(server), READING, _CONNECTIONS)
                self._opened[server] = await self._stack.enter_async_context(opened)
            return self._opened[server]


def _url(server: int) -> str:
    if not server:
        return os.environ[_URL]
    replicas = [one.strip() for one in os.environ.get(_REPLICAS, "").split(",") if one.strip()]
    if server > len(replicas):
        raise DatabaseUnavailable(
            f"its {_REPLICAS} has no replica {server}: it has to name the same, in the same order"
        )
    return replicas[server - 1]


_own = _OwnDatabase()
