"""A parameter of the query that an operation does not have is refused by name, not left aside."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.harness.database import ask
from tests.harness.processes import make_key
from tests.harness.service import Service, problem, running_service

POLL = [{"store_id": "s1", "status": "active", "timestamp_utc": "2024-01-01T00:00:00Z"}]


@pytest.fixture(scope="module")
def service(empty_service: Service) -> Service:
    """Without a feed, and without a key."""
    return empty_service


def test_every_documented_operation_but_the_deprecated_refuses_what_it_does_not_know(
    service: Service,
) -> None:
    paths = service.get("/schema/openapi.json").json()["paths"]
    tried = 0
    for path, operations in paths.items():
        for method, operation in operations.items():
            named = {"store_id": "s1", "report_id": uuid4(), "key_id": 1}
            named |= {"exclusion_id": uuid4(), "schedule_id": uuid4(), "outage_id": "a" * 16}
            named |= {"webhook_id": uuid4(), "delivery_id": uuid4()}
            place = path.format(**named, day="2024-12-25")
            answer = service.ask(method.upper(), f"{place}?colour=red")
            if operation.get("deprecated"):
                assert answer.status_code == 200
                assert "422" not in operation["responses"]
                continue
            tried += 1
            assert answer.status_code == 422, (method, path, answer.text)
            assert "422" in operation["responses"]
            if method == "head":
                continue
            told = problem(answer)
            assert told["type"] == "/problems/invalid-request"
            [error] = told["errors"]
            assert (error["source"], error["field"]) == ("query", "colour")
            known = [
                parameter["name"]
                for parameter in operation.get("parameters", [])
                if parameter["in"] == "query"
            ]
            assert all(name in error["problem"] for name in known)
            assert error["problem"] in told["detail"]
    assert tried > 15


def test_nothing_is_done_and_no_body_is_read_for_it(
    service: Service, module_database_url: str
) -> None:
    answer = service.ask("POST", "/polls?dry_run=true", json=POLL)
    assert answer.status_code == 422
    assert "dry_run" in problem(answer)["detail"]
    assert ask(module_database_url, "select count(*) from store") == [(0,)]

    def never_ending() -> Iterator[bytes]:
        yield b"store_id,"
        raise AssertionError("the body was read")

    with pytest.raises(AssertionError, match="the body was read"):
        service.ask("POST", "/polls/csv", content=never_ending())  # it is, without the parameter


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("limit=1&limit=2", ["limit"]),
        ("limit=1&limit=1", ["limit"]),
        ("cursor=a&cursor=", ["cursor"]),
        ("Limit=1", ["Limit"]),
        ("limit=1&sort=id&order=up", ["order", "sort"]),
        ("limit=1&limit=2&sort=id", ["sort", "limit"]),
        ("sort=a&sort=b", ["sort"]),
        ("=1", [""]),
        ("limit%00=1", ["limit\0"]),
        ("%F0%9F%99%82=1", ["\U0001f642"]),
        ("a" * 5000 + "=1", ["a" * 100]),
    ],
)
def test_each_fault_is_told_by_its_name(service: Service, query: str, fields: list[str]) -> None:
    answer = service.get(f"/reports?{query}")
    assert answer.status_code == 422, answer.text
    told: dict[str, Any] = problem(answer)
    assert [error["field"] for error in told["errors"]] == fields
    assert told["count"] == len(fields)


def test_of_many_faults_the_first_are_told(service: Service) -> None:
    told = problem(service.get("/stores?" + "&".join(f"name{n}=1" for n in range(1000))))
    assert told["count"] == 1000
    assert len(told["errors"]) == 20


@pytest.mark.parametrize(
    "path",
    [
        "/reports?",
        "/reports?status=failed&status=completed&limit=1",
        "/?utm_source=mail",
        "/dashboard/style.css?v=2",
        "/schema?x=1",
        "/schema/openapi.json?v=2",
        "/get_report/x?x=1&x=2",
    ],
)
def test_what_is_known_or_not_in_the_document_is_let_pass(service: Service, path: str) -> None:
    assert service.get(path).status_code == 200


def test_who_has_no_key_hears_of_that_first(database_url: str, tmp_path: Path) -> None:
    key = make_key(database_url, tmp_path, "reader", "--scope", "read")
    with running_service(database_url, tmp_path) as service:
        assert service.get("/stores?colour=red").status_code == 401
        assert service.ask("POST", "/polls?x=1", headers={"X-API-Key": key}).status_code == 403
        assert service.get("/stores?colour=red", headers={"X-API-Key": key}).status_code == 422
