"""The stores of a report over HTTP: a page of a table that is filtered and sorted, or all as CSV.

What is shown are the report's own numbers, exactly; they never change, whatever is loaded later.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from typing import Annotated, Any, get_args
from uuid import UUID

import asyncpg
import msgspec
from litestar import Request, get
from litestar.openapi.spec import Operation
from litestar.params import Parameter
from litestar.response import Response, Stream
from msgspec import Meta
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from compute.axis import Ints
from compute.conditions import Condition
from compute.csv_rows import header
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
from service.api.report_csv import finished, gone, gzipped
from service.api.report_details import ReportId, known_report
from service.api.stores import EffectiveTimezone, StoreId
from service.reports.files import NoSuchFile
from service.reports.queue import Report
from service.reports.summary import (
    WindowTotals,
    availability_of,
    exact_seconds,
)
from service.reports.totals import NoTotals, ReportTotals
from service.reports.windows import csv_names, window_names
from service.web.conditions import is_known
from service.web.files import takes_gzip
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
from service.web.problems import Problem, documented, refused

_JSON, _CSV = "application/json", "text/csv"
_MEASURES: tuple[Measure, ...] = get_args(Measure)
_SORT = "-?(store_id|timezone|(availability|uptime|downtime|unknown|excluded)_[0-9A-Za-z_]+)"
#: Rows of a CSV that are written at a time.
_ROWS_AT_ONCE = 10_000
#: CSVs of tables that are sent at the same time: each remembers its order.
_MOST_STREAMS = 16
_RETRY_SECONDS = 5
#: Smaller answers are sent as they are, bytes.
_WORTH_PACKING = 1000


class ReportStore(msgspec.Struct, frozen=True, kw_only=True):
    """A store of a report."""

    store_id: StoreId
    timezone: EffectiveTimezone
    windows: Annotated[
        list[WindowTotals],
        Meta(description="The last hour, day and week before `as_of`, or those that it names."),
    ]


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


class _TableOperation(Operation):
    """What Litestar cannot know: the handler makes each of these responses itself."""

    def to_schema(self) -> dict[str, Any]:
        schema = super().to_schema()
        known = schema["responses"]["200"]
        csv = {"schema": {"type": "string", "format": "binary"}}
        known["content"] = {**known["content"], _CSV: csv}
        return _with_etag(schema)


class _ListOperation(Operation):
    """The same of what is JSON alone."""

    def to_schema(self) -> dict[str, Any]:
        return _with_etag(super().to_schema())


def _with_etag(schema: dict[str, Any]) -> dict[str, Any]:
    known = schema["responses"]["200"]
    etag = {"schema": {"type": "string"}, "description": "Changes with the bytes."}
    known["headers"] = {**known.get("headers", {}), "ETag": etag}
    schema["responses"]["304"] = {"description": "If-None-Match names it: it is known already."}
    return schema


@get(
    "/reports/{report_id:uuid}/stores",
    operation_id="listReportStores",
    summary="The stores of a report",
    tags=["reports"],
    opt={"scope": "read"},
    operation_class=_TableOperation,
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
            max_length=255, description="Only stores whose id holds this; A to Z are a to z."
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
    below: Annotated[
        float | None,
        Parameter(
            ge=0, le=1, description="Only stores whose availability in the last window is less."
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
    wanted = Filter(search.encode() or None, timezone, condition, below)
    start = _place(cursor, request, offset)
    report = await known_report(pool, report_id)
    stores = await totals_of(report_totals, report)
    order = _order(sort, report)
    if condition is not None and report.windows is not None:
        problem = "is of the last hour, day and week: this report names windows of its own"
        raise refused("condition", problem)
    as_csv = _wants_csv(request)
    answer = _Answer(request, report, _CSV if as_csv else _JSON, vary="Accept, Accept-Encoding")
    if answer.is_known:
        return answer.not_modified()
    if as_csv:
        return await _as_csv(answer, report_totals, stores, wanted, order)

    names = window_names(report.asked_windows)

    def page() -> tuple[int, list[ReportStore]]:
        passing = wanted_stores(stores, wanted)
        shown = ordered(stores, passing, order, start, start + limit)
        return len(passing), _shown(stores, shown, names)

    total, items = await report_totals.compute(page)
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
    operation_class=_ListOperation,
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
    answer = _Answer(request, report, _JSON, vary="Accept-Encoding")
    if answer.is_known:
        return answer.not_modified()
    zones = await report_totals.compute(lambda: stores_by_zone(stores))
    items = [ReportTimezone(timezone=name, stores=count) for name, count in zones.items()]
    return await answer.of(ReportTimezones(items=items))


ROUTES = [get_report_stores, get_report_timezones]


class _Answer:
    """What is told of a report that never changes: its tag goes with what was asked."""

    def __init__(
        self, request: Request[Any, Any, Any], report: Report, media_type: str, vary: str
    ) -> None:
        self._packed = takes_gzip(request)
        self._media_type = media_type
        self.report = report
        asked = (
            version("storewatch"),
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
        return Response(None, status_code=304, headers=self.headers)

    async def of(
        self, told: msgspec.Struct, headers: dict[str, str] | None = None
    ) -> Response[Any]:
        """The answer that tells it."""

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
        """The answer that is a file."""
        more = {"Content-Disposition": f'attachment; filename="{name}"'}
        if self._packed:
            more["Content-Encoding"] = "gzip"
            pieces = gzipped(pieces)
        return Stream(pieces, media_type=self._media_type, headers={**self.headers, **more})


def _wants_csv(request: Request[Any, Any, Any]) -> bool:
    """Whether it prefers CSV to JSON; where nothing is said it does not."""
    accepted = parse_accept_header(request.headers.get("accept"), MIMEAccept)
    return accepted.best_match([_JSON, _CSV], default=_JSON) == _CSV


def _order(sort: str, report: Report) -> Order:
    column, descending = sort.removeprefix("-"), sort.startswith("-")
    for measure in _MEASURES:
        if column == measure:
            return Order(measure, descending=descending)
    named, _, window = column.partition("_")
    (measure,) = (one for one in _MEASURES if one == named)
    names = csv_names(report.asked_windows)
    if window not in names:
        raise refused("sort", f"the report has no window {window}; it has {', '.join(names)}")
    return Order(measure, names.index(window), descending)


def _place(cursor: str | None, request: Request[Any, Any, Any], offset: int) -> int:
    position = from_cursor(cursor, request)
    if position is None:
        return offset
    if not position.isdecimal():
        raise not_ours()
    return int(position)


async def totals_of(report_totals: ReportTotals, report: Report) -> StoreTotals:
    """The totals of a report, which must be completed.

    Raises:
        Problem: there are none (404, 409, 410)
    """
    finished(report)
    try:
        return await report_totals.of(report)
    except NoTotals:
        raise Problem(
            404,
            "The report was made by a version of the service that kept no exact totals of its "
            "stores: ask for a new report, or take its CSV.",
            slug="report-rows-not-found",
        ) from None
    except NoSuchFile:
        raise gone() from None


def _shown(stores: StoreTotals, indexes: Ints, names: Sequence[str]) -> list[ReportStore]:
    parts_of_all = (stores.up, stores.down, stores.unknown, stores.excluded)
    columns = [part[:, indexes].T for part in parts_of_all]
    each = zip(indexes.tolist(), *(column.tolist() for column in columns), strict=True)
    zones = stores.zone[indexes].tolist()
    return [
        ReportStore(
            store_id=stores.store_id(index).decode(),
            timezone=stores.zone_names[zone],
            windows=[
                WindowTotals(
                    window=window,
                    business_time=exact_seconds(up + down + unknown + excluded),
                    uptime=exact_seconds(up),
                    downtime=exact_seconds(down),
                    unknown=exact_seconds(unknown),
                    excluded=exact_seconds(excluded),
                    availability=availability_of(up, down),
                )
                for window, up, down, unknown, excluded in zip(names, *parts, strict=True)
            ],
        )
        for zone, (index, *parts) in zip(zones, each, strict=True)
    ]


async def _as_csv(
    answer: _Answer, report_totals: ReportTotals, stores: StoreTotals, wanted: Filter, order: Order
) -> Response[Any]:
    """All stores that pass, in order, as the report's CSV has them."""
    if report_totals.streams >= _MOST_STREAMS:
        raise Problem(
            503,
            "As many tables are being downloaded as this instance sends at once. Ask again soon.",
            slug="too-many-downloads",
            headers={"Retry-After": str(_RETRY_SECONDS)},
        )
    options = answer.report
    indexes = await report_totals.compute(
        lambda: ordered(stores, wanted_stores(stores, wanted), order)
    )

    def rows_from(start: int) -> bytes:
        return rows_of(
            stores,
            indexes[start : start + _ROWS_AT_ONCE],
            options.include_unknown,
            include_excluded=options.include_excluded,
            unit=options.unit,
            escape_formulas=options.escape_formulas,
        )

    async def rows() -> AsyncIterator[bytes]:
        with report_totals.streaming():
            yield header(
                options.include_unknown, options.include_excluded, windows=options.asked_windows
            )
            for start in range(0, len(indexes), _ROWS_AT_ONCE):
                yield await report_totals.compute(partial(rows_from, start))

    return answer.stream(rows(), f"{options.id}.csv")
