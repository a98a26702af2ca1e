"""The short way for a few polls as JSON answers what the route would answer."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.api.quick_polls import MOST_BYTES
from tests.harness.database import ask
from tests.harness.processes import eventually, make_key
from tests.harness.service import Service, running_service

POLL = {"store_id": "s1", "status": "active", "timestamp_utc": "2023-01-22T12:09:39Z"}
PLAIN = {"Content-Type": "application/json", "X-Request-ID": "mine"}
#: With this the request takes the long way.
LONG_WAY = {"X-Forwarded-Prefix": ""}


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service of the test's own."""
    with running_service(database_url, tmp_path) as service:
        yield service


def post(service: Service, body: bytes, **headers: str) -> httpx.Response:
    return service.ask("POST", "/polls", content=body, headers=PLAIN | headers)


def both_ways(service: Service, body: bytes, **headers: str) -> list[tuple[object, ...]]:
    told: list[tuple[object, ...]] = []
    for way in ({}, LONG_WAY):
        answer = post(service, body, **headers, **way)
        told.append(
            (
                answer.status_code,
                answer.content,
                {name: text for name, text in answer.headers.items() if name != "date"},
            )
        )
    return told


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b"[",
        b"[1]",
        b"[{}]",
        b'[{"store_id": "s1"}]',
        b"[" * 2_000,
        b"\xff",
        json.dumps([POLL | {"status": "asleep"}, POLL, POLL | {"timestamp_utc": "soon"}]).encode(),
        json.dumps([POLL | {"store_id": ""}]).encode(),
        json.dumps([POLL | {"store_id": "a\0"}]).encode(),
        json.dumps([POLL | {"more": 1}]).encode(),
        json.dumps([POLL | {"timestamp_utc": "9000-01-01T00:00:00Z"}]).encode(),
        json.dumps(POLL).encode(),
    ],
)
def test_what_is_wrong_is_told_the_same_both_ways(empty_service: Service, body: bytes) -> None:
    quick, long = both_ways(empty_service, body)
    assert quick == long
    assert quick[0] in (400, 422)


def test_what_is_good_is_answered_the_same_both_ways(service: Service, database_url: str) -> None:
    rows = [POLL, POLL | {"store_id": "s2", "status": "inactive"}]
    assert post(service, json.dumps(rows).encode()).json()["new"] == 2
    quick, long = both_ways(service, json.dumps(rows).encode())
    assert quick == long
    assert quick[0] == 200
    assert both_ways(service, b"[]")[0] == both_ways(service, b"[]")[1]
    assert sorted(ask(database_url, "select store_id, status from poll")) == [
        ("s1", "active"),
        ("s2", "inactive"),
    ]


def test_keys_are_asked_for_the_same_both_ways(
    service: Service, database_url: str, tmp_path: Path
) -> None:
    body = json.dumps([POLL]).encode()
    elsewhere = {"Host": "example.com"}
    assert len({str(told) for told in both_ways(service, body, **elsewhere)}) == 1
    assert both_ways(service, body, **elsewhere)[0][0] == 403
    key = make_key(database_url, tmp_path, "poller")
    eventually(lambda: post(service, body).status_code == 401)
    for headers, status in (
        ({}, 401),
        ({"X-API-Key": "sw_" + "x" * 43}, 401),
        ({"X-API-Key": key}, 200),
        ({"Authorization": f"Bearer {key}"}, 200),
        ({"Authorization": f"Bearer {key}", "X-API-Key": "sw_other"}, 401),
    ):
        quick, long = both_ways(service, body, **headers)
        assert quick[0] == long[0] == status
        assert status == 200 or quick == long


def test_successes_are_counted_in_the_log_and_in_the_metrics(service: Service) -> None:
    body = json.dumps([POLL]).encode()
    for _ in range(20):
        assert post(service, body).status_code == 200
    assert post(service, b"[1]").status_code == 422
    metric = 'storewatch_http_request_seconds_count{method="POST",route="/polls",status="200"} 20.0'
    assert metric in service.get("/metrics").text
    assert "POST /polls 422" in service.log
    eventually(lambda: '"requests":20' in service.log)
    assert '"message":"POST /polls 200"' not in service.log


def test_a_large_body_goes_the_long_way(service: Service, database_url: str) -> None:
    rows = [POLL | {"store_id": f"s{n}"} for n in range(1_000)]
    body = json.dumps(rows).encode()
    assert len(body) > MOST_BYTES
    assert post(service, body).json()["new"] == 1_000
    assert ask(database_url, "select count(*) from poll") == [(1_000,)]


def test_all_are_counted_in_the_log_however_soon_the_service_ends(service: Service) -> None:
    for _ in range(3):
        assert post(service, json.dumps([POLL]).encode()).status_code == 200
    service.stop()
    assert service.log.count("POST /polls 200, 3 times") == 1
