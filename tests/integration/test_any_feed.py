"""A file of any feed over HTTP, told by its first line; and what the service tells of its feeds."""

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.harness.database import ask
from tests.harness.processes import eventually, make_key, storewatch
from tests.harness.service import Service, problem, running_service

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

POLLS = "store_id,status,timestamp_utc\ns1,active,2023-01-22 12:09:39 UTC\n"
HOURS = "store_id,day,start_time_local,end_time_local\ns1,0,09:00,17:00\n"
ZONES = "store_id,timezone\ns1,Asia/Tokyo\n"


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with running_service(database_url, tmp_path) as service:
        yield service


@pytest.fixture(scope="module")
def shared(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for tests that only look at the answers."""
    home = tmp_path_factory.mktemp("service")
    with running_service(module_database_url, home, STOREWATCH_FEED_BYTES="200000") as service:
        yield service


def post(service: Service, body: str | bytes, **more: str) -> httpx.Response:
    headers = {"Content-Type": "text/csv", **more}
    return service.ask("POST", "/feeds", content=body, headers=headers)


def state(service: Service) -> Any:
    answer = service.get("/feeds")
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("feed", "text"),
    [
        ("polls", POLLS),
        ("polls", "\ufeff" + POLLS),
        ("polls", "note,timestamp_utc,status,store_id\nx,2023-01-22T12:00:00Z,active,s1\n"),
        ("business_hours", HOURS),
        ("business_hours", HOURS.replace("day", "dayOfWeek")),
        (
            "business_hours",
            '"store_id", day ,start_time_local,end_time_local\r\ns1,0,9:00,17:00\r\n',
        ),
        ("timezones", ZONES),
        ("timezones", ZONES.replace("timezone", "timezone_str")),
    ],
)
def test_a_file_is_loaded_as_the_feed_that_its_first_line_tells(
    shared: Service, feed: str, text: str
) -> None:
    text = text.replace("s1", str(uuid4()))
    for body, new in (
        (text.encode(), 1),
        (gzip.compress(text.encode(), mtime=0), 0),
        (zstd.compress(text.encode()), 0),
    ):
        answer = post(shared, body)
        assert answer.status_code == 200, answer.text
        counts = {
            "rows": 1,
            "stores": 1,
            "new": new,
            "replaced": 0,
            "unchanged": 1 - new,
            "removed": 0,
        }
        assert answer.json() == {"feed": feed, **counts}


@pytest.mark.parametrize(
    ("header", "lacking"),
    [
        (
            "STORE_ID,status,timestamp_utc",
            [
                "to be polls, the header has no column store_id",
                "to be business hours, the header has no column store_id",
                "to be timezones, the header has no column store_id",
                "to be special hours, the header has no column store_id",
                "to be exclusions, the header has no column store_id",
                "to be stores, the header has no column name",
            ],
        ),
        (
            "store_id,day,dayOfWeek,start_time_local,end_time_local",
            [
                "to be polls, the header has no column status",
                "to be business hours, the header names the column day or dayOfWeek twice",
                "to be timezones, the header has no column timezone or timezone_str",
                "to be special hours, the header has no column date",
                "to be exclusions, the header has no column from",
                "to be stores, the header has no column name",
            ],
        ),
        (
            "store_id,status,timestamp_utc,timezone",
            ["the header has the columns of polls and of timezones"],
        ),
    ],
)
def test_a_first_line_that_tells_no_feed_is_told_with_what_each_lacks(
    shared: Service, header: str, lacking: list[str]
) -> None:
    told = problem(post(shared, f"{header}\n"))
    assert (told["status"], told["type"]) == (422, "/problems/feed-not-recognised")
    assert told["detail"].startswith(f"The first line that was found is '{header}': ")
    if len(lacking) > 1:
        assert "of business hours with store_id,day or dayOfWeek,start_time_local" in told["detail"]
    assert [error["problem"] for error in told["errors"]] == lacking


def test_a_long_first_line_is_cut_and_what_is_no_text_is_refused_as_elsewhere(
    shared: Service,
) -> None:
    told = problem(post(shared, "x" * 100_000 + "\n"))
    assert told["type"] == "/problems/feed-not-recognised"
    assert len(told["detail"]) < 800
    for body, fault in (
        (b"", "it is empty: it does not even have a header"),
        (b"PK\x03\x04....", "it is a zip archive"),
        (b"store_id,\xff\n", "the header is not UTF-8 text"),
        (gzip.compress(POLLS.encode(), mtime=0)[:-4], "cannot be read beyond this line"),
    ):
        told = problem(post(shared, body))
        assert told["type"] == "/problems/feed-refused"
        assert fault in told["errors"][0]["problem"]


def test_it_has_the_limits_and_the_faults_of_the_feeds_own_doors(shared: Service) -> None:
    refused = shared.ask("POST", "/feeds", json=[])
    assert problem(refused)["status"] == 415
    assert refused.headers["accept-post"] == "text/csv"
    large = POLLS + "s1,active,2023-01-22 12:09:39 UTC\n" * 9000
    for body in (large, gzip.compress(large.encode(), mtime=0)):
        assert "larger than 200000 bytes" in problem(post(shared, body))["detail"]
    told = problem(post(shared, POLLS + "s2,perhaps,2023-01-22 12:00:00 UTC\n"))
    assert told["type"] == "/problems/feed-refused"
    [error] = told["errors"]
    assert (error["line"], error["column"], error["value"]) == (3, "status", "perhaps")
    stores = shared.get("/stores?prefix=s2").json()["items"]
    assert stores == []


# What the service tells of its feeds.


def test_the_state_tells_the_names_of_columns_and_how_much_there_is_or_about(
    service: Service, database_url: str
) -> None:
    empty = state(service)
    assert (empty["stores"], empty["polls"], empty["newest_poll"]) == (0, 0, None)
    assert (empty["newest_poll_age"], empty["loads"], empty["refusals"]) == (None, [], [])
    hours = next(each for each in empty["feeds"] if each["feed"] == "business_hours")
    assert hours["path"] == "/business-hours"
    assert hours["columns"][:2] == [
        {"name": "store_id", "other_names": [], "optional": False},
        {"name": "day", "other_names": ["dayOfWeek"], "optional": False},
    ]
    assert [each["name"] for each in hours["columns"] if each["optional"]] == ["valid_from"]
    post(service, POLLS + "s2,active,2023-01-22 12:00:00 UTC\ns3,active,2023-01-22 12:00:00 UTC\n")
    post(service, HOURS)
    post(service, ZONES + "s2,Asia/Tokyo\n")
    known = state(service)
    assert (known["stores"], known["polls"], known["polls_exact"]) == (3, 3, True)
    assert known["stores_without_business_hours"] == 2
    assert known["stores_without_timezone"] == 1
    assert known["newest_poll"] == "2023-01-22T12:09:39Z"
    assert known["newest_poll_age"] > 90_000_000
    ask(
        database_url,
        """
        insert into poll_day (store, day, polls)
        select store, 19000, decode(repeat('00', 1900), 'hex')
        from generate_series(1, 60000) as store
        """,
    )
    known = state(service)
    assert known["polls_exact"] is False
    assert known["polls"] == pytest.approx(60_000 * 475, rel=0.2)
    assert set(str(known["polls"])[2:]) == {"0"}


def test_files_are_remembered_and_json_is_not(
    service: Service, database_url: str, tmp_path: Path
) -> None:
    post(service, POLLS)
    row = {"store_id": "s1", "status": "active", "timestamp_utc": "2023-01-22T12:00:00Z"}
    assert service.ask("POST", "/polls", json=[row]).status_code == 200
    assert service.ask("POST", "/polls", json=[{**row, "status": "x"}]).status_code == 422
    files = {"zones.csv": ZONES, "bad.csv": HOURS.replace("s1,0", "s1," + "7" * 5000)}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    place = {"database_url": database_url, "home": tmp_path}
    options = ("--timezones", "zones.csv", "--business-hours", "bad.csv")
    assert storewatch("ingest", *options, **place).returncode == 2  # type: ignore[arg-type]

    key = make_key(database_url, tmp_path, "a poller")
    headers = {"Authorization": f"Bearer {key}"}
    assert post(service, POLLS.replace("inactive", "active"), **headers).status_code == 200
    known = service.get("/feeds", headers=headers).json()
    counts = {"rows": 1, "stores": 1, "new": 0, "replaced": 0, "unchanged": 1, "removed": 0}
    told = [
        (load["feed"], load["api_key"], load["command"], load["loaded"]) for load in known["loads"]
    ]
    assert told == [
        ("polls", "a poller", False, counts),
        ("timezones", None, True, {**counts, "new": 1, "unchanged": 0}),
        ("polls", None, False, {**counts, "new": 1, "unchanged": 0}),
    ]
    [refusal] = known["refusals"]
    assert (refusal["feed"], refusal["command"], refusal["faults"]) == ("business_hours", True, 1)
    assert refusal["fault"].startswith("bad.csv: line 2, column day, value '777")
    assert len(refusal["fault"]) <= 300


def test_the_last_of_each_feed_are_remembered_and_nobody_waits_for_that(
    service: Service, database_url: str
) -> None:
    post(service, ZONES)
    for _ in range(22):
        assert post(service, POLLS).status_code == 200
    [*polls, zones] = state(service)["loads"]
    assert [load["feed"] for load in polls] == ["polls"] * 20
    assert zones["feed"] == "timezones"
    assert ask(database_url, "select count(*) from feed_load") == [(21,)]
    assert problem(post(service, "a,b\n"))["status"] == 422
    eventually(lambda: state(service)["refusals"])
    [refusal] = state(service)["refusals"]
    assert refusal["feed"] is None
    assert refusal["fault"] == "the first line is none of a feed's: 'a,b'"
    # A refusal is answered although it cannot be noted.
    ask(database_url, "alter table feed_refusal rename to hidden")
    assert problem(post(service, "a,b\n"))["type"] == "/problems/feed-not-recognised"
    eventually(lambda: "cannot note that a feed was refused" in service.log)
