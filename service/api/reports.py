"""Reports over HTTP: ask for one, list them, follow its progress, cancel it, delete it."""

import re
import time
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

import asyncpg
import msgspec
from litestar import Request, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.params import HeaderParameter, Parameter
from litestar.response import Response
from msgspec import Meta

from compute.csv_rows import DEFAULT_UNIT, Unit
from compute.feed_values import LONGEST_TAG, MOST_TAGS, NUL_IN_STORE_ID, zone_problem
from compute.groups import MOST_KEYS, GroupsRefused, check_keys
from compute.targets import target_of
from compute.uptime import Interpolation
from compute.windows import MOST_WINDOWS, WindowRefused, resolve_windows
from service.api.report_details import (
    ReportDetails,
    ReportId,
    details_of,
    full_details,
    known_report,
    no_such_report,
)
from service.database.pool import Database
from service.feeds.json_rows import GivenStoreId
from service.reports.files import ReportFiles
from service.reports.max_gap import DEFAULT_MAX_GAP, MAX_GAP_BOUNDS, parse_max_gap
from service.reports.options import ReportOptions
from service.reports.queryable import MOST_ROWS
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
from service.stores.polls import newest_poll
from service.stores.selection import TagRefused, with_tags
from service.web.access import caller_of
from service.web.deprecation import DEPRECATION_HEADERS, deprecation
from service.web.instants import to_milliseconds, to_utc
from service.web.pages import (
    NEXT_LINK,
    PAGE_SIZE,
    Cursor,
    Limit,
    dated_cursor,
    from_dated_cursor,
    next_link,
)
from service.web.problems import Problem, ProblemError, documented, refused
from service.web.strict import check_body

#: How many stores a report may be limited to.
MOST_STORES = 10_000

_TAGS = ["reports"]
#: Characters of an idempotency key.
_LONGEST_KEY = 255
#: Characters of a key, a colon and a value.
_LONGEST_TAG_TEXT = 511
#: Characters of a window: of two instants with all that they may have.
_LONGEST_WINDOW_TEXT = 100
#: Characters of a target.
_LONGEST_TARGET = 20
#: Stands for the API key of a request that needed none.
_NO_KEY = 0
#: `Retry-After` of a new report: its instance writes progress to the database once a second.
_ASK_AGAIN_SECONDS = 1
#: `Retry-After` when the queue is full: room in it becomes free when a report begins to run,
#: which on a busy service takes some seconds.
_QUEUE_SECONDS = 5
#: How many unknown stores are listed.
_SHOWN = 20


class Triggered(msgspec.Struct, frozen=True):
    """A report was asked for."""

    report_id: Annotated[UUID, Meta(description="The report's id.")]


LegacyStatus = Literal["Started", "Completed", "Failed", "Not Found"]


class LegacyReport(msgspec.Struct, frozen=True):
    """The state of a report, in the words of the first version."""

    report_id: Annotated[str, Meta(description="The id that was asked for.")]
    status: Annotated[LegacyStatus, Meta(description="Its state.")]


WindowText: TypeAlias = Annotated[str, Meta(min_length=1, max_length=_LONGEST_WINDOW_TEXT)]


TagText: TypeAlias = Annotated[str, Meta(min_length=1, max_length=_LONGEST_TAG_TEXT)]


TagKey: TypeAlias = Annotated[str, Meta(min_length=1, max_length=LONGEST_TAG)]


class ReportRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to report; every member may be left out."""

    as_of: Annotated[
        Annotated[str, Meta(extra_json_schema={"format": "date-time"})] | None,
        Meta(
            description="What no window reaches beyond; UTC if it has no offset. Default: the "
            "newest poll."
        ),
    ] = None
    interpolation: Annotated[
        Interpolation,
        Meta(
            description="The status between two observations: that of the nearest, or of the "
            "previous one."
        ),
    ] = "nearest"
    max_gap: Annotated[
        str,
        Meta(
            description=f"For how long an observation speaks to either side, {MAX_GAP_BOUNDS}.",
            pattern=SPAN_PATTERN,
            min_length=2,
            max_length=20,
        ),
    ] = DEFAULT_MAX_GAP
    windows: Annotated[
        Annotated[list[WindowText], Meta(min_length=1, max_length=MOST_WINDOWS)] | None,
        Meta(
            description="Windows in place of the last hour, day and week. A span before `as_of` "
            "(`30d`, `36h`), a calendar period (`2026`, `2026-Q3`, `2026-10`, `2026-W44`, "
            "`2026-10-05`, `this-month`, `previous-week`, …), each day or month of one "
            "(`days:2026-10`, `months:previous-year`), or two instants (`FROM/TO`).",
            examples=[["previous-month", "days:previous-month"]],
        ),
    ] = None
    calendar: Annotated[
        str | None,
        Meta(
            description="IANA name of the zone in which calendar periods begin and end. Default: "
            "the zone of each store.",
            examples=["America/Chicago"],
        ),
    ] = None
    unit: Annotated[
        Unit | None, Meta(description="Unit of the CSV, for `windows` only. Default: hours.")
    ] = None
    include_unknown: Annotated[
        bool, Meta(description="Whether columns of unknown time follow.")
    ] = False
    include_excluded: Annotated[
        bool, Meta(description="Whether columns of excluded time follow, at the end.")
    ] = False
    escape_formulas: Annotated[
        bool,
        Meta(
            description="Whether store ids that begin with = + - @ TAB or CR get an apostrophe in "
            "front, so that a spreadsheet shows them instead of computing them as formulas."
        ),
    ] = False
    stores: Annotated[
        Annotated[list[GivenStoreId], Meta(min_length=1, max_length=MOST_STORES)] | None,
        Meta(description="Ids of the stores to report on. Default: all stores."),
    ] = None
    tags: Annotated[
        Annotated[list[TagText], Meta(min_length=1, max_length=MOST_TAGS)] | None,
        Meta(
            description="Only stores with all of these tags, `key:value`; without a value, stores "
            "without a tag of this key.",
            examples=[["brand:fresh"]],
        ),
    ] = None
    group_by: Annotated[
        Annotated[list[TagKey], Meta(min_length=1, max_length=MOST_KEYS)] | None,
        Meta(
            description="Keys of tags: `/reports/{id}/groups` then tells what the stores that "
            "share their values have together. `timezone` stands for the zone of a store.",
            examples=[["brand", "timezone"]],
        ),
    ] = None
    target: Annotated[
        Annotated[str, Meta(min_length=1, max_length=_LONGEST_TARGET)] | None,
        Meta(
            description="Which share of the known time each store shall be up that has no target "
            "of its own: 0.995 or 99.5%.",
            examples=["0.995"],
        ),
    ] = None
    queryable: Annotated[
        bool,
        Meta(
            description="Whether its stores can be queried by SQL, in the view "
            f"`report_store_result`: up to {MOST_ROWS:,} stores times windows."
        ),
    ] = False


class ReportPage(msgspec.Struct, frozen=True):
    """Some reports, the newest first."""

    items: Annotated[list[ReportDetails], Meta(description="The reports of this page.")]
    next_cursor: Annotated[
        str | None, Meta(description="`cursor` of the next page; null on the last page.")
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


#: What OpenAPI says of the headers of `accepted`.
ACCEPTED_HEADERS = [
    ResponseHeader(name="Location", documentation_only=True, description="Where the report is."),
    ResponseHeader(
        name="Retry-After",
        documentation_only=True,
        description="Seconds to wait before asking for its progress.",
    ),
]


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
    summary="The state of a report",
    tags=_TAGS,
    deprecated=True,
    responses=documented(but=(422,)),
    response_headers=DEPRECATION_HEADERS,
)
async def get_report_status(
    pool: asyncpg.Pool,
    report_id: Annotated[str, Parameter(description="The id that `/trigger_report` answered.")],
) -> Response[LegacyReport]:
    """Give the state of a report, always with HTTP 200.

    It is `Not Found` if there is no such report or its file is no longer kept, and `Failed` also if
    the report was cancelled. New clients use [GET /reports/{report_id}](#/reports/getReport).
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
    response_headers=ACCEPTED_HEADERS,
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
            description="A text that is unique to each report, such as a UUID, quoted or not. If "
            "the request is sent again with the same text, within 24 hours and with the same API "
            "key, the answer is the first report instead of another.",
        ),
    ] = None,
) -> Response[ReportDetails]:
    """Ask for a report, which is made in the background. Follow its progress at `Location`."""
    await check_body(request, ReportRequest)
    options = await report_options(pool, data or ReportRequest())
    once = None
    if idempotency_key is not None:
        key = caller_of(request)
        once = IdempotencyKey(key.id if key else _NO_KEY, _unquoted(idempotency_key))
    report = await _create(pool, runner, settings, options, once)
    return accepted(report, options)


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
        Parameter(description="Only reports in this state; repeat it for any of several states."),
    ] = None,
    created_from: Annotated[
        str | None,
        Parameter(
            schema_extra={"format": "date-time"},
            description="Only reports that were asked for at this instant or later; UTC if it has "
            "no offset.",
        ),
    ] = None,
    created_to: Annotated[
        str | None,
        Parameter(
            schema_extra={"format": "date-time"},
            description="Only reports that were asked for before this instant; UTC if it has no "
            "offset.",
        ),
    ] = None,
) -> Response[ReportPage]:
    """List reports, the newest first."""
    found = await list_reports(
        pool,
        limit + 1,
        from_dated_cursor(cursor, request),
        states=status or (),
        created_from=to_utc(created_from, "created_from"),
        created_to=to_utc(created_to, "created_to"),
    )
    page = found[:limit]
    next_cursor = None
    if len(found) > limit:
        next_cursor = dated_cursor(page[-1].created_at, page[-1].id, request)
    return Response(
        ReportPage([details_of(report) for report in page], next_cursor),
        headers=next_link(request, next_cursor),
    )


