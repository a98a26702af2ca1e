"""The report that the pages show: a chosen one, or the newest `as_of` with the default options.

What is chosen and asked for is in the address.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, Route, expect

from compute.instants import day_of
from service.feeds.made_up import NEWEST, FeedFiles
from tests.browser.conftest import Opener, elsewhere
from tests.browser.reports import completed_report
from tests.harness.database import ask
from tests.harness.feeds import read_stores
from tests.harness.service import Service

EARLIER, LONG_AGO = "2024-03-12T18:00:00Z", "1999-12-31T12:00:00Z"
ROWS = ".grid tbody tr"


@pytest.fixture(scope="module")
def reports(service: Service) -> dict[str, dict[str, Any]]:
    """Reports by what they are; those that shall not take over were made last."""
    return {
        "before": completed_report(service, as_of=EARLIER),
        "newest": completed_report(service),
        "other": completed_report(service, interpolation="previous", max_gap="90m"),
        "old": completed_report(service, as_of=LONG_AGO),
    }


def _chosen(page: Page) -> str:
    value: str = page.get_by_label("Report as of").input_value()
    return value


def test_neither_an_old_report_nor_one_of_other_options_takes_over(
    open_page: Opener, service: Service, reports: dict[str, dict[str, Any]]
) -> None:
    for place in ("/", "/#/stores"):
        page = open_page(place)
        expect(page.locator(".head .sub")).to_contain_text("as of Thu, 14 Mar 2024, 18:00 UTC")
        expect(page.locator(".head .sub")).to_contain_text("nearest")
    expect(page.get_by_role("row", name=re.compile("a"))).not_to_have_count(0)
    # Compared with the one before of the same options, not with what was made before.
    page = open_page()
    changes = page.locator("section", has=page.get_by_role("heading", name="Since the report"))
    expect(changes).to_contain_text("From Tue, 12 Mar 2024, 18:00 UTC")


def test_another_report_is_chosen_and_stays_chosen_from_page_to_page(
    open_page: Opener, reports: dict[str, dict[str, Any]]
) -> None:
    page = open_page()
    page.get_by_label("Report as of").select_option(reports["before"]["id"])
    expect(page.locator(".head .sub")).to_contain_text("Tue, 12 Mar 2024")
    page.get_by_role("link", name="Stores", exact=True).click()
    expect(page.locator("h1")).to_have_text("Stores")
    expect(page.locator(".head .sub")).to_contain_text("Tue, 12 Mar 2024")
    expect(page.locator(".news")).to_contain_text("newer report, as of Thu, 14 Mar 2024")
    page.get_by_role("link", name="Show the newest").click()
    expect(page.locator(".head .sub")).to_contain_text("Thu, 14 Mar 2024")
    expect(page.locator(".news p")).to_have_count(0)
    page.go_back()
    expect(page.locator(".head .sub")).to_contain_text("Tue, 12 Mar 2024")


def test_a_report_is_shown_from_the_list_of_reports(
    open_page: Opener, reports: dict[str, dict[str, Any]]
) -> None:
    page = open_page("/#/reports")
    row = page.locator(".reports tbody tr", has_text="31 Dec 1999")
    row.get_by_role("link", name="Show the report").click()
    expect(page.locator("h1")).to_have_text("Overview")
    assert _chosen(page) == reports["old"]["id"]


def test_a_report_that_is_gone_is_told(open_page: Opener) -> None:
    page = open_page("/#/?report=00000000-0000-0000-0000-000000000000")
    expect(page.get_by_role("alert")).to_contain_text("no report with this id")
    page.get_by_role("link", name="Show the newest").click()
    expect(page.locator(".window")).to_have_count(3)


def test_a_report_that_is_not_completed_is_told(open_page: Opener, service: Service) -> None:
    asked = service.ask("POST", "/reports", json={}).json()["id"]
    service.ask("POST", f"/reports/{asked}/cancel")
    status = service.get(f"/reports/{asked}").json()["status"]
    page = open_page(f"/#/stores?report={asked}")
    if status == "cancelled":  # else it was quicker
        expect(page.get_by_role("alert")).to_contain_text("This report is cancelled")


def test_a_page_that_was_refused_its_reports_asks_again_within_seconds(open_page: Opener) -> None:
    page = open_page("/#/keys")
    page.clock.install()
    refused: list[str] = []

    def refuse_once(route: Route) -> None:
        if refused:
            route.continue_()
        else:
            refused.append(route.request.url)
            route.fulfill(status=503, json={"detail": "the database does not answer"})

    page.route(re.compile(r"/reports\?"), refuse_once)
    page.get_by_role("link", name="Stores", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("the database does not answer")
    page.clock.run_for(5_000)
    expect(page.locator(ROWS)).not_to_have_count(0)


def test_a_view_is_the_same_after_a_reload_on_the_way_back_and_by_its_link(
    open_page: Opener, service: Service, reports: dict[str, dict[str, Any]]
) -> None:
    page = open_page("/#/stores")
    report = reports["before"]["id"]
    page.get_by_label("Report as of").select_option(report)
    zones = service.get(f"/reports/{report}/timezones").json()["items"]
    zone = max(zones, key=lambda one: int(one["stores"]))["timezone"]
    page.get_by_label("Time zone").select_option(zone)
    page.get_by_label("Last 7 days").select_option("With downtime")
    page.get_by_role("button", name="Store", exact=True).click()
    part = _ids(page)[0][:1]
    page.get_by_label("Search").fill(part)
    expect(page).to_have_url(re.compile("search="))
    view = (report, zone, "1", part, _ids(page))
    assert view[-1] == sorted(view[-1]) != []

    def seen(page: Page) -> tuple[Any, ...]:
        expect(page.locator(ROWS)).to_have_count(len(view[-1]))
        labels = ("Report as of", "Time zone", "Last 7 days", "Search")
        return (*(page.get_by_label(label).input_value() for label in labels), _ids(page))

    page.reload()
    assert seen(page) == view
    page.locator(f"{ROWS} a").first.click()
    expect(page.locator(".timeline")).to_be_visible()
    page.go_back()
    assert seen(page) == view
    link = page.url.removeprefix(service.base_url)
    assert seen(open_page(link)) == view
    page.go_back()  # what was typed is no step; what was chosen is
    expect(page.get_by_label("Search")).to_have_value("")
    expect(page.locator("[aria-sort]")).to_have_text(re.compile("Available"))


def _ids(page: Page) -> list[str]:
    expect(page.locator(".grid")).not_to_contain_text("…")
    expect(page.get_by_role("status").last).to_contain_text("of 60 stores")
    return page.locator(f"{ROWS} .id").all_inner_texts()


@pytest.mark.parametrize("name", ["newest", "other"])
def test_a_store_has_the_same_figures_in_the_table_and_on_its_page(
    open_page: Opener, reports: dict[str, dict[str, Any]], feed: FeedFiles, name: str
) -> None:
    # Nearest to 100 %: what rounded hours get wrong.
    order = "below=1&sort=-availability_last_week"
    page = open_page(f"/#/stores?report={reports[name]['id']}&{order}")
    expect(page.locator(f"{ROWS} a").first).to_be_visible()
    several = page.locator(ROWS).all()[:3]
    seen = [(row.get_by_role("link"), row.locator(".available").inner_text()) for row in several]
    links = [(link.get_attribute("href"), told) for link, told in seen]
    for link, told in links:
        store = open_page(f"/{link}")
        week = store.locator(".window").nth(2)
        expect(week.locator(".big")).to_contain_text(told)
        known = reports[name]
        assert f"max_gap={known['options']['max_gap']}" in store.url
        assert f"to={quote(known['as_of'], safe='')}" in store.url


def test_seven_days_of_each_row_in_sight_are_drawn_and_told(
    open_page: Opener, service: Service, reports: dict[str, dict[str, Any]]
) -> None:
    report = reports["newest"]["id"]
    page = open_page(f"/#/stores?report={report}")
    row = page.locator(ROWS).first
    days = row.get_by_role("img", name="Available day by day")
    store = row.locator(".id").inner_text()
    [told] = service.get(f"/reports/{report}/days", params={"store_id": store}).json()["items"]
    expect(days.locator("i")).to_have_count(7)
    shares = (days.get_attribute("aria-label") or "").split(": ")[1].split(", ")
    for share, day in zip(shares, told["days"], strict=True):
        if day["availability"] is not None and 0 < day["availability"] < 1:
            assert share == f"{day['availability'] * 100:.2f} %"


def test_newer_polls_are_told_and_a_report_of_them_is_made_and_shown(
    open_page: Opener, service: Service, reports: dict[str, dict[str, Any]], feed: FeedFiles
) -> None:
    later = NEWEST.replace(hour=19).isoformat()
    poll = {"store_id": read_stores(feed)[0].store_id, "status": "active", "timestamp_utc": later}
    page = open_page()
    expect(page.locator(".window")).to_have_count(3)
    expect(page.locator(".news p")).to_have_count(0)
    assert service.ask("POST", "/polls", json=[poll]).status_code == 200
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # looks again now
    expect(page.locator(".news")).to_contain_text("Newer polls are loaded, up to Thu, 14 Mar")
    page.get_by_role("button", name="Make a report").click()
    expect(page.locator(".head .sub")).to_contain_text("19:00 UTC")
    expect(page.locator(".news p")).to_have_count(0)
    completed_report(service, as_of="2024-03-14T20:00:00Z")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator(".head .sub")).to_contain_text("20:00 UTC")  # followed, as none is chosen


@contextmanager
def _polls_kept_from(database_url: str, first: date) -> Iterator[None]:
    """As if older polls had gone."""
    changed = "update polls_kept set since_day = $1 returning since_day"
    ask(database_url, changed, day_of(first))
    try:
        yield
    finally:
        ask(database_url, changed, None)


def test_what_is_about_time_whose_polls_are_gone_says_so(
    open_page: Opener,
    service: Service,
    reports: dict[str, dict[str, Any]],
    module_database_url: str,
) -> None:
    gone = "Polls from before Sun, 10 Mar 2024, 00:00 UTC are kept no longer"
    with elsewhere(_polls_kept_from(module_database_url, date(2024, 3, 10))):
        report = completed_report(service)
        store = quote(service.get("/stores?limit=1").json()["items"][0]["store_id"])
        for place in (f"/#/?report={report['id']}", f"/#/stores/{store}"):
            expect(open_page(place).get_by_text(gone)).to_be_visible()
    page = open_page(f"/#/?report={reports['before']['id']}")
    expect(page.locator(".head .sub")).to_contain_text("Tue, 12 Mar 2024")
    expect(page.get_by_text("are kept no longer")).to_have_count(0)
