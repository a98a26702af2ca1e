"""Reports over windows of their own: by the command and over HTTP, down to single stores."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from compute.instants import milliseconds_of
from service.feeds.made_up import FeedFiles
from tests.harness.database import ask
from tests.harness.feeds import ingest, read_stores, write_csv
from tests.harness.processes import storewatch
from tests.harness.reference import DAY, HOUR, Interval, Store, reference_csv_row_of_windows
from tests.harness.reports import completed, create
from tests.harness.service import Service, problem, running_service

#: Clocks in Chicago go forward on the 10th.
LAST = datetime(2024, 3, 15, 17, tzinfo=UTC)
AS_OF = milliseconds_of(LAST)
ZONES = ("America/Chicago", "Asia/Kathmandu", "Pacific/Kiritimati")


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> FeedFiles:
    """Two months of stores in three zones, open by night, by day or always."""
    folder = tmp_path_factory.mktemp("feed")
    polls: list[tuple[object, ...]] = []
    hours: list[tuple[object, ...]] = []
    zones: list[tuple[object, ...]] = []
    for number in range(6):
        store_id = f"s{number}"
        zones.append((store_id, ZONES[number % 3]))
        for count in range(400):
            when = LAST - timedelta(minutes=count * (150 + 17 * number))
            status = "inactive" if count % (number + 3) == 1 else "active"
            polls.append((store_id, status, f"{when:%Y-%m-%d %H:%M:%S} UTC"))
        opening, closing = ("09:00:00", "17:30:00") if number % 2 else ("20:00:00", "03:00:00")
        if number > 1:
            hours += [(store_id, day, opening, closing) for day in range(7)]
    return FeedFiles(
        polls=write_csv(folder / "polls.csv", "store_id,status,timestamp_utc", polls),
        business_hours=write_csv(
            folder / "hours.csv", "store_id,day,start_time_local,end_time_local", hours
        ),
        timezones=write_csv(folder / "zones.csv", "store_id,timezone_str", zones),
    )


@pytest.fixture(scope="module")
def loaded(
    module_database_url: str, feed: FeedFiles, tmp_path_factory: pytest.TempPathFactory
) -> str:
    ingest(feed, database_url=module_database_url, home=tmp_path_factory.mktemp("home"))
    return module_database_url


@pytest.fixture(scope="module")
def service(loaded: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(loaded, tmp_path_factory.mktemp("service")) as service:
        yield service


def of_dates(zone: str, first: date, last: date) -> Interval:
    """From the midnight that a date begins with to that after another, cut at `as_of`."""

    def midnight(day: date) -> int:
        local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
        return min(milliseconds_of(local.astimezone(UTC)), AS_OF)

    return midnight(first), midnight(last + timedelta(days=1))


#: What is asked for, its column, and where it lies for a store in a zone.
FEBRUARY = (date(2024, 2, 1), date(2024, 2, 29))
MARCH = (date(2024, 3, 1), date(2024, 3, 31))
TENTH = (date(2024, 3, 10), date(2024, 3, 10))


def windows_of(store: Store, calendar: str | None = None) -> list[Interval]:
    zone = calendar or store.timezone or ZONES[0]
    return [
        (AS_OF - 36 * HOUR, AS_OF),
        of_dates(zone, *FEBRUARY),
        of_dates(zone, *MARCH),
        of_dates(zone, *TENTH),
        (milliseconds_of(datetime(2024, 3, 1, 12, tzinfo=UTC)), AS_OF - 7 * DAY),
    ]


RANGE = "2024-03-01T12:00Z/2024-03-08T12:00-05:00"
TEXTS = ["36h", "2024-02", "this-month", "2024-03-10", RANGE]
NAMES = ["last_36h", "2024_02", "2024_03", "2024_03_10", "range_1"]


def expected(feed: FeedFiles, calendar: str | None, columns: list[int], unit: int) -> list[str]:
    return [
        reference_csv_row_of_windows(
            store, windows_of(store, calendar), AS_OF, "nearest", DAY, columns, unit
        )
        for store in read_stores(feed)
    ]


@pytest.mark.parametrize("calendar", [None, "Asia/Tokyo"], ids=["own", "one"])
def test_the_command_writes_each_stores_own_windows_or_those_of_one_zone(
    loaded: str, feed: FeedFiles, tmp_path: Path, calendar: str | None
) -> None:
    arguments = [part for text in TEXTS for part in ("--window", text)]
    more = ["--unit", "minutes", "--unknown", "--excluded"]
    zone = ["--calendar", calendar] if calendar else []
    done = storewatch("report", *arguments, *more, *zone, database_url=loaded, home=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    head, *rows = done.stdout.decode().splitlines()
    measures = ("uptime", "downtime", "unknown", "excluded")
    assert head == "store_id," + ",".join(f"{one}_{name}" for one in measures for name in NAMES)
    assert rows == expected(feed, calendar, [0, 1, 2, 3], 60_000)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--window", "2024-13"], "'2024-13' is not in the calendar"),
        (["--window", "500d"], "'500d' is longer than 400 days"),
        (["--window", "30d", "--calendar", "Mars/Base"], "'Mars/Base' is not a time zone"),
        (["--unit", "hours"], "--calendar and --unit are for a report with --window"),
    ],
    ids=["no-month", "too-long", "no-zone", "no-window"],
)
def test_the_command_says_what_is_wrong_with_a_window(
    loaded: str, tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = storewatch("report", *arguments, database_url=loaded, home=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr.decode()
    assert not done.stdout


def test_a_report_over_http_tells_where_its_windows_lie_and_what_they_hold(
    service: Service, feed: FeedFiles
) -> None:
    path = completed(service, {"windows": TEXTS, "unit": "seconds", "include_unknown": True})
    report = service.get(path).json()
    assert report["options"]["windows"] == TEXTS
    assert report["options"]["unit"] == "seconds"
    assert [one["window"] for one in report["windows"]] == NAMES
    span, february, march, _, between = report["windows"]
    assert (span["text"], span["from"], span["to"]) == (
        "36h",
        "2024-03-14T05:00:00Z",
        "2024-03-15T17:00:00Z",
    )
    assert february["from"] is february["to"] is None
    assert (february["first_date"], february["last_date"]) == ("2024-02-01", "2024-02-29")
    assert (march["text"], march["first_date"]) == ("2024-03", "2024-03-01")
    assert between["text"] == "2024-03-01T12:00:00Z/2024-03-08T17:00:00Z"

    rows = list(csv.DictReader(io.StringIO(service.get(f"{path}/csv").text)))
    assert [",".join(row.values()) for row in rows] == expected(feed, None, [0, 1, 2], 1000)

    summary = service.get(f"{path}/summary").json()
    assert [one["window"] for one in summary["windows"]] == NAMES
    for one in summary["windows"]:
        parts = [one[part] for part in ("uptime", "downtime", "unknown", "excluded")]
        assert sum(parts) == pytest.approx(one["business_time"], abs=1e-6)
        assert one["uptime"] == pytest.approx(
            sum(float(row[f"uptime_{one['window']}"]) for row in rows), abs=0.1
        )
    assert summary["conditions"] is summary["down_by_hour"] is None

    page = service.get(f"{path}/stores?sort=-downtime_2024_02").json()
    february_down = [
        next(one for one in item["windows"] if one["window"] == "2024_02")["downtime"]
        for item in page["items"]
    ]
    assert february_down == sorted(february_down, reverse=True)
    assert service.get(f"{path}/stores?sort=-downtime_last_day").status_code == 422
    assert service.get(f"{path}/stores?condition=down_now").status_code == 422
    table = service.get(f"{path}/stores", headers={"Accept": "text/csv"}).content
    assert table == service.get(f"{path}/csv").content

    assert service.get(f"{path}/trend").json() == {"items": []}
    assert service.get(f"{path}/changes").json()["before"] is None


def test_the_days_of_a_month_and_single_stores_add_up_to_the_month(service: Service) -> None:
    path = completed(service, {"windows": ["2024-02", "days:2024-02"], "unit": "seconds"})
    page = service.get(f"{path}/stores").json()
    measures = ("uptime", "downtime", "unknown")
    for item in page["items"]:
        month, *days = item["windows"]
        assert len(days) == 29
        assert {one: month[one] for one in measures} == {
            one: pytest.approx(sum(day[one] for day in days)) for one in measures
        }
        store = f"/stores/{item['store_id']}"
        of_store = service.get(f"{store}/availability?window=2024-02").json()
        assert {one: of_store[one] for one in measures} == {one: month[one] for one in measures}
        assert of_store["as_of"] == "2024-03-15T17:00:00Z"
        of_day = service.get(f"{store}/availability?window=2024-02-29").json()
        assert of_day["uptime"] == days[-1]["uptime"]
        # The same by instants: what is seen after the window's end speaks into it, up to `as_of`.
        between = f"from={of_day['from']}&to={of_day['to']}&as_of=2024-03-15T17:00Z"
        assert service.get(f"{store}/availability?{between}").json() == of_day
        timeline = service.get(f"{store}/timeline?window=2024-02-29").json()
        assert (timeline["from"], timeline["to"]) == (of_day["from"], of_day["to"])
        lengths = [
            datetime.fromisoformat(one["end"]) - datetime.fromisoformat(one["start"])
            for one in timeline["segments"]
            if one["state"] == "up"
        ]
        assert sum(lengths, timedelta()).total_seconds() == pytest.approx(of_day["uptime"])


@pytest.mark.parametrize(
    ("body", "field", "told"),
    [
        ({"windows": ["2024-w10"]}, "windows", "write 2024-W10"),
        ({"windows": ["days:2024"]}, "windows", "more than 100 windows"),
        ({"windows": ["2020"]}, "windows", "begins more than 400 days before as_of"),
        ({"windows": ["30d"], "calendar": "Nowhere"}, "calendar", "is not a time zone"),
        ({"calendar": "Asia/Tokyo"}, "calendar", "names its windows"),
        ({"unit": "hours"}, "unit", "names its windows"),
        ({"windows": []}, "windows", ""),
    ],
    ids=["lower-case", "too-many", "too-early", "no-zone", "no-windows", "no-unit", "none"],
)
def test_windows_that_cannot_be_are_refused_at_once(
    service: Service, body: object, field: str, told: str
) -> None:
    answer = create(service, body)
    assert answer.status_code == 422
    assert field in answer.text
    assert told in answer.text


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("window=2024-02&from=2024-02-01T00:00Z", "give one of the two"),
        ("window=days:2024-02", "is 29 windows"),
        ("window=soon", "is not a window"),
    ],
    ids=["both", "several", "none"],
)
@pytest.mark.parametrize("kind", ["availability", "timeline"])
def test_a_store_is_asked_for_one_window(
    service: Service, kind: str, query: str, told: str
) -> None:
    answer = service.get(f"/stores/s1/{kind}?{query}")
    assert answer.status_code == 422
    assert told in problem(answer)["errors"][0]["problem"]


def test_a_window_that_lies_in_the_future_is_empty(service: Service) -> None:
    path = completed(service, {"windows": ["2024-04", "1h"]})
    for item in service.get(f"{path}/stores").json()["items"]:
        assert item["windows"][0]["business_time"] == 0
        assert item["windows"][0]["availability"] is None
    alone = completed(service, {"windows": ["2024-04"]})
    assert service.get(f"{alone}/summary").json()["windows"][0]["business_time"] == 0
    of_store = service.get("/stores/s1/availability?window=2024-04").json()
    assert of_store["business_time"] == 0
    assert service.get("/stores/s1/timeline?window=2024-04").json()["segments"] == []


def test_an_older_version_leaves_such_a_report_to_this_one(loaded: str, service: Service) -> None:
    service.get("/health/live")
    taken_by_the_older = """
        update report set state = 'running', run = run + 1, attempts = attempts + 1,
            run_escapes = run + 1
        where id = $1 returning id
    """
    plain = completed(service).rpartition("/")[2]
    windows = completed(service, {"windows": ["30d"]}).rpartition("/")[2]
    excluded = completed(service, {"include_excluded": True}).rpartition("/")[2]
    took = [ask(loaded, taken_by_the_older, one) for one in (windows, excluded, plain)]
    assert [len(rows) for rows in took] == [0, 0, 1]
