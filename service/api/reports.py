"""Reports over HTTP: ask for one, list them, tell how far one is, cancel or delete it."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
import msgspec
from litestar import Request, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.params import Parameter
from litestar.response import Response
from msgspec import Meta

from compute.uptime import Interpolation
from service.api.feeds import StoreId
from service.api.instants import to_milliseconds
from service.api.pages import NEXT_LINK, PAGE_SIZE, Cursor, Limit, from_cursor, next_link, to_cursor
from service.api.problems import Problem, ProblemError, documented, refused
from service.api.report_details import (
    ReportDetails,
    ReportId,
    details_of,
    known_report,
    no_such_report,
)
from service.api.strict import check_body
from service.pipeline import ReportOptions, parse_max_gap
from service.report_files import ReportFiles
from service.report_runner import ReportRunner, delete_report
from service.reports import (
    KeyReused,
    QueueFull,
    Report,
    create_report,
    list_reports,
    read_report,
)
from service.settings import Settings
from service.spans import SPAN_PATTERN
from service.store import unknown_stores

#: Stores that one report may be asked for by id.
MOST_STORES = 10_000

_TAGS = ["reports"]
_ASK_AGAIN_SECONDS = 1
_QUEUE_SECONDS = 5
_SHOWN = 20


class Triggered(msgspec.Struct, frozen=True):
    """A report was asked for."""

    report_id: UUID


class ReportStatus(msgspec.Struct, frozen=True):
    """Where a report is."""

    report_id: str
    status: Literal["Started", "Completed", "Failed", "Not Found"]


class ReportRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to report; all of it may be left out."""

    as_of: Annotated[
        datetime | None,
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
    stores: Annotated[
        Annotated[list[StoreId], Meta(min_length=1, max_length=MOST_STORES)] | None,
        Meta(description="Ids of the stores to report on. Default: all."),
    ] = None


class ReportPage(msgspec.Struct, frozen=True):
    """Some reports, the newest first."""

    items: list[ReportDetails]
    next_cursor: Annotated[
        str | None, Meta(description="`cursor` of the next page; null on the last.")
    ]


_STATUS: dict[str | None, Literal["Started", "Completed", "Failed", "Not Found"]] = {
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
    responses=documented(429),
)
async def trigger_report(pool: asyncpg.Pool, runner: ReportRunner, settings: Settings) -> Triggered:
    """Start a report over all stores. New clients use [POST /reports](#/reports/createReport)."""
    report = await _create(pool, runner, settings, ReportOptions(), None)
    return Triggered(report.id)


@get(
    "/get_report/{report_id:str}",
    operation_id="getReportStatus",
    summary="Where a report is",
    tags=_TAGS,
    deprecated=True,
    responses=documented(),
)
async def get_report_status(pool: asyncpg.Pool, report_id: str) -> ReportStatus:
    """Tell where a report is, always with HTTP 200.

    One that there is not, or whose file is no longer kept, is `Not Found`; one that was cancelled
    is `Failed`. New clients use [GET /reports/{report_id}](#/reports/getReport).
    """
    try:
        report = await read_report(pool, UUID(report_id))
    except ValueError:
        report = None
    return ReportStatus(report_id, _STATUS[report.state if report else None])


@post(
    "/reports",
    operation_id="createReport",
    summary="Ask for a report",
    tags=_TAGS,
    status_code=202,
    opt={"scope": "write"},
    responses=documented(408, 413, 422, 429),
    response_headers=[
        ResponseHeader(
            name="Location", documentation_only=True, description="Where the report is."
        ),
        ResponseHeader(
            name="Retry-After", documentation_only=True, description="Seconds until it is worth it."
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
        Parameter(
            header="Idempotency-Key",
            min_length=1,
            max_length=255,
            description="Any text, new for each report: a request that is sent again with the same "
            "key gets the first report, not another.",
        ),
    ] = None,
) -> Response[ReportDetails]:
    """Ask for a report; it is made in the background. Follow it at `Location`."""
    await check_body(request, ReportRequest)
    options = await _options(pool, data or ReportRequest())
    report = await _create(pool, runner, settings, options, idempotency_key)
    details = details_of(report)
    return Response(
        details,
        headers={"Location": details.links.self, "Retry-After": str(_ASK_AGAIN_SECONDS)},
    )


@get(
    "/reports",
    operation_id="listReports",
    summary="List reports",
    tags=_TAGS,
    responses=documented(422),
    response_headers=[NEXT_LINK],
)
async def get_reports(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    limit: Limit = PAGE_SIZE,
    cursor: Cursor = None,
) -> Response[ReportPage]:
    """List reports, the newest first."""
    found = await list_reports(pool, limit + 1, _place(cursor))
    page = found[:limit]
    next_cursor = None
    if len(found) > limit:
        next_cursor = to_cursor(f"{page[-1].created_at.isoformat()} {page[-1].id}")
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
    return details_of(await known_report(pool, report_id))


@delete(
    "/reports/{report_id:uuid}",
    operation_id="deleteReport",
    summary="Cancel or delete a report",
    tags=_TAGS,
    opt={"scope": "write"},
    responses=documented(404),
)
async def delete_report_(pool: asyncpg.Pool, files: ReportFiles, report_id: ReportId) -> None:
    """Cancel a report that waits or runs; delete one that has ended, with its file."""
    if not await delete_report(pool, files, report_id):
        raise no_such_report()


ROUTES = [
    trigger_report,
    get_report_status,
    post_report,
    get_reports,
    get_report,
    delete_report_,
]


async def _create(
    pool: asyncpg.Pool,
    runner: ReportRunner,
    settings: Settings,
    options: ReportOptions,
    idempotency_key: str | None,
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
            "This Idempotency-Key was used for a report with other options: take a new one.",
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
        stores=stores,
    )


def _place(cursor: str | None) -> tuple[datetime, UUID] | None:
    place = from_cursor(cursor)
    if place is None:
        return None
    try:
        created_at, _, report_id = place.partition(" ")
        instant = datetime.fromisoformat(created_at)
        if instant.tzinfo is None:
            raise ValueError
        return instant, UUID(report_id)
    except ValueError:
        raise refused("cursor", "is not a cursor that a page gave: begin without one") from None
