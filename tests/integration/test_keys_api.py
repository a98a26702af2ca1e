"""API keys over HTTP: listed, made and revoked by whoever may write."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness.database import ask
from tests.harness.processes import eventually, make_key, storewatch
from tests.harness.service import Service, problem, running_service


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service that had no key when it began."""
    with running_service(database_url, tmp_path) as service:
        yield service


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def make(service: Service, by: str | None, name: str, scope: str = "write") -> httpx.Response:
    body = {"name": name, "scope": scope}
    return service.ask("POST", "/keys", json=body, headers=bearer(by))


def made(service: Service, by: str | None, name: str, scope: str = "write") -> Any:
    answer = make(service, by, name, scope)
    assert answer.status_code == 201, answer.text
    return answer.json()


def listed(service: Service, by: str | None) -> Any:
    answer = service.get("/keys", headers=bearer(by))
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def revoke(service: Service, by: str | None, number: object) -> httpx.Response:
    return service.ask("DELETE", f"/keys/{number}", headers=bearer(by))


def kind(answer: httpx.Response) -> tuple[int, str]:
    told = problem(answer)
    return told["status"], told["type"].removeprefix("/problems/")


def test_the_first_key_is_made_without_one_and_counts_at_once(service: Service) -> None:
    assert listed(service, None) == []
    assert kind(make(service, None, "reader", "read")) == (409, "no-write-key-left")
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://page.example"}):
        body = {"name": "theirs", "scope": "write"}
        refused = service.ask("POST", "/keys", json=body, headers=headers)
        assert kind(refused) == (403, "key-needed")
    answer = make(service, None, "ops")
    assert answer.headers["cache-control"] == "no-store"
    first = answer.json()
    key = first.pop("key")
    assert key.startswith(first["prefix"])
    # Also by a service that has not seen it yet, and would let others in for a moment.
    assert kind(make(service, None, "another"))[0] == 401
    [shown] = listed(service, key)
    assert {**first, "current": True, "last_used_at": None} == {**shown, "last_used_at": None}
    eventually(lambda: service.get("/stores").status_code == 401)
    assert key not in service.log


def test_where_everybody_is_served_nobody_makes_the_first_key_from_outside(
    database_url: str, tmp_path: Path
) -> None:
    with running_service(database_url, tmp_path, "--insecure") as service:
        assert kind(make(service, None, "ops")) == (403, "key-needed")
        key = make_key(database_url, tmp_path, "ops")
        assert made(service, key, "reader", "read")["scope"] == "read"


def test_keys_are_made_listed_and_revoked(service: Service) -> None:
    ops = made(service, None, "ops")["key"]
    reader = made(service, ops, "reader <b>&", "read")
    assert (reader["scope"], reader["current"], reader["revoked_at"]) == ("read", False, None)
    assert service.get("/stores", headers=bearer(reader["key"])).status_code == 200
    for method, path in (("GET", "/keys"), ("POST", "/keys"), ("DELETE", f"/keys/{reader['id']}")):
        body = {"name": "more", "scope": "write"} if method == "POST" else None
        refused = service.ask(method, path, headers=bearer(reader["key"]), json=body)
        assert kind(refused) == (403, "scope-too-small")
    # A request that is sent again because its answer was lost makes no second key.
    assert kind(make(service, ops, "reader <b>&", "read")) == (409, "key-exists")
    assert [(key["name"], key["current"]) for key in listed(service, ops)] == [
        ("ops", True),
        ("reader <b>&", False),
    ]
    for _ in range(2):
        assert revoke(service, ops, reader["id"]).status_code == 204
    eventually(lambda: service.get("/stores", headers=bearer(reader["key"])).status_code == 401)
    assert [key["revoked_at"] is None for key in listed(service, ops)] == [True, False]
    assert made(service, ops, "reader <b>&", "read")["id"] != reader["id"]


def test_a_key_may_revoke_itself_but_the_last_of_scope_write_stays(
    service: Service, database_url: str, tmp_path: Path
) -> None:
    first = made(service, None, "first")
    made(service, first["key"], "reader", "read")
    assert kind(revoke(service, first["key"], first["id"])) == (409, "no-write-key-left")
    second = made(service, first["key"], "second")
    assert revoke(service, first["key"], first["id"]).status_code == 204
    # It may still be let in for a moment, but manages nothing any more.
    assert kind(make(service, first["key"], "third")) == (401, "key-not-valid")
    assert kind(revoke(service, second["key"], second["id"])) == (409, "no-write-key-left")
    done = storewatch("keys", "revoke", "second", database_url=database_url, home=tmp_path)
    assert done.returncode == 0
    eventually(lambda: service.get("/keys", headers=bearer(second["key"])).status_code == 401)


def test_what_cannot_be_made_or_revoked_is_told(
    service: Service, database_url: str, tmp_path: Path
) -> None:
    key = make_key(database_url, tmp_path, "ops")
    for name in ("", " ", "x" * 101, "a\nb", "a\0b"):
        assert kind(make(service, key, name)) == (422, "invalid-request")
    wrong: list[Any] = [{"name": "x"}, {"name": "x", "scope": "admin"}, {"scope": "read"}, [], 5]
    for body in wrong:
        answer = service.ask("POST", "/keys", json=body, headers=bearer(key))
        assert kind(answer) == (422, "invalid-request")
    assert kind(revoke(service, key, 4_000)) == (404, "key-not-found")
    for number in (0, -1, 1 << 40, "x"):
        assert revoke(service, key, number).status_code in (404, 422)
    fill = """
        insert into api_key (name, prefix, sha256, scope)
        select 'key ' || n, 'sw_', sha256(n::text::bytea), 'read' from generate_series(1, 999) as n
    """
    ask(database_url, fill)
    assert kind(make(service, key, "one more")) == (409, "too-many-keys")
    ask(database_url, "update api_key set revoked_at = now() where scope = 'read'")
    assert made(service, key, "one more", "read")["name"] == "one more"
    assert len(listed(service, key)) == 102
