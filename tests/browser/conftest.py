"""The dashboard in a real, headless Chromium, served by a real service.

A test that opens a page cannot run asyncio in its own thread meanwhile, because playwright does:
what needs it goes through `elsewhere`.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.harness.service import Service

Result = TypeVar("Result")

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",  # which root has none of
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

#: A machine that does much else may take long to draw a page.
PATIENT_MS = 30_000
expect.set_options(timeout=PATIENT_MS)


def chromium() -> str | None:
    """The browser's path: CHROMIUM, or the one that is installed."""
    given = os.environ.get("CHROMIUM")
    return given or next((path for name in _NAMES if (path := shutil.which(name))), None)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def elsewhere(block: AbstractContextManager[Result]) -> Iterator[Result]:
    """Enter and leave a block in another thread."""
    with ThreadPoolExecutor(1) as thread:
        entered = thread.submit(block.__enter__).result()
        try:
            yield entered
        finally:
            thread.submit(block.__exit__, None, None, None).result()


@pytest.fixture(scope="module")
def browser(service: Service) -> Iterator[Browser]:
    """Started after the module's service, and gone before it."""
    if chromium() is None:
        without = "there is no Chromium: apt install chromium, or name one by CHROMIUM"
        if os.environ.get("CI") == "true":
            pytest.fail(without)
        pytest.skip(without)
    with running_browser() as browser:
        yield browser


Opener = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, service: Service, tmp_path: Path) -> Iterator[Opener]:
    """Open the dashboard at a place; nothing that it does may fail or leave the service."""
    contexts = []
    wrong: list[str] = []

    def on_request(url: str) -> None:
        if not url.startswith((service.base_url, "blob:", "data:")):
            wrong.append(f"asked elsewhere: {url}")

    def on_console(kind: str, text: str) -> None:
        # The browser itself tells of every 4xx; the page does that in its own words.
        if kind == "error" and not re.match("Failed to load resource", text):
            wrong.append(text)

    def open_at(place: str = "/", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENT_MS)
        page.on("request", lambda request: on_request(request.url))
        page.on("console", lambda message: on_console(message.type, message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(service.base_url + place)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert wrong == []
