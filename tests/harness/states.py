"""Instances that look at stores by a clock of the test's own, and the stores that they look at."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import asyncpg
import numpy as np

from compute.feed_rows import FeedRows
from compute.outages import NO_INSTANT
from compute.polls import pack_polls
from compute.timeline import STATES
from service.database.migrations import migrate
from service.database.pool import READING, REQUESTS, WORK, pool_of
from service.feeds.poll_line import PollLine
from service.feeds.storing import storing
from service.states.evaluator import Evaluator
from service.states.look import NEVER_SEEN, Look
from service.workers.pool import Workers
from tests.harness.kernel import packed_hours
from tests.harness.reference import DAY, Store

#: Of all looks; and between two looks at all stores.
MAX_GAP, EVERY = DAY, 60


@dataclass
class World:
    """A database with stores, a clock, and instances that look at them.

    Attributes:
        now: milliseconds since 1970-01-01 UTC
        pool: of connections
        instances: those that look
        lines: the line of polls of each
        looks: what each look found, in order, also those that were not committed
        numbers: of the stores in the database, by their ids
    """

    now: int
    pool: asyncpg.Pool
    instances: list[Evaluator] = field(default_factory=list)
    lines: list[PollLine] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    async def clock(self, _connection: asyncpg.Connection) -> int:
        return self.now

    async def note(self, _connection: asyncpg.Connection, look: Look) -> None:
        self.looks.append(look)

    async def round(self, instance: int = 0) -> Look:
        """A look at all stores, a minute later."""
        self.now += 1000 * EVERY
        assert await self.instances[instance].look_at_all()
        return self.looks[-1]

    async def poll(self, store_id: str, *, active: bool, at: int, instance: int = 0) -> None:
        """A single poll, as a poller sends it."""
        value = np.array([at << 1 | active])
        await self.lines[instance].store(FeedRows([store_id], np.zeros(1, dtype=np.int64), value))

    async def load(self, store: Store) -> None:
        """All that feeds say of a store, in place of what they said before."""
        async with storing(self.pool) as connection:
            self.numbers[store.store_id] = await write_store(connection, store)

    async def state_of(self, store_id: str) -> str | None:
        state = await self.pool.fetchval(
            "select state from store_state join store on store.id = store where store_id = $1",
            store_id,
        )
        return None if state is None else STATES[state]

    async def changes(self) -> list[tuple[str, str, str, int]]:
        """All that are kept: store, before, state and the look's instant."""
        rows = await self.pool.fetch(
            "select store_id, before, state, as_of from state_change order by id"
        )
        return [(store, STATES[before], STATES[state], at) for store, before, state, at in rows]


def told(look: Look, number: int) -> tuple[str, int | None, int, int] | None:
    """State, since, downtime and silence of a store; None: it was not looked at."""
    (place,) = np.nonzero(look.store == number)
    if not len(place):
        return None
    since = int(look.since[place[0]])
    return (
        STATES[look.state[place[0]]],
        None if since == NO_INSTANT else since,
        int(look.down_for[place[0]]),
        int(look.silent_for[place[0]]),
    )


def transitions(look: Look) -> list[tuple[int, str, str]]:
    """Number, state before and state of those that changed."""
    changed = (look.before != look.state) & (look.before != NEVER_SEEN)
    columns = (column[changed].tolist() for column in (look.store, look.before, look.state))
    return [
        (store, STATES[before], STATES[state])
        for store, before, state in zip(*columns, strict=True)
    ]


@asynccontextmanager
async def world(
    database_url: str, now: int, instances: int = 1, idle: float = REQUESTS.idle
) -> AsyncIterator[World]:
    """A world that begins at an instant; `idle`: for how long a transaction may be silent, s."""
    connection = await asyncpg.connect(database_url)
    await migrate(connection)
    await connection.close()
    workers = Workers(2)
    try:
        async with (
            pool_of(database_url, WORK, 4) as pool,
            pool_of(database_url, replace(REQUESTS, idle=idle), 3 * instances) as own,
            pool_of(database_url, READING, 3 * instances) as reading,
        ):
            made = World(now, pool)
            for _ in range(instances):
                looker = Evaluator(
                    *(own, reading, workers),
                    every=EVERY,
                    max_gap=MAX_GAP,
                    on_look=(made.note,),
                    clock=made.clock,
                )
                made.instances.append(looker)
                made.lines.append(PollLine(own, looker.touch))
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(line._run()) for line in made.lines]
                yield made
                for task in tasks:
                    task.cancel()
    finally:
        workers.close()


async def write_store(connection: asyncpg.Connection, store: Store) -> int:
    """All that feeds say of a store, but for names, tags and exclusions by tags; its number."""
    hours, weeks, special = (packed or None for packed in packed_hours(store))
    zone = store.timezone and await connection.fetchval(
        """
        with added as (
            insert into timezone (name) values ($1) on conflict (name) do nothing returning id
        )
        select id from added union all select id from timezone where name = $1
        """,
        store.timezone,
    )
    number: int = await connection.fetchval(
        """
        insert into store (store_id, timezone, business_hours, dated_weeks, special_hours)
        values ($1, $2, $3, $4, $5)
        on conflict (store_id) do update set
            timezone = $2, business_hours = $3, dated_weeks = $4, special_hours = $5
        returning id
        """,
        *(store.store_id, zone, hours, weeks, special),
    )
    await connection.execute("delete from poll_day where store = $1", number)
    await connection.executemany(
        "insert into poll_day (store, day, polls) values ($1, $2, $3)",
        [(number, day, polls) for day, polls in _days(sorted(dict(store.polls).items()))],
    )
    await connection.execute("delete from exclusion where store_ids = array[$1]", store.store_id)
    await connection.executemany(
        """
        insert into exclusion (store_ids, begins, ends, reason, whom)
        values (array[$1], to_timestamp($2::float8 / 1000), to_timestamp($3::float8 / 1000), '',
                sha256($1::bytea))
        """,
        [(store.store_id, first, last) for first, last in store.exclusions],
    )
    return number


def _days(polls: Sequence[tuple[int, bool]]) -> list[tuple[int, bytes]]:
    value = np.array([instant << 1 | active for instant, active in polls], dtype=np.int64)
    days = pack_polls(np.zeros(len(value), dtype=np.int64), value)
    ends = np.cumsum(days.size).tolist()
    starts = [0, *ends][: len(ends)]
    return [
        (day, days.packed[start:end])
        for day, start, end in zip(days.day.tolist(), starts, ends, strict=True)
    ]
