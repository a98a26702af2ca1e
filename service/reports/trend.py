"""The reports that came before a report and ask the same: what they say of all their stores."""

from datetime import UTC, datetime, time, timedelta
from uuid import UUID

import asyncpg
import msgspec

from service.reports.queue import Report, State, read_report
from service.reports.summary import ReportSummary, summary_of


class KeptSummary(msgspec.Struct, frozen=True):
    """A report over all stores.

    Attributes:
        report_id: its id
        state: completed, or expired
        summary: what it says of them together
    """

    report_id: UUID
    state: State
    summary: ReportSummary


async def read_trend(pool: asyncpg.Pool, report: Report, days: int) -> list[KeptSummary]:
    """The last report of each UTC date of `as_of`, up to that of a report, the oldest first.

    They are over all stores, have the report's options of computing, and end no later than it.

    Args:
        pool: the database
        report: completed or expired
        days: how many dates, that of the report included
    """
    if report.as_of is None or report.windows is not None:
        return []
    first = report.as_of.astimezone(UTC).date() - timedelta(days=days - 1)
    rows = await pool.fetch(
        """
        select distinct on (day) (as_of at time zone 'UTC')::date as day, id, state, as_of, summary,
               polls_kept_since
        from report
        where named_stores is null and windows is null and tags is null
            and interpolation = $1 and max_gap = $2
            and as_of between $3 and $4
            and state in ('completed', 'expired') and summary is not null
        order by day, as_of desc, id = $5 desc, finished_at desc, id
        """,
        report.interpolation,
        report.max_gap,
        datetime.combine(first, time(), UTC),
        report.as_of,
        report.id,
    )
    return [
        KeptSummary(
            row["id"],
            row["state"],
            summary_of(row["as_of"], row["summary"], polls_kept_since=row["polls_kept_since"]),
        )
        for row in rows
    ]


async def read_report_before(pool: asyncpg.Pool, report: Report) -> Report | None:
    """The completed report over all stores with the same options of computing that ends last before
    a report, and has the totals of its stores; None: there is none."""
    if report.windows is not None:
        return None
    before: UUID | None = await pool.fetchval(
        """
        select id from report
        where named_stores is null and windows is null and tags is null
            and interpolation = $1 and max_gap = $2
            and as_of < $3 and state = 'completed' and totals_size is not null
        order by as_of desc, finished_at desc, id limit 1
        """,
        report.interpolation,
        report.max_gap,
        report.as_of,
    )
    return None if before is None else await read_report(pool, before)
