"""Lists of outages of many stores: pages, and all of them as CSV; only so many at a time."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec
from litestar import Response
from litestar.openapi.spec import Operation
from litestar.response import Stream

from compute.csv_rows import text_cell
from compute.outages import NO_INSTANT
from service.api.outage_details import ListedOutage, listed_outages
from service.outages.all_stores import LISTS_AT_ONCE, Asked, Page, Place, list_outages
from service.outages.kept import names_of
from service.web.downloads import Downloads
from service.web.pages import LARGEST_PAGE, not_ours
from service.web.problems import Problem
from service.workers.pool import Workers

_CSV = "text/csv"
#: Columns of CSV, which are members of `ListedOutage`.
_COLUMNS = (
    *("id", "store_id", "name", "start", "end", "duration", "open", "restored"),
    *("note", "cause", "author", "noted_at", "merged_notes"),
)
#: `Retry-After` while as many are made as may be, and how long a request waits for its turn before.
_RETRY_SECONDS, _WAIT_SECONDS = 5, 2.0
#: The begin of an outage in a cursor.
_BEGIN = re.compile("-?[0-9]{1,19}")
_turns = asyncio.Semaphore(LISTS_AT_ONCE)
#: Files that are sent at the same time. One piece of one of them is made at a time, so that others
#: than files have a turn, too.
_downloads = Downloads(4)
_pieces = asyncio.Lock()


class TableOperation(Operation):
    """What Litestar cannot know: the handler answers with CSV, too."""

    def to_schema(self) -> dict[str, Any]:
        """As Litestar makes it, with CSV."""
        schema = super().to_schema()
        known = schema["responses"]["200"]
        csv = {"schema": {"type": "string", "format": "binary"}}
        known["content"] = {**known["content"], _CSV: csv}
        return schema


@asynccontextmanager
async def turn() -> AsyncIterator[None]:
    """Whoever looks at many stores has it meanwhile.

    Raises:
        Problem: as many do as may, for too long (503)
    """
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            await _turns.acquire()
    except TimeoutError:
        raise Problem(
            503,
            f"{LISTS_AT_ONCE} lists or statistics of outages are being made, as many as this "
            "instance makes at once. Ask again soon.",
            slug="too-many-outage-lists",
            headers={"Retry-After": str(_RETRY_SECONDS)},
        ) from None
    try:
        yield
    finally:
        _turns.release()


def place_text(place: Place) -> str:
    """A place in a list, for a cursor."""
    begin = "next" if place.begin is None else place.begin
    return f"{begin} {place.store_id}"


def read_place(text: str) -> Place:
    """The place that a cursor stands for.

    Raises:
        Problem: none (422)
    """
    begin, space, store_id = text.partition(" ")
    if space and begin == "next":
        return Place(store_id, None)
    if not space or not _BEGIN.fullmatch(begin) or not NO_INSTANT <= int(begin) < -NO_INSTANT:
        raise not_ours()
    return Place(store_id, int(begin))


class OutageLists:
    """Makes lists of outages of many stores.

    Args:
        pool: the database, for short questions
        outage_pool: the same, to look at stores
        workers: look at them
        asked: which outages
    """

    def __init__(
        self, pool: asyncpg.Pool, outage_pool: asyncpg.Pool, workers: Workers, asked: Asked
    ) -> None:
        self._pool, self._outage_pool, self._workers = pool, outage_pool, workers
        self._asked = asked

    async def page(self, size: int, place: Place | None) -> tuple[list[ListedOutage], Place | None]:
        """A page, and where the next one begins; None: there is none.

        Raises:
            Problem: there is no turn (503)
        """
        async with turn():
            page = await self._found(size, place)
        return await self._told(page)

    async def csv(self, *, escape_formulas: bool, name: str) -> Response[Any]:
        """All of them as a file, which is made as it is sent.

        Raises:
            Problem: there is no turn, or as many files as may are being sent (503)
        """
        _downloads.check()
        first, goes_on = await self.page(LARGEST_PAGE, None)

        def rows(items: Sequence[ListedOutage]) -> bytes:
            return "".join(_csv_row(item, escape_formulas) for item in items).encode()

        async def pieces() -> AsyncIterator[bytes]:
            yield (",".join(_COLUMNS) + "\n").encode() + await asyncio.to_thread(rows, first)
            place = goes_on
            while place is not None:
                async with _pieces, _turns:
                    page = await self._found(LARGEST_PAGE, place)
                items, place = await self._told(page)
                yield await asyncio.to_thread(rows, items)

        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Vary": "Accept"}
        return Stream(_downloads.sent(_some(pieces())), media_type=_CSV, headers=headers)

    async def _found(self, size: int, place: Place | None) -> Page:
        return await list_outages(self._outage_pool, self._workers, self._asked, size, place)

    async def _told(self, page: Page) -> tuple[list[ListedOutage], Place | None]:
        named = await names_of(self._pool, page.number, page.found, self._asked.as_of)
        return await asyncio.to_thread(listed_outages, page, named), page.goes_on


async def _some(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces without empty ones: a page may have found nothing."""
    async for piece in pieces:
        if piece:
            yield piece


def _csv_row(item: ListedOutage, escape_formulas: bool) -> str:
    members = msgspec.to_builtins(item)
    members["merged_notes"] = members["merged_notes"] or None
    cells = (_cell(members[column], escape_formulas) for column in _COLUMNS)
    return ",".join(cells) + "\n"


def _cell(value: object, escape_formulas: bool) -> str:
    """A value as JSON has it; nothing where that has null."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text_cell(text, escape_formulas=escape_formulas)
