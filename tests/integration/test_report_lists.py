"""Lists of reports: in their order, a page at a time, by state and time, and never large."""

import base64
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.harness.database import add_many_stores, ask
from tests.harness.reports import create
from tests.harness.service import Service, problem, running_service

STATES = ("completed", "failed", "cancelled", "expired")


@pytest.fixture(scope="module")
def service(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    add_many_stores(module_database_url, 200)
    with running_service(module_database_url, tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture
def made(service: Service, module_database_url: str) -> list[tuple[str, str]]:
    """Id and state of a report of each hour of 2024-01-01, the newest first: all that there are."""
    ask(module_database_url, "delete from report")
    rows = ask(
        module_database_url,
        """
        insert into report (id, state, interpolation, max_gap, include_unknown, created_at,
                            finished_at, file_size, file_sha256)
        select gen_random_uuid(), ($1::text[])[1 + hour % 4], 'nearest', '24 hours', false,
            timestamptz '2024-01-01 00:00:00+00' + hour * interval '1 hour', now(), 0, ''
        from generate_series(0, 23) as hour
        returning id::text, state
        """,
        STATES,
    )
    return [(report_id, state) for report_id, state in rows][::-1]


def listed(service: Service, query: str) -> list[str]:
    """Ids of the reports of all pages."""
    path, found = f"/reports?{query}", []
    while path:
        answer = service.get(path)
        assert answer.status_code == 200, answer.text
        found += [report["id"] for report in answer.json()["items"]]
        link = answer.links.get("next")
        path = link["url"] if link else ""
        assert (answer.json()["next_cursor"] is None) == (not path)
    return found


def test_reports_are_listed_newest_first_a_page_at_a_time(
    service: Service, made: list[tuple[str, str]]
) -> None:
    everything = [report_id for report_id, _ in made]
    assert listed(service, "limit=5") == everything
    assert listed(service, "limit=24") == everything
    assert len(service.get("/reports?limit=5").json()["items"]) == 5


@pytest.mark.parametrize("wanted", [("failed",), ("completed", "expired"), STATES, ("queued",)])
def test_reports_are_listed_by_state_also_by_several(
    service: Service, made: list[tuple[str, str]], wanted: tuple[str, ...]
) -> None:
    expected = [report_id for report_id, state in made if state in wanted]
    query = urlencode([("status", state) for state in wanted])
    assert listed(service, f"{query}&limit=2") == expected
    assert listed(service, f"{query}&{query}") == expected


def test_reports_are_listed_by_the_time_they_were_asked_for_half_open(
    service: Service, made: list[tuple[str, str]]
) -> None:
    hour = [report_id for report_id, _ in reversed(made)]
    six = "created_from=2024-01-01T06:00:00Z"
    assert listed(service, f"{six}&created_to=2024-01-01T08:00:00&limit=1") == [hour[7], hour[6]]
    assert listed(service, "created_from=2024-01-01T23:00:00%2B02:00") == hour[:20:-1]
    assert listed(service, "created_to=2024-01-01T00:00:00Z") == []
    assert listed(service, f"{six}&status=failed") == [hour[21], hour[17], hour[13], hour[9]]
    assert listed(service, f"{six}&created_to=2024-01-01T05:00:00Z") == []


def test_a_report_is_found_by_the_very_instant_that_it_tells(service: Service) -> None:
    report = create(service).json()
    instant = urlencode({"created_from": report["created_at"]})
    assert listed(service, instant) == [report["id"]]
    assert report["id"] not in listed(service, instant.replace("from", "to"))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("status=", "status"),
        ("created_from=yesterday", "created_from"),
        ("created_from=null", "created_from"),
        ("created_to=", "created_to"),
        ("created_to=1969-12-31T23:59:59Z", "created_to"),
        ("created_from=9999-12-31T23:59:59-23:00", "created_from"),
        ("created_to=0001-01-01T00:00:00%2B23:00", "created_to"),
    ],
)
def test_what_is_no_state_and_no_instant_is_refused_by_name(
    service: Service, query: str, field: str
) -> None:
    answer = service.get(f"/reports?{query}")
    assert answer.status_code == 422
    assert problem(answer)["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "place",
    [
        "nonsense",
        "9999-12-31T23:59:59-23:00 7f3c1e0a-5a4b-4a61-9f0e-0d5e5e1f2a3b",
        "0001-01-01T00:00:00+23:00 7f3c1e0a-5a4b-4a61-9f0e-0d5e5e1f2a3b",
        "2024-01-01T00:00:00 7f3c1e0a-5a4b-4a61-9f0e-0d5e5e1f2a3b",
        "2024-01-01T00:00:00+00:00 7f3c1e0a",
    ],
)
def test_a_cursor_that_no_page_gave_is_refused(service: Service, place: str) -> None:
    cursor = base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")
    answer = service.get("/reports", params={"cursor": cursor})
    assert answer.status_code == 422, answer.text
    assert problem(answer)["errors"][0]["field"] == "cursor"


def test_a_list_tells_how_many_stores_are_named_and_the_report_itself_tells_which(
    service: Service,
) -> None:
    named = [f"store-{number:06}" for number in range(1, 201)]
    asked = create(service, {"stores": named})
    create(service)
    about_all, about_some = service.get("/reports").json()["items"][:2]
    assert about_some["id"] == asked.json()["id"]
    assert about_some["options"]["named_stores"] == 200
    assert about_all["options"]["named_stores"] is None
    assert "stores" not in about_some["options"] | about_all["options"]
    assert asked.json()["options"]["stores"] == named
    whole: dict[str, Any] = service.get(asked.headers["Location"]).json()["options"]
    assert (whole["named_stores"], whole["stores"]) == (200, named)
    told = service.get(f"{asked.headers['Location']}/events").text
    assert '"named_stores":200' in told
    assert "store-000001" not in told
