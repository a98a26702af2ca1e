"""Feeds over HTTP: as a stream of CSV or a batch of JSON, all of it or nothing."""

import gzip
import json
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from service.feeds.made_up import write_feed
from tests.harness.database import ask
from tests.harness.feeds import read_stores, reference_report
from tests.harness.processes import eventually
from tests.harness.service import Service, problem, running_service

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CSV = {"Content-Type": "text/csv"}
POLLS = "store_id,status,timestamp_utc\n"
TWO = f"{POLLS}s1,active,2023-01-22 12:09:39.388884 UTC\ns2,inactive,2023-01-22 12:00:00 UTC\n"
TWO_ROWS = [
    {"store_id": "s1", "status": "active", "timestamp_utc": "2023-01-22T12:09:39.388884Z"},
    {"store_id": "s2", "status": "inactive", "timestamp_utc": "2023-01-22 12:00:00 UTC"},
]


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with running_service(database_url, tmp_path, STOREWATCH_FEED_BYTES="200000") as service:
        yield service


def post(service: Service, path: str, body: str | bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.ask("POST", path, content=body, headers={**CSV, **named})


def counts(answer: httpx.Response) -> tuple[int, int, int, int]:
    """Rows, new, replaced and unchanged."""
    assert answer.status_code == 200, answer.text
    told = answer.json()
    return told["rows"], told["new"], told["replaced"], told["unchanged"]


def polls(database_url: str) -> int:
    ((found,),) = ask(database_url, "select count(*) from poll")
    return int(found)


def test_whole_feeds_over_http_give_the_report_of_the_slow_reference(
    database_url: str, tmp_path: Path
) -> None:
    feed = write_feed(tmp_path, stores=24)
    with running_service(database_url, tmp_path) as service:
        packed = gzip.compress(feed.polls.read_bytes(), mtime=0)
        assert counts(post(service, "/timezones", feed.timezones.read_bytes()))[0] > 0
        assert counts(post(service, "/business-hours", feed.business_hours.read_bytes()))[0] > 0
        assert counts(post(service, "/polls", packed, Content_Encoding="gzip"))[0] > 0
        assert service.report() == reference_report(read_stores(feed))


@pytest.mark.parametrize("form", ["plain", "gzip", "gzip that says so", "zstd", "json", "chunks"])
def test_every_form_of_a_feed_says_the_same(service: Service, form: str) -> None:
    def load() -> httpx.Response:
        match form:
            case "plain":
                return post(service, "/polls", TWO)
            case "gzip":
                return post(service, "/polls", gzip.compress(TWO.encode(), mtime=0))
            case "gzip that says so":
                return post(
                    service, "/polls", gzip.compress(TWO.encode(), mtime=0), Content_Encoding="gzip"
                )
            case "zstd":
                return post(service, "/polls", zstd.compress(TWO.encode()), Content_Encoding="zstd")
            case "json":
                return service.ask("POST", "/polls", json=TWO_ROWS)
        pieces = (bytes([byte]) for byte in TWO.encode())
        return service.ask("POST", "/polls", content=pieces, headers=CSV)

    assert counts(load()) == (2, 2, 0, 0)
    assert counts(load()) == (2, 0, 0, 2)
    stores = service.get("/stores").json()["items"]
    assert [store["store_id"] for store in stores] == ["s1", "s2"]
    newest = service.get("/stores/s1").json()["newest_poll"]
    assert newest == {"timestamp_utc": "2023-01-22T12:09:39.388000Z", "status": "active"}
    assert counts(post(service, "/polls", TWO.replace("inactive", "active"))) == (2, 0, 1, 1)


def test_hours_and_zones_come_as_json_too(service: Service) -> None:
    hours = [
        {"store_id": "s1", "day": 0, "start_time_local": "09:00", "end_time_local": "17:30:00"},
        {"store_id": "s1", "day": 6, "start_time_local": "00:00", "end_time_local": "24:00"},
    ]
    loaded = service.ask("POST", "/business-hours", json=hours)
    told = {"rows": 2, "stores": 1, "new": 1, "replaced": 0, "unchanged": 0, "removed": 0}
    assert loaded.json() == told
    zones = [{"store_id": "s1", "timezone": "Asia/Tokyo"}]
    assert counts(service.ask("POST", "/timezones", json=zones)) == (1, 1, 0, 0)
    store = service.get("/stores/s1").json()
    assert store["timezone"] == "Asia/Tokyo"
    assert store["business_hours"] == [
        {"day": 0, "start_time_local": "09:00:00", "end_time_local": "17:30:00"},
        {"day": 6, "start_time_local": "00:00:00", "end_time_local": "24:00:00"},
    ]


def test_a_zone_may_go_by_its_former_name_and_is_refused_under_both(service: Service) -> None:
    row = {"store_id": "former", "timezone_str": "Asia/Tokyo"}
    assert counts(service.ask("POST", "/timezones", json=[row])) == (1, 1, 0, 0)
    assert service.get("/stores/former").json()["timezone"] == "Asia/Tokyo"
    for bad in ({**row, "timezone": "Asia/Tokyo"}, {"store_id": "former"}):
        [error] = problem(service.ask("POST", "/timezones", json=[row, bad]))["errors"]
        assert error["line"] == 2
        assert "`timezone`" in error["problem"]
    [error] = problem(service.ask("POST", "/timezones", json=[{**row, "zone": "UTC"}]))["errors"]
    assert error["problem"].endswith("it has store_id, timezone, timezone_str")


# What is refused.


def test_bad_rows_are_listed_the_first_twenty_and_counted_and_nothing_is_stored(
    service: Service, database_url: str
) -> None:
    bad = "".join(f"s{row},perhaps,2023-01-22 12:00:00 UTC\n" for row in range(30))
    answer = post(service, "/polls", TWO + bad)
    assert answer.status_code == 422
    told = problem(answer)
    assert told["type"] == "/problems/feed-refused"
    assert told["detail"] == "30 faults, the first 20 shown; nothing of the feed was stored."
    assert told["count"] == 30
    assert [error["line"] for error in told["errors"]] == list(range(4, 24))
    assert told["errors"][0] == {
        "problem": "is neither active nor inactive",
        "line": 4,
        "column": "status",
        "value": "perhaps",
    }
    assert ask(database_url, "select count(*) from store") == [(0,)]
    assert polls(database_url) == 0


def test_bad_rows_of_json_are_named_by_their_place_and_nothing_is_stored(
    service: Service, database_url: str
) -> None:
    rows: list[Any] = [
        *TWO_ROWS,
        {**TWO_ROWS[0], "status": "perhaps"},
        {"store_id": "s3"},
        5,
        {**TWO_ROWS[0], "more": 1},
    ]
    answer = service.ask("POST", "/polls", json=rows)
    assert answer.status_code == 422
    told = problem(answer)
    assert told["count"] == 4
    assert told["detail"] == "4 faults; nothing of the feed was stored."
    assert [(error["line"], error.get("column")) for error in told["errors"]] == [
        (3, "status"),
        (4, None),
        (5, None),
        (6, None),
    ]
    assert polls(database_url) == 0


@pytest.mark.parametrize("form", ["plain", "quoted", "json"])
def test_a_poll_later_than_a_day_after_the_clock_is_refused_so_that_no_report_moves(
    service: Service, form: str
) -> None:
    def load(store_id: str, after_now: timedelta) -> httpx.Response:
        instant = f"{datetime.now(UTC) + after_now:%Y-%m-%d %H:%M:%S.%f} UTC"
        if form == "json":
            row = {"store_id": store_id, "status": "active", "timestamp_utc": instant}
            return service.ask("POST", "/polls", json=[row])
        quote = '"' if form == "quoted" else ""
        return post(service, "/polls", f"{POLLS}{quote}{store_id}{quote},active,{instant}\n")

    assert counts(load("s1", timedelta(hours=23, minutes=59))) == (1, 1, 0, 0)
    newest = service.get("/stores/s1").json()["newest_poll"]
    for late in (timedelta(days=1, minutes=1), timedelta(days=90_000)):
        told = problem(load("s1", late))
        assert told["status"] == 422
        [error] = told["errors"]
        assert (error["column"], error["line"]) == ("timestamp_utc", 1 if form == "json" else 2)
        assert error["problem"].startswith("is in the future: polls are accepted up to 20")
    assert service.get("/stores/s1").json()["newest_poll"] == newest


@pytest.mark.parametrize("depth", [2000, 100_000])
def test_json_that_is_nested_too_deeply_is_refused(service: Service, depth: int) -> None:
    deep = f"{'[' * depth}{']' * depth}"
    for method, path, body in (
        ("POST", "/polls", deep),
        ("POST", "/polls", f'[{{"store_id": {deep}}}]'),
        ("POST", "/reports", f'{{"as_of": {deep}}}'),
        ("PUT", "/stores/s1/business-hours", deep),
    ):
        headers = {"Content-Type": "application/json"}
        answer = service.ask(method, path, content=body, headers=headers)
        assert "nested too deeply" in problem(answer)["detail"]
        assert answer.status_code == 400
    assert "request failed" not in service.log


def test_a_packed_feed_in_a_packed_feed_is_not_taken(service: Service) -> None:
    twice = gzip.compress(gzip.compress(TWO.encode()), mtime=0)
    [error] = problem(post(service, "/polls", twice))["errors"]
    assert error["problem"] == "it is compressed twice: decompress it once"
    answer = service.ask(
        "POST", "/polls", content=twice, headers={"Content-Type": "application/json"}
    )
    assert problem(answer)["errors"] == [error]


@pytest.mark.parametrize(
    ("body", "status"),
    [("{}", 422), ("5", 422), ("null", 422), ('["', 400), ("[", 400), ("", 400), ("[] []", 400)],
)
def test_json_that_is_no_array_is_refused(service: Service, body: str, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    answer = service.ask("POST", "/polls", content=body, headers=headers)
    assert problem(answer)["status"] == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": ""},
        {"Content-Encoding": "br"},
        {"Content-Encoding": "gzip, gzip"},
    ],
)
def test_another_media_type_or_encoding_is_refused(
    service: Service, headers: dict[str, str]
) -> None:
    answer = service.ask("POST", "/polls", content=TWO, headers={**CSV, **headers})
    assert problem(answer)["status"] == 415


