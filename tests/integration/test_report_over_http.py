"""The whole path: feeds as CSV in, a report over HTTP, its CSV out; and the contract of the two."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote
from uuid import UUID, uuid4

import pytest

from service.feeds.made_up import FeedFiles, write_feed
from tests.conftest import new_database
from tests.harness.database import ask, polls_locked
from tests.harness.feeds import HEADER, ingest, read_stores, reference_report
from tests.harness.processes import storewatch
from tests.harness.service import Service, running_service


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> FeedFiles:
    return write_feed(tmp_path_factory.mktemp("feed"), stores=48)


def test_the_report_is_that_of_the_slow_reference_row_by_row(
    database_url: str, feed: FeedFiles, tmp_path: Path
) -> None:
    ingest(feed, database_url=database_url, home=tmp_path)
    with running_service(database_url, tmp_path) as service:
        report = service.report()
    expected = reference_report(read_stores(feed))
    for row, wanted in zip(report.splitlines(), expected.splitlines(), strict=True):
        assert row == wanted
    assert report == expected


def test_the_same_data_give_the_same_bytes_again_and_from_the_command(
    database_url: str, feed: FeedFiles, tmp_path: Path
) -> None:
    ingest(feed, database_url=database_url, home=tmp_path)
    with running_service(database_url, tmp_path) as service:
        first, second = service.report(), service.report()
    command = storewatch("report", database_url=database_url, home=tmp_path)
    assert first.startswith(HEADER.encode())
    assert first == second == command.stdout


def test_the_order_in_which_feeds_are_loaded_does_not_matter(
    database_url: str, another_database_url: str, feed: FeedFiles, tmp_path: Path
) -> None:
    ingest(feed, database_url=database_url, home=tmp_path)
    in_order = storewatch("report", database_url=database_url, home=tmp_path)

    header, *rows = feed.polls.read_bytes().splitlines(keepends=True)
    later, earlier = tmp_path / "later.csv.gz", tmp_path / "earlier.csv"
    later.write_bytes(gzip.compress(header + b"".join(reversed(rows[len(rows) // 3 :]))))
    earlier.write_bytes(header + b"".join(rows[: len(rows) // 3]))
    for option, file in (
        ("--polls", later),
        ("--business-hours", feed.business_hours),
        ("--polls", earlier),
        ("--timezones", feed.timezones),
    ):
        done = storewatch("ingest", option, file, database_url=another_database_url, home=tmp_path)
        assert done.returncode == 0, done.stderr.decode()
    out_of_order = storewatch("report", database_url=another_database_url, home=tmp_path)
    assert out_of_order.stdout == in_order.stdout
    assert len(in_order.stdout.splitlines()) == 49


@pytest.fixture
def another_database_url(postgres_server: str, tables: str) -> Iterator[str]:
    with new_database(postgres_server, tables) as url:
        yield url


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with running_service(database_url, tmp_path) as service:
        yield service


ONE_POLL = b"store_id,status,timestamp_utc\ns1,active,2023-01-22 12:09:39.388884 UTC\n"


def test_triggering_answers_with_nothing_but_the_id_of_a_new_report(service: Service) -> None:
    ids = set()
    for _ in range(2):
        answer = service.get("/trigger_report")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        ((name, report_id),) = answer.json().items()
        assert name == "report_id"
        assert str(UUID(report_id)) == report_id
        ids.add(report_id)
    assert len(ids) == 2


def test_a_report_is_started_then_completed_and_its_file_is_there_when_it_is(
    service: Service, database_url: str, tmp_path: Path
) -> None:
    loaded = storewatch(
        "ingest", "--polls", "-", stdin=ONE_POLL, database_url=database_url, home=tmp_path
    )
    assert loaded.returncode == 0
    with polls_locked(database_url):
        report_id = service.trigger_report()
        answer = service.get(f"/get_report/{report_id}")
        assert answer.status_code == 200
        assert answer.json() == {"report_id": report_id, "status": "Started"}
        assert not service.csv(report_id).exists()
    assert service.wait_for(report_id) == "Completed"
    assert service.csv(report_id).read_text().splitlines() == [
        HEADER,
        "s1,60.00,24.00,24.00,0.00,0.00,0.00",
    ]
    answer = service.get(f"/get_report/{report_id}")
    assert answer.status_code == 200
    assert answer.json() == {"report_id": report_id, "status": "Completed"}
    assert service.files() == service.files_of(report_id)


def test_a_report_that_cannot_be_made_is_failed_with_a_reason_and_has_no_file(
    service: Service, database_url: str
) -> None:
    report_id = service.trigger_report()
    assert service.wait_for(report_id) == "Failed"
    answer = service.get(f"/get_report/{report_id}")
    assert answer.status_code == 200
    assert answer.json() == {"report_id": report_id, "status": "Failed"}
    ((error, finished),) = ask(database_url, "select error, finished_at is not null from report")
    assert error == "there are no polls yet: load some, or give the report an as_of"
    assert finished
    assert service.files() == []


def test_a_report_that_there_is_not_is_not_found_with_status_200(service: Service) -> None:
    for report_id in (str(uuid4()), "no-uuid", "1", "%20", "null", "%00", "a" * 500, "%C3%84"):
        answer = service.get(f"/get_report/{report_id}")
        assert answer.status_code == 200
        assert answer.json() == {"report_id": unquote(report_id), "status": "Not Found"}


def test_a_report_survives_a_restart_of_the_service(database_url: str, tmp_path: Path) -> None:
    storewatch("ingest", "--polls", "-", stdin=ONE_POLL, database_url=database_url, home=tmp_path)
    with running_service(database_url, tmp_path) as service:
        report_id = service.trigger_report()
        assert service.wait_for(report_id) == "Completed"
    with running_service(database_url, tmp_path) as service:
        assert service.status(report_id) == "Completed"
        assert service.csv(report_id).exists()
