"""What looks at all stores cost, and at those whose polls have just come."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import numpy as np

from compute.axis import DAY_MS
from compute.feed_rows import FeedRows
from compute.instants import milliseconds_of
from service.database.embedded import embedded_postgres
from service.database.pool import READING, REQUESTS, pool_of
from service.states.evaluator import Evaluator
from service.states.told import count_states
from tests.bench import subject
from tests.bench.measure import console

#: Seconds between two looks at all stores, by the clock of the stores.
_EVERY = 60
#: Stores whose polls have come together.
_TOUCHED = 100


def measure(folder: Path, *, stores: int, rounds: int) -> None:
    """The first look of all, one a minute later, one from scratch, and one at some stores."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        place = Path(scratch)
        place.chmod(0o755)
        home = place / "storewatch"
        home.mkdir()
        asyncio.run(_looks(home, folder, stores, rounds))


async def _looks(home: Path, folder: Path, stores: int, rounds: int) -> None:
    async with (
        subject.loader(home) as (pool, workers),
        embedded_postgres(home, own=False) as url,
    ):
        await subject.load_many(pool, workers, folder, stores)
        now = milliseconds_of(subject.NEWEST)

        async def clock(_connection: asyncpg.Connection) -> int:
            return now

        async with (
            pool_of(url, REQUESTS, 2) as own,
            pool_of(url, READING, 3) as reading,
        ):
            looker = Evaluator(*(own, reading, workers), every=_EVERY, max_gap=DAY_MS, clock=clock)

            async def at_all() -> None:
                nonlocal now
                now += 1000 * _EVERY
                if not await looker.look_at_all():
                    raise RuntimeError("somebody else looks at the stores")

            names = await pool.fetch("select store_id from store order by id limit $1", _TOUCHED)
            touched = FeedRows([name for (name,) in names], np.arange(len(names)))

            async def at_some() -> None:
                polled = np.full(len(names), now << 1 | 1)
                looker.touch(FeedRows(touched.store_ids, touched.store, polled))
                await looker.look_at_touched()

            async def from_scratch() -> None:
                await pool.execute("insert into state_doubt default values")
                await at_all()

            console.print(f"Looks at {stores:,} stores, seconds")
            await _time("the first of all", at_all, 1)
            await _time("a minute later", at_all, rounds)
            await _time("after a feed, from scratch", from_scratch, max(1, rounds // 3))
            await _time(f"at {len(names)} stores with polls", at_some, rounds)
            # Of stores whose state is older than some days, a look has some more to read.
            left = "select count(*) from store_state where depth < 2"
            for _ in range(1000):
                if not await pool.fetchval(left):
                    break
                await at_all()
            await _time("when all is known", at_all, rounds)
            console.print(dict((await count_states(pool)).by_state))


async def _time(name: str, look: Callable[[], Awaitable[None]], rounds: int) -> None:
    taken = []
    for _ in range(rounds):
        begin = time.perf_counter()
        await look()
        taken.append(time.perf_counter() - begin)
    console.print(
        f"  {name}: median {statistics.median(taken):.3f}, best {min(taken):.3f}, "
        f"worst {max(taken):.3f}"
    )
