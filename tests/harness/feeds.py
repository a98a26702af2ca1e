"""Made-up feeds: loaded, read back as the slow reference takes stores, and reported on by it."""

import csv
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from service.feeds.made_up import FeedFiles
from tests.harness.processes import storewatch
from tests.harness.reference import EPOCH, HOUR, MILLISECOND, MINUTE, Store, reference_csv_row

HEADER = (
    "store_id,uptime_last_hour,uptime_last_day,uptime_last_week,"
    "downtime_last_hour,downtime_last_day,downtime_last_week"
)


def ingest(feed: FeedFiles, *, database_url: str | None, home: Path) -> None:
    """Load a whole feed, which must succeed."""
    files = ("--polls", feed.polls, "--business-hours", feed.business_hours)
    done = storewatch(
        "ingest", *files, "--timezones", feed.timezones, database_url=database_url, home=home
    )
    assert done.returncode == 0, done.stderr.decode()


def write_csv(file: Path, columns: str, rows: Sequence[Sequence[object]]) -> Path:
    """Write a file of a feed."""
    with file.open("w", newline="") as text:
        csv.writer(text, lineterminator="\n").writerows([columns.split(","), *rows])
    return file


def read_stores(feed: FeedFiles) -> list[Store]:
    """What a feed says, read by other means than the service's, in the order of reports."""
    polls: dict[str, list[tuple[int, bool]]] = {}
    hours: dict[str, list[tuple[int, int, int]]] = {}
    zones: dict[str, str] = {}
    for row in _rows(feed.polls):
        text = row["timestamp_utc"].removesuffix(" UTC")
        instant = datetime.fromisoformat(text if "." in text else text + ".0")
        poll = ((instant - EPOCH) // MILLISECOND, row["status"] == "active")
        polls.setdefault(row["store_id"], []).append(poll)
    for row in _rows(feed.business_hours):
        start, end = _clock(row["start_time_local"]), _clock(row["end_time_local"])
        hours.setdefault(row["store_id"], []).append((int(row["day"]), start, end))
    for row in _rows(feed.timezones):
        zones[row["store_id"]] = row["timezone_str"]
    return [
        Store(
            store_id,
            polls=tuple(polls.get(store_id, ())),
            hours=tuple(hours.get(store_id, ())),
            timezone=zones.get(store_id),
        )
        for store_id in sorted({*polls, *hours, *zones}, key=str.encode)
    ]


def reference_report(stores: Sequence[Store]) -> bytes:
    """The report that the slow reference makes, with the defaults of a report."""
    as_of = max(instant for store in stores for instant, _ in store.polls)
    rows = [reference_csv_row(store, as_of, "nearest", 24 * HOUR, False) for store in stores]
    return "\n".join([HEADER, *rows, ""]).encode()


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def _clock(text: str) -> int:
    hours, minutes, seconds = map(int, text.split(":"))
    return hours * HOUR + minutes * MINUTE + seconds * 1000
