"""A report's connections beside somebody who wants a table to himself: VACUUM FULL, a migration."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np

from service.database.pool import open_pool
from service.stores.snapshot import Snapshot, snapshot
from tests.harness.processes import PATIENCE

STORE = np.array([1])


async def _alone(url: str) -> None:
    """Have the polls to ourselves, for a moment."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("lock table poll_day in access exclusive mode")
    finally:
        await connection.close()


async def _waiting(url: str, task: asyncio.Task[None]) -> None:
    """Until the task waits for its lock."""
    connection = await asyncpg.connect(url)
    try:
        asked = "select exists (select from pg_locks where not granted)"
        while not await connection.fetchval(asked):
            assert not task.done()
            await asyncio.sleep(0.01)
    finally:
        await connection.close()


class _Pool:
    """A pool that lets something happen between the first connection and the second."""

    def __init__(self, pool: asyncpg.Pool, between: Coroutine[Any, Any, None]) -> None:
        self._pool, self._between, self.acquired = pool, between, 0
        self.waits = pool.waits

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[asyncpg.Connection]:
        self.acquired += 1
        if self.acquired == 2:
            await self._between
        async with self._pool.acquire() as connection:
            yield connection


async def _read_by_all(store: Snapshot) -> None:
    connections = [store._readers.get_nowait() for _ in range(store._readers.qsize())]
    for connection in connections:
        store._readers.put_nowait(connection)
    async with asyncio.timeout(PATIENCE):
        for _ in connections:
            await store.polls(STORE, [(0, 1)])
        await store.newest_poll()
        await store.zone_names()
        await store.count_stores()


def test_a_report_that_reads_goes_on_reading(database_url: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with open_pool(database_url, tmp_path, own=False) as pool:
            async with snapshot(pool) as store:
                alone = asyncio.create_task(_alone(database_url))
                await _waiting(database_url, alone)
                await _read_by_all(store)
                assert not alone.done()
            await asyncio.wait_for(alone, PATIENCE)

    asyncio.run(run())


def test_a_report_that_begins_lets_the_other_go_first(database_url: str, tmp_path: Path) -> None:
    async def run() -> None:
        others = []

        async def ask_for_the_table() -> None:
            others.append(asyncio.create_task(_alone(database_url)))
            await _waiting(database_url, others[0])

        async with open_pool(database_url, tmp_path, own=False) as pool:
            between = _Pool(pool, ask_for_the_table())
            async with asyncio.timeout(PATIENCE), snapshot(between) as store:
                assert others[0].done()
                assert between.acquired > 3
                await _read_by_all(store)

    asyncio.run(run())
