"""Polls of one store, downloaded and deleted; and a store deleted with all that it had."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.database import ask
from tests.harness.service import Service, problem, running_service

HEADER = "store_id,status,timestamp_utc\n"
POLLS = (
    '"a,""b""",active,2023-01-22 22:00:00.000Z\n'
    '"a,""b""",inactive,2023-01-23 00:00:00.001Z\n'
    '"a,""b""",active,2023-01-25 12:00:00.000Z\n'
)
OTHERS = "b,active,2023-01-23 00:00:00.001Z\nb,active,2023-01-24 00:00:00.000Z\n"
PATH = "/stores/a%2C%22b%22"
CSV = {"Content-Type": "text/csv"}


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with running_service(database_url, tmp_path) as service:
        content = (HEADER + POLLS + OTHERS).encode()
        assert service.ask("POST", "/polls", content=content, headers=CSV).status_code == 200
        yield service


def test_polls_of_a_store_are_downloaded_in_the_form_that_loads_them(service: Service) -> None:
    whole = service.get(f"{PATH}/polls")
    assert whole.headers["content-type"].startswith("text/csv")
    assert whole.text == HEADER + POLLS.replace(" ", "T")
    answer = service.ask("POST", "/polls", content=whole.content, headers=CSV)
    assert (answer.json()["rows"], answer.json()["unchanged"]) == (3, 3)

    accept = {"Accept": "application/x-ndjson"}
    bounds = {"from": "2023-01-23T00:00:00.001Z", "to": "2023-01-25T12:00:00Z"}
    lines = service.get(f"{PATH}/polls", headers=accept, params=bounds)
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    assert lines.text == (
        '{"store_id":"a,\\"b\\"","status":"inactive","timestamp_utc":"2023-01-23T00:00:00.001Z"}\n'
    )
    answer = service.ask(
        "POST", "/polls", content=lines.content, headers={"Content-Type": "application/x-ndjson"}
    )
    assert answer.json()["unchanged"] == 1
    assert problem(service.get("/stores/none/polls"))["type"] == "/problems/store-not-found"
    backwards = {"from": bounds["to"], "to": bounds["from"]}
    assert problem(service.get(f"{PATH}/polls", params=backwards))["status"] == 422


def test_many_polls_are_written_piece_by_piece(service: Service, database_url: str) -> None:
    ask(
        database_url,
        """
        with word as (
            select string_agg(set_byte(set_byte(set_byte(
                '\\x00000000', 0, n * 2 & 255), 1, n * 2 >> 8 & 255), 2, n * 2 >> 16 & 255), ''
                order by n) as polls
            from generate_series(0, 24999) as n
        )
        insert into poll_day select store.id, day, polls
        from word, store, generate_series(18000, 18039) as day where store_id = 'b'
        """,
    )
    query = {"to": "2023-01-01T00:00:00Z"}
    text = service.get("/stores/b/polls", params=query).text
    assert text.count("\n") == 1 + 40 * 25_000
    assert text.endswith("b,inactive,2019-05-23T00:00:24.999Z\n")


def test_polls_of_one_store_are_deleted_and_no_others(service: Service) -> None:
    bounds = {"from": "2023-01-23T00:00:00.001Z", "to": "2300-01-01T00:00:00Z"}
    answer = service.ask("DELETE", f"{PATH}/polls", params=bounds)
    assert answer.json() == {"polls": 2, "newest_poll": "2023-01-24T00:00:00Z"}
    answer = service.ask("DELETE", f"{PATH}/polls", params=bounds)
    assert answer.json() == {"polls": 0, "newest_poll": "2023-01-24T00:00:00Z"}
    assert service.get(f"{PATH}/polls").text.count("\n") == 2
    assert service.get("/stores/b/polls").text.count("\n") == 3
    unknown = service.ask("DELETE", "/stores/none/polls", params=bounds)
    assert problem(unknown)["type"] == "/problems/store-not-found"


def test_a_store_is_deleted_with_all_that_it_had(service: Service, database_url: str) -> None:
    row = {"from": "2024-03-01T10:00:00Z", "to": "2024-03-01T11:00:00Z"}
    rows = [{**row, "store_ids": ["b"]}, {**row, "store_ids": ["b", "c"]}]
    service.ask("POST", "/exclusions", json=rows)
    service.ask("PUT", "/stores/b/special-hours/2024-12-25", json={"closed": True})
    service.ask("PUT", "/stores/b/timezone", json={"timezone": "Asia/Tokyo"})
    answer = service.ask("DELETE", "/stores/b")
    assert answer.json() == {
        "store_id": "b",
        "polls": 2,
        "exclusions": 1,
        "newest_poll": "2023-01-25T12:00:00Z",
    }
    assert problem(service.ask("DELETE", "/stores/b"))["type"] == "/problems/store-not-found"
    assert problem(service.get("/stores/b"))["status"] == 404
    assert ask(database_url, "select count(*) from poll_day") == [(3,)]
    assert service.ask("DELETE", PATH).json()["newest_poll"] is None
    assert service.get("/feeds").json()["newest_poll"] is None
    body = [{"store_id": "b", "status": "active", "timestamp_utc": "2023-01-22T12:00:00Z"}]
    assert service.ask("POST", "/polls", json=body).json()["new"] == 1
    assert service.get("/stores/b").json()["timezone"] is None
