"""Feeds: files that are dropped or chosen, what was loaded of them, and what is wrong with them."""

import gzip

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Opener

ZONES = b"store_id,timezone\nfeed-1,Europe/London\nfeed-2,Asia/Tokyo\n"
POLLS = b"store_id,status,timestamp_utc\nfeed-1,active,2024-03-01 10:00:00 UTC\n"
HOSTILE = "<img src=x onerror=document.title='hacked'>"


def _choose(page: Page, name: str, content: bytes) -> Locator:
    """Choose a file; what the page tells of it."""
    page.get_by_label("Choose files").set_input_files(
        {"name": name, "mimeType": "text/csv", "buffer": content}
    )
    return page.locator(".feed").first


def test_a_file_that_is_dropped_is_loaded_and_counted(open_page: Opener) -> None:
    page = open_page("/#/feeds")
    files = page.evaluate_handle(
        """text => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([text], "zones.csv", { type: "text/csv" }));
            return transfer;
        }""",
        ZONES.decode(),
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": files})
    told = page.locator(".feed")
    expect(told).to_contain_text("zones.csv")
    expect(told).to_contain_text("of time zones")
    expect(told).to_contain_text("Loaded 2 rows")
    expect(told.locator(".counts div").first).to_have_text("new stores2")


def test_the_feed_is_told_by_the_header_also_inside_gzip(open_page: Opener) -> None:
    page = open_page("/#/feeds")
    told = _choose(page, "export.gz", gzip.compress(POLLS))
    expect(told).to_contain_text("of polls")
    expect(told).to_contain_text("Loaded 1 row")
    told = _choose(page, "again.csv", POLLS)
    expect(told).to_contain_text("again.csv")
    expect(told.locator(".counts div").last).to_have_text("unchanged1")


def test_bad_rows_are_listed_by_line_and_column_as_text(open_page: Opener) -> None:
    page = open_page("/#/feeds")
    rows = [f"feed-{row},{HOSTILE if row == 3 else 'active'},yesterday" for row in range(1, 40)]
    told = _choose(
        page, "bad.csv", "\n".join(["store_id,status,timestamp_utc", *rows, ""]).encode()
    )
    expect(told.get_by_role("alert")).to_contain_text("Not loaded 40 things are wrong with it")
    first, _, third = told.locator("tbody tr").all()[:3]
    assert first.locator("td").all_inner_texts()[:3] == ["2", "timestamp_utc", "yesterday"]
    assert third.locator("td").all_inner_texts()[:3] == ["4", "status", HOSTILE]
    assert page.locator("main img").count() == 0
    assert page.title() == "Feeds · storewatch"


def test_a_file_that_is_no_feed_is_refused_before_it_is_sent(open_page: Opener) -> None:
    page = open_page("/#/feeds")
    told = _choose(page, "menu.csv", b"dish,price\nsoup,3\n")
    expect(told.get_by_role("alert")).to_contain_text("none of a feed's")
