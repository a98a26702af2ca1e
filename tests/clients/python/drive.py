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
    post_stores,
    post_timezones,
)
from storewatch_client.api.reports import (
    create_report,
    create_schedule,
    get_report,
    get_report_csv,
    get_schedule,
    list_report_groups,
    list_report_stores,
    run_schedule,
)
from storewatch_client.api.stores import (
    get_store_availability,
    get_store_state,
    list_store_outages,
)
from storewatch_client.models import (
    BusinessHoursRow,
    DeliveryFormat,
    DeliveryStatus,
    FeedName,
    FeedsState,
    Ingested,
    LoadedFeed,
    NewSchedule,
    PollRow,
    PollStatus,
    ProblemDetails,
    ReportDetails,
    ReportGroup,
    ReportGroupPage,
    ReportRequest,
    ReportStatus,
    ReportStore,
    ReportStorePage,
    ScheduleAsOf,
    ScheduleDetails,
    StoreAvailability,
    StoreOutages,
    StoreRow,
    StoreRowTags,
    StoreState,
    TimelineState,
    TimezoneRow,
)
from storewatch_client.types import UNSET, File, Unset

T = TypeVar("T")
PATIENCE = 60  # seconds
BRAND = 'Fresh & "Co", Söhne: 1'


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

    # Every second store is of a brand; these have to be up all the time.
    chosen = sorted(row.store_id for row in zones)[::2]
    brand = StoreRowTags.from_dict({"brand": BRAND})
    named = [StoreRow(store_id=one, name=f"No. {one}", tags=brand, target="1") for one in chosen]
    loaded = expect(Ingested, post_stores.sync(client=client, body=named))
    assert loaded.rows == len(chosen), loaded

    # 404: a report that nobody asked for.
    refused = expect(ProblemDetails, get_report.sync(uuid4(), client=client))
    assert refused.status == 404, refused

    report = expect(ReportDetails, create_report.sync(client=client))
    report = completed(client, report.id)
    assert report.progress.stores_done == report.progress.stores_total, report
    assert report.progress.percent == 100, report
    file = expect(File, get_report_csv.sync(report.id, client=client))
    (folder / "report.csv").write_bytes(file.payload.read())

    sold = pages(client, report.id)
    assert sorted(one.store_id for one in sold) == chosen, sold
    down = [one.windows[-1].downtime for one in sold]
    assert down == sorted(down, reverse=True), down
    for one in sold:
        assert one.name == f"No. {one.store_id}", one
        assert one.tags.to_dict() == {"brand": BRAND}, one
        assert one.target == "1", one
        for window in one.windows:
            assert window.budget, window
            assert window.budget.left == -window.downtime, window
            judged = window.uptime + window.downtime > 0
            assert window.met == (window.downtime == 0 if judged else None), window

    asked = ReportRequest(group_by=["brand"], target="50%")
    grouped = expect(ReportDetails, create_report.sync(client=client, body=asked))
    grouped = completed(client, grouped.id)
    others, of_brand = groups(client, grouped.id)
    assert others.values.to_dict() == {"brand": ""}, others
    assert of_brand.values.to_dict() == {"brand": BRAND}, of_brand
    assert of_brand.stores == len(chosen), of_brand
    week = of_brand.windows[-1]
    assert abs(week.downtime - sum(down)) < 1e-6, week
    assert week.stores_met is not None, week
    assert week.budget, week
    assert week.budget.used == week.downtime, week
    worst = [one.store_id for one in sold if one.windows[-1].downtime > 0][:3]
    assert [one.store_id for one in week.worst] == worst, week

    delivered = scheduled(client, folder / "delivered")
    assert delivered.read_bytes() == (folder / "report.csv").read_bytes()

    assert report.as_of, report
    at = report.as_of
    state = expect(StoreState, get_store_state.sync(store_id, client=client, as_of=at))
    assert state.newest_poll, state
    assert state.newest_poll.timestamp_utc <= state.as_of == at, state
    told = expect(StoreOutages, list_store_outages.sync(store_id, client=client, as_of=at))
    assert told.count == len(told.items), told
    assert told.longest == max((one.duration for one in told.items), default=None), told
    is_down = state.state is TimelineState.DOWN
    assert not is_down or any(one.open_ for one in told.items), state

    store = expect(StoreAvailability, get_store_availability.sync(store_id, client=client))
    assert store.uptime + store.downtime + store.unknown == store.business_time, store

    # A state that only a later version of the service knows: refused, with its name, not guessed.
    later, problem = {**report.to_dict(), "status": "paused"}, ""
    try:
        ReportDetails.from_dict(later)
    except ValueError as error:
        problem = str(error)
    assert "paused" in problem, problem


def pages(client: AuthenticatedClient, report_id: UUID) -> list[ReportStore]:
    """The stores of the brand, those with the most downtime first, page by page."""
    found: list[ReportStore] = []
    cursor: str | Unset = UNSET
    while True:
        page = expect(
            ReportStorePage,
            list_report_stores.sync(
                report_id,
                client=client,
                tag=[f"brand:{BRAND}"],
                sort="-downtime_last_week",
                limit=7,
                cursor=cursor,
            ),
        )
        found += page.items
        if page.next_cursor is None:
            assert page.total == len(found), page
            return found
        cursor = page.next_cursor


def groups(client: AuthenticatedClient, report_id: UUID) -> list[ReportGroup]:
    """The groups of a report, a page each."""
    found: list[ReportGroup] = []
    cursor: str | Unset = UNSET
    while True:
        page = expect(
            ReportGroupPage,
            list_report_groups.sync(report_id, client=client, limit=1, cursor=cursor),
        )
        found += page.items
        if page.next_cursor is None:
            assert page.total == len(found), page
            return found
        cursor = page.next_cursor


def scheduled(client: AuthenticatedClient, place: Path) -> Path:
    """Let a schedule deliver a report like the one that was asked for; its file."""
    wanted = NewSchedule(
        name="of the newest poll",
        cron="0 6 29 2 *",
        timezone="UTC",
        as_of=ScheduleAsOf.NEWEST_POLL,
        deliver_to=str(place),
        deliver_as=[DeliveryFormat.CSV, DeliveryFormat.NDJSON],
    )
    made = expect(ScheduleDetails, create_schedule.sync(client=client, body=wanted))
    assert made.deliver_to == str(place), made
    report = expect(ReportDetails, run_schedule.sync(made.id, client=client))
    assert (report.schedule_id, report.scheduled_for) == (made.id, None), report
    deadline = time.monotonic() + PATIENCE
    while True:
        known = expect(ScheduleDetails, get_schedule.sync(made.id, client=client))
        assert known.runs, known
        (run,) = known.runs
        assert run.delivery, run
        if run.delivery.status is DeliveryStatus.DELIVERED:
            csv_file, ndjson = run.delivery.files
            assert ndjson == csv_file.removesuffix("csv") + "ndjson", run
            return Path(csv_file)
        assert run.delivery.status is DeliveryStatus.WAITING, run
        assert time.monotonic() < deadline, run
        time.sleep(0.05)


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
