"""storewatch as it is measured: a running service, its database, and data of any size."""

import asyncio
import csv
import gzip
import itertools
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import httpx
import numpy as np

from compute.feed_faults import FeedRefused
from compute.feed_header import Feed
from compute.polls import pack_polls
from service.database.pool import open_pool
from service.feeds.ingest import FeedFile, ingest_each
from service.feeds.made_up import FeedFiles, poll_columns, store_ids, write_feed
from service.feeds.spool import spool_folder
from service.workers.pool import Workers
from tests.bench.measure import console
from tests.harness.service import Service

#: A week without a change of offset in any zone of the made-up feed: rivals differ on such days.
NEWEST = datetime(2024, 6, 13, 18, tzinfo=UTC)


def made_up(folder: Path, stores: int, days: int = 8) -> FeedFiles:
    """A feed of hourly polls, of a week and what speaks into it or longer; made once per size."""
    place = folder / (f"feed-{stores}" if days == 8 else f"feed-{stores}-{days}")
    if not place.exists():
        console.print(f"Making up a feed of {stores:,} stores, {days} days")
        partial = place.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        write_feed(partial, stores=stores, days=days, newest=NEWEST, order="shuffled")
        partial.rename(place)
    return FeedFiles(*(place / f"{name}.csv" for name in FeedFiles.__struct_fields__))


def given(folder: Path, feed: Path) -> FeedFiles:
    """A feed of somebody's own, unpacked: its files told by their headers."""
    found: dict[str, Path] = {}
    unpacked = folder / "feed-given"
    unpacked.mkdir(exist_ok=True)
    for file in sorted(feed.iterdir()):
        if not file.name.endswith((".csv", ".csv.gz")) or "sample" in file.name:
            continue
        plain = unpacked / file.name.removesuffix(".gz")
        opened = gzip.open if file.suffix == ".gz" else open
        with opened(file, "rb") as source, plain.open("wb") as target:
            shutil.copyfileobj(source, target)
        with plain.open(newline="") as text:
            header = next(csv.reader(text))
        kind = (
            "polls"
            if "status" in header
            else "business_hours"
            if "start_time_local" in header
            else "timezones"
        )
        found[kind] = plain
    return FeedFiles(**found)


@asynccontextmanager
async def loader(home: Path) -> AsyncIterator[tuple[asyncpg.Pool, Workers]]:
    """What an ingest needs: the database under `home`, and workers."""
    workers = Workers(60)
    try:
        async with open_pool(None, home, own=False) as pool:
            yield pool, workers
    finally:
        workers.close()


async def load(pool: asyncpg.Pool, workers: Workers, feed: FeedFiles) -> None:
    """Load a whole feed, as the command does."""
    await _load(pool, workers, feed, ("timezones", "business_hours", "polls"))


async def _load(
    pool: asyncpg.Pool, workers: Workers, files: FeedFiles, feeds: Sequence[Feed]
) -> None:
    texts = [(feed, [FeedFile(feed, _pieces(getattr(files, feed)))]) for feed in feeds]
    aside = spool_folder(files.polls.parent)
    async for done in ingest_each(pool, workers, texts, aside=aside):
        if isinstance(done, FeedRefused):
            raise done


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as source:
        while piece := await asyncio.to_thread(source.read, 1 << 20):
            yield piece


async def load_many(
    pool: asyncpg.Pool,
    workers: Workers,
    folder: Path,
    stores: int,
    newest: datetime = NEWEST,
    days: int = 8,
) -> int:
    """Load made-up stores with a week of polls, or so many days, without 10 GB of text.

    Hours and zones are ingested; polls are copied into their table, then put in the order that
    an ingest writes them in. Returns the number of polls.
    """
    feed = folder / f"hours-{stores}"
    if not feed.exists():
        # A day of polls: the feed's hours and zones are the same for any number of days.
        write_feed(feed, stores=stores, days=1, newest=NEWEST)
    files = FeedFiles(*(feed / f"{name}.csv" for name in FeedFiles.__struct_fields__))
    await _load(pool, workers, files, ("timezones", "business_hours"))
    await pool.execute(
        "insert into store (store_id) select unnest($1::text[]) on conflict do nothing",
        [name.decode() for name in np.sort(store_ids(stores)).tolist()],
    )
    number_of = dict(await pool.fetch("select store_id, id from store"))
    numbers = np.array([number_of[name.decode()] for name in store_ids(stores).tolist()])
    polls = 0
    for store, instant, active in poll_columns(stores, days, newest=newest):
        packed = pack_polls(numbers[store], instant << 1 | active)
        await pool.copy_records_to_table(
            "poll_day",
            records=zip(*packed.rows(), strict=True),
            columns=["store", "day", "polls"],
        )
        polls += len(instant)
    await pool.execute("select note_newest_poll($1)", newest)
    await pool.execute("cluster poll_day using poll_day_pkey", timeout=3600)
    await pool.execute("vacuum analyze", timeout=3600)
    return polls


def report(
    service: Service, client: httpx.Client, options: Mapping[str, object] | None = None
) -> Path:
    """One report, from the request until its file is there and its state says so."""
    if options is None:
        report_id = client.get("/trigger_report").json()["report_id"]
    else:
        report_id = client.post("/reports", json=options).json()["id"]
    file = service.csv(report_id)

    def started() -> bool:
        status: str = client.get(f"/get_report/{report_id}").json()["status"]
        if status not in ("Started", "Completed"):
            raise RuntimeError(f"the report is {status}: {service.log}")
        return status == "Started"

    # To look for the file takes nothing from the service; to ask it every few milliseconds would.
    for look in itertools.count(1):
        if file.exists() or (look % 500 == 0 and not started()):
            break
        time.sleep(0.001)
    while started():
        time.sleep(0.001)
    return file


def hourly_polls(ids: list[str], hours: int) -> Iterator[bytes]:
    """Files of one new poll per store, each an hour after the one before."""
    newest = int(NEWEST.timestamp())
    for hour in range(1, hours + 1):
        instant = datetime.fromtimestamp(newest + 3600 * hour, UTC)
        rows = [f"{store_id},active,{instant:%Y-%m-%d %H:%M:%S}.5 UTC" for store_id in ids]
        yield "\n".join(["store_id,status,timestamp_utc", *rows, ""]).encode()