@get(
    "/reports/{report_id:uuid}",
    operation_id="getReport",
    summary="The state and the progress of a report",
    tags=_TAGS,
    responses=documented(404),
)
async def get_report(pool: asyncpg.Pool, report_id: ReportId) -> ReportDetails:
    """Give all that is known of a report: its state, its progress, when it should be ready."""
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
    """Cancel a report that is queued or running, and return it.

    Cancelling it twice changes nothing. A report that has ended otherwise cannot be cancelled.
    """
    report = await cancel_report(pool, report_id) or await known_report(pool, report_id)
    if report.state != "cancelled":
        raise Problem(
            409,
            f"The report is {report.state}: only a queued or running report can be cancelled.",
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
    """Delete a report that has ended, and its file.

    One that waits to be delivered will not be. If the request is sent again within a day, the
    answer is the same. A report that is queued or running must be cancelled first.
    """
    try:
        deleted = await delete_report(pool, files, report_id)
    except NotEnded as error:
        raise Problem(
            409,
            f"The report is {error.state}: cancel it first, with POST /reports/{report_id}/cancel.",
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
        raise queue_full(settings) from None
    except KeyReused:
        raise Problem(
            422,
            "This Idempotency-Key was used for a report with other options, less than "
            f"{KEY_LASTS // timedelta(hours=1)} hours ago: use a new one.",
            slug="idempotency-key-reused",
        ) from None
    runner.wake()
    return report


def accepted(report: Report, options: ReportOptions) -> Response[ReportDetails]:
    """The answer to whoever asked for a report that is queued now."""
    details = details_of(report, None if options.stores is None else list(options.stores))
    return Response(
        details,
        headers={"Location": details.links.self, "Retry-After": str(_ASK_AGAIN_SECONDS)},
    )


def queue_full(settings: Settings) -> Problem:
    """What to say if no more reports may wait."""
    return Problem(
        429,
        f"{settings.queued_reports} reports are waiting already. Try again when some are done.",
        slug="queue-full",
        headers={"Retry-After": str(_QUEUE_SECONDS)},
    )


async def report_options(pool: Database, asked: ReportRequest) -> ReportOptions:
    """The options that a request asks for.

    Raises:
        Problem: it asks for what cannot be
    """
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
            raise refused("stores", NUL_IN_STORE_ID, source="body")
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
    await _check_windows(pool, asked, as_of)
    try:
        with_tags(asked.tags or ())
    except TagRefused as error:
        raise refused("tags", str(error), source="body") from None
    try:
        if asked.group_by is not None:
            check_keys(asked.group_by)
    except GroupsRefused as error:
        raise refused("group_by", str(error), source="body") from None
    try:
        target = None if asked.target is None else target_of(asked.target)
    except ValueError as error:
        raise refused("target", str(error), source="body") from None
    return ReportOptions(
        as_of=as_of,
        interpolation=asked.interpolation,
        max_gap=max_gap,
        include_unknown=asked.include_unknown,
        escape_formulas=asked.escape_formulas,
        stores=stores,
        include_excluded=asked.include_excluded,
        windows=None if asked.windows is None else tuple(asked.windows),
        calendar=asked.calendar,
        unit=asked.unit or DEFAULT_UNIT,
        tags=None if asked.tags is None else tuple(asked.tags),
        group_by=None if asked.group_by is None else tuple(asked.group_by),
        target=target,
        queryable=asked.queryable,
    )


async def _check_windows(pool: Database, asked: ReportRequest, as_of: int | None) -> None:
    """Refuse windows that would make the report fail.

    Raises:
        Problem: there is something wrong with the windows, or with what goes with them
    """
    if asked.windows is None:
        for name, given in (("calendar", asked.calendar), ("unit", asked.unit)):
            if given is not None:
                raise refused(name, "is for a report that names its windows", source="body")
        return
    if asked.calendar is not None and (problem := zone_problem(asked.calendar)):
        raise refused("calendar", problem, source="body")
    if as_of is None:
        # If there is no poll yet, the report fails unless one comes in time.
        as_of = await newest_poll(pool) or time.time_ns() // 1_000_000
    try:
        resolve_windows(asked.windows, as_of, asked.calendar)
    except WindowRefused as error:
        raise refused("windows", str(error), source="body") from None


def _unquoted(key: str) -> str:
    """The text of an idempotency key: a quoted string (RFC 9651), or the text without quotes.

    Raises:
        Problem: it is empty or too long
    """
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = re.sub(r'\\(["\\])', r"\1", key[1:-1])
    if not 1 <= len(key) <= _LONGEST_KEY:
        problem = f"must have 1 to {_LONGEST_KEY} characters"
        raise refused("Idempotency-Key", problem, source="header")
    return key
