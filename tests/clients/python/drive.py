"""The whole job, through the client that openapi-python-client generates: feeds in, a report out.

Run by `test_generated_clients.py`: drive.py URL FOLDER, with the key in STOREWATCH_KEY.
"""

import csv
import json
import os
import sys
import time
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

import httpx
from storewatch_client import AuthenticatedClient
from storewatch_client.api.feeds import (
    get_feeds,
    post_business_hours,
    post_feed,
    post_polls,
    post_polls_csv,
    post_polls_ndjson,
    post_timezones,
)
from storewatch_client.api.reports import create_report, get_report, get_report_csv
from storewatch_client.api.stores import get_store_availability
from storewatch_client.models import (
    BusinessHoursRow,
    FeedName,
    FeedsState,
    Ingested,
    LoadedFeed,
    PollRow,
    PollStatus,
    ProblemDetails,
    ReportDetails,
    ReportStatus,
    StoreAvailability,
    TimezoneRow,
)
from storewatch_client.types import File

T = TypeVar("T")
PATIENCE = 60  # seconds


def main(url: str, folder: Path) -> None:
    key, timeout = os.environ["STOREWATCH_KEY"], httpx.Timeout(PATIENCE)
    with AuthenticatedClient(url, key, timeout=timeout) as client:
        drive(client, folder)


def drive(client: AuthenticatedClient, folder: Path) -> None:
    zones = [
        TimezoneRow(store_id=row["store_id"], timezone=row["timezone_str"])
        for row in rows(folder / "timezones.csv")
    ]
    loaded = expect(Ingested, post_timezones.sync(client=client, body=zones))
    assert loaded.rows == loaded.new == len(zones), loaded

    # 409: there is no poll yet, so no time to which an availability could be told.
    store_id = zones[0].store_id
    refused = expect(ProblemDetails, get_store_availability.sync(store_id, client=client))
    assert (refused.status, kind(refused)) == (409, "no-polls"), refused

    hours = [
        BusinessHoursRow(
            store_id=row["store_id"],
            day=int(row["day"]),
            start_time_local=row["start_time_local"],
            end_time_local=row["end_time_local"],
        )
        for row in rows(folder / "business_hours.csv")
    ]
    loaded = expect(Ingested, post_business_hours.sync(client=client, body=hours))
    assert loaded.rows == len(hours), loaded
    with (folder / "polls.csv").open("rb") as polls:
        loaded = expect(Ingested, post_polls_csv.sync(client=client, body=File(polls)))
    assert loaded.new > 0, loaded
    with (folder / "polls.csv").open("rb") as polls:
        recognised = expect(LoadedFeed, post_feed.sync(client=client, body=File(polls)))
    assert (recognised.feed, recognised.new) == (FeedName.POLLS, 0), recognised
    known = expect(FeedsState, get_feeds.sync(client=client))
    assert known.polls == loaded.new, known
    again = [poll(row) for row in rows(folder / "polls.csv")[:100]]
    loaded = expect(Ingested, post_polls.sync(client=client, body=again))
    assert (loaded.new, loaded.replaced, loaded.unchanged) == (0, 0, 100), loaded
    lines = BytesIO(b"".join(json.dumps(row.to_dict()).encode() + b"\n" for row in again))
    loaded = expect(Ingested, post_polls_ndjson.sync(client=client, body=File(lines)))
    assert (loaded.rows, loaded.unchanged) == (100, 100), loaded

    # 422: a store of nowhere, told by row and column.
    nowhere = [TimezoneRow(store_id=store_id, timezone="America/Nowhere")]
    refused = expect(ProblemDetails, post_timezones.sync(client=client, body=nowhere))
    assert refused.status == 422, refused
    assert refused.errors, refused
    assert (refused.errors[0].line, refused.errors[0].column) == (1, "timezone"), refused

    # 404: a report that nobody asked for.
    refused = expect(ProblemDetails, get_report.sync(uuid4(), client=client))
    assert refused.status == 404, refused

    report = expect(ReportDetails, create_report.sync(client=client))
    report = completed(client, report.id)
    assert report.progress.stores_done == report.progress.stores_total, report
    assert report.progress.percent == 100, report
    file = expect(File, get_report_csv.sync(report.id, client=client))
    (folder / "report.csv").write_bytes(file.payload.read())

    store = expect(StoreAvailability, get_store_availability.sync(store_id, client=client))
    assert store.uptime + store.downtime + store.unknown == store.business_time, store

    # A state that only a later version of the service knows: refused, with its name, not guessed.
    later, told = {**report.to_dict(), "status": "paused"}, ""
    try:
        ReportDetails.from_dict(later)
    except ValueError as error:
        told = str(error)
    assert "paused" in told, told


def completed(client: AuthenticatedClient, report_id: UUID) -> ReportDetails:
    """Ask how far a report is until it is completed."""
    deadline = time.monotonic() + PATIENCE
    while True:
        report = expect(ReportDetails, get_report.sync(report_id, client=client))
        if report.status is ReportStatus.COMPLETED:
            return report
        assert report.status in (ReportStatus.QUEUED, ReportStatus.RUNNING), report
        assert time.monotonic() < deadline, report
        time.sleep(0.05)


def expect(wanted: type[T], got: object) -> T:
    assert isinstance(got, wanted), got
    return got


def kind(problem: ProblemDetails) -> str:
    return problem.type_.rpartition("/")[2]


def poll(row: dict[str, str]) -> PollRow:
    instant = datetime.fromisoformat(row["timestamp_utc"].replace(" UTC", "+00:00"))
    return PollRow(row["store_id"], PollStatus(row["status"]), instant)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
