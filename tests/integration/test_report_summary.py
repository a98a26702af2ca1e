"""A report's summary: all its stores together, exactly what they are one by one."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.harness.processes import eventually
from tests.harness.service import Service, problem

WINDOWS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
PARTS = ("uptime", "downtime", "unknown", "business_time")


def _completed(service: Service, **options: Any) -> str:
    """Where a new report is, once it is completed."""
    place: str = service.ask("POST", "/reports", json=options).headers["location"]
    eventually(lambda: service.get(place).json()["status"] == "completed")
    return place


def _half_milliseconds(seconds: float) -> int:
    return round(seconds * 2000)


def _one_by_one(service: Service, stores: list[str], summary: Any) -> dict[str, list[Any]]:
    """The availability of each store in each window of a summary."""
    end = datetime.fromisoformat(summary["as_of"])
    return {
        window: [
            service.get(
                f"/stores/{quote(store, safe='')}/availability",
                params={"from": (end - length).isoformat(), "to": end.isoformat()},
            ).json()
            for store in stores
        ]
        for window, length in WINDOWS.items()
    }


def test_it_adds_the_seconds_of_all_stores_and_divides_once(service: Service) -> None:
    summary = service.get(_completed(service) + "/summary").json()
    stores = [one["store_id"] for one in service.get("/stores?limit=1000").json()["items"]]
    told = _one_by_one(service, stores, summary)
    assert summary["stores"] == 60
    assert [one["window"] for one in summary["windows"]] == list(WINDOWS)
    for together in summary["windows"]:
        for part in PARTS:
            each = [_half_milliseconds(one[part]) for one in told[together["window"]]]
            assert _half_milliseconds(together[part]) == sum(each)
        known = together["uptime"] + together["downtime"]
        assert together["availability"] == pytest.approx(together["uptime"] / known, abs=1e-12)

    week = told["week"]
    most = sorted(week, key=lambda one: (-one["downtime"], one["store_id"].encode()))
    wanted = [one["store_id"] for one in most if one["downtime"]][:10]
    assert [one["store_id"] for one in summary["most_downtime"]] == wanted
    none = sum(one["availability"] is None for one in week)
    assert summary["stores_without_availability"] == none
    assert sum(summary["stores_by_availability"]) == 60 - none
    assert summary["stores_by_availability"][-1] == sum(one["availability"] == 1 for one in week)


def test_of_chosen_stores_it_is_theirs_alone(service: Service) -> None:
    [store] = [one["store_id"] for one in service.get("/stores?limit=1").json()["items"]]
    summary = service.get(_completed(service, stores=[store]) + "/summary").json()
    assert summary["stores"] == 1
    [week] = _one_by_one(service, [store], summary)["week"]
    assert {part: summary["windows"][2][part] for part in PARTS} == {
        part: week[part] for part in PARTS
    }


def test_where_nothing_is_known_availability_is_null_not_0(service: Service) -> None:
    summary = service.get(_completed(service, as_of="1999-01-01T00:00:00Z") + "/summary").json()
    assert [one["availability"] for one in summary["windows"]] == [None, None, None]
    assert summary["stores_without_availability"] == 60
    assert summary["most_downtime"] == []


def test_a_report_that_there_is_not_has_none(service: Service) -> None:
    answer = service.get(f"/reports/{uuid4()}/summary")
    assert answer.status_code == 404
    assert problem(answer)["type"].endswith("/summary-not-found")
