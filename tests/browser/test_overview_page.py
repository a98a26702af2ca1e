"""The overview: what to do first, shares of business time, what changed since, days and hours."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import Opener, elsewhere
from tests.browser.reports import completed_report
from tests.conftest import new_database
from tests.harness.service import Service, running_service

HOSTILE = "<img src=x onerror=document.title='hacked'>"
MINUS, EN_DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
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


def _section(page: Page, heading: str) -> Locator:
    return page.locator("section", has=page.get_by_role("heading", name=heading))


def test_what_to_do_first_is_counted_as_the_table_and_its_csv_have_it(
    page: Page, summaries: list[dict[str, Any]]
) -> None:
    overview, tiles = page.url, page.locator(".triage li")
    expect(tiles).to_have_count(len(summaries[0]["conditions"]))
    counted = {}
    for one in summaries[0]["conditions"]:
        tile = page.locator(f".triage .{one['condition']}")
        expect(tile.locator("strong").first).to_have_text(str(one["stores"]))
        counted[one["condition"]] = one["stores"]
        listed = set()
        if one["stores"]:
            with page.expect_download() as download:
                tile.get_by_role("link", name="as CSV").click()
            with Path(download.value.path()).open(newline="") as file:
                listed = {row["store_id"] for row in csv.DictReader(file)}
        assert len(listed) == one["stores"]
        tile.locator(".count").click()
        expect(page.get_by_role("status").last).to_have_text(f"{one['stores']} of 61 stores")
        expect(page.locator(".grid tbody .id")).to_have_count(one["stores"])
        assert set(page.locator(".grid tbody .id").all_inner_texts()) == listed
        page.goto(overview)
    assert sum(map(bool, counted.values())) >= 3, counted  # else this says little
    share = f"{counted['down_all_week']}"
    expect(page.locator(".triage .down_all_week")).to_contain_text(share)
    expect(page.locator(".triage .down_all_week")).to_contain_text("of all downtime")


def test_each_day_is_a_bar_and_a_row_that_is_read_aloud(
    page: Page, service: Service, summaries: list[dict[str, Any]]
) -> None:
    report = page.get_by_label("Report as of").locator("option").nth(1).get_attribute("value")
    items = service.get(f"/reports/{report}/trend?days=28").json()["items"]
    assert [item["date"] for item in items] == ["2024-03-12", "2024-03-14"]
    table = page.get_by_role("table", name="Availability and stores that were down")
    rows = table.get_by_role("row").filter(has=page.get_by_role("rowheader"))
    expect(rows).to_have_count(3)  # the day without a report has its place
    expect(rows.nth(1)).to_contain_text("no report")
    for row, item in zip((rows.first, rows.last), items, strict=True):
        availability, down = row.get_by_role("cell").all()
        expect(availability).to_have_text(f"{item['availability'] * 100:.2f} %")
        expect(down).to_have_text(str(item["stores_down"]))
    heights = [bar.bounding_box() for bar in table.locator("i.bad").all()]
    tall = [box["height"] if box else 0 for box in heights]
    assert tall[1] == 0
    assert tall[0] / tall[2] == pytest.approx(
        items[0]["stores_down"] / items[1]["stores_down"], rel=0.05
    )


def test_hours_of_the_week_are_a_table_whose_darkest_cell_is_the_most_downtime(
    page: Page, summaries: list[dict[str, Any]]
) -> None:
    section = _section(page, "When stores are down")
    hours = summaries[0]["down_by_hour"]
    assert sum(hours) == pytest.approx(summaries[0]["windows"][2]["downtime"])
    cells = section.locator("tbody td")
    expect(cells).to_have_count(168)
    heat = cells.evaluate_all(
        "all => all.map(one => parseFloat(one.style.getPropertyValue('--heat')))"
    )
    assert heat == pytest.approx([100 * seconds / max(hours) for seconds in hours])
    day, hour = divmod(hours.index(max(hours)), 24)
    names = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    told = f"{names[day]}, {hour:02}{EN_DASH}{hour + 1:02}"
    expect(section.locator(".sub").first).to_contain_text(told)
    expect(section.get_by_role("rowheader").nth(day)).to_contain_text(names[day])
    cells.first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(section.locator(".told")).to_contain_text(f"Tuesday, 01{EN_DASH}02: ")
    expect(cells.nth(25)).to_be_focused()


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
    ids = _section(page, "Most downtime").locator("tbody .id").all_inner_texts()
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
    changes = _section(page, "Since the report before")
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
    expect(page.locator(".window")).to_have_count(3)
    expect(page.locator(".head .sub")).to_contain_text("61 stores as of Thu, 14 Mar 2024")


def test_an_empty_database_wants_feeds_first(
    browser: Browser, postgres_server: str, tmp_path: Path
) -> None:
    database = elsewhere(new_database(postgres_server))
    with database as url, running_service(url, tmp_path / "home") as empty:
        page = browser.new_page()
        for place in ("/", "/#/stores"):
            page.goto(empty.base_url + place)
            expect(page.get_by_role("heading", name="Nothing is loaded yet")).to_be_visible()
            assert page.get_by_role("button", name="Start report").count() == 0
        page.get_by_role("link", name="Load feeds").click()
        expect(page.locator("h1")).to_have_text("Feeds")
        page.close()
