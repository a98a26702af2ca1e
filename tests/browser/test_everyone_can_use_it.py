"""Accessibility by axe-core, the keyboard, small screens, and the page's own headers."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from service.made_up_feed import FeedFiles
from tests.browser.conftest import Opener
from tests.browser.reports import completed_report
from tests.integration.service import Service, read_stores


@pytest.fixture(scope="module")
def places(service: Service, feed: FeedFiles) -> dict[str, tuple[str, str]]:
    """Where each page is, and what it shows when it is complete."""
    completed_report(service, as_of="2024-03-13T18:00:00Z")
    completed_report(service)
    store = next(store.store_id for store in read_stores(feed) if store.polls)
    return {
        "overview": ("/", "text=Got worse"),
        "reports": ("/#/reports", ".reports"),
        "stores": ("/#/stores", "tbody .id"),
        "store": (f"/#/stores/{store}", ".timeline"),
        "feeds": ("/#/feeds", ".history"),
        "keys": ("/#/keys", ".make"),
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["overview", "reports", "stores", "store", "feeds", "keys"])
def test_axe_finds_nothing_serious(
    open_page: Opener, places: dict[str, tuple[str, str]], name: str, scheme: str
) -> None:
    place, complete = places[name]
    page = open_page(place, color_scheme=scheme)
    expect(page.locator(complete).first).to_be_visible()
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    serious = [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert serious == []


@pytest.mark.parametrize("name", ["overview", "reports", "stores", "store", "feeds", "keys"])
def test_a_phone_shows_each_page_without_scrolling_it_sideways(
    open_page: Opener, places: dict[str, tuple[str, str]], name: str
) -> None:
    place, complete = places[name]
    page = open_page(place, viewport={"width": 360, "height": 740})
    expect(page.locator(complete).first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_keyboard_reaches_every_page_and_focus_follows(
    open_page: Opener, places: dict[str, tuple[str, str]]
) -> None:
    page = open_page()
    expect(page.locator(".window").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Stores").focus()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page.locator("h1")).to_have_text("Stores")
    sort = page.get_by_role("button", name="Time zone")
    sort.focus()
    page.keyboard.press("Enter")
    expect(page.locator("th", has=sort)).to_have_attribute("aria-sort", "ascending")


def test_the_page_may_load_and_run_nothing_but_its_own_files(service: Service) -> None:
    for path in ("/", "/dashboard/app.js", "/dashboard/style.css"):
        answer = service.get(path)
        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    again = service.get("/", headers={"If-None-Match": service.get("/").headers["etag"]})
    assert again.status_code == 304
    for path in ("/dashboard/nothing.js", "/dashboard/vendor/README", "/dashboard/..%2Fapp.py"):
        assert service.get(path).status_code == 404
