"""Exclusions: loaded for stores, tags or all, listed page by page, deleted."""

import json
from typing import Any
from uuid import uuid4

import pytest

from tests.harness.database import ask
from tests.harness.service import Service, problem

HEADER = "store_id,from,to,reason\n"
CSV = {"Content-Type": "text/csv"}
TEN, ELEVEN = "2024-03-01T10:00:00Z", "2024-03-01T11:00:00Z"


def load(service: Service, rows: str) -> list[int]:
    """Rows, stores, and how many were new, replaced and unchanged."""
    content = (HEADER + rows).encode()
    answer = service.ask("POST", "/exclusions", content=content, headers=CSV)
    assert answer.status_code == 200, answer.text
    done = answer.json()
    return [done[name] for name in ("rows", "stores", "new", "replaced", "unchanged")]


def listed(service: Service, **query: Any) -> list[dict[str, Any]]:
    answer = service.get("/exclusions", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_an_exclusion_is_known_by_whom_it_covers_and_when(empty_service: Service) -> None:
    store = str(uuid4())
    rows = f"{store},{TEN},{ELEVEN},power\n*,{TEN},{ELEVEN},poller\n{store},{TEN},{ELEVEN},power\n"
    assert load(empty_service, rows) == [3, 1, 2, 0, 0]
    assert load(empty_service, rows) == [3, 1, 0, 0, 2]
    assert load(empty_service, f"{store},{TEN},{ELEVEN},storm\n") == [1, 1, 0, 1, 0]
    [mine] = [one for one in listed(empty_service) if one["store_ids"] == [store]]
    assert (mine["from"], mine["to"], mine["reason"]) == (TEN, ELEVEN, "storm")
    assert mine["tags"] is None
    assert mine["all_stores"] is False
    assert empty_service.get(f"/stores/{store}").status_code == 404  # it makes no store


@pytest.mark.parametrize(
    ("row", "column"),
    [
        (f",{TEN},{ELEVEN},\n", "store_id"),
        (f"s,{ELEVEN},{TEN},\n", "to"),
        (f"s,{TEN},{TEN},\n", "to"),
        (f"s,soon,{TEN},\n", "from"),
        (f"s,{TEN},later,\n", "to"),
        (f"s,{TEN},{ELEVEN},{'x' * 256}\n", "reason"),
        (f"\0{{}},{TEN},{ELEVEN},\n", "store_id"),
    ],
    ids=["no-store", "backwards", "nothing", "from", "to", "reason", "nul"],
)
def test_a_row_that_is_no_exclusion_is_refused_with_its_place(
    empty_service: Service, row: str, column: str
) -> None:
    before = listed(empty_service)
    content = f"{HEADER}*,{TEN},{ELEVEN},never\n{row}".encode()
    answer = empty_service.ask("POST", "/exclusions", content=content, headers=CSV)
    [error] = problem(answer)["errors"]
    assert (error["line"], error["column"]) == (3, column)
    assert listed(empty_service) == before


def test_json_names_stores_tags_or_all(empty_service: Service) -> None:
    first, second = sorted(str(uuid4()) for _ in range(2))
    row = {"from": TEN, "to": ELEVEN, "reason": "fair"}
    rows: list[dict[str, Any]] = [
        {**row, "store_ids": [second, first, first]},
        {**row, "tags": {"region": first}},
        {**row, "all_stores": True},
        {**row, "store_ids": [first]},
    ]
    answer = empty_service.ask("POST", "/exclusions", json=rows)
    assert answer.status_code == 200, answer.text
    assert answer.json()["stores"] == 2
    assert load(empty_service, f"{first},{TEN},{ELEVEN},fair\n")[4] == 1  # the same in CSV
    known = [(one["store_ids"], one["tags"], one["all_stores"]) for one in listed(empty_service)]
    assert ([first, second], None, False) in known
    assert (None, {"region": first}, False) in known
    assert (None, None, True) in known


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"store_ids": ["s"], "all_stores": True},
        {"store_ids": []},
        {"store_ids": ["*"]},
        {"store_ids": [str(number) for number in range(1001)]},
        {"tags": {}},
        {"tags": {"a:b": "c"}},
        {"tags": {"a": ""}},
        {"tags": {"a": "x" * 256}},
    ],
    ids=["none", "two", "no-ids", "star", "many", "no-tags", "colon", "empty", "long"],
)
def test_json_that_covers_nothing_clear_is_refused(
    empty_service: Service, members: dict[str, Any]
) -> None:
    rows = [{"from": TEN, "to": ELEVEN, **members}]
    told = problem(empty_service.ask("POST", "/exclusions", json=rows))
    assert told["type"] == "/problems/feed-refused"
    assert told["errors"][0]["line"] == 1


def test_those_of_a_store_and_a_stretch_of_time_are_listed_in_pages(
    empty_service: Service,
) -> None:
    store, tag = str(uuid4()), str(uuid4())
    named = {"store_id": store, "tags": {"region": tag}}
    assert empty_service.ask("POST", "/stores", json=[named]).status_code == 200
    day = "2031-01-{:02}T00:00:00Z"
    whoms: list[dict[str, Any]] = [
        {"store_ids": [store]}, {"tags": {"region": tag}}, {"store_ids": ["other"]},
    ]  # fmt: skip
    rows = [
        {"from": day.format(number), "to": day.format(number + 1), **whom}
        for number, whom in enumerate(whoms * 3, 1)
    ]
    assert empty_service.ask("POST", "/exclusions", json=rows).status_code == 200
    query: dict[str, Any] = {"store_id": store, "from": day.format(2), "to": day.format(9)}
    whole = listed(empty_service, **query)
    assert [one["from"] for one in whole] == [day.format(number) for number in (2, 4, 5, 7, 8)]
    paged: list[dict[str, Any]] = []
    cursor = None
    while True:
        more: dict[str, Any] = {} if cursor is None else {"cursor": cursor}
        page = empty_service.get("/exclusions", params={**query, "limit": 2, **more}).json()
        paged += page["items"]
        if (cursor := page["next_cursor"]) is None:
            break
    assert paged == whole


def test_one_is_deleted_once(empty_service: Service) -> None:
    store = str(uuid4())
    load(empty_service, f"{store},{TEN},{ELEVEN},\n")
    [mine] = [one for one in listed(empty_service) if one["store_ids"] == [store]]
    path = f"/exclusions/{mine['id']}"
    assert empty_service.get(path).json() == mine
    assert empty_service.ask("DELETE", path).json() == mine
    for method in ("GET", "DELETE"):
        again = problem(empty_service.ask(method, path))
        assert again["type"] == "/problems/exclusion-not-found"


def test_those_that_touch_a_stretch_of_time_are_found_by_an_index(
    empty_service: Service, module_database_url: str
) -> None:
    rows = "".join(
        f"plan-{number},2040-01-01T00:{number // 60:02}:{number % 60:02}Z,2040-01-02T00:00Z,\n"
        for number in range(3000)
    )
    assert load(empty_service, rows)[2] == 3000
    ask(module_database_url, "analyze exclusion")
    [(plan,)] = ask(
        module_database_url,
        """
        explain (format json) select id from exclusion
        where tstzrange(begins, ends) && tstzrange('2024-03-01 10:00Z', '2024-03-01 10:30Z')
        """,
    )
    assert "exclusion_by_time" in json.dumps(json.loads(plan))
