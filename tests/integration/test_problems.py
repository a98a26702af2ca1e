"""What goes wrong is told as application/problem+json, and no more of it than a reader can use."""

import json
from pathlib import Path

import pytest

from tests.harness.database import ask, database_away
from tests.harness.processes import eventually
from tests.harness.service import Service, problem, running_service

KIND = "/problems/"


@pytest.fixture(scope="module")
def service(empty_service: Service) -> Service:
    """Without a feed, and without a key."""
    return empty_service


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/dashboard/nothing",
        "/stores/a/b",
        "/stores/a/nothing",
        "/schema/nothing",
        "/%00",
        "/%FF",
    ],
)
def test_an_unknown_path_is_not_found(service: Service, path: str) -> None:
    answer = service.get(path)
    assert answer.status_code == 404
    assert problem(answer) == {
        "type": f"{KIND}not-found",
        "title": "Not found",
        "status": 404,
        "detail": "There is nothing at this path.",
    }


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/stores", "POST"),
        ("GET", "/polls", "POST"),
        ("POST", "/stores/a", "PATCH"),
        ("DELETE", "/stores/a/timezone", "PUT"),
        ("POST", "/trigger_report", "GET"),
        ("POST", "/health/live", "GET"),
    ],
)
def test_a_method_that_a_path_does_not_know_is_refused_with_those_that_it_does(
    service: Service, method: str, path: str, allowed: str
) -> None:
    answer = service.ask(method, path)
    assert answer.status_code == 405
    assert allowed in answer.headers["allow"].split(", ")
    assert problem(answer)["type"] == f"{KIND}method-not-allowed"


def test_a_value_that_cannot_be_is_named_by_the_part_of_the_request(service: Service) -> None:
    answer = service.get("/stores?limit=0&timezone=Europe/Berlin")
    assert answer.status_code == 422
    assert problem(answer) == {
        "type": f"{KIND}invalid-request",
        "title": "Invalid request",
        "status": 422,
        "detail": "query limit: Expected `int` >= 1",
        "errors": [{"problem": "Expected `int` >= 1", "source": "query", "field": "limit"}],
        "count": 1,
    }
    answer = service.ask("PUT", "/stores/a/timezone", json={"zone": "Europe/Berlin"})
    assert answer.status_code == 422
    [error] = problem(answer)["errors"]
    assert error["source"] == "body"
    assert error["problem"] == "Object contains unknown field `zone`; it has timezone"
    of_version_0_1 = [{"weekday": 0, "start": "09:00", "end": "17:00"}]
    answer = service.ask("PUT", "/stores/a/business-hours", json=of_version_0_1)
    assert answer.status_code == 422
    assert "it has day, start_time_local, end_time_local" in problem(answer)["detail"]
    answer = service.get("/stores/a/timeline?interpolation=linear&max_gap=soon")
    fields = [error["field"] for error in problem(answer)["errors"]]
    assert sorted(fields) == ["interpolation", "max_gap"]
    assert problem(service.get("/stores/%FF"))["errors"][0]["field"] == "store_id"


def test_a_body_that_cannot_be_read_is_a_bad_request(service: Service) -> None:
    for body in ('{"timezone": ', "{]", b"\xff", b'{"timezone": "\xff"}'):
        answer = service.ask("PUT", "/stores/a/timezone", content=body)
        assert answer.status_code == 400, body
        assert problem(answer)["type"] == f"{KIND}bad-request"
    answer = service.ask("PUT", "/stores/a/timezone")
    assert problem(answer)["errors"] == [{"problem": "a body is needed", "source": "body"}]


def test_a_body_that_is_too_large_is_refused(service: Service) -> None:
    large = json.dumps(
        [{"day": 0, "start_time_local": "09:00", "end_time_local": "17:00"}] * 250_000
    )
    answer = service.ask("PUT", "/stores/a/business-hours", content=large)
    assert answer.status_code == 413
    assert problem(answer)["type"] == f"{KIND}request-entity-too-large"


def test_what_nobody_expected_is_told_to_the_log_and_not_to_the_client(
    database_url: str, tmp_path: Path
) -> None:
    with running_service(database_url, tmp_path) as service:
        ask(database_url, "alter table store rename to elsewhere")
        answer = service.get("/stores", headers={"X-Request-ID": "the-one"})
        assert answer.status_code == 500
        assert problem(answer) == {
            "type": f"{KIND}internal-server-error",
            "title": "Internal server error",
            "status": 500,
            "detail": "The service failed. Its log says more under the X-Request-ID.",
        }
        lines = [json.loads(line) for line in service.log.splitlines()]
        [told] = [line for line in lines if line["level"] == "error"]
        assert told["request_id"] == answer.headers["x-request-id"] == "the-one"
        assert 'relation "store" does not exist' in told["exception"]
        ask(database_url, "alter table elsewhere rename to store")
        assert service.get("/stores").status_code == 200


def test_while_the_database_is_away_it_says_so_and_when_to_ask_again(
    database_url: str, postgres_server: str, tmp_path: Path
) -> None:
    with running_service(database_url, tmp_path) as service:
        assert service.get("/stores").status_code == 200
        with database_away(database_url, postgres_server):
            for method, path in (
                ("GET", "/stores"),
                ("GET", "/stores/a/timeline"),
                ("PUT", "/stores/a/business-hours"),
                ("GET", "/trigger_report"),
            ):
                answer = service.ask(method, path, json=[])
                assert answer.status_code == 503, answer.text
                assert answer.headers["retry-after"] == "2"
                assert problem(answer)["type"] == f"{KIND}database-unavailable"
            ready = service.get("/health/ready")
            assert ready.status_code == 503
            assert ready.headers["retry-after"] == "1"
            told = problem(ready)
            assert told["type"] == f"{KIND}not-ready"
            assert (told["database"], told["workers"]) == ("does not answer", "ok")
            assert service.get("/health/live").status_code == 200
            assert service.get("/metrics").status_code == 200
        eventually(lambda: service.get("/health/ready").status_code == 200)
        assert service.get("/stores").status_code == 200
