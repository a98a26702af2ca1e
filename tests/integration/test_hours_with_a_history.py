"""Weeks of business hours with dates, and special hours: loaded, replaced, told, removed."""

from typing import Any
from uuid import uuid4

import pytest

from tests.harness.database import ask
from tests.harness.service import Service, problem

HOURS = "store_id,day,start_time_local,end_time_local\n"
DATED = "store_id,day,start_time_local,end_time_local,valid_from\n"
SPECIAL = "store_id,date,start_time_local,end_time_local,closed,reason\n"
CSV = {"Content-Type": "text/csv"}


@pytest.fixture
def store() -> str:
    return str(uuid4())


def load(service: Service, path: str, text: str) -> dict[str, Any]:
    answer = service.ask("POST", path, content=text.encode(), headers=CSV)
    assert answer.status_code == 200, answer.text
    done: dict[str, Any] = answer.json()
    return done


def refused(service: Service, path: str, text: str) -> str:
    told = problem(service.ask("POST", path, content=text.encode(), headers=CSV))
    assert told["type"] == "/problems/feed-refused"
    first: str = told["errors"][0]["problem"]
    return first


def told(service: Service, store: str) -> Any:
    answer = service.get(f"/stores/{store}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def weeks(service: Service, store: str) -> list[tuple[str | None, list[str]]]:
    """The weeks of a store: since when, and its rows."""
    return [
        (
            week["valid_from"],
            [
                f"{row['day']} {row['start_time_local'][:5]}-{row['end_time_local'][:5]}"
                for row in week["rows"]
            ],
        )
        for week in told(service, store)["weeks"]
    ]


def counts(done: dict[str, Any]) -> list[int]:
    return [done[name] for name in ("rows", "new", "replaced", "unchanged", "removed")]


# Weeks.


def test_weeks_with_dates_are_added_one_by_one_and_a_week_without_takes_them_all_away(
    empty_service: Service, store: str, module_database_url: str
) -> None:
    service = empty_service
    first = DATED + f"{store},0,09:00,17:00,\n{store},0,10:00,16:00,2024-03-11\n"
    assert counts(load(service, "/business-hours", first)) == [2, 1, 0, 0, 0]
    assert counts(load(service, "/business-hours", first)) == [2, 0, 0, 1, 0]
    closed = DATED + f"{store},,,,2024-05-01\n"
    assert counts(load(service, "/business-hours", closed)) == [1, 0, 1, 0, 0]
    assert weeks(service, store) == [
        (None, ["0 09:00-17:00"]),
        ("2024-03-11", ["0 10:00-16:00"]),
        ("2024-05-01", []),
    ]
    shown = ask(
        module_database_url,
        "select weekday, valid_from::text from business_hours where store_id = $1 order by 2",
        store,
    )
    assert shown == [(0, "2024-03-11"), (None, "2024-05-01"), (0, None)]
    other = DATED + f"{store},1,08:00,12:00,2024-03-11\n{store},1,08:00,12:00,2024-03-11\n"
    assert counts(load(service, "/business-hours", other)) == [2, 0, 1, 0, 0]
    assert weeks(service, store)[1] == ("2024-03-11", ["1 08:00-12:00"])
    for_all_time = HOURS + f"{store},0,09:00,17:00\n"
    assert counts(load(service, "/business-hours", for_all_time)) == [1, 0, 1, 0, 2]
    assert counts(load(service, "/business-hours", for_all_time)) == [1, 0, 0, 1, 0]
    assert weeks(service, store) == [(None, ["0 09:00-17:00"])]


def test_a_store_is_closed_for_all_time_by_one_empty_row(
    empty_service: Service, store: str, module_database_url: str
) -> None:
    assert counts(load(empty_service, "/business-hours", HOURS + f"{store},,,\n"))[1] == 1
    assert weeks(empty_service, store) == [(None, [])]
    packed = "select business_hours, dated_weeks from store where store_id = $1"
    assert ask(module_database_url, packed, store) == [(b"\xff" * 8, None)]


@pytest.mark.parametrize(
    ("header", "rows", "which"),
    [
        (HOURS, "{0},,,\n{0},0,9:00,17:00\n", "the week without a date"),
        (DATED, "{0},0,9:00,17:00,2024-01-01\n{0},,,,2024-01-01\n", "the week of 2024-01-01"),
    ],
    ids=["undated", "dated"],
)
def test_an_empty_row_beside_others_of_its_week_is_refused_and_costs_nothing(
    empty_service: Service, store: str, header: str, rows: str, which: str
) -> None:
    load(empty_service, "/business-hours", HOURS + f"{store},0,09:00,17:00\n")
    fault = refused(empty_service, "/business-hours", header + rows.format(store))
    assert f"store {store!r}: {which} has a row that says it is closed" in fault
    assert weeks(empty_service, store) == [(None, ["0 09:00-17:00"])]
    refusals = empty_service.get("/feeds").json()["refusals"]
    assert which in refusals[0]["fault"]


def test_a_store_cannot_have_weeks_without_end(empty_service: Service, store: str) -> None:
    days = (f"{2000 + number // 336}-{number // 28 % 12 + 1:02}-{number % 28 + 1:02}"
            for number in range(1001))  # fmt: skip
    rows = DATED + "".join(f"{store},0,09:00,17:00,{day}\n" for day in days)
    assert "would have 1001 weeks with a date; at most 1000" in refused(
        empty_service, "/business-hours", rows
    )
    assert empty_service.get(f"/stores/{store}").status_code == 404


def test_json_has_dates_too(empty_service: Service, store: str) -> None:
    row = {"store_id": store, "day": 0, "start_time_local": "09:00", "end_time_local": "17:00"}
    closed = {"store_id": store, "valid_from": "2024-05-01"}
    answer = empty_service.ask("POST", "/business-hours", json=[row, closed])
    assert answer.status_code == 200, answer.text
    assert weeks(empty_service, store) == [(None, ["0 09:00-17:00"]), ("2024-05-01", [])]
    answer = empty_service.ask("POST", "/business-hours", json=[row])
    assert answer.json()["removed"] == 1
    [error] = problem(
        empty_service.ask("POST", "/business-hours", json=[{"store_id": store, "day": 1}])
    )["errors"]
    assert "or none of them" in error["problem"]


def test_one_stores_weeks_are_set_and_removed_by_date(empty_service: Service, store: str) -> None:
    path = f"/stores/{store}/business-hours"
    row = {"day": 0, "start_time_local": "09:00:00", "end_time_local": "17:00:00"}

    def put(rows: list[Any], **more: Any) -> Any:
        answer = empty_service.ask("PUT", path, json=rows, **more)
        assert answer.status_code == 200, answer.text
        return answer

    put([row])
    put([], params={"valid_from": "2024-05-01"})
    put([{**row, "day": 3}], params={"valid_from": "2024-06-01"})
    assert [week[0] for week in weeks(empty_service, store)] == [None, "2024-05-01", "2024-06-01"]
    assert empty_service.get(path).json() == [row]
    assert empty_service.get(path, params={"valid_from": "2024-05-01"}).json() == []
    missing = empty_service.get(path, params={"valid_from": "2024-05-02"})
    assert problem(missing)["type"] == "/problems/week-not-found"
    wrong = empty_service.get(path, params={"valid_from": "2024-02-30"})
    assert problem(wrong)["errors"][0]["field"] == "valid_from"

    for _ in range(2):
        answer = empty_service.ask("DELETE", path, params={"valid_from": "2024-05-01"})
        assert [week["valid_from"] for week in answer.json()["weeks"]] == [None, "2024-06-01"]
    seen = empty_service.get(path).headers["etag"]
    put([{**row, "day": 4}], params={"valid_from": "2024-06-01"})
    stale = empty_service.ask("PUT", path, json=[row], headers={"If-Match": seen})
    assert problem(stale)["status"] == 412
    assert empty_service.ask("DELETE", path).json()["weeks"] == []
    assert problem(empty_service.ask("DELETE", f"/stores/x{store}/business-hours"))["status"] == 404
    assert problem(empty_service.get(f"/stores/x{store}"))["status"] == 404


# Special hours.


def special(service: Service, store: str) -> list[tuple[str, list[str], str]]:
    answer = service.get(f"/stores/{store}/special-hours")
    assert answer.status_code == 200, answer.text
    return [
        (
            day["date"],
            [f"{row['start_time_local'][:5]}-{row['end_time_local'][:5]}" for row in day["hours"]],
            day["reason"],
        )
        for day in answer.json()
        if day["closed"] is not bool(day["hours"])
    ]


def test_special_hours_replace_those_of_their_store_and_date_alone(
    empty_service: Service, store: str
) -> None:
    christmas = (
        SPECIAL + f"{store},2024-12-24,09:00,12:00,,Christmas Eve\n"
        f"{store},2024-12-24,13:00,14:00,false,\n{store},2024-12-25,,,true,Christmas\n"
    )
    assert counts(load(empty_service, "/special-hours", christmas)) == [3, 1, 0, 0, 0]
    assert counts(load(empty_service, "/special-hours", christmas)) == [3, 0, 0, 1, 0]
    assert special(empty_service, store) == [
        ("2024-12-24", ["09:00-12:00", "13:00-14:00"], "Christmas Eve"),
        ("2024-12-25", [], "Christmas"),
    ]
    later = "store_id,date,start_time_local,end_time_local\n" + f"{store},2024-12-25,10:00,12:00\n"
    assert counts(load(empty_service, "/special-hours", later)) == [1, 0, 1, 0, 0]
    assert special(empty_service, store)[1] == ("2024-12-25", ["10:00-12:00"], "")
    assert load(empty_service, "/feeds", christmas)["feed"] == "special_hours"
    assert told(empty_service, store)["special_hours"][1]["closed"] is True


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ("{0},2024-12-25,,,true,\n{0},2024-12-25,9:00,10:00,,\n", "the date of 2024-12-25"),
        ("{0},2024-12-25,9:00,10:00,true,\n", "neither a start nor an end"),
        ("{0},2024-12-25,,,,\n", "is not a time of day"),
        ("{0},25.12.2024,,,true,\n", "is not a date such as"),
        ("{0},2024-12-25,,,perhaps,\n", "is neither true nor false"),
        (f"{{0}},2024-12-25,,,true,{'x' * 256}\n", "has more than 255 characters"),
    ],
    ids=["both", "closed-with-hours", "nothing", "date", "closed", "reason"],
)
def test_special_hours_that_mean_nothing_are_refused(
    empty_service: Service, store: str, rows: str, fault: str
) -> None:
    assert fault in refused(empty_service, "/special-hours", SPECIAL + rows.format(store))
    assert empty_service.get(f"/stores/{store}").status_code == 404


