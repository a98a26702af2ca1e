"""The stores of a report over HTTP: exact, filtered, sorted, page by page, and as its CSV."""

import csv
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.harness.database import ask
from tests.harness.reports import completed
from tests.harness.service import Service, problem

WINDOWS = ("hour", "day", "week")


@pytest.fixture(scope="module", params=[{}, {"interpolation": "previous", "max_gap": "2h"}])
def report(service: Service, request: pytest.FixtureRequest) -> str:
    """The path of a report over all stores, with some options."""
    return completed(service, {**request.param, "include_unknown": True})


def table(service: Service, report: str, **query: Any) -> dict[str, Any]:
    answer = service.get(f"{report}/stores", params=query)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def all_stores(service: Service, report: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = table(service, report, limit=1000)["items"]
    assert len(items) == 60
    return items


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [one["store_id"] for one in items]


def test_each_store_has_the_exact_seconds_that_its_own_page_tells(
    service: Service, report: str
) -> None:
    details = service.get(report).json()
    options = {name: details["options"][name] for name in ("interpolation", "max_gap")}
    told = table(service, report, limit=20)
    assert (told["report_id"], told["as_of"]) == (details["id"], details["as_of"])
    for store in told["items"]:
        place = f"/stores/{quote(store['store_id'], safe='')}"
        assert store["timezone"] == service.get(place).json()["effective_timezone"]
        window = store["windows"][2]
        own = service.get(
            f"{place}/availability", params={"to": details["as_of"], **options}
        ).json()
        parts = ("business_time", "uptime", "downtime", "unknown", "availability")
        assert {part: window[part] for part in parts} == {part: own[part] for part in parts}


@pytest.mark.parametrize("measure", ["availability", "uptime", "downtime", "unknown"])
def test_it_is_sorted_by_any_number_and_equal_ones_by_id(
    service: Service, report: str, measure: str
) -> None:
    items = all_stores(service, report)
    for place, window in enumerate(WINDOWS):
        for sign in (1, -1):

            def key(
                store: dict[str, Any], place: int = place, sign: int = sign
            ) -> tuple[bool, float, bytes]:
                value = store["windows"][place][measure]
                return value is None, sign * (value or 0), store["store_id"].encode()

            sort = f"{'-' if sign < 0 else ''}{measure}_last_{window}"
            found = table(service, report, sort=sort, limit=1000)["items"]
            assert found == sorted(items, key=key), sort


def test_it_is_sorted_by_id_and_zone(service: Service, report: str) -> None:
    items = all_stores(service, report)
    assert ids(items) == sorted(ids(items), key=str.encode)
    assert table(service, report, sort="-store_id", limit=1000)["items"] == items[::-1]
    by_zone = sorted(items, key=lambda one: (one["timezone"], one["store_id"].encode()))
    assert table(service, report, sort="timezone", limit=1000)["items"] == by_zone


def test_pages_follow_each_other_by_cursor_and_by_offset(service: Service, report: str) -> None:
    whole = ids(table(service, report, sort="-downtime_last_week", limit=1000)["items"])
    found: list[str] = []
    place: str | None = f"{report}/stores?sort=-downtime_last_week&limit=7"
    while place is not None:
        answer = service.get(place)
        found += ids(answer.json()["items"])
        place = answer.links["next"]["url"] if "next" in answer.links else None
        assert (place is None) == (answer.json()["next_cursor"] is None)
    assert found == whole
    page = table(service, report, sort="-downtime_last_week", limit=5, offset=50)
    assert (ids(page["items"]), page["total"]) == (whole[50:55], 60)
    assert table(service, report, offset=60)["items"] == []


def test_filters_leave_those_that_meet_them_all(service: Service, report: str) -> None:
    items = all_stores(service, report)

    def found(**query: Any) -> list[str]:
        told = table(service, report, limit=1000, **query)
        assert told["total"] == len(told["items"])
        return ids(told["items"])

    text = items[7]["store_id"][3:6]
    assert found(search=text.upper()) == [one for one in ids(items) if text.lower() in one.lower()]
    assert found(search="no such store") == []
    zones = service.get(f"{report}/timezones").json()["items"]
    assert [one["timezone"] for one in zones] == sorted({one["timezone"] for one in items})
    for zone in zones:
        wanted = [one["store_id"] for one in items if one["timezone"] == zone["timezone"]]
        assert found(timezone=zone["timezone"]) == wanted
        assert zone["stores"] == len(wanted)
    week = {one["store_id"]: one["windows"][2]["availability"] for one in items}
    low = [one for one, value in week.items() if value is not None and value < 0.9]
    assert found(below=0.9) == low
    both = found(below=0.9, timezone=zones[0]["timezone"])
    assert both == [one for one in low if one in found(timezone=zones[0]["timezone"])]


def test_conditions_are_counted_by_the_summary_and_filter_the_table(
    service: Service, report: str
) -> None:
    def meets(condition: str, store: dict[str, Any]) -> bool:
        hour, day, week = store["windows"]
        met: dict[str, bool] = {
            "down_now": hour["downtime"] > 0 and hour["uptime"] == 0,
            "newly_down": day["downtime"] > 0 and day["downtime"] == week["downtime"],
            "recovered": day["downtime"] > 0 and hour["uptime"] > 0 and hour["downtime"] == 0,
            "down_all_week": week["downtime"] > 0 and week["uptime"] == 0,
            "nothing_known": week["downtime"] == 0 and week["uptime"] == 0,
        }
        return met[condition]

    items = all_stores(service, report)
    summary = service.get(f"{report}/summary").json()
    told = {one["condition"]: one for one in summary["conditions"]}
    assert len(told) == 5
    for condition, one in told.items():
        wanted = [store for store in items if meets(condition, store)]
        assert table(service, report, condition=condition, limit=1000)["items"] == wanted
        assert one["stores"] == len(wanted)
        assert one["downtime"] == sum(store["windows"][2]["downtime"] for store in wanted)
    for place, window in enumerate(summary["windows"]):
        assert window["stores_down"] == sum(one["windows"][place]["downtime"] > 0 for one in items)


def test_as_csv_it_is_the_reports_own_rows(service: Service, report: str) -> None:
    whole = service.get(f"{report}/csv").content
    place = f"{report}/stores"
    taken = {"Accept": "text/csv"}
    answer = service.get(place, headers=taken)
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.content == whole
    part = service.get(f"{place}?below=0.95&sort=-downtime_last_week", headers=taken).content
    wanted = ids(
        table(service, report, below=0.95, sort="-downtime_last_week", limit=1000)["items"]
    )
    header, *lines = part.splitlines(keepends=True)
    assert header == whole.splitlines(keepends=True)[0]
    assert [row[0] for row in csv.reader(part.decode().splitlines()[1:])] == wanted
    assert set(lines) <= set(whole.splitlines(keepends=True))


def test_a_csv_escapes_and_quotes_as_the_reports_own_does(service: Service) -> None:
    polls = [
        {"store_id": store_id, "status": "active", "timestamp_utc": "2001-01-01T00:00:00Z"}
        for store_id in ("=1+1", 'Main "St", 5', "é")
    ]
    assert service.ask("POST", "/polls", json=polls).status_code == 200
    body = {"stores": [one["store_id"] for one in polls], "escape_formulas": True}
    report = completed(service, {**body, "as_of": "2001-01-01T01:00:00Z"})
    own = service.get(f"{report}/csv").content
    assert b"'=1+1" in own
    assert service.get(f"{report}/stores", headers={"Accept": "text/csv"}).content == own
    assert ids(table(service, report)["items"]) == ["=1+1", 'Main "St", 5', "é"]


def test_what_is_known_already_is_not_sent_again(service: Service, report: str) -> None:
    for place in (f"{report}/stores?limit=50", f"{report}/timezones"):
        plain = service.get(place, headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        tag = plain.headers["etag"]
        known = service.get(place, headers={"Accept-Encoding": "identity", "If-None-Match": tag})
        assert (known.status_code, known.content) == (304, b"")
    packed = service.get(f"{report}/stores?limit=50")
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["etag"] != service.get(f"{report}/stores?limit=51").headers["etag"]
    assert packed.json() == service.get(f"{report}/stores?limit=50").json()


def test_where_there_are_no_rows_it_says_why(service: Service, module_database_url: str) -> None:
    def refused(path: str) -> tuple[int, str]:
        answer = service.get(path)
        return answer.status_code, problem(answer)["type"].rpartition("/")[2]

    assert refused(f"/reports/{uuid4()}/stores") == (404, "report-not-found")
    report = completed(service)
    report_id = report.rpartition("/")[2]
    assert refused(f"{report}/stores?sort=colour") == (422, "invalid-request")
    assert refused(f"{report}/stores?cursor=abc") == (422, "invalid-request")
    # As a version made it that kept no totals.
    ask(module_database_url, "update report set totals_size = null where id = $1", report_id)
    for path in ("stores", "timezones"):
        assert refused(f"{report}/{path}") == (404, "report-rows-not-found")
    assert service.get(f"{report}/csv").status_code == 200

    lost = completed(service)
    (service.reports / f"{lost.rpartition('/')[2]}.1.totals").unlink()
    assert refused(f"{lost}/stores") == (410, "report-expired")
    expired = "update report set state = 'expired' where id = $1"
    ask(module_database_url, expired, report_id)
    assert refused(f"{report}/stores") == (410, "report-expired")

    deleted = completed(service)
    assert service.get(f"{deleted}/stores").status_code == 200
    files = service.files()
    assert service.ask("DELETE", deleted).status_code == 204
    gone = set(files) - set(service.files())
    assert gone == {f"{deleted.rpartition('/')[2]}.1.{kind}" for kind in ("csv", "totals")}
    assert refused(f"{deleted}/stores") == (404, "report-not-found")
