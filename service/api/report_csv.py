"""The CSV of a report as a download: all of it, a range, gzipped, or 304 if the client has it.

Litestar's own response for files sends an ETag but ignores If-None-Match and Range, and answers
HEAD with 405. Its compression also applies to requests that refuse it with `gzip;q=0`, and keeps
the ETag of the plain file.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
from litestar import Request, get, head
from litestar.openapi.spec import Operation
from litestar.response import Response, Stream
from werkzeug.http import parse_range_header

from service.api.report_details import ReportId, known_report
from service.reports.files import NoSuchFile, ReportFiles
from service.reports.queue import FINAL, Report
from service.web.conditions import is_known
from service.web.files import takes_gzip
from service.web.problems import Problem, documented

#: `Retry-After` while a report is not completed: its progress is written once a second.
_WAIT_SECONDS = 1
_MEDIA_TYPE = "text/csv"


class _CsvOperation(Operation):
    """What Litestar cannot know: the handler makes each of these responses itself."""

    def to_schema(self) -> dict[str, Any]:
        schema = super().to_schema()
        text = {"text/csv": {"schema": {"type": "string", "format": "binary"}}}
        etag = {"ETag": {"schema": {"type": "string"}, "description": "Changes with the bytes."}}
        schema["responses"] |= {
            "200": {"description": "The whole file.", "content": text, "headers": etag},
            "206": {"description": "The requested range.", "content": text, "headers": etag},
            "304": {"description": "If-None-Match names the file's ETag: no body."},
        }
        return schema


@get(
    "/reports/{report_id:uuid}/csv",
    operation_id="getReportCsv",
    summary="The CSV of a report",
    tags=["reports"],
    media_type="text/csv",
    operation_class=_CsvOperation,
    responses=documented(404, 409, 410, 416),
)
async def get_report_csv(
    request: Request[Any, Any, Any], pool: asyncpg.Pool, files: ReportFiles, report_id: ReportId
) -> Response[bytes]:
    """Download the file: one row per store, in byte order of their ids.

    It supports `If-None-Match`, `Range`, and `Accept-Encoding: gzip`.
    """
    return await csv_of(request, files, await known_report(pool, report_id))


# A handler of its own: Litestar gives each method of a handler the same operation id.
@head(
    "/reports/{report_id:uuid}/csv",
    operation_id="headReportCsv",
    summary="The headers of the CSV of a report",
    tags=["reports"],
    media_type="text/csv",
    operation_class=_CsvOperation,
    responses=documented(404, 409, 410, 416),
)
async def head_report_csv(
    request: Request[Any, Any, Any], pool: asyncpg.Pool, files: ReportFiles, report_id: ReportId
) -> Response[None]:
    """Give the size and the tag of the file, without the file."""
    return await csv_of(request, files, await known_report(pool, report_id))


ROUTES = [get_report_csv, head_report_csv]


async def csv_of(
    request: Request[Any, Any, Any],
    files: ReportFiles,
    report: Report,
    vary: str = "Accept-Encoding",
) -> Response[Any]:
    """Answer GET or HEAD for a report's file; `vary`: headers that the choice of it depends on.

    Raises:
        Problem: there is no file (409, 410), or it has no such part (416)
    """
    size, sha256 = finished(report)
    etag = f'"{sha256.hex()}"'
    part = _part(request, size, etag)
    packed = part is None and takes_gzip(request)
    if packed:  # another representation has another tag
        etag = f'{etag[:-1]}-gzip"'
    headers = {
        "ETag": etag,
        "Vary": vary,
        "Cache-Control": "private, no-cache",
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{report.id}.csv"',
    }
    if is_known(request.headers.get("if-none-match"), etag[1:-1]):
        return Response(None, status_code=304, headers=headers)
    start, end = part or (0, size)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    if packed:
        headers["Content-Encoding"] = "gzip"
    else:
        headers["Content-Length"] = str(end - start)
    pieces = await _begun(files.read(report.file, start, end))
    if request.method == "HEAD":
        await pieces.aclose()
    return Stream(
        gzipped(pieces) if packed else pieces,
        status_code=200 if part is None else 206,
        media_type=_MEDIA_TYPE,
        headers=headers,
    )


def finished(report: Report) -> tuple[int, bytes]:
    """Size and hash of a report's file.

    Raises:
        Problem: it has none, or no more (409, 410)
    """
    if report.state not in FINAL:
        raise Problem(
            409,
            f"The report is {report.state}: its file appears when the report is completed.",
            slug="report-not-completed",
            headers={"Retry-After": str(_WAIT_SECONDS)},
        )
    if report.state == "failed":
        text = f"The report failed, so it has no file: {report.error}."
        raise Problem(409, text, slug="report-failed")
    if report.state == "cancelled":
        text = "The report was cancelled, so it has no file."
        raise Problem(409, text, slug="report-cancelled")
    if report.file_size is None or report.file_sha256 is None or report.state == "expired":
        raise gone()
    return report.file_size, report.file_sha256


def gone() -> Problem:
    """What to say of a file that is no more."""
    text = "The file of this report is no longer kept. Ask for a new report."
    return Problem(410, text, slug="report-expired")


def _part(request: Request[Any, Any, Any], size: int, etag: str) -> tuple[int, int] | None:
    """First byte and last byte + 1 of the requested range; None: the whole file.

    To several ranges, or to an invalid one, a server may answer with the whole (RFC 9110 §14.2).
    """
    wanted = parse_range_header(request.headers.get("range"))
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return None
    if request.headers.get("if-range", etag) != etag:
        return None
    part: tuple[int, int] | None = wanted.range_for_length(size)
    if part is None:
        raise Problem(
            416,
            f"The file has {size} bytes; the range lies outside it.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return part


async def _begun(pieces: AsyncIterator[bytes]) -> Any:
    """The same pieces, the first already read: a missing file shows before headers are sent."""
    try:
        first = await anext(pieces, b"")
    except NoSuchFile:
        raise gone() from None

    async def all_pieces() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return all_pieces()


async def gzipped(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes, packed."""
    packing = zlib.compressobj(wbits=31)
    async for piece in pieces:
        if packed := await asyncio.to_thread(packing.compress, piece):
            yield packed
    yield packing.flush()