def test_special_hours_come_as_json(empty_service: Service, store: str) -> None:
    rows: list[dict[str, Any]] = [
        {"store_id": store, "date": "2024-12-25", "closed": True, "reason": "Christmas"},
        {
            "store_id": store,
            "date": "2024-12-24",
            "start_time_local": "09:00",
            "end_time_local": "12:00",
        },
    ]
    assert empty_service.ask("POST", "/special-hours", json=rows).json()["new"] == 1
    assert special(empty_service, store) == [
        ("2024-12-24", ["09:00-12:00"], ""),
        ("2024-12-25", [], "Christmas"),
    ]
    bad = empty_service.ask("POST", "/special-hours", json=[{**rows[0], "date": "2024-13-01"}])
    [error] = problem(bad)["errors"]
    assert (error["line"], error["column"]) == (1, "date")


def test_one_stores_special_dates_are_set_and_removed(empty_service: Service, store: str) -> None:
    path = f"/stores/{store}/special-hours"
    morning: dict[str, Any] = {"hours": [{"start_time_local": "09:00", "end_time_local": "12:00"}]}
    done = empty_service.ask("PUT", f"{path}/2024-12-24", json={**morning, "reason": "Eve"})
    assert done.status_code == 200, done.text
    assert empty_service.get(f"{path}/2024-12-24").headers["etag"] == done.headers["etag"]
    empty_service.ask("PUT", f"{path}/2024-12-25", json={"closed": True})
    assert [day[0] for day in special(empty_service, store)] == ["2024-12-24", "2024-12-25"]
    for _ in range(2):
        answer = empty_service.ask("DELETE", f"{path}/2024-12-24")
        assert [day["date"] for day in answer.json()["special_hours"]] == ["2024-12-25"]
    gone = empty_service.get(f"{path}/2024-12-24")
    assert problem(gone)["type"] == "/problems/special-date-not-found"
    whole = [{"date": "2025-01-01", "closed": True, "reason": "New Year"}]
    empty_service.ask("PUT", path, json=whole)
    assert special(empty_service, store) == [("2025-01-01", [], "New Year")]
    twice = problem(empty_service.ask("PUT", path, json=whole * 2))
    assert twice["errors"][0]["field"] == "date"
    both = {**morning, "closed": True}
    for wrong in ({}, both):
        refusal = problem(empty_service.ask("PUT", f"{path}/2025-01-02", json=wrong))
        assert refusal["status"] == 422
    assert problem(empty_service.ask("PUT", f"{path}/2025-02-30", json=morning))["status"] == 422
    assert empty_service.ask("DELETE", path).json()["special_hours"] == []
