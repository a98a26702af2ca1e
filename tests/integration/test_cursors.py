"""A cursor continues the question that it came from, and no other; anything else is refused."""

import base64
from collections.abc import Iterator
from hashlib import sha256

import pytest

from tests.harness.database import add_many_stores
from tests.harness.service import Service, problem, running_service


@pytest.fixture(scope="module")
def service(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    add_many_stores(module_database_url, 30)
    with running_service(module_database_url, tmp_path_factory.mktemp("service")) as service:
        for _ in range(3):
            service.trigger_report()
        yield service


def refused(service: Service, path: str, **params: str) -> str:
    """Why a cursor is refused, in words."""
    answer = service.get(path, params=params)
    assert answer.status_code == 422, answer.text
    told = problem(answer)
    assert told["type"] == "/problems/invalid-request"
    [error] = told["errors"]
    assert (error["source"], error["field"]) == ("query", "cursor")
    text: str = error["problem"]
    return text


def cursor_of(service: Service, path: str, **params: str) -> str:
    cursor: str = service.get(path, params=params).json()["next_cursor"]
    assert cursor
    return cursor


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def test_pages_follow_each_other_and_their_size_may_change(service: Service) -> None:
    ids, cursor, limit = [], None, 1
    while True:
        params = {"prefix": "store-00001", "limit": str(limit)}
        page = service.get("/stores", params=params | ({"cursor": cursor} if cursor else {})).json()
        ids += [store["store_id"] for store in page["items"]]
        cursor, limit = page["next_cursor"], limit + 2
        if cursor is None:
            break
    assert ids == [f"store-{number:06}" for number in range(10, 20)]
    first = service.get("/reports?limit=1")
    second = service.get(first.links["next"]["url"])
    assert second.json()["items"][0]["id"] != first.json()["items"][0]["id"]


def test_the_order_of_parameters_and_empty_ones_are_no_other_question(service: Service) -> None:
    zone = "America/Chicago"
    cursor = cursor_of(service, "/stores", prefix="store", timezone=zone, limit="2")
    again = f"/stores?limit=5&timezone={zone}&cursor={cursor}&prefix=store"
    assert service.get(again).status_code == 200
    cursor = cursor_of(service, "/stores", prefix="", limit="2")
    assert service.get("/stores", params={"cursor": cursor}).status_code == 200


def test_a_changed_filter_is_refused_in_words(service: Service) -> None:
    cursor = cursor_of(service, "/stores", prefix="store", limit="2")
    for changed in ({}, {"prefix": "stor"}, {"prefix": "store", "timezone": "America/Chicago"}):
        text = refused(service, "/stores", cursor=cursor, **changed)
        assert "keep all parameters except `limit`" in text
        assert "begin without a cursor" in text


def test_a_cursor_of_another_list_is_refused(service: Service) -> None:
    cursor = cursor_of(service, "/reports", limit="1")
    assert "other filters" in refused(service, "/stores", cursor=cursor)
    cursor = cursor_of(service, "/stores", limit="1")
    assert "other filters" in refused(service, "/reports", cursor=cursor)


def test_what_is_no_cursor_of_ours_is_refused_in_words(service: Service) -> None:
    good = cursor_of(service, "/stores", limit="1")
    of_version_0_1 = (
        encoded(b"store-000001"),
        encoded(b"2026-11-24T10:00:00+00:00 6f2b1a52-7c5b-4f0e-9e57-6e6f1c1d7a10"),
    )
    garbage = ("x", "%", "null", "é", "\0", good[:-4], good + "AAAA", "A" * 2000, good.swapcase())
    for cursor in (*of_version_0_1, *garbage, ""):
        for path in ("/stores", "/reports"):
            assert "begin without a cursor" in refused(service, path, cursor=cursor), cursor


def test_a_cursor_that_somebody_made_up_to_look_like_ours_does_no_harm(service: Service) -> None:
    filters = base64.urlsafe_b64decode(cursor_of(service, "/reports", limit="1") + "==")[8:16]
    places = (
        b"",
        b"\xff",
        b"a\0b",
        b"2026-11-24T10:00:00+00:00",
        b"2026-11-24T10:00:00 6f2b1a52-7c5b-4f0e-9e57-6e6f1c1d7a10",
        b"0001-01-01T00:00:00+23:59 6f2b1a52-7c5b-4f0e-9e57-6e6f1c1d7a10",
        b"9999-12-31T23:59:59-23:59 6f2b1a52-7c5b-4f0e-9e57-6e6f1c1d7a10",
    )
    for place in places:
        content = filters + place
        cursor = encoded(sha256(content).digest()[:8] + content)
        assert "begin without a cursor" in refused(service, "/reports", cursor=cursor), place
