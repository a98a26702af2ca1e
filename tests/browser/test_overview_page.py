"""The overview: shares of business time, who was down most, what changed since."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opener
from tests.browser.reports import completed_report
from tests.integration.service import Service

HOSTILE = "<img src=x onerror=document.title='hacked'>"
MINUS = "\N{MINUS SIGN}"
EARLIER = "2024-03-12T18:00:00Z"


@pytest.fixture(scope="module")
def summaries(service: Service) -> list[dict[str, Any]]:
    """The summaries of two reports, the newest first; a store of a bad name has most downtime."""
    rows = [
        {
            "store_id": HOSTILE,
            "status": "inactive",
            "timestamp_utc": f"2024-03-{day:02}T{hour:02}:00:00Z",
        }
        for day in range(7, 15)
        for hour in (0, 12)
    ]
    assert service.ask("POST", "/polls", json=rows).status_code == 200
    reports = [completed_report(service, as_of=EARLIER), completed_report(service)]
    return [service.get(f"/reports/{one['id']}/summary").json() for one in reversed(reports)]


@pytest.fixture
def page(summaries: list[dict[str, Any]], open_page: Opener) -> Page:
    page = open_page()
    expect(page.locator(".window")).to_have_count(3)
    return page


def test_the_windows_show_the_shares_of_all_stores_together(
    page: Page, summaries: list[dict[str, Any]]
) -> None:
    expect(page.locator(".head")).to_contain_text("61 stores as of Thu, 14 Mar 2024")
    for card, window in zip(page.locator(".window").all(), summaries[0]["windows"], strict=True):
        expect(card.locator(".big")).to_contain_text(f"{window['availability'] * 100:.2f} %")
        for row, part in zip(
            card.locator("dd strong").all(), ("uptime", "downtime", "unknown"), strict=True
        ):
            share = window[part] / window["business_time"]
            expect(row).to_have_text(f"{share * 100:.2f} %" if share else "0 %")


def test_the_stores_with_most_downtime_come_first_their_ids_as_text(
    page: Page, summaries: list[dict[str, Any]]
) -> None:
    ids = page.locator(".ranked").first.locator("tbody .id").all_inner_texts()
    assert ids == [store["store_id"] for store in summaries[0]["most_downtime"]]
    assert ids[0] == HOSTILE
    assert page.locator("main img").count() == 0
    page.get_by_role("link", name=HOSTILE).first.click()
    expect(page.locator("h1")).to_have_text(HOSTILE)


def test_the_histogram_counts_every_store_also_as_a_table(
    page: Page, summaries: list[dict[str, Any]]
) -> None:
    assert page.locator(".bar").count() == 50
    page.get_by_text("As a table").click()
    cells = page.locator("details[open] tbody td.number").all_inner_texts()
    assert sum(int(cell) for cell in cells) == 61
    assert int(cells[-2]) == summaries[0]["stores_by_availability"][-1]


def test_what_changed_since_the_report_before_is_told(
    page: Page, summaries: list[dict[str, Any]]
) -> None:
    newest, before = summaries
    change = (newest["windows"][2]["availability"] - before["windows"][2]["availability"]) * 100
    told = f"{'+' if change > 0 else MINUS}{abs(change):.2f}"
    changes = page.locator("section", has=page.get_by_role("heading", name="Since the report"))
    expect(changes.locator("tr", has_text="Last 7 days")).to_contain_text(told)
    worse = changes.get_by_role("heading", name=re.compile("Got worse"))
    expect(worse).to_be_visible()
    points = changes.locator("td.worse").all_inner_texts()
    values = [float(text.replace(MINUS, "-")) for text in points]
    assert values == sorted(values)


def test_before_the_first_report_it_says_how_to_begin(open_page: Opener, service: Service) -> None:
    for report in service.get("/reports?limit=100").json()["items"]:
        assert service.ask("DELETE", f"/reports/{report['id']}").status_code == 204
    page = open_page()
    expect(page.get_by_role("heading", name="No report yet")).to_be_visible()
    page.get_by_role("button", name="Start report").click()
    expect(page.get_by_role("heading", name="Reports")).to_be_visible()
    expect(page.locator(".badge").first).to_have_text("Completed", timeout=20_000)
