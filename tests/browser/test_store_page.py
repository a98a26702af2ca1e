"""A store's page: its week in its own local time, outages, hours and zone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opener
from tests.harness.service import Service, running_service

NIGHT, AUTUMN, EAST, SELDOM = "night shop", "autumn", "east", "seldom"
# Both weeks end at noon, Chicago's time.
SPRING, FALL = datetime(2024, 3, 12, 17, tzinfo=UTC), datetime(2023, 11, 7, 18, tzinfo=UTC)
HOSTILE = "<img src=x onerror=document.title='hacked'>"


def _at(store: str, status: str, *times: str) -> list[dict[str, str]]:
    return [{"store_id": store, "status": status, "timestamp_utc": time} for time in times]


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
    """Stores around either change of clocks, one that is hardly polled, and one of a bad name."""
    home = tmp_path_factory.mktemp("service")
    week = timedelta(days=7)
    rows = [
        # Every hour, ten minutes past.
        *_polls(NIGHT, SPRING - week + timedelta(minutes=10), 168, {166, 167}),
        *_polls(AUTUMN, FALL - week + timedelta(minutes=10), 168, set()),
        *_polls(HOSTILE, SPRING - timedelta(hours=3), 4, {0, 1, 2, 3}),
        # Down when the week begins, and in the night in which an hour comes twice.
        *_at(EAST, "inactive", "2023-10-31T17:30Z", "2023-10-31T18:30Z"),
        *_at(EAST, "active", "2023-10-31T19:30Z", "2023-11-05T04:37Z", "2023-11-05T08:21Z"),
        *_at(EAST, "inactive", "2023-11-05T05:37Z", "2023-11-05T06:37Z", "2023-11-05T07:21Z"),
        *_at(SELDOM, "active", "2024-03-09T12:00Z"),
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
    zones = [{"store_id": EAST, "timezone": "America/New_York"}]
    with running_service(module_database_url, home) as service:
        for path, body in (("/polls", rows), ("/business-hours", hours), ("/timezones", zones)):
            answer = service.ask("POST", path, json=body)
            assert answer.status_code == 200, answer.text
        yield service


def _open(open_page: Opener, store: str, query: str = "", **options: Any) -> Page:
    page = open_page(f"/#/stores/{quote(store, safe='')}{query}", **options)
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
    expect(sunday).to_contain_text("Clocks go forward: 02:00 CST becomes 03:00 CDT")
    expect(sunday.locator(".clock-change")).to_be_visible()
    assert _width(page, "Sun 10 Mar") / _width(page, "Sat 9 Mar") == pytest.approx(
        23 / 24, abs=0.003
    )
    # Saturday's hours end at noon on Sunday, 11 hours after its midnight; Sunday itself is closed.
    expect(sunday.locator(".segment.up")).to_have_attribute(
        "aria-label", "up: 00:00 CST to 12:00 CDT, 11 h"
    )
    assert sunday.locator(".hours span").all_inner_texts() == [
        "0", "3", "6", "9", "12", "15", "18", "21",
    ]  # fmt: skip


def test_a_day_on_which_clocks_go_back_has_25_hours_and_says_so(open_page: Opener) -> None:
    page = _open(open_page, AUTUMN, "?to=2023-11-07T18:00:00Z")
    sunday = page.locator(".day", has_text="Sun 5 Nov")
    expect(sunday).to_contain_text("25 h")
    expect(sunday).to_contain_text("Clocks go back: 02:00 CDT becomes 01:00 CST")
    assert _width(page, "Sun 5 Nov") / _width(page, "Sat 4 Nov") == pytest.approx(
        25 / 24, abs=0.003
    )
    expect(sunday.locator(".segment.up")).to_have_attribute(
        "aria-label", "up: 00:00 CDT to 00:00, 25 h"
    )


def test_polls_tell_their_instant_when_pointed_at_and_by_keyboard(open_page: Opener) -> None:
    page = _open(open_page, NIGHT)
    marks = page.locator(".poll")
    assert marks.count() == 168
    marks.nth(2).hover()
    expect(page.locator(".tip")).to_have_text("active, Tue, 5 Mar 2024, 13:10:00 CST")
    marks.first.focus()
    expect(page.locator(".tip")).to_contain_text("11:10:00 CST")
    page.keyboard.press("ArrowRight")
    expect(marks.nth(1)).to_be_focused()
    expect(page.locator(".tip")).to_contain_text("12:10:00 CST")
    page.keyboard.press("End")
    expect(marks.last).to_be_focused()
    expect(marks.last).to_have_attribute(
        "aria-label", "Poll: inactive, Tue, 12 Mar 2024, 11:10:00 CDT"
    )
    assert page.locator(".poll[tabindex='0']").count() == 1


def test_outages_hours_and_zone_are_listed_in_local_time(open_page: Opener) -> None:
    page = _open(open_page, NIGHT)
    [row] = page.locator(".outages tbody tr").all()
    # Half way between the last active poll, 9:10, and the first inactive one.
    assert row.locator("td").all_inner_texts() == [
        "Tue 12 Mar, 09:40",
        "12:00 (not over)",
        "2 h 20 min",
    ]
    week = page.locator(".week")
    expect(week.locator("tr", has_text="Monday")).to_contain_text("22:00 to 12:00 on the next day")
    expect(week.locator("tr", has_text="Sunday")).to_contain_text("closed")
    expect(page.locator("main")).to_contain_text("America/Chicago (none was given")


def test_an_outage_tells_which_offset_it_is_in_and_that_it_began_earlier(
    open_page: Opener,
) -> None:
    page = _open(open_page, EAST, "?to=2023-11-07T18:00:00Z")
    told = [row.locator("td").all_inner_texts() for row in page.locator(".outages tbody tr").all()]
    assert told == [
        ["Sun 5 Nov, 01:07 EDT", "02:51 EST", "2 h 44 min"],
        ["before Tue 31 Oct, 14:00", "15:00", "at least 1 h"],
    ]
    first = page.locator(".day", has_text="Tue 31 Oct").locator(".segment.down")
    expect(first).to_have_attribute("aria-label", "down: before 14:00 to 15:00, at least 1 h")
    # It was closed until the week began: what began with it began then.
    night = _open(open_page, NIGHT, "?to=2024-03-12T04:00:00Z")
    opened = night.locator(".day", has_text="Mon 4 Mar").locator(".segment")
    expect(opened).to_have_attribute("aria-label", "up, estimated: 22:00 to 00:00, 2 h")


def test_local_times_are_the_services_whatever_zones_the_browser_knows(open_page: Opener) -> None:
    page = _open(open_page, EAST, timezone_id="Asia/Tokyo")
    page.add_init_script("""
        const { DateTimeFormat } = Intl;
        Intl.DateTimeFormat = function (locale, options) {
          if (options?.timeZone !== "UTC") throw new RangeError("no such time zone");
          return new DateTimeFormat(locale, options);
        };
    """)
    page.reload()
    expect(page.locator(".day").first).to_contain_text("Tue 5 Mar")
    page.goto(page.url + "?to=2023-11-07T18:00:00Z")
    expect(page.locator("#week")).to_have_text("The week to Tue, 7 Nov 2023, 13:00 EST")
    expect(page.locator(".outages tbody tr").first).to_contain_text("Sun 5 Nov, 01:07 EDT")
    assert _width(page, "Sun 5 Nov") / _width(page, "Sat 4 Nov") == pytest.approx(
        25 / 24, abs=0.003
    )
    # Its newest poll is of that night. Where the offset then is not told, it is in UTC.
    expect(page.locator("main")).to_contain_text("last polled Sun, 5 Nov 2023, 03:21 EST")
    page.get_by_role("link", name="Week after").click()
    expect(page.locator("#week")).to_contain_text("Tue, 14 Nov 2023")
    page.get_by_role("link", name="Week after").click()
    expect(page.locator("main")).to_contain_text("last polled Sun, 5 Nov 2023, 08:21 UTC")


def test_the_numbers_are_those_of_the_api_for_the_end_and_options_of_the_address(
    open_page: Opener, service: Service
) -> None:
    end = SPRING - timedelta(hours=1, minutes=10)
    options = {"to": end.isoformat(), "interpolation": "previous", "max_gap": "90m"}
    report = {"report": "7d9ab3f0-0000-4000-8000-000000000000"}
    page = _open(open_page, NIGHT, f"?{urlencode(options | report)}")
    for window, length in enumerate((1, 24, 168)):
        begin = (end - timedelta(hours=length)).isoformat()
        told = service.get(
            f"/stores/{quote(NIGHT)}/availability", params={**options, "from": begin}
        ).json()
        card = page.locator(".window").nth(window)
        expect(card).to_contain_text(f"{told['availability'] * 100:.2f}".removesuffix(".00"))
        minutes, seconds = divmod(round(told["downtime"]), 60)
        hours, minutes = divmod(minutes, 60)
        parts = [(hours, "h"), (minutes, "min"), (seconds, "s")]
        down = " ".join(f"{value} {unit}" for value, unit in parts if value) or "0 s"
        expect(card.locator(".key", has_text="down")).to_have_text(f"{down} down")
    expect(page.locator(".other-options")).to_contain_text(
        "As of Tue, 12 Mar 2024, 10:50 CDT: later polls do not count. With interpolation previous "
        "instead of nearest, max gap 1h30m instead of 24h."
    )
    back = page.get_by_role("link", name="All stores")
    expect(back).to_have_attribute("href", f"#/stores?{urlencode(report)}")
    page.get_by_role("link", name="Week before").click()
    expect(page.locator("#week")).to_contain_text("Tue, 5 Mar 2024, 09:50 CST")
    asked = parse_qs(page.url.partition("?")[2])
    assert asked["to"] == ["2024-03-05T15:50:00.000Z"]
    assert asked["interpolation"] == ["previous"]
    assert asked["max_gap"] == ["90m"]
    assert asked["report"] == [report["report"]]
    page.get_by_role("link", name="Newest, with default options").click()
    expect(page.locator("#week")).to_contain_text("Tue, 12 Mar 2024, 12:00 CDT")
    expect(page.locator(".other-options")).to_have_count(0)


def test_a_figure_over_little_known_time_says_so_and_none_is_no_dash(open_page: Opener) -> None:
    page = _open(open_page, SELDOM, "?max_gap=30m")
    figures = page.locator(".window .big")
    expect(figures.nth(0)).to_contain_text("nothing known")
    expect(figures.nth(2)).to_contain_text("100 % available")
    expect(figures.nth(2)).to_contain_text("known for only 0.60 % of business time")
    size = "element => parseFloat(getComputedStyle(element).fontSize)"
    known = _open(open_page, AUTUMN, "?to=2023-11-07T18:00:00Z").locator(".window .big").nth(2)
    assert figures.nth(2).evaluate(size) < known.evaluate(size)
    expect(known).not_to_contain_text("known for")


def test_what_was_only_estimated_is_drawn_paler_and_slimmer(open_page: Opener) -> None:
    page = _open(open_page, SELDOM)
    day = page.locator(".day", has_text="Sat 9 Mar")
    polled, estimated = day.locator(".segment.up:not(.estimated)"), day.locator(".estimated")
    # Polled at 6:00: an hour to either side is as sure as that.
    expect(polled).to_have_attribute("aria-label", "up: 05:00 to 07:00, 2 h")
    assert [part.get_attribute("aria-label") for part in estimated.all()] == [
        "up, estimated: 00:00 to 05:00, 5 h",
        "up, estimated: 07:00 to 00:00 CST, 17 h",
    ]
    boxes = [part.bounding_box() for part in (polled, estimated.first)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[1]["height"] < boxes[0]["height"]
    colour = "element => getComputedStyle(element).backgroundColor"
    assert polled.evaluate(colour) != estimated.first.evaluate(colour)
    expect(page.locator(".legend .key", has_text="estimated")).to_be_visible()


def test_bars_tell_what_they_are_by_keyboard_as_polls_do(open_page: Opener) -> None:
    page = _open(open_page, NIGHT)
    bars = page.locator(".segment")
    page.locator(".segment[tabindex='0']").focus()
    expect(page.locator(".tip")).to_have_text("up: before 11:00 to 12:00, at least 1 h")
    page.keyboard.press("ArrowRight")
    expect(bars.nth(1)).to_be_focused()
    expect(page.locator(".tip")).to_have_text("closed: 12:00 to 22:00, 10 h")
    page.keyboard.press("Escape")
    expect(page.locator(".tip")).to_have_count(0)
    assert page.locator("main [title]").count() == 0


def test_an_id_of_markup_is_shown_as_text(open_page: Opener, tmp_path: Path) -> None:
    page = _open(open_page, HOSTILE)
    expect(page.locator("h1")).to_have_text(HOSTILE)
    assert page.title() == f"Store {HOSTILE} · storewatch"
    assert page.locator("main img").count() == 0


def test_a_store_that_there_is_not_is_told(open_page: Opener) -> None:
    page = open_page("/#/stores/nobody")
    expect(page.get_by_role("alert")).to_contain_text("No feed has named this store")
