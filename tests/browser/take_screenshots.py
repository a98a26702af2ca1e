"""Renew the pictures of the dashboard: `make screenshots`."""

import asyncio
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, ViewportSize, expect

from service.database.embedded import embedded_postgres
from service.feeds.made_up import FeedFiles, write_feed
from tests.browser.conftest import running_browser
from tests.browser.reports import completed_report
from tests.harness.feeds import ingest, read_stores
from tests.harness.service import Service, running_service

FOLDER = Path(__file__).parent / "screenshots"
STORES = 2000
SIZE: ViewportSize = {"width": 1280, "height": 800}


def main() -> None:
    """Write each page, light and dark."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        home = Path(folder)
        home.chmod(0o755)
        server = embedded_postgres(home / "postgres", own=True)
        url = runner.run(server.__aenter__())
        try:
            feed = write_feed(home, stores=STORES)
            ingest(feed, database_url=url, home=home)
            with running_service(url, home) as service:
                for day in range(9, 14):
                    completed_report(service, as_of=f"2024-03-{day:02}T18:00:00Z")
                completed_report(service)
                with running_browser() as browser:
                    _write(browser, service, feed)
        finally:
            runner.run(server.__aexit__(None, None, None))


def _write(browser: Browser, service: Service, feed: FeedFiles) -> None:
    store = _one_worth_seeing(service, feed)
    places = {
        "overview": ("/", ".trend"),
        "reports": ("/#/reports", ".reports"),
        "stores": ("/#/stores", "tbody .days i"),
        "store": (f"/#/stores/{store}", ".timeline"),
    }
    for scheme in ("light", "dark"):
        for name, (place, complete) in places.items():
            context = browser.new_context(viewport=SIZE, color_scheme=scheme)
            page = context.new_page()
            page.goto(service.base_url + place)
            expect(page.locator(complete).first).to_be_attached()
            page.evaluate("document.fonts.ready")
            page.screenshot(path=FOLDER / f"{name}-{scheme}.png")
            context.close()


def _one_worth_seeing(service: Service, feed: FeedFiles) -> str:
    """The store with hours of its own, and outages on most days."""
    best, most = "", 0
    for known in read_stores(feed):
        if len(known.hours) != 7 or known.timezone is None:
            continue
        told = service.get(f"/stores/{known.store_id}/timeline").json()
        outages = sum(segment["state"] == "down" for segment in told["segments"])
        if outages > most:
            best, most = known.store_id, outages
    return best


if __name__ == "__main__":
    main()
