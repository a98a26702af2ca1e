"""Reports over HTTP: ask for one, list them, tell how far one is, cancel it, delete it."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
import msgspec
from litestar import Request, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.params import HeaderParameter, Parameter
from litestar.response import Response
from msgspec import Meta

from compute.uptime import Interpolation
from service.api.feeds import StoreId
from service.api.report_details import (
    ReportDetails,
    ReportId,
    details_of,
    full_details,
    known_report,
    no_such_report,
)
from service.reports.files import ReportFiles
from service.reports.options import ReportOptions, parse_max_gap
from service.reports.queue import (
    KEY_LASTS,
    IdempotencyKey,
    KeyReused,
    QueueFull,
    Report,
    State,
    cancel_report,
    create_report,
    list_reports,
    read_report,
)
from service.reports.runner import NotEnded, ReportRunner, delete_report
from service.settings import Settings
from service.spans import SPAN_PATTERN
from service.stores.known import unknown_stores
from service.web.access import caller_of
from service.web.deprecation import DEPRECATION_HEADERS, deprecation
from service.web.instants import to_milliseconds, to_utc
from service.web.pages import (
    NEXT_LINK,
    PAGE_SIZE,
    Cursor,
    Limit,
    from_cursor,
    next_link,
    not_ours,
    to_cursor,
)
from service.web.problems import Problem, ProblemError, documented, refused
from service.web.strict import check_body

#: Stores that one report may be asked for by id.
MOST_STORES = 10_000

_TAGS = ["reports"]
#: Characters of an idempotency key.
_LONGEST_KEY = 255
_NO_KEY = 0
_ASK_AGAIN_SECONDS = 1
_QUEUE_SECONDS = 5
_SHOWN = 20


class Triggered(msgspec.Struct, frozen=True):
    """A report was asked for."""

    report_id: Annotated[UUID, Meta(description="The report's id.")]


LegacyStatus = Literal["Started", "Completed", "Failed", "Not Found"]


class LegacyReport(msgspec.Struct, frozen=True):
    """Where a report is, in the words of the first version."""

    report_id: Annotated[str, Meta(description="The id that was asked for.")]
    status: Annotated[LegacyStatus, Meta(description="Where it is.")]


class ReportRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to report; all of it may be left out."""

    as_of: Annotated[
        Annotated[str, Meta(extra_json_schema={"format": "date-time"})] | None,
        Meta(description="End of every window; without an offset it is UTC. Default: newest poll."),
    ] = None
    interpolation: Annotated[
        Interpolation,
        Meta(description="The status between two observations: of the nearest, or the previous."),
    ] = "nearest"
    max_gap: Annotated[
        str,
        Meta(
            description="For how long an observation speaks to either side, 1m to 31d.",
            pattern=SPAN_PATTERN,
            min_length=2,
            max_length=20,
        ),
    ] = "24h"
    include_unknown: Annotated[
        bool, Meta(description="Whether three columns of unknown time follow.")
    ] = False
    escape_formulas: Annotated[
        bool,
        Meta(
            description="Whether a store id that begins with = + - @ TAB or CR gets an apostrophe "
            "before it, so that a spreadsheet shows it and does not compute it."
        ),
    ] = False
    stores: Annotated[
        Annotated[list[StoreId], Meta(min_length=1, max_length=MOST_STORES)] | None,
        Meta(description="Ids of the stores to report on. Default: all."),
    ] = None


class ReportPage(msgspec.Struct, frozen=True):
    """Some reports, the newest first."""

    items: Annotated[list[ReportDetails], Meta(description="The reports of this page.")]
    next_cursor: Annotated[
        str | None, Meta(description="`cursor` of the next page; null on the last.")
    ]


_STATUS: dict[str | None, LegacyStatus] = {
    "queued": "Started",
    "running": "Started",
    "completed": "Completed",
    "failed": "Failed",
    "cancelled": "Failed",
    "expired": "Not Found",
    None: "Not Found",
}


@get(
    "/trigger_report",
    operation_id="triggerReport",
    summary="Start a report over all stores",
    tags=_TAGS,
    deprecated=True,
    opt={"scope": "write"},
    responses=documented(429, but=(422,)),
    response_headers=DEPRECATION_HEADERS,
)
async def trigger_report(
    pool: asyncpg.Pool, runner: ReportRunner, settings: Settings
) -> Response[Triggered]:
    """Start a report over all stores. New clients use [POST /reports](#/reports/createReport)."""
    report = await _create(pool, runner, settings, ReportOptions(), None)
    return Response(Triggered(report.id), headers=deprecation("reports", "triggerReport"))