def test_the_path_of_csv_takes_csv_alone(service: Service) -> None:
    loaded = service.ask("POST", "/polls/csv", content=TWO, headers=CSV)
    assert loaded.status_code == 200
    assert loaded.json()["rows"] == 2
    coded = post(service, "/polls", TWO, Content_Encoding="br")
    assert coded.headers["accept-encoding"] == "gzip, zstd"
    refused = service.ask("POST", "/polls/csv", json=[])
    assert problem(refused)["status"] == 415
    assert refused.headers["accept-post"] == "text/csv"


@pytest.mark.parametrize(
    "cut", [gzip.compress(TWO.encode(), mtime=0)[:-4], b"\x1f\x8b" + TWO.encode(), b"\x1f\x8b\x08"]
)
def test_gzip_that_cannot_be_read_is_refused(service: Service, cut: bytes) -> None:
    told = problem(post(service, "/polls", cut))
    assert told["status"] == 422
    assert "the gzip data cannot be read beyond this line" in told["errors"][0]["problem"]


def test_a_body_over_the_limit_is_refused_packed_or_not(
    service: Service, database_url: str
) -> None:
    rows = "".join(
        f"s,active,2023-01-{1 + n // 1440:02} 00:{n % 60:02}:00 UTC\n" for n in range(9000)
    )
    large = (POLLS + rows).encode()
    assert len(gzip.compress(large, mtime=0)) < 200_000 < len(large)
    for body in (large, gzip.compress(large, mtime=0), iter([large])):
        answer = service.ask("POST", "/polls", content=body, headers=CSV)
        assert answer.status_code == 413
        assert "larger than 200000 bytes" in problem(answer)["detail"]
    assert polls(database_url) == 0


