"""Feeds: files that are dropped or chosen, what became of them, and what the service knows."""

import gzip
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Dialog, Locator, Page, Route, expect

from tests.browser.conftest import Opener
from tests.harness.service import Service

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZONES = b"store_id,timezone\nfeed-1,Europe/London\nfeed-2,Asia/Tokyo\n"
POLLS = b"store_id,status,timestamp_utc\nfeed-1,active,2024-03-01 10:00:00 UTC\n"
HOURS = b"note,store_id,dayOfWeek,start_time_local,end_time_local\nx,feed-1,0,09:00,17:00\n"
HOSTILE = "<img src=x onerror=document.title='hacked'>"


def _choose(page: Page, name: str, content: bytes) -> Locator:
    """Choose a file; what the page tells of it."""
    page.get_by_label("Choose files").set_input_files(
        {"name": name, "mimeType": "text/csv", "buffer": content}
    )
    return page.locator(".feed").first


def _drop(page: Page, place: str, name: str, content: bytes) -> None:
    files = page.evaluate_handle(
        """([name, text]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([text], name, { type: "text/csv" }));
            return transfer;
        }""",
        [name, content.decode()],
    )
    for kind in ("dragover", "drop"):
        page.dispatch_event(place, kind, {"dataTransfer": files})


@contextmanager
def _held(page: Page) -> Iterator[Callable[[], None]]:
    """Hold back the files that are sent; yields what lets them go."""
    held: list[Route] = []
    go = False

    def hold(route: Route) -> None:
        if go or route.request.method != "POST":
            route.continue_()
        else:
            held.append(route)

    def let_go() -> None:
        nonlocal go
        go = True
        for route in held:
            route.continue_()

    page.route(re.compile("/feeds$"), hold)
    yield let_go
    page.unroute_all()


def test_a_file_is_loaded_wherever_it_is_dropped_and_counted(open_page: Opener) -> None:
    page = open_page("/#/reports")
    for place, name in (("h1", "beside.csv"), (".drop", "zones.csv")):
        _drop(page, place, name, ZONES)
        expect(page.locator("h1")).to_have_text("Feeds")
        told = page.locator(".feed").first
        expect(told).to_contain_text(name)
        expect(told).to_contain_text("of time zones")
        expect(told).to_contain_text("Loaded 2 rows")
    expect(told.locator(".counts div").last).to_have_text("unchanged2")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("hours.csv", HOURS, "business hours"),
        ("export.gz", gzip.compress(POLLS, mtime=0), "polls"),
        ("polls.csv.zst", zstd.compress(POLLS), "polls"),
    ],
)
def test_the_service_recognises_the_feed(
    open_page: Opener, name: str, content: bytes, kind: str
) -> None:
    page = open_page("/#/feeds")
    told = _choose(page, name, content)
    expect(told).to_contain_text(f"of {kind}")
    expect(told).to_contain_text("Loaded 1 row")
    expect(page.get_by_role("region", name="Last loads").locator("tbody tr").first).to_contain_text(
        kind.capitalize()
    )


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
    refusal = page.get_by_role("region", name="Last refusals").locator("tbody tr").first
    expect(refusal).to_contain_text("line 2, column timestamp_utc, value 'yesterday'")
    expect(refusal).to_contain_text("and 39 more")
    assert page.locator("main img").count() == 0
    assert page.title() == "Feeds · storewatch"


def test_a_file_that_is_no_feed_is_refused_with_the_line_that_was_found(open_page: Opener) -> None:
    page = open_page("/#/feeds")
    # So large that the answer comes before all of it is sent.
    page.evaluate(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["dish,price\\n", "soup,3\\n".repeat(5e6)], "menu.csv"));
            dispatchEvent(new DragEvent("drop", { dataTransfer: transfer }));
        }"""
    )
    told = page.locator(".feed").first
    expect(told.get_by_role("alert")).to_contain_text("'dish,price'")
    expect(told).to_contain_text("to be polls, the header has no column store_id")
    told = _choose(page, "capitals.csv", b"STORE_ID,timezone\nfeed-1,Asia/Tokyo\n")
    expect(told.get_by_role("alert")).to_contain_text("'STORE_ID,timezone'")


def test_an_upload_goes_on_elsewhere_asks_before_a_reload_and_can_be_cancelled(
    open_page: Opener, service: Service
) -> None:
    page = open_page("/#/feeds")
    with _held(page) as let_go:
        _choose(page, "first.csv", POLLS)
        _choose(page, "second.csv", POLLS)
        page.get_by_role("button", name="Cancel second.csv").click()
        expect(page.locator(".feed").first).to_contain_text("Cancelled")
        page.get_by_role("link", name="Reports").click()
        expect(page.locator("h1")).to_have_text("Reports")
        with page.expect_event("dialog") as asked:
            page.once("dialog", Dialog.dismiss)
            page.evaluate("setTimeout(() => location.reload())")
        assert asked.value.type == "beforeunload"
        page.get_by_role("link", name="Feeds").click()
        expect(page.locator(".feed").last).to_contain_text("first.csv")
        let_go()
    expect(page.locator(".feed").last).to_contain_text("Loaded 1 row")
    expect(page.locator(".feed").first).to_contain_text("Cancelled")
    page.reload()  # nothing is under way any more: it does not ask
    expect(page.locator("h1")).to_have_text("Feeds")
    expect(page.locator(".feed")).to_have_count(0)


def test_the_state_of_the_feeds_is_told_and_follows_what_is_loaded(
    open_page: Opener, service: Service
) -> None:
    page = open_page("/#/feeds")
    known = page.locator(".known .counts div")
    before = service.get("/feeds").json()
    expect(known.first).to_have_text(f"stores{before['stores']}")
    expect(known.nth(2)).to_contain_text("ago")
    expect(known.nth(4)).to_contain_text("in America/Chicago")
    _choose(page, "polls.csv", POLLS.replace(b"feed-1", b"only-here"))
    expect(known.first).to_have_text(f"stores{before['stores'] + 1}")
    without = before["stores_without_timezone"] + 1
    expect(known.nth(4)).to_contain_text(f"stores without time zone{without}")