@get(
    "/get_report/{report_id:str}",
    operation_id="getReportStatus",
    summary="Where a report is",
    tags=_TAGS,
    deprecated=True,
    responses=documented(but=(422,)),
    response_headers=DEPRECATION_HEADERS,
)
async def get_report_status(
    pool: asyncpg.Pool,
    report_id: Annotated[str, Parameter(description="The id that `/trigger_report` answered.")],
) -> Response[LegacyReport]:
    """Tell where a report is, always with HTTP 200.

    One that there is not, or whose file is no longer kept, is `Not Found`; one that was cancelled
    is `Failed`. New clients use [GET /reports/{report_id}](#/reports/getReport).
    """
    try:
        report = await read_report(pool, UUID(report_id))
    except ValueError:
        report = None
    return Response(
        LegacyReport(report_id, _STATUS[report.state if report else None]),
        headers=deprecation("reports", "getReportStatus"),
    )


@post(
    "/reports",
    operation_id="createReport",
    summary="Ask for a report",
    tags=_TAGS,
    status_code=202,
    opt={"scope": "write"},
    responses=documented(408, 413, 429),
    response_headers=[
        ResponseHeader(
            name="Location", documentation_only=True, description="Where the report is."
        ),
        ResponseHeader(
            name="Retry-After",
            documentation_only=True,
            description="Seconds to wait before asking there how far it is.",
        ),
    ],
)
async def post_report(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    runner: ReportRunner,
    settings: Settings,
    data: ReportRequest | None = None,
    idempotency_key: Annotated[
        str | None,
        HeaderParameter(
            name="Idempotency-Key",
            schema_extra={"min_length": 1, "max_length": _LONGEST_KEY},
            description="A text that is new for each report, such as a UUID, quoted or not. A "
            "request that is sent again with it, within 24 hours and with the same API key, gets "
            "the first report, not another.",
        ),
    ] = None,
) -> Response[ReportDetails]:
    """Ask for a report; it is made in the background. Follow it at `Location`."""
    await check_body(request, ReportRequest)
    options = await _options(pool, data or ReportRequest())
    once = None
    if idempotency_key is not None:
        key = caller_of(request)
        once = IdempotencyKey(key.id if key else _NO_KEY, _unquoted(idempotency_key))
    report = await _create(pool, runner, settings, options, once)
    details = details_of(report, None if options.stores is None else list(options.stores))
    return Response(
        details,
        headers={"Location": details.links.self, "Retry-After": str(_ASK_AGAIN_SECONDS)},
    )


@get(
    "/reports",
    operation_id="listReports",
    summary="List reports",
    tags=_TAGS,
    responses=documented(),
    response_headers=[NEXT_LINK],
)
async def get_reports(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    limit: Limit = PAGE_SIZE,
    cursor: Cursor = None,
    status: Annotated[
        list[State] | None,
        Parameter(description="Only reports in this state; may be repeated, for any of several."),
    ] = None,
    created_from: Annotated[
        str | None,
        Parameter(
            schema_extra={"format": "date-time"},
            description="Only reports that were asked for then or later; without an offset it is "
            "UTC.",
        ),
    ] = None,
    created_to: Annotated[
        str | None,
        Parameter(
            schema_extra={"format": "date-time"},
            description="Only reports that were asked for earlier; without an offset it is UTC.",
        ),
    ] = None,
) -> Response[ReportPage]:
    """List reports, the newest first."""
    found = await list_reports(
        pool,
        limit + 1,
        _place(cursor, request),
        states=status or (),
        created_from=to_utc(created_from, "created_from"),
        created_to=to_utc(created_to, "created_to"),
    )
    page = found[:limit]
    next_cursor = None
    if len(found) > limit:
        next_cursor = to_cursor(f"{page[-1].created_at.isoformat()} {page[-1].id}", request)
    return Response(
        ReportPage([details_of(report) for report in page], next_cursor),
        headers=next_link(request, next_cursor),
    )


@get(
    "/reports/{report_id:uuid}",
    operation_id="getReport",
    summary="How far a report is",
    tags=_TAGS,
    responses=documented(404),
)
async def get_report(pool: asyncpg.Pool, report_id: ReportId) -> ReportDetails:
    """Tell all that is known of a report: its state, how far it is, when it will be ready."""
    return await full_details(pool, await known_report(pool, report_id))


