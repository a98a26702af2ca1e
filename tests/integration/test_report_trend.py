"""A report among those before it: day by day, what changed, and the week of some stores."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.harness.database import ask, polls_locked
from tests.harness.reports import completed, running
from tests.harness.service import Service, problem

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def newest(service: Service) -> str:
    """The path of a report that ends at the newest poll."""
    return completed(service)


@pytest.fixture(scope="module")
def as_of(service: Service, newest: str) -> datetime:
    return datetime.fromisoformat(service.get(newest).json()["as_of"])


@pytest.fixture(scope="module")
def earlier(service: Service, as_of: datetime) -> dict[str, str]:
    """Paths of reports of the days before, by what they are."""

    def made(before: timedelta, **options: Any) -> str:
        return completed(service, {"as_of": (as_of - before).isoformat(), **options})

    day = as_of.hour * timedelta(hours=1) + as_of.minute * timedelta(minutes=1)
    return {
        "a day": made(DAY),
        "a day, not its last": made(DAY + day / 2),
        "a day, other options": made(DAY - day / 2, interpolation="previous"),
        "a day, some stores": made(
            DAY, stores=[service.get("/stores?limit=1").json()["items"][0]["store_id"]]
        ),
        "three days": made(3 * DAY, include_unknown=True),
        "forty days": made(40 * DAY),
    }


def identity(path: str) -> str:
    return path.removeprefix("/reports/")


def test_a_trend_has_the_last_report_of_each_day_with_the_same_options(
    service: Service,
    newest: str,
    as_of: datetime,
    earlier: dict[str, str],
    module_database_url: str,
) -> None:
    expired = "update report set state = 'expired' where id = $1::uuid"
    ask(module_database_url, expired, identity(earlier["three days"]))
    items = service.get(f"{newest}/trend").json()["items"]
    wanted = [
        (3 * DAY, earlier["three days"], "expired"),
        (DAY, earlier["a day"], "completed"),
        (0 * DAY, newest, "completed"),
    ]
    assert [(one["date"], one["report_id"], one["status"]) for one in items] == [
        ((as_of - before).date().isoformat(), identity(path), status)
        for before, path, status in wanted
    ]
    for one, (_, path, _) in zip(items, wanted, strict=True):
        summary = service.get(f"{path}/summary").json()
        last_day = summary["windows"][1]
        assert one["as_of"] == summary["as_of"]
        assert one["stores"] == summary["stores"]
        for name in ("uptime", "downtime", "unknown", "availability", "stores_down"):
            assert one[name] == last_day[name]

    def dates(path: str, days: int) -> int:
        return len(service.get(f"{path}/trend?days={days}").json()["items"])

    assert [dates(newest, days) for days in (1, 2, 4, 41)] == [1, 2, 3, 4]
    assert dates(earlier["a day"], 366) == 3
    assert dates(earlier["a day, other options"], 366) == 1


def test_what_older_versions_did_not_keep_is_null(
    service: Service, earlier: dict[str, str], module_database_url: str
) -> None:
    path = earlier["forty days"]
    ask(
        module_database_url,
        "update report set summary = summary - 'down' - 'conditions' - 'down_by_hour' "
        "where id = $1::uuid",
        identity(path),
    )
    summary = service.get(f"{path}/summary").json()
    assert (summary["conditions"], summary["down_by_hour"]) == (None, None)
    assert [one["stores_down"] for one in summary["windows"]] == [None] * 3
    [day] = service.get(f"{path}/trend").json()["items"]
    assert day["stores_down"] is None


def test_changes_are_those_of_the_tables(
    service: Service, newest: str, earlier: dict[str, str]
) -> None:
    def week(path: str) -> dict[str, Any]:
        items = service.get(f"{path}/stores?limit=1000").json()["items"]
        return {one["store_id"]: one["windows"][2] for one in items}

    def expect(path: str, before: str) -> None:
        was, now = week(before), week(path)
        told = service.get(f"{path}/changes?limit=1000").json()
        summary = service.get(f"{before}/summary").json()
        assert told["before"] == {
            "report_id": identity(before),
            "as_of": summary["as_of"],
            "stores": summary["stores"],
        }
        for name, sign in (("worse", -1), ("better", 1)):
            changed = []
            for store, one in now.items():
                old, new = was.get(store, {}).get("availability"), one["availability"]
                if old is not None and new is not None and sign * (new - old) > 0:
                    changed.append((store, old, new, one["downtime"]))
            changed.sort(key=lambda one: (-sign * (one[2] - one[1]), -one[3], one[0].encode()))
            keys = ("store_id", "was", "is", "downtime")
            wanted = [dict(zip(keys, one, strict=True)) for one in changed]
            assert told[name] == {"stores": len(wanted), "items": wanted}
            few = service.get(f"{path}/changes?limit=2").json()[name]
            assert few == {"stores": len(wanted), "items": wanted[:2]}
        assert told["worse"]["items"]

    expect(newest, earlier["a day"])
    first = service.get(f"{earlier['a day, other options']}/changes").json()
    nothing = {"stores": 0, "items": []}
    assert first == {"before": None, "worse": nothing, "better": nothing}

    later = datetime.fromisoformat(service.get(newest).json()["as_of"]) + timedelta(hours=1)
    known = service.get("/stores?limit=1").json()["items"][0]["store_id"]
    polls = [
        {"store_id": store, "status": "inactive", "timestamp_utc": later.isoformat()}
        for store in ("!first", known, "~last")
    ]
    assert service.ask("POST", "/polls", json=polls).status_code == 200
    expect(completed(service), newest)


def test_the_days_of_a_store_add_up_to_its_week(
    service: Service, newest: str, as_of: datetime
) -> None:
    stores = [one["store_id"] for one in service.get("/stores?limit=20").json()["items"]][::-1]
    asked = [*stores, "nowhere", stores[0]]
    items = service.get(f"{newest}/days", params={"store_id": asked}).json()["items"]
    assert [one["store_id"] for one in items] == stores
    for one in items:
        place = f"/stores/{quote(one['store_id'], safe='')}/availability"
        assert len(one["days"]) == 7
        told = {"uptime": 0.0, "downtime": 0.0, "unknown": 0.0}
        for back, day in enumerate(reversed(one["days"]), 1):
            begin = as_of - back * DAY
            assert datetime.fromisoformat(day["from"]) == begin
            assert datetime.fromisoformat(day["to"]) == begin + DAY
            whole = service.get(
                place, params={"from": begin.isoformat(), "to": as_of.isoformat()}
            ).json()
            for part in told:
                told[part] += day[part]
                assert told[part] == pytest.approx(whole[part], abs=1e-6)
            known = day["uptime"] + day["downtime"]
            assert day["availability"] == (day["uptime"] / known if known else None)


def test_what_cannot_be_told_is_refused(
    service: Service, newest: str, module_database_url: str
) -> None:
    for query in ("", "?" + "&".join(f"store_id={n}" for n in range(201)), "?store_id=%00"):
        assert service.get(f"{newest}/days{query}").status_code == 422, query
    assert service.get(f"{newest}/trend?days=0").status_code == 422
    with polls_locked(module_database_url):
        waiting = running(service)
        for path in ("trend", "changes", "days?store_id=1", "stores", "timezones"):
            answer = service.get(f"{waiting}/{path}")
            assert answer.status_code == 409
            assert problem(answer)["type"] == "/problems/report-not-completed"