def test_more_than_ten_thousand_rows_of_json_are_refused(service: Service) -> None:
    row = json.dumps(TWO_ROWS[0])
    body = f"[{','.join([row] * 10_001)}]"
    headers = {"Content-Type": "application/json"}
    answer = service.ask("POST", "/polls", content=body, headers=headers)
    assert problem(answer)["status"] == 413
    answer = service.ask("POST", "/business-hours", content=body, headers=headers)
    assert problem(answer)["detail"] == (
        "An array can have at most 10000 rows: send it as CSV, or in parts, all rows of a store in "
        "one request."
    )
    body = f"[{','.join([row] * 10_000)}]"
    answer = service.ask("POST", "/polls", content=body, headers=headers)
    assert counts(answer) == (10_000, 1, 0, 0)


# The stream.


def connect(service: Service, *headers: str) -> socket.socket:
    """Begin a POST to /polls by hand."""
    parts = urlsplit(service.base_url)
    assert parts.hostname
    connection = socket.create_connection((parts.hostname, parts.port or 80), timeout=60)
    lines = ["POST /polls HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: text/csv", *headers]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    return connection


def test_a_feed_is_read_as_it_comes_so_a_bad_header_is_told_before_the_body_ends(
    service: Service,
) -> None:
    with connect(service, "Content-Length: 150000") as connection:
        connection.sendall(b"store_id,status\n" + b"s1,active\n" * 20)
        assert connection.recv(64).startswith(b"HTTP/1.1 422 ")


def test_a_client_that_goes_away_in_the_middle_stores_nothing(
    service: Service, database_url: str
) -> None:
    with connect(service, "Content-Length: 150000") as connection:
        connection.sendall(TWO.encode())
    with connect(service, "Transfer-Encoding: chunked") as connection:
        connection.sendall(f"{len(TWO):x}\r\n{TWO}\r\n".encode())
    eventually(lambda: service.log.count("POST /polls ") == 2)
    assert "POST /polls 400" in service.log
    assert polls(database_url) == 0
    assert ask(database_url, "select count(*) from store") == [(0,)]
    assert counts(post(service, "/polls", TWO)) == (2, 2, 0, 0)
    assert "Traceback" not in service.log
