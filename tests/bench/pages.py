"""Pages and downloads of a finished report: how long they take, and what the service holds."""

import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx
import numpy as np
import psutil

from compute.polls import WORD
from tests.bench import subject
from tests.bench.measure import console, held_by
from tests.harness.service import Service, running_service

_DAY = 19_000  # 2022-01-08
_HOUR_MS = 3_600_000
_POLLS = 24
#: Different days of polls among the stores.
_DAYS = 64
#: What stores are asked for by.
_PAGES: dict[str, dict[str, str | list[str]]] = {
    "by id": {},
    "by downtime": {"sort": "-downtime_last_week"},
    "by availability, of a tag": {"sort": "availability_last_day", "tag": "brand:brand 3"},
    "two tags, below 0.9": {"tag": ["brand:brand 3", "region:region 3"], "below": "0.9"},
    "missed, by downtime": {"missed": "true", "sort": "-downtime_last_day", "window": "last_day"},
    "search of ids and names": {"search": "Street 77"},
    "down now": {"condition": "down_now"},
}
#: What a report may have beside a target and windows.
_OPTIONS = {
    "group_by": ["manager", "region"],
    "queryable": True,
    "include_unknown": True,
    "include_excluded": True,
}
#: Of its windows, if there is no number of them.
_HOURS = [1, 24, 48, 168]
_NDJSON, _PARQUET = "application/x-ndjson", "application/vnd.apache.parquet"


def measure(
    folder: Path, *, stores: int, rounds: int, windows: int, every_option: bool = False
) -> None:
    """Make a report over many stores with names, five tags and targets, and ask for all of it.

    Args:
        folder: of what is kept between runs
        stores: how many
        rounds: pages of each kind after the first
        windows: how many; 0: the default three
        every_option: whether the report also has groups, windows, stores for SQL and all columns
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        home = Path(scratch)
        home.chmod(0o755)
        with (
            running_service(None, home) as service,
            httpx.Client(base_url=service.base_url, timeout=600) as client,
        ):
            asyncio.run(_load(home, stores))
            asked: dict[str, object] = {"target": "0.95"}
            hours = list(range(1, windows + 1))
            if every_option:
                asked |= _OPTIONS
                hours = hours or _HOURS
            if hours:
                asked["windows"] = [f"{one}h" for one in hours]
            begin = time.perf_counter()
            with _peak(service) as most:
                subject.report(service, client, asked)
            console.print(
                f"Report over {stores:,} stores: {time.perf_counter() - begin:.1f} s, "
                f"the service at most {most[0]:.0f} MiB"
            )
            (report,) = client.get("/reports").json()["items"]
            for file in sorted(service.reports.iterdir()):
                console.print(f"{file.suffix}: {file.stat().st_size / 2**20:.0f} MiB")
            _show_pages(
                service, client, f"/reports/{report['id']}", rounds, last=max(hours, default=0)
            )
            _show_downloads(service, f"/reports/{report['id']}")


async def _load(home: Path, stores: int) -> None:
    """Stores of some brands and regions with a day of polls."""
    rng = np.random.default_rng(1)
    days = []
    for _ in range(_DAYS):
        active = rng.random(_POLLS) < rng.random()
        polls = (np.arange(_POLLS) * _HOUR_MS << 1) | active
        days.append(polls.astype(WORD).tobytes())
    async with subject.loader(home) as (pool, _):
        await _insert(pool, stores, days)


async def _insert(pool: asyncpg.Pool, stores: int, days: list[bytes]) -> None:
    await pool.execute(
        """
        insert into store (store_id, name, tags, target)
        select md5(n::text)::uuid::text, 'Street ' || n, jsonb_build_object(
            'brand', 'brand ' || n % 20, 'region', 'region ' || n % 50,
            'manager', 'manager ' || n % 5000, 'format', 'format ' || n % 4, 'code', n::text
        ), case when n % 10 = 0 then 99500000 end
        from generate_series(1, $1::integer) as n order by 1
        """,
        stores,
        timeout=600,
    )
    await pool.execute(
        "insert into poll_day (store, day, polls) select id, $1, ($2::bytea[])[1 + id % $3] "
        "from store order by id",
        _DAY,
        days,
        len(days),
        timeout=600,
    )
    newest = _DAY * 86_400 + (_POLLS - 1) * _HOUR_MS / 1000
    await pool.execute("insert into newest_poll_row (instant) values (to_timestamp($1))", newest)
    await pool.execute("vacuum analyze", timeout=600)


def _show_pages(
    service: Service, client: httpx.Client, path: str, rounds: int, *, last: int
) -> None:
    begin = time.perf_counter()
    client.get(f"{path}/stores", params={"sort": "-store_id"}).raise_for_status()
    console.print(f"The first page of all: {1000 * (time.perf_counter() - begin):.0f} ms")
    for name, query in _PAGES.items():
        if last and name == "down now":
            continue
        asked = {
            key: value.replace("last_week", f"last_{last}h").replace("last_day", "last_24h")
            if last and isinstance(value, str)
            else value
            for key, value in query.items()
        }
        taken = []
        for turn in range(rounds + 1):
            page = {**asked, "offset": str(100 * turn)}  # no two are the same
            begin = time.perf_counter()
            told = client.get(f"{path}/stores", params=page).raise_for_status()
            taken.append(1000 * (time.perf_counter() - begin))
        cold, *warm = taken
        console.print(
            f"{name}, {told.json()['total']:,} stores: "
            f"first {cold:.0f} ms, then {statistics.median(warm):.0f} ms, worst {max(warm):.0f} ms"
        )
    console.print(f"The service then holds {_held(service):.0f} MiB")


def _held(service: Service) -> float:
    return held_by([psutil.Process(service.pid)])


@contextmanager
def _peak(service: Service) -> Iterator[list[float]]:
    """The most that the service's own process holds while a block runs, MiB."""
    most, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            most[0] = max(most[0], _held(service))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def _show_downloads(service: Service, path: str) -> None:
    plain = {"Accept-Encoding": "identity"}
    asked: Mapping[str, tuple[str, dict[str, str]]] = {
        "NDJSON": ("rows", {"Accept": _NDJSON, **plain}),
        "NDJSON, gzip": ("rows", {"Accept": _NDJSON, "Accept-Encoding": "gzip"}),
        "Parquet": ("rows", {"Accept": _PARQUET}),
        "CSV by downtime": ("stores?sort=-uptime_last_day", {"Accept": "text/csv", **plain}),
    }
    for name, (what, headers) in asked.items():
        if (
            "last_day" in what
            and httpx.get(f"{service.base_url}{path}").json()["options"]["windows"]
        ):
            what = what.replace("last_day", "last_24h")
        size = 0
        begin = time.perf_counter()
        with (
            _peak(service) as most,
            httpx.stream(
                "GET", f"{service.base_url}{path}/{what}", headers=headers, timeout=600
            ) as got,
        ):
            got.raise_for_status()
            for piece in got.iter_raw():
                size += len(piece)
        console.print(
            f"{name}: {time.perf_counter() - begin:.1f} s, {size / 2**20:.0f} MiB, "
            f"the service at most {most[0]:.0f} MiB"
        )
