"""A store's page: its week in its own local time, outages, hours and zone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opener
from tests.integration.service import Service, running_service

NIGHT, AUTUMN = "night shop", "autumn"
HOSTILE = "<img src=x onerror=document.title='hacked'>"


def _polls(store: str, first: datetime, hours: int, inactive: set[int]) -> list[dict[str, str]]:
    return [
        {
            "store_id": store,
            "status": "inactive" if hour in inactive else "active",
            "timestamp_utc": (first + timedelta(hours=hour)).isoformat(),
        }
        for hour in range(hours)
    ]


@pytest.fixture(scope="module")
def service(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service with three stores: one around either change of clocks, and one of a bad name."""
    home = tmp_path_factory.mktemp("service")
    # Both weeks end at noon, Chicago's time; polls are every hour, ten minutes past.
    spring, autumn = datetime(2024, 3, 12, 17, tzinfo=UTC), datetime(2023, 11, 7, 18, tzinfo=UTC)
    week = timedelta(days=7)
    rows = [
        *_polls(NIGHT, spring - week + timedelta(minutes=10), 168, {166, 167}),
        *_polls(AUTUMN, autumn - week + timedelta(minutes=10), 168, set()),
        *_polls(HOSTILE, spring - timedelta(hours=3), 4, {0, 1, 2, 3}),
    ]
    hours = [
        {
            "store_id": NIGHT,
            "day": day,
            "start_time_local": "22:00:00",
            "end_time_local": "12:00:00",
        }
        for day in range(6)
    ]
    with running_service(module_database_url, home) as service:
        for path, body in (("/polls", rows), ("/business-hours", hours)):
            answer = service.ask("POST", path, json=body)
            assert answer.status_code == 200, answer.text
        yield service


def _open(open_page: Opener, store: str, to: str | None = None) -> Page:
    page = open_page(f"/#/stores/{quote(store, safe='')}" + (f"?to={quote(to)}" if to else ""))
    expect(page.locator(".timeline")).to_be_visible()
    return page


def _width(page: Page, day: str) -> float:
    box = page.locator(".day", has_text=day).locator(".track").bounding_box()
    assert box is not None
    return box["width"]


def test_a_day_on_which_clocks_go_forward_has_23_hours_and_says_so(open_page: Opener) -> None:
    page = _open(open_page, NIGHT)
    sunday = page.locator(".day", has_text="Sun 10 Mar")
    expect(sunday).to_contain_text("23 h")
    expect(sunday.locator(".clock-change")).to_have_text("Clocks go forward: 02:00 becomes 03:00")
    assert _width(page, "Sun 10 Mar") / _width(page, "Sat 9 Mar") == pytest.approx(
        23 / 24, abs=0.003
    )
    # Saturday's hours end at noon on Sunday, 11 hours after its midnight; Sunday itself is closed.
    expect(sunday.locator(".segment.up")).to_have_attribute("title", "up: 00:00 to 12:00, 11 h")
    assert sunday.locator(".hours span").all_inner_texts() == [
        "0", "3", "6", "9", "12", "15", "18", "21",
    ]  # fmt: skip


def test_a_day_on_which_clocks_go_back_has_25_hours_and_says_so(open_page: Opener) -> None:
    page = _open(open_page, AUTUMN, to="2023-11-07T18:00:00Z")
    sunday = page.locator(".day", has_text="Sun 5 Nov")
    expect(sunday).to_contain_text("25 h")
    expect(sunday.locator(".clock-change")).to_have_text("Clocks go back: 02:00 becomes 01:00")
    assert _width(page, "Sun 5 Nov") / _width(page, "Sat 4 Nov") == pytest.approx(
        25 / 24, abs=0.003
    )
    expect(sunday.locator(".segment.up")).to_have_attribute("title", "up: 00:00 to 00:00, 25 h")


def test_polls_tell_their_instant_when_pointed_at_and_by_keyboard(open_page: Opener) -> None:
    page = _open(open_page, NIGHT)
    marks = page.locator(".poll")
    assert marks.count() == 168
    marks.nth(2).hover()
    expect(page.locator(".tip")).to_have_text("active, Tue, 5 Mar 2024, 13:10:00 GMT-6")
    marks.first.focus()
    expect(page.locator(".tip")).to_contain_text("11:10:00 GMT-6")
    page.keyboard.press("ArrowRight")
    expect(marks.nth(1)).to_be_focused()
    expect(page.locator(".tip")).to_contain_text("12:10:00 GMT-6")
    page.keyboard.press("End")
    expect(marks.last).to_be_focused()
    expect(marks.last).to_have_attribute(
        "aria-label", "Poll: inactive, Tue, 12 Mar 2024, 11:10:00 GMT-5"
    )
    assert page.locator(".poll[tabindex='0']").count() == 1


def test_outages_hours_and_zone_are_listed_in_local_time(open_page: Opener) -> None:
    page = _open(open_page, NIGHT)
    [row] = page.locator(".outages tbody tr").all()
    # Half way between the last active poll, 9:10, and the first inactive one.
    assert row.locator("td").all_inner_texts() == [
        "Tue 12 Mar, 09:40",
        "Tue 12 Mar, 12:00 (not over)",
        "2 h 20 min",
    ]
    week = page.locator(".week")
    expect(week.locator("tr", has_text="Monday")).to_contain_text("22:00 to 12:00 on the next day")
    expect(week.locator("tr", has_text="Sunday")).to_contain_text("closed")
    expect(page.locator("main")).to_contain_text("America/Chicago (none was given")


def test_the_numbers_are_those_of_the_api(open_page: Opener, service: Service) -> None:
    page = _open(open_page, NIGHT)
    week = service.get(f"/stores/{quote(NIGHT)}/availability").json()
    expect(page.locator(".window").nth(2)).to_contain_text(f"{week['availability'] * 100:.2f} %")


def test_an_id_of_markup_is_shown_as_text(open_page: Opener, tmp_path: Path) -> None:
    page = _open(open_page, HOSTILE)
    expect(page.locator("h1")).to_have_text(HOSTILE)
    assert page.title() == f"Store {HOSTILE} · storewatch"
    assert page.locator("main img").count() == 0


def test_a_store_that_there_is_not_is_told(open_page: Opener) -> None:
    page = open_page("/#/stores/nobody")
    expect(page.get_by_role("alert")).to_contain_text("No feed has named this store")
