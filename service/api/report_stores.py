"""The stores of a report over HTTP: a page of a table that is filtered and sorted, or all as CSV.

What is shown are the report's own numbers, exactly; they never change, whatever is loaded later.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, get_args
from uuid import UUID

import asyncpg
import msgspec
from litestar import Request, get
from litestar.params import Parameter, QueryParameter
from litestar.response import Response
from msgspec import Meta

from compute.conditions import Condition
from compute.csv_rows import header
from compute.feed_values import MOST_TAGS
from compute.packed_totals import StoreTotals
from compute.report_page import (
    Filter,
    Measure,
    Order,
    ordered,
    rows_of,
    stores_by_zone,
    wanted_stores,
)
from service.api.report_answers import (
    DOWNLOADS,
    ListOperation,
    ReportAnswer,
    TableOperation,
    asked,
    totals_of,
    window_number,
)
from service.api.report_details import ReportId, known_report
from service.api.stores import EffectiveTimezone
from service.reports.queue import Report
from service.reports.told_stores import ReportStore, told_stores
from service.reports.totals import ReportTotals
from service.reports.windows import window_names
from service.stores.selection import Selection, TagRefused, with_tags
from service.web.files import prefers_csv
from service.web.pages import (
    NEXT_LINK,
    PAGE_SIZE,
    Cursor,
    Limit,
    next_link,
    place_of,
    to_cursor,
)
from service.web.problems import documented, refused

_JSON, _CSV = "application/json", "text/csv"
_MEASURES: tuple[Measure, ...] = get_args(Measure)
_SORT = "-?(store_id|timezone|(availability|uptime|downtime|unknown|excluded)_[0-9A-Za-z_]+)"
#: Rows of a CSV that are written at a time, and windows in them, where there are few windows. In
#: any other order than that of the ids the file is read once for as many.
_ROWS_AT_ONCE, _CELLS_AT_ONCE = 10_000, 150_000


class ReportStorePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some stores of a report, in the order that was asked for."""

    report_id: Annotated[UUID, Meta(description="The report's id.")]
    as_of: Annotated[datetime | None, Meta(description="The end of every window.")]
    total: Annotated[int, Meta(ge=0, description="Stores that the filters let pass.")]
    next_cursor: Annotated[
        str | None, Meta(description="`cursor` of the next page; null on the last.")
    ]
    items: Annotated[list[ReportStore], Meta(description="The stores of this page.")]


class ReportTimezone(msgspec.Struct, frozen=True, kw_only=True):
    """A time zone of a report's stores."""

    timezone: EffectiveTimezone
    stores: Annotated[int, Meta(ge=1, description="Stores that are computed in it.")]


class ReportTimezones(msgspec.Struct, frozen=True, kw_only=True):
    """The time zones of a report's stores, in the order of their names."""

    items: Annotated[list[ReportTimezone], Meta(description="Each zone that has stores.")]


