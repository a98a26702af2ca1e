"""Accessibility by axe-core, the keyboard, small screens, and the page's own headers."""

from itertools import combinations
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from service.feeds.made_up import FeedFiles
from tests.browser.conftest import Opener
from tests.browser.reports import completed_report
from tests.harness.feeds import read_stores
from tests.harness.service import Service


@pytest.fixture(scope="module")
def places(service: Service, feed: FeedFiles) -> dict[str, tuple[str, str]]:
    """Where each page is, and what it shows when it is complete."""
    completed_report(service, as_of="2024-03-13T18:00:00Z")
    completed_report(service)
    store = next(store.store_id for store in read_stores(feed) if store.polls)
    return {
        "overview": ("/", ".heat"),
        "reports": ("/#/reports", ".reports"),
        "stores": ("/#/stores", "tbody .days i"),
        "store": (f"/#/stores/{store}", ".timeline"),
        "feeds": ("/#/feeds", ".history"),
        "keys": ("/#/keys", ".make"),
    }


#: Ways in which a reader may have set the colours.
COLOURS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "forced": {"forced_colors": "active"},
    "forced dark": {"forced_colors": "active", "color_scheme": "dark"},
}
#: Luminances of the colours of the legend's keys and of the page below them, by WCAG 2.2.
LUMINANCES = """() => {
  const luminance = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[0-9.]+/g).map(Number);
    if (!a) throw new Error(`${colour} is no colour of its own`);
    const [R, G, B] = [r, g, b].map((c) => {
      const share = c / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * R + 0.7152 * G + 0.0722 * B;
  };
  const of = (selector) =>
    luminance(getComputedStyle(document.querySelector(selector)).backgroundColor);
  const states = ["up", "down", "unknown", "closed"];
  const found = states.map((state) => [state, of(`.key .fill.${state}`)]);
  return Object.fromEntries([["card", of(".card")], ...found]);
}"""


def _serious(page: Page) -> list[str]:
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("colours", ["light", "dark", "forced"])
@pytest.mark.parametrize("name", ["overview", "reports", "stores", "store", "feeds", "keys"])
def test_axe_finds_nothing_serious(
    open_page: Opener, places: dict[str, tuple[str, str]], name: str, colours: str
) -> None:
    place, complete = places[name]
    page = open_page(place, **COLOURS[colours])
    expect(page.locator(complete).first).to_be_visible()
    assert _serious(page) == []


@pytest.mark.parametrize("colours", list(COLOURS))
def test_states_differ_in_grey_and_by_pattern(
    open_page: Opener, places: dict[str, tuple[str, str]], colours: str
) -> None:
    place, complete = places["store"]
    page = open_page(place, **COLOURS[colours])
    expect(page.locator(complete)).to_be_visible()
    found: dict[str, float] = page.evaluate(LUMINANCES)

    def contrast(one: str, other: str) -> float:
        dark, light = sorted((found[one], found[other]))
        return (light + 0.05) / (dark + 0.05)

    # Measured: light, up to down 2.15, up to unknown 1.73, unknown to closed 1.69;
    # dark, up to down 1.91, up to unknown 1.91, unknown to closed 1.90.
    for pair in combinations(("up", "down", "unknown", "closed"), 2):
        assert contrast(*pair) >= 1.5, pair
    for state in ("up", "down"):
        assert contrast(state, "card") >= 3, state
    patterns = {
        state: page.locator(f".key .fill.{state}").first.evaluate(
            "element => getComputedStyle(element).backgroundImage"
        )
        for state in ("up", "down", "unknown")
    }
    assert patterns["up"] == "none"
    assert "gradient" in patterns["down"]
    assert "gradient" in patterns["unknown"]
    assert patterns["down"] != patterns["unknown"]


def _on_screen(page: Page, locator: Locator) -> bool:
    box = locator.bounding_box()
    assert box is not None
    assert page.viewport_size is not None
    return box["x"] >= 0 and box["x"] + box["width"] <= page.viewport_size["width"]


def test_what_a_word_means_is_told_to_keyboard_and_touch(
    open_page: Opener, places: dict[str, tuple[str, str]]
) -> None:
    page = open_page(places["store"][0], viewport={"width": 360, "height": 740}, has_touch=True)
    meaning = page.locator(".explained:popover-open")
    asks = page.get_by_role("button", name="What is meant")
    expect(asks.first).to_be_visible()
    for ask in asks.all():
        ask.tap()
        expect(meaning).to_have_count(1)
        assert _on_screen(page, meaning)
        ask.tap()
        expect(meaning).to_have_count(0)
    asks.last.tap()
    expect(meaning).to_contain_text("For how long a poll speaks at most")
    assert _serious(page) == []
    page.locator("h1").tap()
    expect(meaning).to_have_count(0)

    unknown = page.get_by_role("button", name="What is meant: Unknown").last
    unknown.focus()
    page.keyboard.press("Enter")
    expect(meaning).to_contain_text("no poll speaks")
    # It comes into a live region, so that it is read out; nothing of it is there before.
    expect(page.locator("[aria-live] .explained:popover-open")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(meaning).to_have_count(0)
    expect(unknown).to_be_focused()
    assert page.locator(".explained").all_inner_texts() == [""] * asks.count()


def test_on_a_phone_tips_stay_on_the_screen(
    open_page: Opener, places: dict[str, tuple[str, str]]
) -> None:
    page = open_page(places["store"][0], viewport={"width": 360, "height": 740}, has_touch=True)
    tip = page.locator(".tip")
    for mark in ("poll", "segment"):
        marks = page.locator(f".{mark}")
        expect(marks.first).to_be_visible()
        for place in (marks.first, marks.nth(marks.count() // 2), marks.last):
            place.focus()
            expect(tip).to_have_count(1)
            assert _on_screen(page, tip)
    bar = page.locator(".segment.up").last
    bar.tap(position={"x": 2, "y": 2})
    expect(tip).to_contain_text("up")


def test_on_a_phone_the_file_and_delete_of_a_report_are_on_the_screen(
    open_page: Opener, places: dict[str, tuple[str, str]]
) -> None:
    place, complete = places["reports"]
    page = open_page(place, viewport={"width": 360, "height": 740})
    expect(page.locator(complete)).to_be_visible()
    row = page.locator(".reports tbody tr").first
    for control in (row.get_by_text("CSV"), row.get_by_role("button", name="Delete")):
        expect(control).to_be_visible()
        assert _on_screen(page, control)


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
    outline = "element => getComputedStyle(element).outlineStyle"
    assert page.locator("main").evaluate(outline) == "none"
    page.keyboard.press("Tab")
    assert page.locator(":focus").evaluate(outline) == "solid"
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
