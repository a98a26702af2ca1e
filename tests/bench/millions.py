"""One report over millions of stores with a day of polls, by own workers and then by a cluster."""

import asyncio
import os
import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import asyncpg
import httpx
import psutil

from service.database.pool import open_pool
from service.workers.pool import Workers
from tests.bench import subject
from tests.bench.cluster import server, with_a_cluster
from tests.bench.measure import console
from tests.harness.service import Service, running_service

#: Stores that are made up, at most; the others are copies of them under other ids.
_MADE_UP = 100_000
_PATIENCE = 3600
_COPIES = """
    insert into store (store_id, timezone, business_hours)
    select store_id || '-' || copy, timezone, business_hours
    from (select * from store order by store_id) as made_up, generate_series(1, $1::integer) as copy
"""
_POLLS_OF_COPIES = """
    insert into poll_day (store, day, polls)
    select copy.id, day, polls
    from store as copy
    join store as made_up on made_up.store_id = substring(copy.store_id from '^(.*)-[0-9]+$')
    join poll_day on poll_day.store = made_up.id
"""


def measure(folder: Path, *, stores: int) -> None:
    """Load so many stores, or a few less; then make their report twice."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch, ExitStack() as stack:
        place = Path(scratch)
        place.chmod(0o755)
        url = stack.enter_context(server(place))
        begun = time.perf_counter()
        asyncio.run(_load(url, place, folder, stores))
        console.print(f"Loaded in {time.perf_counter() - begun:.0f} s")
        with running_service(url, place / "alone") as service:
            _report(service, "own workers", [])
        with with_a_cluster(url, place) as (service, cluster):
            _report(service, "cluster", [worker.pid for worker in cluster.workers])


async def _load(url: str, place: Path, folder: Path, stores: int) -> None:
    workers = Workers(os.cpu_count() or 1)
    made_up = min(stores, _MADE_UP)
    try:
        async with open_pool(url, place, own=False) as pool:
            await subject.load_many(pool, workers, folder, made_up, days=1)
            run = partial(pool.execute, timeout=_PATIENCE)
            await run(_COPIES, stores // made_up - 1)
            await run("analyze store")
            await run(_POLLS_OF_COPIES)
            await run("vacuum analyze")
            await run("checkpoint")
            await _show_sizes(pool)
    finally:
        workers.close()


async def _show_sizes(pool: asyncpg.Pool) -> None:
    [stores, polls, of_stores, of_polls] = await pool.fetchrow(
        """
        select (select count(*) from store), (select sum(length(polls)) / 4 from poll_day),
               pg_total_relation_size('store'),
               (select sum(pg_total_relation_size(relid))::bigint
                from pg_partition_tree('poll_day'))
        """,
        timeout=_PATIENCE,
    )
    console.print(
        f"{stores:,} stores, {polls:,} polls: store has {of_stores / 1e9:.2f} GB, "
        f"poll_day {of_polls / 1e9:.2f} GB, with their indexes"
    )


def _report(service: Service, by: str, workers: Sequence[int]) -> None:
    process = psutil.Process(service.pid)
    before, begun = process.cpu_times(), time.perf_counter()
    with httpx.Client(base_url=service.base_url, timeout=60) as client:
        file = subject.report(service, client, {"windows": ["24h"]})
    taken, after = time.perf_counter() - begun, process.cpu_times()
    processor = after.user + after.system - before.user - before.system
    peaks = [_peak(pid) for pid in workers or [worker.pid for worker in service.workers()]]
    console.print(
        f"{by}: {taken:.1f} s, of the service's own process {processor:.1f} s of processor time; "
        f"a CSV of {file.stat().st_size / 1e6:.0f} MB; resident at most "
        f"{_peak(service.pid)} MiB, each of {len(peaks)} workers {max(peaks)} MiB"
    )


def _peak(pid: int) -> int:
    """The most MiB that a process had resident, with what it shares with others."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) // 1024 if found else 0
