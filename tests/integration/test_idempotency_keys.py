"""A request for a report that is sent again gets the first one: of the same caller, for a day."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.database import add_many_stores, ask
from tests.harness.processes import make_key
from tests.harness.reports import create
from tests.harness.service import Service, problem, running_service


@pytest.fixture(scope="module")
def running(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    add_many_stores(module_database_url, 10)
    with running_service(module_database_url, tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture
def service(running: Service, module_database_url: str) -> Service:
    """A service without reports, API keys or idempotency keys."""
    ask(module_database_url, "delete from report")
    return running


def test_the_same_idempotency_key_gives_the_first_report(service: Service) -> None:
    first = create(service, {"max_gap": "2h"}, Idempotency_Key="one")
    again = create(service, {"max_gap": "120m"}, Idempotency_Key="one")
    other = create(service, {"max_gap": "2h"}, Idempotency_Key="two")
    assert first.json()["id"] == again.json()["id"] != other.json()["id"]
    assert again.status_code == 202
    for body in ({"max_gap": "3h"}, {"max_gap": "2h", "escape_formulas": True}):
        refused = create(service, body, Idempotency_Key="one")
        assert refused.status_code == 422
        assert problem(refused)["type"].endswith("/idempotency-key-reused")
    assert len(service.get("/reports").json()["items"]) == 2


@pytest.mark.parametrize(
    ("one", "same"), [("abc", '"abc"'), ('a"b\\c', r'"a\"b\\c"'), ("a b", '"a b"'), ('"', '"')]
)
def test_a_key_in_quotes_is_the_same_key(service: Service, one: str, same: str) -> None:
    ids = {create(service, None, Idempotency_Key=key).json()["id"] for key in (one, same, one)}
    assert len(ids) == 1
    assert create(service, None, Idempotency_Key=f"{one}.").json()["id"] not in ids


def test_a_key_that_is_empty_or_too_long_is_refused(service: Service) -> None:
    assert create(service, None, Idempotency_Key=f'"{"a" * 255}"').status_code == 202
    for key in ("", '""', "a" * 256):
        answer = create(service, None, Idempotency_Key=key)
        assert answer.status_code == 422
        assert problem(answer)["errors"][0]["source"] == "header"


def test_two_callers_may_use_the_same_key_each_for_a_report_of_its_own(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 10)
    with running_service(database_url, tmp_path) as service:
        nobody = create(service, None, Idempotency_Key="today").json()["id"]
        keys = [make_key(database_url, tmp_path, name) for name in ("one", "another")]
        made = {
            key: create(service, body, Idempotency_Key="today", X_API_Key=key)
            for key, body in zip(keys, ({}, {"max_gap": "2h"}), strict=True)
        }
        assert [answer.status_code for answer in made.values()] == [202, 202]
        ids = {answer.json()["id"] for answer in made.values()}
        assert len(ids | {nobody}) == 3
        again = create(service, {}, Idempotency_Key="today", X_API_Key=keys[0])
        assert again.json()["id"] == made[keys[0]].json()["id"]


def test_a_key_is_free_again_after_a_day(service: Service, module_database_url: str) -> None:
    def age(report_id: str, hours: int) -> None:
        ask(
            module_database_url,
            "update report set created_at = now() - $2 * interval '1 hour' where id = $1::uuid",
            report_id,
            hours,
        )

    first = create(service, None, Idempotency_Key="today").json()["id"]
    age(first, 23)
    assert create(service, None, Idempotency_Key="today").json()["id"] == first
    age(first, 25)
    # Also for other options.
    second = create(service, {"max_gap": "2h"}, Idempotency_Key="today")
    assert second.status_code == 202
    assert second.json()["id"] != first
    again = create(service, {"max_gap": "2h"}, Idempotency_Key="today")
    assert again.json()["id"] == second.json()["id"]
    assert service.get(f"/reports/{first}").status_code == 200


def test_requests_with_one_key_at_the_same_time_make_one_report(service: Service) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = threads.map(lambda _: create(service, None, Idempotency_Key="at once"), range(16))
        assert len({answer.json()["id"] for answer in made}) == 1
    assert len(service.get("/reports").json()["items"]) == 1


# What version 0.1 asks of the database when it is given an idempotency key, but for its columns.
_BEFORE = "select id::text from report where idempotency_key = $1"
_INSERTS = """
    insert into report (id, as_of, asked_as_of, interpolation, max_gap, include_unknown,
                        stores, idempotency_key, request_sha256)
    select gen_random_uuid(), null, null, 'nearest', '24 hours', false, null, $1, $2
    returning id::text
"""


def test_a_version_before_this_one_goes_on_beside_it(
    service: Service, module_database_url: str
) -> None:
    [(old,)] = ask(module_database_url, _INSERTS, "today", b"of its own kind")
    # Who it was that asked the old version is not known, so it is nobody's key here.
    new = create(service, None, Idempotency_Key="today")
    assert new.status_code == 202
    assert new.json()["id"] != old
    assert {report_id for (report_id,) in ask(module_database_url, _BEFORE, "today")} == {
        old,
        new.json()["id"],
    }