@post(
    "/reports/{report_id:uuid}/cancel",
    operation_id="cancelReport",
    summary="Cancel a report",
    tags=_TAGS,
    status_code=200,
    opt={"scope": "write"},
    responses=documented(404, 409),
)
async def post_cancel(pool: asyncpg.Pool, report_id: ReportId) -> ReportDetails:
    """End a report that waits or runs, and tell how it is then.

    One that is cancelled already stays so; one that has ended in another way cannot be cancelled.
    """
    report = await cancel_report(pool, report_id) or await known_report(pool, report_id)
    if report.state != "cancelled":
        raise Problem(
            409,
            f"The report is {report.state}: only one that waits or runs can be cancelled.",
            slug="report-ended",
        )
    return await full_details(pool, report)


@delete(
    "/reports/{report_id:uuid}",
    operation_id="deleteReport",
    summary="Delete a report",
    tags=_TAGS,
    opt={"scope": "write"},
    responses=documented(404, 409),
)
async def delete_report_(pool: asyncpg.Pool, files: ReportFiles, report_id: ReportId) -> None:
    """Delete a report that has ended, with its file.

    Sent again, this is answered in the same way for a day. One that waits or runs is not deleted:
    it has to be cancelled first.
    """
    try:
        deleted = await delete_report(pool, files, report_id)
    except NotEnded as error:
        raise Problem(
            409,
            f"The report is {error.state}: cancel it first, by POST /reports/{report_id}/cancel.",
            slug="report-not-ended",
        ) from None
    if not deleted:
        raise no_such_report()


ROUTES = [
    trigger_report,
    get_report_status,
    post_report,
    get_reports,
    get_report,
    post_cancel,
    delete_report_,
]


async def _create(
    pool: asyncpg.Pool,
    runner: ReportRunner,
    settings: Settings,
    options: ReportOptions,
    idempotency_key: IdempotencyKey | None,
) -> Report:
    try:
        report = await create_report(
            pool,
            options,
            most_queued=settings.queued_reports,
            idempotency_key=idempotency_key,
        )
    except QueueFull:
        raise Problem(
            429,
            f"{settings.queued_reports} reports wait already. Ask again when some are done.",
            slug="queue-full",
            headers={"Retry-After": str(_QUEUE_SECONDS)},
        ) from None
    except KeyReused:
        raise Problem(
            422,
            "This Idempotency-Key was used for a report with other options, less than "
            f"{KEY_LASTS // timedelta(hours=1)} hours ago: take a new one.",
            slug="idempotency-key-reused",
        ) from None
    runner.wake()
    return report


async def _options(pool: asyncpg.Pool, asked: ReportRequest) -> ReportOptions:
    try:
        max_gap = parse_max_gap(asked.max_gap)
    except ValueError as error:
        raise refused("max_gap", str(error), source="body") from None
    as_of = to_milliseconds(asked.as_of, "as_of", source="body")
    if asked.stores is None:
        stores = None
    else:
        stores = tuple(sorted(set(asked.stores)))
        if any("\0" in store_id for store_id in stores):
            raise refused("stores", "no store id holds a NUL character", source="body")
        if unknown := await unknown_stores(pool, stores):
            problem = "no feed has named this store"
            raise Problem(
                422,
                f"No feed has named {len(unknown)} of the stores, such as {unknown[0][:100]!r}.",
                slug="unknown-stores",
                errors=[
                    ProblemError(problem=problem, source="body", field="stores", value=store_id)
                    for store_id in unknown[:_SHOWN]
                ],
                count=len(unknown),
            )
    return ReportOptions(
        as_of=as_of,
        interpolation=asked.interpolation,
        max_gap=max_gap,
        include_unknown=asked.include_unknown,
        escape_formulas=asked.escape_formulas,
        stores=stores,
    )


def _unquoted(key: str) -> str:
    """An idempotency key: a string of RFC 9651, in quotes, or the same text without.

    Raises:
        Problem: it is empty or too long
    """
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = re.sub(r'\\(["\\])', r"\1", key[1:-1])
    if not 1 <= len(key) <= _LONGEST_KEY:
        problem = f"has 1 to {_LONGEST_KEY} characters"
        raise refused("Idempotency-Key", problem, source="header")
    return key


def _place(cursor: str | None, request: Request[Any, Any, Any]) -> tuple[datetime, UUID] | None:
    place = from_cursor(cursor, request)
    if place is None:
        return None
    try:
        created_at, _, report_id = place.partition(" ")
        instant = datetime.fromisoformat(created_at)
        if instant.tzinfo is None:
            raise ValueError
        return instant.astimezone(UTC), UUID(report_id)
    except (ValueError, OverflowError):
        raise not_ours() from None
