"""What it costs that a report's stores can be queried by SQL, and what a query takes."""

import asyncio
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import httpx

from tests.bench import subject
from tests.bench.measure import console, in_turns, show
from tests.harness.service import running_service

#: As docs/sql.md has them; the newest report is looked up anew each time.
QUERIES = {
    "the newest report's windows": """
        select * from report_result
        where report_id = (select report_id from report_result order by finished_at desc limit 1)
    """,
    "20 stores with most downtime": """
        select store_id, timezone, downtime_seconds, availability from report_store_result
        where report_id = (
            select report_id from report_store_result order by finished_at desc limit 1
        ) and window_name = $1
        order by downtime_seconds desc, store_id limit 20
    """,
    "availability by zone": """
        select timezone, count(*), sum(uptime_seconds) / sum(uptime_seconds + downtime_seconds)
        from report_store_result
        where report_id = (
            select report_id from report_store_result order by finished_at desc limit 1
        ) and window_name = $1
        group by timezone
    """,
    "every row of a window": """
        select * from report_store_result
        where report_id = (
            select report_id from report_store_result order by finished_at desc limit 1
        ) and window_name = $1
    """,
}


def measure(folder: Path, *, stores: int, rounds: int, windows: list[str]) -> None:
    """Reports with and without the option, in turns; then the size of the tables, and queries."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        place = Path(scratch)
        place.chmod(0o755)
        home = place / "storewatch"

        async def load() -> None:
            async with subject.loader(home) as (pool, workers):
                await subject.load_many(pool, workers, folder, stores)

        home.mkdir()
        asyncio.run(load())
        asked: dict[str, object] = {"windows": windows} if windows else {}
        with (
            running_service(None, home) as service,
            httpx.Client(base_url=service.base_url, timeout=600) as client,
        ):
            report = partial(_report, client, asked)
            queryable = partial(_report, client, {**asked, "queryable": True})
            report()
            queryable()
            taken = in_turns({"without": report, "queryable": queryable}, rounds)
            kind = f"{len(windows)} windows" if windows else "the default windows"
            show(f"Report of {stores:,} stores, {kind}", taken, against="without")
            asyncio.run(_queries(home, rounds, windows))


def _report(client: httpx.Client, asked: dict[str, object]) -> None:
    """One report, until its state says that it is there."""
    path = client.post("/reports", json=asked).headers["Location"]
    while (state := client.get(path).json()["status"]) in ("queued", "running"):
        time.sleep(0.01)
    if state != "completed":
        raise RuntimeError(f"the report is {state}")


async def _queries(home: Path, rounds: int, windows: list[str]) -> None:
    async with subject.loader(home) as (pool, _):
        reports, size = await pool.fetchrow(
            """
            select count(distinct report), pg_total_relation_size('report_store_batch')
                + pg_total_relation_size('report_store_totals')
            from report_store_batch
            """
        )
        console.print(f"A report's stores take {size / reports / 2**20:.1f} MiB of the database")
        last = await pool.fetchval(
            """
            select window_name from report_result
            where report_id = (select report from report_store_batch limit 1)
            order by window_number desc limit 1
            """
        )
        for name, query in QUERIES.items():
            arguments = [last] if "$1" in query else []
            taken = []
            for _ in range(rounds):
                begin = time.perf_counter()
                rows = len(await pool.fetch(query, *arguments))
                taken.append(time.perf_counter() - begin)
            console.print(f"{name}: {rows:,} rows, {statistics.median(taken) * 1000:.1f} ms")
        begin = time.perf_counter()
        await pool.execute("update report set state = 'expired' where state = 'completed'")
        each = (time.perf_counter() - begin) / reports
        console.print(f"removing the stores of a report: {each * 1000:.1f} ms")
