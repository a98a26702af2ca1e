"""The week of some stores of a report, day by day: what a table shows beside its numbers."""

import asyncio
from datetime import datetime
from typing import Annotated

import asyncpg
import msgspec
from litestar import get
from litestar.params import QueryParameter
from msgspec import Meta

from compute.axis import DAY_MS
from compute.batch import Question, batch_totals
from compute.instants import instant_of
from compute.uptime import Totals
from compute.windows import Window
from service.api.report_csv import finished
from service.api.report_details import ReportId, known_report
from service.api.stores import StoreId
from service.reports.summary import Availability, PollsKeptSince, Seconds, times_of
from service.stores.known import batch_of, read_stores
from service.stores.polls import polls_kept_since
from service.web.problems import documented, refused

_DAYS = 7
#: Stores of one request.
_MOST_STORES = 200
#: Requests whose polls are in memory at the same time.
_COMPUTING = asyncio.Semaphore(2)


class StoreDay(msgspec.Struct, frozen=True, kw_only=True):
    """24 hours of a store."""

    start: Annotated[datetime, Meta(description="Their begin.")] = msgspec.field(name="from")
    end: Annotated[datetime, Meta(description="Their end.")] = msgspec.field(name="to")
    uptime: Seconds
    downtime: Seconds
    unknown: Seconds
    excluded: Seconds
    availability: Availability


class StoreDays(msgspec.Struct, frozen=True, kw_only=True):
    """The last week of a store."""

    store_id: StoreId
    days: Annotated[
        list[StoreDay], Meta(description="Seven, the oldest first; the last ends at `as_of`.")
    ]


class ReportDays(msgspec.Struct, frozen=True, kw_only=True):
    """The last week of some stores, in slices of 24 hours."""

    polls_kept_since: PollsKeptSince
    items: Annotated[
        list[StoreDays], Meta(description="In the order asked for, without unknown ids.")
    ]


@get(
    "/reports/{report_id:uuid}/days",
    operation_id="getReportDays",
    summary="Some stores' last week, day by day",
    tags=["reports"],
    opt={"scope": "read"},
    responses=documented(404, 409),
)
async def get_report_days(
    pool: asyncpg.Pool,
    report_id: ReportId,
    store_id: Annotated[
        list[str],
        QueryParameter(
            name="store_id",
            min_items=1,
            max_items=_MOST_STORES,
            description="Ids of the stores; may be repeated.",
        ),
    ],
) -> ReportDays:
    """Tell how some stores were in each of the seven times 24 hours before a report's `as_of`.

    Computed with its options, from the polls, hours and zones that are stored now: what was loaded
    after the report counts.
    """
    if any("\0" in one for one in store_id):
        raise refused("store_id", "no store id holds a NUL character")
    report = await known_report(pool, report_id)
    if report.state != "expired":
        finished(report)
    asked = report.options(None)
    if asked.as_of is None:  # no such report has ended well
        return ReportDays(polls_kept_since=None, items=[])
    ends = [asked.as_of - day * DAY_MS for day in range(_DAYS)]
    windows = tuple(Window("day", "24h", instants=(end - DAY_MS, end)) for end in ends)
    question = Question(asked.as_of, asked.interpolation, asked.max_gap, windows=windows)
    async with _COMPUTING:
        # Before the polls are read: of those that go meanwhile it tells already.
        kept_since = question.lacks_before(await polls_kept_since(pool))
        stores = await read_stores(pool, list(dict.fromkeys(store_id)))
        batch = await batch_of(pool, stores, question)
        totals = await asyncio.to_thread(batch_totals, batch, question)
    return ReportDays(
        polls_kept_since=instant_of(kept_since),
        items=[
            StoreDays(store_id=store.store_id, days=days)
            for store, days in zip(stores, _days(totals, question), strict=True)
        ],
    )


ROUTES = [get_report_days]


def _days(totals: Totals, question: Question) -> list[list[StoreDay]]:
    """Of each store its days, the oldest first."""
    bounds = [instant_of(question.as_of - day * DAY_MS) for day in range(_DAYS + 1)]
    columns = (totals.up, totals.down, totals.unknown, totals.excluded)
    return [
        [
            StoreDay(
                start=bounds[day + 1],
                end=bounds[day],
                **times_of(up, down, unknown, excluded),
            )
            for day, (up, down, unknown, excluded) in reversed(
                list(enumerate(zip(*parts, strict=True)))
            )
        ]
        for parts in zip(*(column.tolist() for column in columns), strict=True)
    ]
