"""Keys: the first is made by the page and used at once; others are shown once, and revoked."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opener
from tests.harness.service import Service

HOSTILE = '<b>ops & "co"</b>'


@pytest.fixture(scope="module")
def service(empty_service: Service) -> Service:
    """Without a feed, and without a key."""
    return empty_service


def _make(page: Page, name: str, scope: str | None = None) -> str:
    """Make a key; the key."""
    page.get_by_label("Name").fill(name)
    if scope:
        page.get_by_label("Scope").select_option(scope)
    page.get_by_role("button", name="Make key").click()
    shown = page.get_by_label("The key", exact=True)
    expect(page.get_by_role("region", name="The new key").locator("h2")).to_have_text(name)
    return shown.input_value()


def test_keys_are_made_shown_once_and_revoked(open_page: Opener, service: Service) -> None:
    page = open_page("/#/feeds")
    expect(page.locator(".welcome")).to_contain_text("Nothing is loaded yet")
    page.get_by_role("link", name="Keys").click()
    expect(page.locator(".welcome")).to_contain_text("From the first key on each request needs one")
    first = _make(page, HOSTILE)
    expect(page.locator("main")).to_contain_text("This page uses it now")
    assert service.get("/stores", headers={"X-API-Key": first}).status_code == 200
    rows = page.get_by_role("region", name="Keys that are valid").locator("tbody tr")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text(f"{HOSTILE} this page")

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    reader = _make(page, "reader", "read")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == reader
    page.get_by_label("Name").fill("reader")
    page.get_by_role("button", name="Make key").click()
    expect(page.get_by_role("alert")).to_contain_text("There is already a key named reader")
    page.get_by_role("link", name="Feeds").click()
    page.get_by_role("link", name="Keys").click()
    expect(rows).to_have_count(2)
    assert reader not in page.content()

    # The key of a page that may only read is told in words, and another can be given.
    other = open_page("/#/keys")
    other.get_by_label("API key", exact=True).fill(reader)
    other.get_by_role("button", name="Use this key").click()
    expect(other.locator("main")).to_contain_text("may read, but not write")
    expect(other.get_by_role("alert")).to_have_count(0)
    other.get_by_role("button", name="Use another key").click()
    other.get_by_label("API key", exact=True).fill(first)
    other.get_by_role("button", name="Use this key").click()
    expect(other.get_by_role("button", name="Revoke reader")).to_be_visible()

    page.get_by_role("button", name="Revoke reader").click()
    page.get_by_role("button", name="Revoke", exact=True).click()
    expect(rows).to_have_count(1)
    page.locator("summary").click()
    expect(page.get_by_role("region", name="Keys that are revoked")).to_contain_text("reader")
    page.get_by_role("button", name=f"Revoke {HOSTILE}").click()
    expect(page.get_by_role("dialog")).to_contain_text("It is the key of this page")
    page.get_by_role("button", name="Revoke", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text("is the last key of scope write")
    page.get_by_role("button", name="Keep it").click()

    _make(page, "second", "write")
    page.get_by_role("button", name=f"Revoke {HOSTILE}").click()
    page.get_by_role("button", name="Revoke", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text("An API key, please")
