"""With API keys in force, the page asks for one and keeps it for the browser session only."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.browser.conftest import Opener
from tests.harness.processes import make_key, storewatch
from tests.harness.service import Service, running_service

POLLS = b"store_id,status,timestamp_utc\ns1,active,2024-03-01 10:00:00 UTC\n"


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    """Filled by `service`: a key by its scope."""
    return {}


@pytest.fixture(scope="module")
def service(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]
) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("service")
    for scope in ("read", "write"):
        keys[scope] = make_key(module_database_url, home, f"the {scope}er", "--scope", scope)
    loaded = storewatch(
        "ingest", "--polls", "-", stdin=POLLS, database_url=module_database_url, home=home
    )
    assert loaded.returncode == 0
    with running_service(module_database_url, home) as service:
        yield service


def _give(page: Page, key: str) -> None:
    page.get_by_label("API key", exact=True).fill(key)
    page.get_by_role("button", name="Use this key").click()


def test_it_asks_again_until_the_key_is_right_and_keeps_it_for_the_session(
    open_page: Opener, keys: dict[str, str]
) -> None:
    page = open_page("/#/stores/s1")
    expect(page.get_by_role("dialog")).to_contain_text("API key is needed")
    expect(page.get_by_label("API key", exact=True)).to_be_focused()
    _give(page, "sw_wrong")
    expect(page.get_by_role("dialog")).to_contain_text("not valid")
    _give(page, keys["read"])
    expect(page.locator(".timeline")).to_be_visible()
    page.reload()
    expect(page.locator(".timeline")).to_be_visible()
    stored = page.evaluate("[{ ...sessionStorage }, { ...localStorage }, document.cookie]")
    assert stored == [{"storewatch-key": keys["read"]}, {}, ""]
    expect(open_page("/#/stores/s1").get_by_role("dialog")).to_be_visible()  # another session


def test_a_key_that_may_only_read_is_told_and_another_can_be_given(
    open_page: Opener, keys: dict[str, str]
) -> None:
    page = open_page("/#/reports")
    _give(page, keys["read"])
    page.get_by_role("button", name="Start report").click()
    expect(page.get_by_role("dialog")).to_contain_text("may only read")
    _give(page, keys["write"])
    expect(page.locator(".badge").first).to_have_text("Completed")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename.endswith(".csv")


def test_a_feed_is_sent_with_the_key(open_page: Opener, keys: dict[str, str]) -> None:
    page = open_page("/#/feeds")
    file = FilePayload(name="polls.csv", mimeType="text/csv", buffer=POLLS)
    page.get_by_label("Choose files").set_input_files(file)
    _give(page, keys["write"])
    expect(page.locator(".feed")).to_contain_text("Loaded 1 row")


def test_a_key_is_forgotten_when_asked(open_page: Opener, keys: dict[str, str]) -> None:
    page = open_page("/#/stores/s1")
    _give(page, keys["read"])
    expect(page.locator(".timeline")).to_be_visible()
    page.get_by_role("button", name="Forget key").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_role("button", name="Not now").click()
    expect(page.get_by_role("alert")).to_contain_text("API key is needed")
