"""Stores over HTTP: their pages, their settings, and an availability that is the report's."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from service.feeds.made_up import FeedFiles
from tests.harness.database import ask
from tests.harness.feeds import read_stores
from tests.harness.service import Service, problem, running_service

INVALID = "/problems/invalid-request"
WINDOWS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
#: Seconds of the unit of each window's columns.
UNITS = {"hour": 60, "day": 3600, "week": 3600}


@pytest.fixture(scope="module")
def as_of(feed: FeedFiles) -> datetime:
    newest = max(instant for store in read_stores(feed) for instant, _ in store.polls)
    return datetime.fromtimestamp(newest / 1000, UTC)


def answered(service: Service, path: str, **query: Any) -> Any:
    answer = service.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(service: Service, path: str, **query: Any) -> str:
    """The parts of a request that are refused."""
    answer = service.get(path, params=query)
    assert answer.status_code == 422, answer.text
    told = problem(answer)
    assert told["type"] == INVALID
    return ",".join(error["field"] for error in told["errors"])


# Availability and timeline.


def test_availability_is_what_the_report_says_of_every_store_and_window(
    service: Service, feed: FeedFiles, as_of: datetime
) -> None:
    ids = {store.store_id for store in read_stores(feed)}
    report = csv.DictReader(io.StringIO(service.report().decode()))
    rows = [row for row in report if row["store_id"] in ids]
    assert len(rows) == 60
    for row in rows:
        for window, length in WINDOWS.items():
            found = answered(
                service,
                f"/stores/{quote(row['store_id'], safe='')}/availability",
                **{"from": (as_of - length).isoformat(), "to": as_of.isoformat()},
            )
            for measure in ("uptime", "downtime"):
                told = Decimal(str(found[measure])) / UNITS[window]
                rounded = told.quantize(Decimal("0.01"), ROUND_HALF_UP)
                assert rounded == Decimal(row[f"{measure}_last_{window}"])


@pytest.mark.parametrize("interpolation", ["nearest", "previous"])
def test_segments_of_the_timeline_add_up_to_the_availability_exactly(
    service: Service, feed: FeedFiles, as_of: datetime, interpolation: str
) -> None:
    for store in read_stores(feed)[:20]:
        query = {
            "from": (as_of - timedelta(days=5, hours=3, milliseconds=7)).isoformat(),
            "to": (as_of - timedelta(minutes=11, milliseconds=1)).isoformat(),
            "interpolation": interpolation,
            "max_gap": "90m",
        }
        place = f"/stores/{quote(store.store_id, safe='')}"
        whole = answered(service, f"{place}/availability", **query)
        parts = answered(service, f"{place}/timeline", **query)
        sums = {
            "up": timedelta(),
            "down": timedelta(),
            "unknown": timedelta(),
            "closed": timedelta(),
        }
        for segment in parts["segments"]:
            begin, end = map(datetime.fromisoformat, (segment["start"], segment["end"]))
            sums[segment["state"]] += end - begin
        assert sums["up"] == timedelta(seconds=whole["uptime"])
        assert sums["down"] == timedelta(seconds=whole["downtime"])
        assert sums["unknown"] == timedelta(seconds=whole["unknown"])
        business = sums["up"] + sums["down"] + sums["unknown"]
        assert business == timedelta(seconds=whole["business_time"])

        segments = parts["segments"]
        assert segments[0]["start"] == parts["from"] == whole["from"]
        assert segments[-1]["end"] == parts["to"] == whole["to"]
        for one, following in pairwise(segments):
            assert one["end"] == following["start"]
            assert one["state"] != following["state"]


def test_shares_are_of_business_time_and_null_where_there_is_none(service: Service) -> None:
    store = "/stores/shares"
    service.ask(
        "PUT",
        f"{store}/business-hours",
        json=[{"day": 0, "start_time_local": "09:00", "end_time_local": "12:00"}],
    )
    service.ask("PUT", f"{store}/timezone", json={"timezone": "UTC"})
    polls = [
        {"store_id": "shares", "status": status, "timestamp_utc": f"2023-01-23T{clock}Z"}
        for clock, status in (("10:14:00", "active"), ("11:15:00", "inactive"))
    ]
    assert service.ask("POST", "/polls", json=polls).status_code == 200
    found = answered(
        service,
        f"{store}/availability",
        **{"from": "2023-01-22T12:00:00Z", "to": "2023-01-23T12:00:00Z"},
    )
    assert (found["uptime"], found["downtime"], found["unknown"]) == (6270.0, 4530.0, 0.0)
    assert found["business_time"] == 10_800.0
    assert found["uptime_share"] == found["availability"] == 6270 / 10_800
    assert (found["downtime_share"], found["unknown_share"]) == (4530 / 10_800, 0.0)

    closed = answered(
        service,
        f"{store}/availability",
        **{"from": "2023-01-24T00:00:00Z", "to": "2023-01-25T00:00:00Z"},
    )
    assert closed["business_time"] == 0
    for share in ("availability", "uptime_share", "downtime_share", "unknown_share"):
        assert closed[share] is None
    unknown = answered(
        service,
        f"{store}/availability",
        **{"from": "2023-01-02T00:00:00Z", "to": "2023-01-03T00:00:00Z"},
    )
    assert unknown["unknown"] == unknown["business_time"] == 10_800.0
    assert unknown["unknown_share"] == 1.0
    assert unknown["availability"] is None


def test_the_timeline_tells_the_offsets_of_its_local_time(service: Service) -> None:
    service.ask("PUT", "/stores/clocks/timezone", json={"timezone": "America/New_York"})
    night = {"from": "2024-03-10T04:00:00Z", "to": "2024-03-11T04:00:00Z"}
    told = answered(service, "/stores/clocks/timeline", **night)["offsets"]
    assert told == [
        {"from": "2024-03-08T00:00:00Z", "seconds": -18_000, "abbreviation": "EST"},
        {"from": "2024-03-10T07:00:00Z", "seconds": -14_400, "abbreviation": "EDT"},
    ]
    # A store without a zone has the default one; the begin of time is no bound.
    service.ask("PUT", "/stores/clocks/timezone", json={"timezone": None})
    first = answered(
        service,
        "/stores/clocks/timeline",
        **{"from": "1970-01-01T00:00:00Z", "to": "1970-01-01T01:00:00Z"},
    )
    assert first["offsets"] == [
        {"from": "1969-12-30T00:00:00Z", "seconds": -21_600, "abbreviation": "CST"}
    ]


def test_a_window_left_out_is_the_week_before_the_newest_poll(
    service: Service, feed: FeedFiles, as_of: datetime
) -> None:
    store = quote(read_stores(feed)[0].store_id, safe="")
    found = answered(service, f"/stores/{store}/availability")
    assert datetime.fromisoformat(found["to"]) == as_of
    assert datetime.fromisoformat(found["from"]) == as_of - timedelta(days=7)
    assert (found["interpolation"], found["max_gap"]) == ("nearest", "24h")


@pytest.mark.parametrize("resource", ["availability", "timeline"])
def test_a_window_that_cannot_be_is_refused_by_name(
    service: Service, feed: FeedFiles, resource: str
) -> None:
    place = f"/stores/{quote(read_stores(feed)[0].store_id, safe='')}/{resource}"
    begin = "2023-01-20T00:00:00Z"
    assert refusal(service, place, **{"from": begin, "to": begin}) == "from"
    assert refusal(service, place, **{"from": "2022-01-01T00:00:00Z", "to": begin}) == "from"
    assert refusal(service, place, **{"from": "yesterday"}) == "from"
    assert refusal(service, place, to="1969-12-31T23:59:59Z") == "to"
    assert refusal(service, place, to="null") == "to"
    assert refusal(service, place, to="2023-W04 12:00") == "to"
    assert refusal(service, place, max_gap="59s") == "max_gap"
    assert refusal(service, place, max_gap="32d") == "max_gap"
    assert refusal(service, place, interpolation="linear") == "interpolation"


def test_instants_are_read_as_those_of_polls_are(service: Service, feed: FeedFiles) -> None:
    place = f"/stores/{quote(read_stores(feed)[0].store_id, safe='')}/availability"
    found = answered(
        service, place, **{"from": "2023-01-20 12:00 UTC", "to": "2023-01-21t13:00:39.1239999+01"}
    )
    assert (found["from"], found["to"]) == ("2023-01-20T12:00:00Z", "2023-01-21T12:00:39.123000Z")


def test_without_polls_a_window_needs_an_end(database_url: str, tmp_path: Path) -> None:
    with running_service(database_url, tmp_path) as service:
        service.ask("PUT", "/stores/s1/timezone", json={"timezone": "UTC"})
        answer = service.get("/stores/s1/availability")
        assert answer.status_code == 409
        assert problem(answer)["type"] == "/problems/no-polls"
        found = answered(service, "/stores/s1/availability", to="2023-01-23T00:00:00Z")
        assert found["unknown"] == 7 * 86_400


def test_a_store_that_no_feed_named_is_not_found(service: Service) -> None:
    for path in ("/stores/nobody", "/stores/nobody/availability", "/stores/nobody/timeline"):
        answer = service.get(path)
        assert answer.status_code == 404
        assert problem(answer)["type"] == "/problems/store-not-found"


# Lists.


def pages(service: Service, path: str) -> Iterator[list[dict[str, Any]]]:
    """Every page, by following the links."""
    link: str | None = path
    while link:
        answer = service.get(link)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        yield page["items"]
        link = answer.links.get("next", {}).get("url")
        assert (link is None) == (page["next_cursor"] is None)


def test_pages_hold_every_store_once_in_byte_order(service: Service, feed: FeedFiles) -> None:
    expected = [store.store_id for store in read_stores(feed)]
    found = list(pages(service, "/stores?limit=7"))
    assert all(len(page) == 7 for page in found[:-1])
    ids = [store["store_id"] for page in found for store in page]
    assert ids == sorted(ids, key=str.encode)
    assert set(expected) <= set(ids)
    assert len(set(ids)) == len(ids)


def test_stores_are_found_by_prefix_and_by_the_zone_they_are_computed_in(
    service: Service, feed: FeedFiles
) -> None:
    stores = read_stores(feed)
    prefix = stores[0].store_id[:1]
    found = [
        store["store_id"]
        for page in pages(service, f"/stores?limit=3&prefix={prefix}")
        for store in page
    ]
    known = [store.store_id for store in stores if store.store_id.startswith(prefix)]
    assert set(known) <= set(found)
    assert all(store_id.startswith(prefix) for store_id in found)

    for zone in ("America/Chicago", "America/New_York"):
        listed = {
            store["store_id"]: store["effective_timezone"]
            for page in pages(service, f"/stores?limit=3&timezone={zone}")
            for store in page
        }
        assert set(listed.values()) <= {zone}
        expected = {s.store_id for s in stores if (s.timezone or "America/Chicago") == zone}
        assert expected <= set(listed)


def test_what_is_no_page_is_refused(service: Service) -> None:
    assert refusal(service, "/stores", limit=0) == "limit"
    assert refusal(service, "/stores", limit=1001) == "limit"
    assert refusal(service, "/stores", limit="many") == "limit"
    assert refusal(service, "/stores", cursor="%") == "cursor"
    assert refusal(service, "/stores", timezone="Middle/Earth") == "timezone"
    assert refusal(service, "/stores", prefix="x" * 256) == "prefix"


# One store.

HOURS = [
    {"day": 0, "start_time_local": "09:00:00", "end_time_local": "17:30:00"},
    {"day": 4, "start_time_local": "22:00:00", "end_time_local": "02:00:00"},
    {"day": 5, "start_time_local": "00:00:00", "end_time_local": "24:00:00"},
    {"day": 6, "start_time_local": "10:00:00", "end_time_local": "23:59:30"},
]
#: The same as they count.
COUNTED = [
    {**row, "end_time_local": end, "ends_on_next_day": overnight}
    for row, end, overnight in zip(
        HOURS,
        ("17:30:00", "02:00:00", "24:00:00", "24:00:00"),
        (False, True, False, False),
        strict=True,
    )
]


@pytest.mark.parametrize(
    "store_id", ["plain", "a/b", "ü ☃", "100%", "...", "a?b#c", "%2F", "x" * 255]
)
def test_a_store_is_given_hours_and_a_zone_under_any_id(service: Service, store_id: str) -> None:
    place = f"/stores/{quote(store_id, safe='').replace('.', '%2E')}"
    given = service.ask("PUT", f"{place}/business-hours", json=HOURS)
    assert given.status_code == 200, given.text
    service.ask("PUT", f"{place}/timezone", json={"timezone": "Asia/Tokyo"})
    assert answered(service, place) == {
        "store_id": store_id,
        "timezone": "Asia/Tokyo",
        "effective_timezone": "Asia/Tokyo",
        "business_hours": HOURS,
        "counted_hours": COUNTED,
        "newest_poll": None,
        "weeks": [{"valid_from": None, "rows": HOURS}],
        "special_hours": [],
        "name": None,
        "tags": {},
        "target": None,
    }
    service.ask("PUT", f"{place}/business-hours", json=[])
    service.ask("PUT", f"{place}/timezone", json={"timezone": None})
    assert answered(service, place) == {
        "store_id": store_id,
        "timezone": None,
        "effective_timezone": "America/Chicago",
        "business_hours": [],
        "counted_hours": [],
        "newest_poll": None,
        "weeks": [],
        "special_hours": [],
        "name": None,
        "tags": {},
        "target": None,
    }


@pytest.mark.parametrize(
    "store_id", [" s", "s\u00a0", "\u2003s", "\n", ".", "..", "*", "x" * 256, "a\0b"]
)
def test_an_id_that_no_new_store_can_have_is_refused_but_can_be_asked_for(
    service: Service, module_database_url: str, store_id: str
) -> None:
    place = f"/stores/{quote(store_id, safe='').replace('.', '%2E')}"
    for given in (
        service.ask("PUT", f"{place}/timezone", json={"timezone": "Asia/Tokyo"}),
        service.ask("PUT", f"{place}/business-hours", json=[]),
    ):
        assert given.status_code == 422
        [error] = problem(given)["errors"]
        assert (error["source"], error["field"]) == ("path", "store_id")
        assert error["problem"].startswith("a store id ") or "NUL" in error["problem"]
    row = {"store_id": store_id, "timezone_str": "Asia/Tokyo"}
    [error] = problem(service.ask("POST", "/timezones", json=[row]))["errors"]
    assert error["column"] == "store_id"
    if "\0" in store_id:
        return
    assert service.get(place).status_code == 404
    # As a database of an earlier version may hold it.
    ask(module_database_url, "insert into store (store_id) values ($1)", store_id)
    assert answered(service, place)["store_id"] == store_id
    ask(module_database_url, "delete from store where store_id = $1", store_id)


@pytest.mark.parametrize(
    ("resource", "body", "field"),
    [
        ("timezone", {"timezone": "Middle/Earth"}, "timezone"),
        ("timezone", {"timezone": 5}, None),
        ("timezone", {}, None),
        ("timezone", {"timezone": "UTC", "more": 1}, None),
        (
            "business-hours",
            [{"day": 0, "start_time_local": "9", "end_time_local": "17:00"}],
            "start_time_local",
        ),
        (
            "business-hours",
            [{"day": 0, "start_time_local": "09:00", "end_time_local": "24:01"}],
            "end_time_local",
        ),
        (
            "business-hours",
            [{"day": 7, "start_time_local": "09:00", "end_time_local": "17:00"}],
            None,
        ),
        (
            "business-hours",
            [{"day": "0", "start_time_local": "09:00", "end_time_local": "17:00"}],
            None,
        ),
        ("business-hours", HOURS * 334, None),
        ("business-hours", {}, None),
    ],
)
def test_what_a_store_cannot_have_is_refused_and_changes_nothing(
    service: Service, resource: str, body: Any, field: str | None
) -> None:
    service.ask("PUT", "/stores/kept/timezone", json={"timezone": "UTC"})
    service.ask("PUT", "/stores/kept/business-hours", json=HOURS)
    before = answered(service, "/stores/kept")
    answer = service.ask("PUT", f"/stores/kept/{resource}", json=body)
    assert answer.status_code == 422
    told = problem(answer)
    assert told["type"] == INVALID
    if field:
        assert told["errors"][0]["field"] == field
    assert answered(service, "/stores/kept") == before


def test_the_newest_poll_is_told(service: Service, feed: FeedFiles) -> None:
    store = next(store for store in read_stores(feed) if store.polls)
    instant, active = max(store.polls)
    found = answered(service, f"/stores/{quote(store.store_id, safe='')}")
    assert (
        datetime.fromisoformat(found["newest_poll"]["timestamp_utc"]).timestamp() * 1000 == instant
    )
    assert found["newest_poll"]["status"] == ("active" if active else "inactive")
