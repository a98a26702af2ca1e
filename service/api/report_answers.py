"""Answers about the stores of a finished report, which never change: their tags, their packing."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.openapi.spec import Operation
from litestar.response import Response, Stream

from compute.packed_totals import StoreTotals
from service.api.report_csv import finished, gone, gzipped
from service.reports.files import NoSuchFile
from service.reports.queue import Report
from service.reports.totals import NoTotals, ReportTotals
from service.reports.windows import csv_names
from service.web.conditions import is_known
from service.web.downloads import Downloads
from service.web.files import takes_gzip
from service.web.problems import Problem, refused

Result = TypeVar("Result")

#: Files of stores that are sent at the same time: each is made as it is sent.
DOWNLOADS = Downloads(16)
#: Smaller answers are sent as they are, bytes.
_WORTH_PACKING = 1000


class TableOperation(Operation):
    """What Litestar cannot know: the handler makes each of these responses itself."""

    def to_schema(self) -> dict[str, Any]:
        """As Litestar makes it, with CSV and a tag."""
        schema = super().to_schema()
        known = schema["responses"]["200"]
        csv = {"schema": {"type": "string", "format": "binary"}}
        known["content"] = {**known["content"], "text/csv": csv}
        return _with_etag(schema)


class ListOperation(Operation):
    """The same of what is JSON alone."""

    def to_schema(self) -> dict[str, Any]:
        """As Litestar makes it, with a tag."""
        return _with_etag(super().to_schema())


def _with_etag(schema: dict[str, Any]) -> dict[str, Any]:
    known = schema["responses"]["200"]
    etag = {"schema": {"type": "string"}, "description": "Changes with the bytes."}
    known["headers"] = {**known.get("headers", {}), "ETag": etag}
    schema["responses"]["304"] = {"description": "If-None-Match names it: it is known already."}
    return schema


class ReportAnswer:
    """What is told of a report that never changes: its tag goes with what was asked.

    Args:
        request: asks for it
        report: that is asked about
        media_type: of the answer
        vary: headers of requests that it depends on
        made_with: packages whose version may change the bytes
        packs: whether it is gzipped for clients that take that

    Attributes:
        report: as above
        headers: of the answer
        is_known: whether the client has it already
    """

    def __init__(
        self,
        request: Request[Any, Any, Any],
        report: Report,
        media_type: str,
        vary: str,
        *,
        made_with: tuple[str, ...] = (),
        packs: bool = True,
    ) -> None:
        self._packed = packs and takes_gzip(request)
        self._media_type = media_type
        self.report = report
        asked = (
            [version(package) for package in ("storewatch", *made_with)],
            media_type,
            request.scope["path"],
            sorted(request.query_params.multi_items()),
            (report.file_sha256 or b"").hex(),
        )
        tag = sha256(msgspec.json.encode(asked)).hexdigest()[:32]
        tag += "-gzip" if self._packed else ""
        self.headers = {
            "ETag": f'"{tag}"',
            "Vary": vary,
            "Cache-Control": "private, no-cache",
        }
        self.is_known = is_known(request.headers.get("if-none-match"), tag)

    def not_modified(self) -> Response[Any]:
        """The answer to a client that has it already."""
        return Response(None, status_code=304, headers=self.headers)

    async def of(
        self, told: msgspec.Struct, headers: dict[str, str] | None = None
    ) -> Response[Any]:
        """The answer that tells something as JSON."""

        def encoded() -> tuple[bytes, bool]:
            body = msgspec.json.encode(told)
            if self._packed and len(body) >= _WORTH_PACKING:
                return gzip.compress(body, compresslevel=6, mtime=0), True
            return body, False

        body, packed = await asyncio.to_thread(encoded)
        more = {"Content-Encoding": "gzip"} if packed else {}
        return Response(
            body, media_type=self._media_type, headers={**self.headers, **(headers or {}), **more}
        )

    def stream(self, pieces: AsyncIterator[bytes], name: str) -> Response[Any]:
        """The answer that is a file.

        Raises:
            Problem: as many as may are under way (503)
        """
        DOWNLOADS.check()
        pieces = DOWNLOADS.sent(pieces)
        more = {"Content-Disposition": f'attachment; filename="{name}"'}
        if self._packed:
            more["Content-Encoding"] = "gzip"
            pieces = gzipped(pieces)
        return Stream(pieces, media_type=self._media_type, headers={**self.headers, **more})


def window_number(window: str, parameter: str, report: Report) -> int:
    """Which of a report's windows the CSV calls so.

    Raises:
        Problem: none (422)
    """
    names = csv_names(report.asked_windows)
    if window not in names:
        raise refused(parameter, f"the report has no window {window}; it has {', '.join(names)}")
    return names.index(window)


async def totals_of(report_totals: ReportTotals, report: Report) -> StoreTotals:
    """The totals of a report, which must be completed.

    Raises:
        Problem: there are none (404, 409, 410)
    """
    finished(report)
    try:
        with _gone():
            return await report_totals.of(report)
    except NoTotals:
        raise Problem(
            404,
            "The report was made by a version of the service that kept no exact totals of its "
            "stores: ask for a new report, or take its CSV.",
            slug="report-rows-not-found",
        ) from None


async def asked(report_totals: ReportTotals, question: Callable[[], Result]) -> Result:
    """What totals say; they are read from the report's file.

    Raises:
        Problem: it was removed meanwhile (410)
    """
    with _gone():
        return await report_totals.compute(question)


@contextmanager
def _gone() -> Iterator[None]:
    try:
        yield
    except NoSuchFile:
        raise gone() from None