@get(
    "/reports/{report_id:uuid}/stores",
    operation_id="listReportStores",
    summary="The stores of a report",
    tags=["reports"],
    opt={"scope": "read"},
    operation_class=TableOperation,
    responses=documented(404, 409, 410),
    response_headers=[NEXT_LINK],
)
async def get_report_stores(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    report_totals: ReportTotals,
    report_id: ReportId,
    sort: Annotated[
        str,
        Parameter(
            pattern=f"^{_SORT}$",
            description="By what: `store_id`, `timezone`, or `availability_`, `uptime_`, "
            "`downtime_`, `unknown_` or `excluded_` of `last_hour`, `last_day` or `last_week`, or "
            "of a window that the report names; with `-` before it the largest first. Equal ones "
            "are in byte order of their ids, those without availability last.",
        ),
    ] = "store_id",
    search: Annotated[
        str,
        Parameter(
            max_length=255,
            description="Only stores whose id or name holds this; A to Z are a to z.",
        ),
    ] = "",
    timezone: Annotated[
        str | None,
        Parameter(
            max_length=255, description="Only stores that are computed in this zone (IANA name)."
        ),
    ] = None,
    condition: Annotated[
        Condition | None,
        Parameter(
            description="Only stores that meet this condition. Not of a report that names its "
            "windows."
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        QueryParameter(
            name="tag",
            max_items=MOST_TAGS,
            description="Only stores that had this tag, `key:value`, when the report was made; "
            "without a value, stores without a tag of this key. May be repeated: then all must "
            "hold.",
        ),
    ] = None,
    below: Annotated[
        float | None,
        Parameter(
            ge=0, le=1, description="Only stores whose availability in `window` is less than this."
        ),
    ] = None,
    missed: Annotated[
        bool,
        Parameter(description="Only stores that have a target and did not meet it in `window`."),
    ] = False,
    window: Annotated[
        str | None,
        Parameter(
            max_length=100,
            description="The window of `below` and `missed`: `last_hour`, `last_day`, "
            "`last_week`, or one that the report names. Default: the last of them.",
        ),
    ] = None,
    limit: Limit = PAGE_SIZE,
    offset: Annotated[
        int,
        Parameter(
            ge=0, le=1 << 31, description="Stores before the page, unless `cursor` tells its begin."
        ),
    ] = 0,
    cursor: Cursor = None,
) -> Response[ReportStorePage]:
    """Sort and filter the stores of a completed report: the exact numbers that its CSV rounds.

    With `Accept: text/csv` it is the rows of the report's CSV, all that pass, in this order. Takes
    `If-None-Match` and `Accept-Encoding: gzip`.
    """
    if "\0" in search:
        raise refused("search", "no store id holds a NUL character")
    tags = _tags(tag or ())
    start = place_of(cursor, request, offset)
    report = await known_report(pool, report_id)
    stores = await totals_of(report_totals, report)
    order = _order(sort, report)
    if window is not None and below is None and not missed:
        raise refused("window", "is that of `below` or `missed`: give one of them")
    wanted = Filter(
        search=search.encode() or None,
        timezone=timezone,
        condition=condition,
        below=below,
        missed=missed,
        window=-1 if window is None else window_number(window, "window", report),
        tags=tags.tags,
        without=tags.without,
    )
    if condition is not None and report.windows is not None:
        problem = "is of the last hour, day and week: this report names windows of its own"
        raise refused("condition", problem)
    as_csv = prefers_csv(request)
    answer = ReportAnswer(
        request, report, _CSV if as_csv else _JSON, vary="Accept, Accept-Encoding"
    )
    if answer.is_known:
        return answer.not_modified()
    if as_csv:
        return await _as_csv(answer, report_totals, stores, wanted, order)

    names = window_names(report.asked_windows)

    def page() -> tuple[int, list[ReportStore]]:
        passing = wanted_stores(stores, wanted)
        shown = ordered(stores, passing, order, start, start + limit)
        return len(passing), told_stores(stores, shown, names)

    total, items = await asked(report_totals, page)
    end = start + len(items)
    next_cursor = to_cursor(str(end), request) if items and end < total else None
    told = ReportStorePage(
        report_id=report.id,
        as_of=report.as_of,
        total=total,
        next_cursor=next_cursor,
        items=items,
    )
    return await answer.of(told, next_link(request, next_cursor))


@get(
    "/reports/{report_id:uuid}/timezones",
    operation_id="listReportTimezones",
    summary="The time zones of a report's stores",
    tags=["reports"],
    opt={"scope": "read"},
    operation_class=ListOperation,
    responses=documented(404, 409, 410),
)
async def get_report_timezones(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    report_totals: ReportTotals,
    report_id: ReportId,
) -> Response[ReportTimezones]:
    """Tell in which time zones the stores of a completed report are, and how many in each."""
    report = await known_report(pool, report_id)
    stores = await totals_of(report_totals, report)
    answer = ReportAnswer(request, report, _JSON, vary="Accept-Encoding")
    if answer.is_known:
        return answer.not_modified()
    zones = stores_by_zone(stores)
    items = [ReportTimezone(timezone=name, stores=count) for name, count in zones.items()]
    return await answer.of(ReportTimezones(items=items))


ROUTES = [get_report_stores, get_report_timezones]


def _order(sort: str, report: Report) -> Order:
    column, descending = sort.removeprefix("-"), sort.startswith("-")
    for measure in _MEASURES:
        if column == measure:
            return Order(measure, descending=descending)
    named, _, window = column.partition("_")
    (measure,) = (one for one in _MEASURES if one == named)
    return Order(measure, window_number(window, "sort", report), descending)


def _tags(texts: Sequence[str]) -> Selection:
    try:
        return with_tags(texts)
    except TagRefused as error:
        raise refused("tag", str(error)) from None


async def _as_csv(
    answer: ReportAnswer,
    report_totals: ReportTotals,
    stores: StoreTotals,
    wanted: Filter,
    order: Order,
) -> Response[Any]:
    """All stores that pass, in order, as the report's CSV has them."""
    DOWNLOADS.check()  # before there is anything to remember
    options = answer.report
    indexes = await asked(
        report_totals, lambda: ordered(stores, wanted_stores(stores, wanted), order)
    )
    at_once = max(_ROWS_AT_ONCE, _CELLS_AT_ONCE // max(1, stores.windows))

    def pieces() -> Iterator[bytes]:
        yield header(
            options.include_unknown, options.include_excluded, windows=options.asked_windows
        )
        for start in range(0, len(indexes), at_once):
            yield rows_of(
                stores,
                indexes[start : start + at_once],
                options.include_unknown,
                include_excluded=options.include_excluded,
                unit=options.unit,
                escape_formulas=options.escape_formulas,
            )

    return answer.stream(report_totals.pieces(pieces()), f"{options.id}.csv")
