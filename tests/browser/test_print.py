"""A printed page keeps what the screen says by colour: a PDF is looked at pixel by pixel."""

from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pypdfium2
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opener
from tests.harness.service import Service

STORE = "printed"
NEWEST = datetime(2024, 3, 12, 17, tzinfo=UTC)
#: A pixel that is no more than this away from a colour, in each of red, green and blue, is of it.
NEAR = 12


@pytest.fixture(scope="module")
def place(service: Service) -> str:
    """A store that is polled every hour for half of its week, and down for an hour out of six."""
    polls = [
        {
            "store_id": STORE,
            "status": "active" if hour % 6 else "inactive",
            "timestamp_utc": (NEWEST - timedelta(hours=hour)).isoformat(),
        }
        for hour in range(84)
    ]
    assert service.ask("POST", "/polls", json=polls).status_code == 200
    return f"/#/stores/{STORE}?to=2024-03-12T17:00:00Z"


def _drawn(page: Page) -> tuple[list[npt.NDArray[np.int64]], str]:
    """The pages of the PDF that the browser prints, as pixels of red, green and blue; its text."""
    document = pypdfium2.PdfDocument(page.pdf(format="A4"))
    pages = list(document)
    pixels = [
        one.render(scale=2, rev_byteorder=True).to_numpy()[:, :, :3].astype(int) for one in pages
    ]
    text = "\n".join(one.get_textpage().get_text_bounded() for one in pages)
    return pixels, text


def _of_colour(pixels: list[npt.NDArray[np.int64]], colour: tuple[int, ...]) -> int:
    return sum(int(np.all(np.abs(page - colour) <= NEAR, axis=2).sum()) for page in pixels)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_printed_week_has_its_colours_and_nothing_to_press(
    open_page: Opener, place: str, scheme: str
) -> None:
    page = open_page(place, color_scheme=scheme)
    expect(page.locator(".timeline")).to_be_visible()
    pixels, text = _drawn(page)
    up, down, unknown = (58, 156, 126), (163, 42, 13), (180, 186, 197)  # as style.css has them
    for colour in (up, down, unknown):
        assert _of_colour(pixels, colour) > 500, colour
    assert _of_colour(pixels, up) > _of_colour(pixels, down)
    # Paper is white, whatever the screen is.
    assert all((one[3, 3] == 255).all() for one in pixels)
    for said in (STORE, "available", "The week to", "Outages", "Business hours", "America/Chicago"):
        assert said in text
    for pressed in ("Overview", "All stores", "Week before", "Newest,", "?"):
        assert pressed not in text


def test_a_printed_list_is_not_cut(open_page: Opener, place: str) -> None:
    page = open_page(place)
    outages = page.locator(".outages tbody tr")
    expect(outages).to_have_count(14)
    told = outages.last.locator("td").first.inner_text()
    assert told in _drawn(page)[1].replace("\r\n", " ").replace("\n", " ")
