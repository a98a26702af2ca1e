"""The outages of a report's stores over HTTP: those that reach into one of its windows."""

from datetime import datetime
from typing import Annotated, Any, cast
from uuid import UUID

import asyncpg
import msgspec
from litestar import Request, Response, get
from litestar.params import Parameter
from msgspec import Meta

from compute.batch import default_windows
from compute.instants import instant_of
from compute.uptime import Interpolation
from service.api.outage_details import ListedOutage
from service.api.outage_lists import OutageLists, TableOperation, place_text, read_place
from service.api.report_answers import window_number
from service.api.report_csv import finished
from service.api.report_details import ReportId, known_report
from service.api.store_states import GivenMaxGap, MinDuration, OnlyOpen, shortest_of
from service.outages.all_stores import Asked
from service.reports.queue import Report, read_stores
from service.reports.windows import WindowName, window_names
from service.spans import format_span
from service.stores.selection import with_tags
from service.web.files import prefers_csv
from service.web.pages import (
    NEXT_LINK,
    PAGE_SIZE,
    Cursor,
    Limit,
    from_cursor,
    next_link,
    to_cursor,
)
from service.web.problems import documented
from service.workers.pool import Workers


class ReportOutagePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some outages that reach into a window of a report, each told as a whole."""

    report_id: Annotated[UUID, Meta(description="The report's id.")]
    window: WindowName
    as_of: Annotated[
        datetime, Meta(description="That of the report; an outage that goes on then is open.")
    ]
    max_gap: GivenMaxGap
    interpolation: Annotated[
        Interpolation, Meta(description="By what outages always go: `previous`.")
    ]
    report_interpolation: Annotated[
        Interpolation,
        Meta(
            description="By what the report goes; if it is another, its downtime in the window is "
            "not that of the outages."
        ),
    ]
    items: Annotated[
        list[ListedOutage],
        Meta(description="The outages, in byte order of their stores' ids and as they begin."),
    ]
    next_cursor: Annotated[
        str | None,
        Meta(description="`cursor` of the next page, which may be empty; null on the last page."),
    ]


@get(
    "/reports/{report_id:uuid}/outages",
    operation_id="listReportOutages",
    summary="Outages in a window of a report",
    tags=["reports"],
    opt={"scope": "read"},
    operation_class=TableOperation,
    responses=documented(404, 409),
    response_headers=[NEXT_LINK],
)
async def get_report_outages(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    outage_pool: asyncpg.Pool,
    workers: Workers,
    report_id: ReportId,
    window: Annotated[
        str | None,
        Parameter(
            max_length=100,
            description="Which window: `last_hour`, `last_day`, `last_week`, or one that the "
            "report names. Default: the last of them.",
        ),
    ] = None,
    open: OnlyOpen = False,  # noqa: A002 - its name in the query
    min_duration: MinDuration = None,
    limit: Limit = PAGE_SIZE,
    cursor: Cursor = None,
) -> Response[ReportOutagePage]:
    """List the outages of a completed report's stores that reach into one of its windows.

    They are computed from what is known now of the time up to the report's `as_of`, with its
    `max_gap`, of the stores that it selects; pages, CSV and notes are those of `GET /outages`.
    Outages go by `previous`, also where the report goes by `nearest`.
    """
    report = await known_report(pool, report_id)
    if report.state != "expired":
        finished(report)
    shortest = shortest_of(min_duration)
    position = from_cursor(cursor, request)
    place = None if position is None else read_place(position)
    asked, name = await _asked(pool, report, window, shortest, only_open=open)
    lists = OutageLists(pool, outage_pool, workers, asked)
    if prefers_csv(request):
        return await lists.csv(
            escape_formulas=report.escape_formulas, name=f"{report.id}.outages.csv"
        )
    items, goes_on = await lists.page(limit, place)
    next_cursor = None
    if goes_on is not None:
        next_cursor = to_cursor(place_text(goes_on), request)
    page = ReportOutagePage(
        report_id=report.id,
        window=name,
        as_of=instant_of(asked.as_of),
        max_gap=format_span(asked.max_gap),
        interpolation="previous",
        report_interpolation=report.interpolation,
        items=items,
        next_cursor=next_cursor,
    )
    return Response(page, headers={"Vary": "Accept", **next_link(request, next_cursor)})


ROUTES = [get_report_outages]


async def _asked(
    pool: asyncpg.Pool, report: Report, window: str | None, shortest: int, *, only_open: bool
) -> tuple[Asked, str]:
    """What a window of a report asks, and the window's name."""
    options = report.options(await read_stores(pool, report))
    as_of = cast(int, options.as_of)  # it is completed
    number = -1 if window is None else window_number(window, "window", report)
    windows = report.asked_windows
    asked = Asked(
        window=(windows or default_windows(as_of))[number],
        as_of=as_of,
        max_gap=options.max_gap,
        stores=with_tags(options.tags or (), options.stores),
        shortest=shortest,
        only_open=only_open,
    )
    return asked, window_names(windows)[number]
