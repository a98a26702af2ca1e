"""Reports: started by a button, followed live, fetched, cancelled and deleted."""

import re
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import APIResponse, Locator, Page, Route, expect

from tests.browser.conftest import Opener, elsewhere
from tests.browser.reports import completed_report
from tests.harness.database import polls_locked
from tests.harness.processes import eventually
from tests.harness.service import Service


def _newest(page: Page, state: str) -> None:
    expect(page.locator(".reports tbody tr").first.locator(".badge")).to_have_text(state)


def _said(page: Page) -> Locator:
    return page.locator(".said[role=status]")


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


def test_a_report_that_is_started_before_the_others_are_listed_stays(open_page: Opener) -> None:
    page = open_page("/#/feeds")
    late: list[tuple[Route, APIResponse]] = []
    page.route(re.compile(r"/reports\?"), lambda route: late.append((route, route.fetch())))
    page.get_by_role("link", name="Reports").click()
    page.get_by_role("button", name="Start report").click()
    expect(_said(page)).to_have_text(re.compile("Report (started|completed)"))
    expect(page.locator(".reports tbody tr")).to_have_count(1)
    ((route, listed),) = late
    route.fulfill(response=listed)
    before = len(listed.json()["items"])
    assert before > 0
    expect(page.locator(".reports tbody tr")).to_have_count(before + 1)
    _newest(page, "Completed")


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


def _delete_button(row: Locator) -> Locator:
    return row.get_by_role("button", name="Delete the report")


def test_a_report_is_cancelled_while_it_runs_and_the_focus_stays_with_it(
    open_page: Opener, module_database_url: str
) -> None:
    page = open_page("/#/reports")
    with elsewhere(polls_locked(module_database_url)):
        page.get_by_role("button", name="Start report").click()
        _newest(page, "Running")
        row = page.locator(".reports tbody tr").first
        expect(_delete_button(row)).to_be_hidden()
        page.get_by_role("button", name="Cancel the report").focus()
        page.keyboard.press("Enter")
        _newest(page, "Cancelled")
        expect(_said(page)).to_have_text("Report cancelled.")
        expect(_delete_button(row)).to_be_focused()
        expect(page.get_by_role("button", name="Cancel the report")).to_have_count(0)


def test_a_cancel_that_comes_too_late_deletes_nothing_and_says_so(
    open_page: Opener, service: Service, module_database_url: str
) -> None:
    page = open_page("/#/reports")
    with elsewhere(polls_locked(module_database_url)):
        page.get_by_role("button", name="Start report").click()
        _newest(page, "Running")
        report = service.get("/reports?limit=1").json()["items"][0]
        # The page hears no more of the report, as on a connection that is about to be found lost.
        page.route("**/events", lambda route: route.abort())
        page.reload()
        _newest(page, "Running")
    eventually(lambda: service.get(report["links"]["self"]).json()["status"] == "completed")
    page.get_by_role("button", name="Cancel the report").click()
    _newest(page, "Completed")
    expect(_said(page)).to_contain_text("Not cancelled: the report had ended before, completed.")
    expect(_delete_button(page.locator(".reports tbody tr").first)).to_be_focused()
    assert service.get(report["links"]["csv"]).status_code == 200


def test_a_report_is_deleted_only_when_that_is_meant(open_page: Opener, service: Service) -> None:
    older, newer = completed_report(service), completed_report(service)
    page = open_page("/#/reports")
    rows = page.locator(".reports tbody tr")
    first, before = rows.first, len(service.get("/reports?limit=1000").json()["items"])
    dialog = page.get_by_role("dialog", name="Delete this report?")
    for leave in ("Escape", "Enter"):  # which is on "Keep it"
        _delete_button(first).focus()
        page.keyboard.press("Enter")
        expect(dialog).to_contain_text("its CSV")
        expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
        page.keyboard.press(leave)
        expect(dialog).to_have_count(0)
        expect(_delete_button(first)).to_be_focused()
    assert service.get(newer["links"]["csv"]).status_code == 200
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Delete").click()
    expect(rows).to_have_count(before - 1)
    expect(_said(page)).to_have_text("Report deleted.")
    # The one that is in its place now.
    expect(_delete_button(rows.first)).to_be_focused()
    assert service.get(newer["links"]["self"]).status_code == 404
    assert service.get(older["links"]["csv"]).status_code == 200


def test_the_question_before_a_report_is_deleted_is_accessible(
    open_page: Opener, service: Service
) -> None:
    completed_report(service)
    page = open_page("/#/reports")
    _delete_button(page.locator(".reports tbody tr").first).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    found = Axe().run(page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []


def test_a_report_with_options_is_what_they_say(open_page: Opener, service: Service) -> None:
    page = open_page("/#/reports")
    page.get_by_text("Options").click()
    page.get_by_label("As of (UTC)").fill("2024-03-10T12:00:30")
    page.get_by_label("A poll speaks for up to").fill("90m")
    page.get_by_label("Between two polls").select_option("previous")
    page.get_by_role("button", name="Start report").click()
    expect(page.locator(".reports tbody tr").first).to_contain_text(
        "Sun, 10 Mar 2024, 12:00:30 UTC"
    )
    _newest(page, "Completed")
    expect(page.locator(".reports tbody tr").first).to_contain_text("previous, gap 1h30m")
    newest = service.get("/reports").json()["items"][0]
    assert newest["options"]["interpolation"] == "previous"
    assert newest["options"]["max_gap"] == "1h30m"
    # For the next report, too: drawing the form anew does not put the default back.
    expect(page.get_by_label("A poll speaks for up to")).to_have_value("90m")


def test_a_report_over_windows_shows_what_they_hold(open_page: Opener, service: Service) -> None:
    page = open_page("/#/reports")
    page.get_by_text("Options").click()
    page.get_by_label("Windows").fill("2024-03, 36h")
    page.get_by_role("button", name="Start report").click()
    row = page.locator(".reports tbody tr").first
    expect(row).to_contain_text("2024-03, 36h")
    _newest(page, "Completed")
    expect(row.get_by_role("link", name="Show")).to_have_count(0)
    row.get_by_text("Windows", exact=True).click()
    expect(row.locator("table")).to_contain_text("2024-03-01 to 2024-03-31 in each store's zone")
    newest = service.get("/reports").json()["items"][0]
    assert newest["options"]["windows"] == ["2024-03", "36h"]
    found = Axe().run(page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
    # The other pages go on with what they can show.
    overview = open_page(f"/#/?report={newest['id']}")
    expect(overview.get_by_role("alert")).to_contain_text("which the page of reports shows")


def test_as_of_may_be_a_full_minute_of_which_browsers_leave_out_the_seconds(
    open_page: Opener, service: Service
) -> None:
    page = open_page("/#/reports")
    page.get_by_text("Options").click()
    page.get_by_label("As of (UTC)").fill("2024-03-10T12:00")
    page.get_by_role("button", name="Start report").click()
    row = page.locator(".reports tbody tr").first
    expect(row).to_contain_text("Sun, 10 Mar 2024, 12:00 UTC")
    _newest(page, "Completed")
    assert service.get("/reports").json()["items"][0]["as_of"] == "2024-03-10T12:00:00Z"


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
