"""A report among those before it that ask the same: day by day, and what changed."""

from datetime import UTC, date, datetime
from typing import Annotated
from uuid import UUID

import asyncpg
import msgspec
from litestar import get
from litestar.params import Parameter
from msgspec import Meta

from compute.packed_totals import StoreTotals
from compute.report_changes import Changed, changes
from service.api.report_answers import asked, totals_of
from service.api.report_csv import finished
from service.api.report_details import ReportId, known_report
from service.api.stores import StoreId
from service.reports.files import NoSuchFile
from service.reports.queue import State
from service.reports.summary import Availability, Fraction, Seconds, exact_seconds
from service.reports.totals import NoTotals, ReportTotals
from service.reports.trend import read_report_before, read_trend
from service.web.problems import documented

_DEFAULT_DAYS, _MOST_DAYS = 28, 366
_DEFAULT_CHANGES, _MOST_CHANGES = 10, 1000


class TrendDay(msgspec.Struct, frozen=True, kw_only=True):
    """The last report over all stores of a day: what it says of its last 24 hours."""

    day: Annotated[date, Meta(description="UTC date of `as_of`.")] = msgspec.field(name="date")
    report_id: Annotated[UUID, Meta(description="The report's id.")]
    status: Annotated[State, Meta(description="`expired`: its files are no longer kept.")]
    as_of: Annotated[datetime, Meta(description="The end of the 24 hours.")]
    polls_kept_since: Annotated[
        datetime | None,
        Meta(
            description="As the report's summary tells it, of all its windows: some polls from "
            "before it would have mattered, and were kept no longer. Null: all that matters was "
            "there."
        ),
    ]
    stores: Annotated[int, Meta(ge=0, description="Stores in the report.")]
    stores_down: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Stores with any downtime in them; null: made by an older version."),
    ]
    uptime: Seconds
    downtime: Seconds
    unknown: Seconds
    availability: Availability


class ReportTrend(msgspec.Struct, frozen=True, kw_only=True):
    """Reports over all stores with the same `interpolation` and `max_gap`, day by day."""

    items: Annotated[
        list[TrendDay], Meta(description="The oldest first; days without a report are left out.")
    ]


class ComparedReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report that another is compared with."""

    report_id: Annotated[UUID, Meta(description="Its id.")]
    as_of: Annotated[datetime | None, Meta(description="The end of every window.")]
    stores: Annotated[int, Meta(ge=0, description="Stores in it.")]


class StoreChange(msgspec.Struct, frozen=True, kw_only=True):
    """A store whose availability in the last week is another than it was."""

    store_id: StoreId
    was: Annotated[Fraction, Meta(description="Availability in the report before.")]
    now: Annotated[Fraction, Meta(description="Availability in this one.")] = msgspec.field(
        name="is"
    )
    downtime: Seconds


class StoreChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Stores that changed in one direction."""

    stores: Annotated[int, Meta(ge=0, description="How many did.")]
    items: Annotated[
        list[StoreChange],
        Meta(description="The most changed first, of equal ones those with more downtime."),
    ]


class ReportChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What changed since the report before, in the availability of the last week."""

    before: Annotated[
        ComparedReport | None,
        Meta(description="The report before; null: there is none, so nothing is compared."),
    ]
    worse: Annotated[StoreChanges, Meta(description="Stores whose availability is less.")]
    better: Annotated[StoreChanges, Meta(description="Stores whose availability is more.")]


@get(
    "/reports/{report_id:uuid}/trend",
    operation_id="getReportTrend",
    summary="A report and those of the days before it",
    tags=["reports"],
    opt={"scope": "read"},
    responses=documented(404, 409),
)
async def get_report_trend(
    pool: asyncpg.Pool,
    report_id: ReportId,
    days: Annotated[
        int,
        Parameter(
            ge=1, le=_MOST_DAYS, description="How many UTC dates, that of the report included."
        ),
    ] = _DEFAULT_DAYS,
) -> ReportTrend:
    """Tell, for each day, how all stores were in the 24 hours before the last report of that day.

    Of the reports over all stores that have the same `interpolation` and `max_gap` as this one and
    end no later. Those that are expired are told, too.
    """
    report = await known_report(pool, report_id)
    if report.state != "expired":
        finished(report)
    items = []
    for kept in await read_trend(pool, report, days):
        last_day = next(one for one in kept.summary.windows if one.window == "day")
        items.append(
            TrendDay(
                day=kept.summary.as_of.astimezone(UTC).date(),
                report_id=kept.report_id,
                status=kept.state,
                as_of=kept.summary.as_of,
                polls_kept_since=kept.summary.polls_kept_since,
                stores=kept.summary.stores,
                stores_down=last_day.stores_down,
                uptime=last_day.uptime,
                downtime=last_day.downtime,
                unknown=last_day.unknown,
                availability=last_day.availability,
            )
        )
    return ReportTrend(items=items)


@get(
    "/reports/{report_id:uuid}/changes",
    operation_id="getReportChanges",
    summary="What changed since the report before",
    tags=["reports"],
    opt={"scope": "read"},
    responses=documented(404, 409, 410),
)
async def get_report_changes(
    pool: asyncpg.Pool,
    report_totals: ReportTotals,
    report_id: ReportId,
    limit: Annotated[
        int, Parameter(ge=0, le=_MOST_CHANGES, description="Most stores of either kind.")
    ] = _DEFAULT_CHANGES,
) -> ReportChanges:
    """Tell which stores have another availability in the last week than in the report before.

    That is the completed one over all stores with the same `interpolation` and `max_gap` whose
    `as_of` is the newest before this one's. Stores that have no availability in one of the two are
    left out.
    """
    report = await known_report(pool, report_id)
    after = await totals_of(report_totals, report)
    earlier = await read_report_before(pool, report)
    nothing = StoreChanges(stores=0, items=[])
    none = ReportChanges(before=None, worse=nothing, better=nothing)
    if earlier is None:
        return none
    try:
        before = await report_totals.of(earlier)
    except (NoTotals, NoSuchFile):
        return none

    def compared() -> tuple[StoreChanges, StoreChanges]:
        worse, better = changes(before, after, limit)
        return _told(worse, after), _told(better, after)

    worse, better = await asked(report_totals, compared)
    return ReportChanges(
        before=ComparedReport(report_id=earlier.id, as_of=earlier.as_of, stores=len(before)),
        worse=worse,
        better=better,
    )


ROUTES = [get_report_trend, get_report_changes]


def _told(changed: Changed, after: StoreTotals) -> StoreChanges:
    down = after.window(-1).down[changed.index]
    columns = (changed.was, changed.is_, down)
    return StoreChanges(
        stores=changed.stores,
        items=[
            StoreChange(
                store_id=store_id,
                was=was,
                now=now,
                downtime=exact_seconds(downtime),
            )
            for store_id, was, now, downtime in zip(
                after.ids_of(changed.index), *(column.tolist() for column in columns), strict=True
            )
        ],
    )
