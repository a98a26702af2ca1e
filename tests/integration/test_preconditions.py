"""ETag, If-None-Match and If-Match of a store: nobody undoes a change that they have not seen."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness.service import Service, problem, running_service

MONDAY = {"day": 0, "start_time_local": "09:00:00", "end_time_local": "17:00:00"}
HOURS, ZONE = "business-hours", "timezone"
BODIES: dict[str, tuple[Any, Any]] = {
    HOURS: ([MONDAY], []),
    ZONE: ({"timezone": "Asia/Tokyo"}, {"timezone": None}),
}


@pytest.fixture(scope="module")
def service(empty_service: Service) -> Service:
    """Without a feed, and without a key."""
    return empty_service


def put(service: Service, path: str, body: Any, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.ask("PUT", path, json=body, headers=named)


def etag(service: Service, path: str) -> str:
    answer = service.get(path)
    assert answer.status_code == 200
    tag: str = answer.headers["etag"]
    assert tag.startswith('"')
    return tag


@pytest.mark.parametrize("part", [HOURS, ZONE])
def test_what_put_sets_can_be_read_and_sent_back(service: Service, part: str) -> None:
    path = f"/stores/read-{part}/{part}"
    assert service.get(path).status_code == 404
    assert problem(service.get(path))["type"] == "/problems/store-not-found"
    for body in BODIES[part]:
        assert put(service, path, body).status_code == 200
        read = service.get(path)
        assert read.json() == body
        same = put(service, path, read.json(), If_Match=read.headers["etag"])
        assert same.status_code == 200
        assert same.headers["etag"] == read.headers["etag"]  # the same again is no other version


def test_who_knows_it_gets_304_until_it_changes(service: Service) -> None:
    put(service, "/stores/known/timezone", {"timezone": "Asia/Tokyo"})
    for path in ("/stores/known", "/stores/known/business-hours", "/stores/known/timezone"):
        tag = etag(service, path)
        for names in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            known = service.get(path, headers={"If-None-Match": names})
            assert (known.status_code, known.content) == (304, b"")
            assert known.headers["etag"] == tag
        assert service.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    store, hours, zone = (
        etag(service, f"/stores/known{part}") for part in ("", f"/{HOURS}", f"/{ZONE}")
    )
    put(service, "/stores/known/timezone", {"timezone": "Europe/Berlin"})
    assert etag(service, "/stores/known") != store
    assert etag(service, "/stores/known/business-hours") == hours
    assert etag(service, "/stores/known/timezone") != zone
    before = etag(service, "/stores/known")
    poll = [{"store_id": "known", "status": "active", "timestamp_utc": "2024-03-01T10:00:00Z"}]
    assert service.ask("POST", "/polls", json=poll).status_code == 200
    assert etag(service, "/stores/known") != before


@pytest.mark.parametrize("part", [HOURS, ZONE])
def test_a_change_that_was_not_seen_is_not_undone(service: Service, part: str) -> None:
    path = f"/stores/lost-{part}/{part}"
    first, second = BODIES[part]
    seen = put(service, path, second).headers["etag"]
    assert seen == etag(service, path)
    now = put(service, path, first, If_Match=seen).headers["etag"]
    assert now == etag(service, path) != seen
    refused = put(service, path, second, If_Match=seen)
    assert refused.status_code == 412
    assert problem(refused)["type"] == "/problems/precondition-failed"
    assert refused.headers["etag"] == now
    assert service.get(path).json() == first
    assert put(service, path, second, If_Match=refused.headers["etag"]).status_code == 200
    # Without a condition the last one wins, as before.
    assert put(service, path, first).status_code == 200


@pytest.mark.parametrize("part", [HOURS, ZONE])
def test_if_match_takes_a_list_a_star_and_the_tag_of_the_store(service: Service, part: str) -> None:
    store = f"/stores/list-{part}"
    path, (first, second) = f"{store}/{part}", BODIES[part]
    put(service, path, first)
    for tag in (f'"other", {etag(service, path)}', "*", etag(service, store)):
        assert put(service, path, second, If_Match=tag).status_code == 200, tag
        put(service, path, first)
    stale = etag(service, store)
    put(service, path, second)
    weak = f"W/{etag(service, path)}"
    for tag in (stale, weak, '"other"', "", ",,,", '"', "*, *"):
        assert put(service, path, first, If_Match=tag).status_code == 412, tag
    assert service.get(path).json() == second


@pytest.mark.parametrize("part", [HOURS, ZONE])
def test_a_store_that_there_is_not_yet(service: Service, part: str) -> None:
    path = f"/stores/new-{part}/{part}"
    first, second = BODIES[part]
    for tag in ("*", '"any"'):
        refused = put(service, path, first, If_Match=tag)
        assert refused.status_code == 412
        assert "the store does not exist" in problem(refused)["detail"]
        assert "etag" not in refused.headers
    assert service.get(path).status_code == 404  # and none was made
    made = put(service, path, first, If_None_Match="*")
    assert made.status_code == 200
    again = put(service, path, second, If_None_Match="*")
    assert again.status_code == 412
    assert again.headers["etag"] == made.headers["etag"]
    assert service.get(path).json() == first


def test_a_body_that_is_not_allowed_is_told_before_a_condition(service: Service) -> None:
    answer = put(service, "/stores/a/timezone", {"timezone": "Nowhere"}, If_Match='"other"')
    assert answer.status_code == 422


def test_of_many_at_once_on_two_instances_one_writes(database_url: str, tmp_path: Path) -> None:
    path = "/stores/a/business-hours"
    with (
        running_service(database_url, tmp_path) as first,
        running_service(database_url, tmp_path) as second,
        ThreadPoolExecutor(12) as threads,
    ):
        seen = put(first, path, []).headers["etag"]

        def write(number: int) -> int:
            row = {**MONDAY, "start_time_local": f"{number:02}:00:00"}
            return put((first, second)[number % 2], path, [row], If_Match=seen).status_code

        assert sorted(threads.map(write, range(12))) == [200] + [412] * 11

        put(first, path, [])

        def add(number: int) -> None:
            """One of many who each add a row of their own."""
            service = (first, second)[number % 2]
            row = {
                "day": number % 7,
                "start_time_local": f"{number:02}:00:00",
                "end_time_local": f"{number:02}:30:00",
            }
            while True:
                read = service.get(path)
                rows = [*read.json(), row]
                if put(service, path, rows, If_Match=read.headers["etag"]).status_code == 200:
                    return

        list(threads.map(add, range(12)))
        assert len(first.get(path).json()) == 12


def test_the_document_tells_of_conditions(service: Service) -> None:
    paths = service.get("/schema/openapi.json").json()["paths"]
    for part in ("", f"/{HOURS}", f"/{ZONE}"):
        read = paths[f"/stores/{{store_id}}{part}"]["get"]
        assert "ETag" in read["responses"]["200"]["headers"]
        assert "304" in read["responses"]
        assert "If-None-Match" in {parameter["name"] for parameter in read["parameters"]}
    for part in (HOURS, ZONE):
        write = paths[f"/stores/{{store_id}}/{part}"]["put"]
        assert "ETag" in write["responses"]["200"]["headers"]
        assert "ETag" in write["responses"]["412"]["headers"]
        names = {parameter["name"] for parameter in write["parameters"]}
        assert {"If-Match", "If-None-Match"} <= names
