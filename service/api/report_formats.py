"""All stores of a report as a file in the format that is asked for: CSV, NDJSON or Parquet.

CSV is the report's own file. The others are made of its exact totals while they are sent, so a
range of them cannot be asked for.
"""

from typing import Any

import asyncpg
from litestar import Request, get
from litestar.openapi.spec import Operation
from litestar.response import Response

from service.api.report_answers import ReportAnswer, totals_of
from service.api.report_csv import csv_of, finished
from service.api.report_details import ReportId, known_report
from service.reports.files import ReportFiles
from service.reports.formats import MadeOfTotals, rows_as
from service.reports.parquet import NoParquet, has_parquet
from service.reports.totals import ReportTotals
from service.web.files import accepted_types
from service.web.problems import Problem, documented

_CSV, _NDJSON = "text/csv", "application/x-ndjson"
_PARQUET = "application/vnd.apache.parquet"
_VARY = "Accept, Accept-Encoding"


class _FormatsOperation(Operation):
    """What Litestar cannot know: the handler makes each of these responses itself."""

    def to_schema(self) -> dict[str, Any]:
        schema = super().to_schema()
        binary = {"schema": {"type": "string", "format": "binary"}}
        etag = {"ETag": {"schema": {"type": "string"}, "description": "Changes with the bytes."}}
        schema["responses"] |= {
            "200": {
                "description": "The whole file.",
                "content": {_CSV: binary, _NDJSON: binary, _PARQUET: binary},
                "headers": etag,
            },
            "206": {
                "description": "The requested range of the CSV.",
                "content": {_CSV: binary},
                "headers": etag,
            },
            "304": {"description": "If-None-Match names the file's ETag: no body."},
        }
        return schema


@get(
    "/reports/{report_id:uuid}/rows",
    operation_id="getReportRows",
    summary="All stores of a report as a file",
    tags=["reports"],
    opt={"scope": "read"},
    operation_class=_FormatsOperation,
    responses=documented(404, 406, 409, 410, 416),
)
async def get_report_rows(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    files: ReportFiles,
    report_totals: ReportTotals,
    report_id: ReportId,
) -> Response[bytes]:
    """Download all stores in the format that `Accept` prefers, in byte order of their ids.

    `text/csv`, which is also for those who accept anything, is the report's file: it takes `Range`.
    `application/x-ndjson` has a line for each store as `GET /reports/{report_id}/stores` tells it.
    `application/vnd.apache.parquet` has a row for each store and window; it is sent if the service
    has pyarrow. All take `If-None-Match`, all but Parquet `Accept-Encoding: gzip`.
    """
    report = await known_report(pool, report_id)
    wanted = _wanted(request)
    if wanted == _CSV:
        return await csv_of(request, files, report, vary=_VARY)
    finished(report)
    is_parquet = wanted == _PARQUET
    if is_parquet and not has_parquet():
        raise Problem(
            406,
            f"{NoParquet()}, where the service runs. Or ask for {_NDJSON}: it tells the same.",
            slug="parquet-not-installed",
        )
    answer = ReportAnswer(
        request,
        report,
        wanted,
        vary=_VARY,
        made_with=("pyarrow", "tzdata") if is_parquet else (),
        packs=not is_parquet,
    )
    if answer.is_known:
        return answer.not_modified()
    stores = await totals_of(report_totals, report)
    kind: MadeOfTotals = "parquet" if is_parquet else "ndjson"
    pieces = rows_as(kind, report, stores)
    return answer.stream(report_totals.pieces(pieces), f"{report.id}.{kind}")


ROUTES = [get_report_rows]


def _wanted(request: Request[Any, Any, Any]) -> str:
    """The format that it prefers; CSV where nothing else is accepted, as for a store's polls."""
    accepted = accepted_types(request)
    formats = [_CSV, _NDJSON, _PARQUET]
    if not has_parquet() and accepted.best_match(formats[:-1]) is not None:
        formats.remove(_PARQUET)
    return accepted.best_match(formats, default=_CSV) or _CSV
