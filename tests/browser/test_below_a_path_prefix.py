"""The dashboard and the API page behind a proxy that serves them below a path of its own."""

import http.client
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, FilePayload, expect

from service.feeds.made_up import FeedFiles
from tests.browser.conftest import PATIENT_MS
from tests.harness.feeds import ingest, read_stores
from tests.harness.service import Service, running_service

PREFIX = "/shops/storewatch"
_OF_ONE_CONNECTION = ("connection", "transfer-encoding", "keep-alive")


@contextmanager
def stripping_proxy(target: str, told: bool) -> Iterator[str]:
    """A proxy on a free port that takes PREFIX off; where it listens. `told`: by a header."""
    address = urlsplit(target).netloc

    class Handler(BaseHTTPRequestHandler):
        def pass_on(self) -> None:
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {**self.headers, **({"X-Forwarded-Prefix": PREFIX} if told else {})}
            with closing(http.client.HTTPConnection(address)) as upstream:
                upstream.request(self.command, self.path.removeprefix(PREFIX), body, headers)
                with upstream.getresponse() as answer, suppress(OSError):  # the browser went on
                    self.send_response(answer.status)
                    for name, value in answer.getheaders():
                        if name.lower() not in _OF_ONE_CONNECTION:
                            self.send_header(name, value)
                    self.end_headers()
                    while piece := answer.read1():
                        self.wfile.write(piece)

        do_GET = do_POST = do_PUT = do_DELETE = pass_on  # noqa: N815 - names that http.server wants

        def log_message(self, format: str, *values: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}{PREFIX}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def service(
    module_database_url: str, feed: FeedFiles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("service")
    ingest(feed, database_url=module_database_url, home=home)
    trusted = {"STOREWATCH_TRUSTED_PROXIES": "127.0.0.1"}
    with running_service(module_database_url, home, **trusted) as service:
        yield service


@pytest.mark.parametrize("told", [True, False])
def test_every_part_of_the_page_works(
    browser: Browser, service: Service, feed: FeedFiles, told: bool
) -> None:
    store = read_stores(feed)[0].store_id
    with stripping_proxy(service.base_url, told) as url:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.set_default_timeout(PATIENT_MS)
        failed: list[str] = []
        page.on("response", lambda answer: failed.append(answer.url) if not answer.ok else None)
        page.on("pageerror", lambda error: failed.append(str(error)))
        try:
            page.goto(f"{url}/#/reports")
            page.get_by_role("button", name="Start report").click()
            expect(page.locator(".badge").first).to_have_text("Completed")
            with page.expect_download() as download:
                page.get_by_role("link", name="CSV").first.click()
            assert download.value.suggested_filename.endswith(".csv")
            page.goto(f"{url}/#/stores/{store}")
            expect(page.locator(".timeline")).to_be_visible()
            page.goto(f"{url}/#/stores")
            expect(page.get_by_role("rowheader").first).to_be_visible()
            page.goto(f"{url}/#/feeds")
            polls = b"store_id,status,timestamp_utc\ns1,active,2023-01-01 10:00:00 UTC\n"
            file = FilePayload(name="polls.csv", mimeType="text/csv", buffer=polls)
            page.get_by_label("Choose files").set_input_files(file)
            expect(page.locator(".feed")).to_contain_text("Loaded 1 row")
            page.get_by_role("link", name="API").click()
            expect(page.locator(".opblock").first).to_be_visible()
            expect(page).to_have_url(re.compile(f"{PREFIX}/schema"))
            if told:  # what the page tries out is asked below the prefix
                expect(page.locator(".servers")).to_contain_text(PREFIX)
            assert failed == []
        finally:
            context.close()
