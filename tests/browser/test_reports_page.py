"""Reports: started by a button, followed live, fetched, cancelled and deleted."""

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import Opener, elsewhere
from tests.browser.reports import completed_report
from tests.integration.service import Service, polls_locked


def _newest(page: Page, state: str) -> None:
    expect(page.locator(".reports tbody tr").first.locator(".badge")).to_have_text(
        state, timeout=20_000
    )


def test_a_report_that_is_started_runs_before_ones_eyes(
    open_page: Opener, module_database_url: str
) -> None:
    page = open_page("/#/reports")
    with elsewhere(polls_locked(module_database_url)):
        page.get_by_role("button", name="Start report").click()
        _newest(page, "Running")
        expect(page.locator(".reports progress")).to_be_visible()
    _newest(page, "Completed")
    row = page.locator(".reports tbody tr").first
    expect(row.locator("td").nth(3)).to_have_text("60")
    with page.expect_download() as download:
        row.get_by_role("link", name="CSV").click()
    header, *rows = Path(download.value.path()).read_text().splitlines()
    assert header.endswith("unknown_last_week")
    assert len(rows) == 60


def test_progress_survives_a_reload(open_page: Opener, module_database_url: str) -> None:
    page = open_page("/#/reports")
    with elsewhere(polls_locked(module_database_url)):
        page.get_by_role("button", name="Start report").click()
        _newest(page, "Running")
        page.reload()
        _newest(page, "Running")
    _newest(page, "Completed")


def test_progress_survives_a_lost_connection(open_page: Opener, module_database_url: str) -> None:
    page = open_page("/#/reports")
    with elsewhere(polls_locked(module_database_url)):
        page.get_by_role("button", name="Start report").click()
        _newest(page, "Running")
        page.context.set_offline(True)
    page.wait_for_timeout(500)
    page.context.set_offline(False)
    _newest(page, "Completed")


def test_a_report_is_cancelled_while_it_runs_and_deleted_when_it_is_over(
    open_page: Opener, module_database_url: str
) -> None:
    page = open_page("/#/reports")
    with elsewhere(polls_locked(module_database_url)):
        page.get_by_role("button", name="Start report").click()
        _newest(page, "Running")
        rows = page.locator(".reports tbody tr").count()
        page.get_by_role("button", name="Cancel the report").click()
        _newest(page, "Cancelled")
    page.get_by_role("button", name="Delete the report").first.click()
    expect(page.locator(".reports tbody tr")).to_have_count(rows - 1)


def test_a_report_with_options_is_what_they_say(open_page: Opener, service: Service) -> None:
    page = open_page("/#/reports")
    page.get_by_text("Options").click()
    page.get_by_label("As of (UTC)").fill("2024-03-10T12:00:30")
    page.get_by_label("A poll speaks for up to").fill("90m")
    page.get_by_label("Between two polls").select_option("previous")
    page.get_by_role("button", name="Start report").click()
    _newest(page, "Completed")
    expect(page.locator(".reports tbody tr").first).to_contain_text(
        "Sun, 10 Mar 2024, 12:00:30 UTC"
    )
    newest = service.get("/reports").json()["items"][0]
    assert newest["options"]["interpolation"] == "previous"
    assert newest["options"]["max_gap"] == "1h30m"


def test_an_option_that_is_refused_is_told(open_page: Opener) -> None:
    page = open_page("/#/reports")
    page.get_by_text("Options").click()
    page.get_by_label("A poll speaks for up to").fill("90d")
    page.get_by_role("button", name="Start report").click()
    expect(page.get_by_role("alert")).to_contain_text("31d")


def test_the_history_tells_time_taken_and_rows(open_page: Opener, service: Service) -> None:
    report = completed_report(service)
    page = open_page("/#/reports")
    cells = page.locator(".reports tbody tr").first.locator("td")
    expect(cells.nth(2)).to_contain_text(f"{report['seconds']:.1f} s")
    expect(cells.nth(3)).to_have_text("60")
