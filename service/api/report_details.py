"""A report as the API shows it."""

from datetime import datetime
from typing import Annotated, TypeAlias
from uuid import UUID

import asyncpg
import msgspec
from litestar.params import Parameter
from msgspec import Meta

from compute.uptime import Interpolation
from service.api.links import link
from service.api.problems import Problem
from service.reports import Report, State, read_report
from service.spans import format_span

ReportId: TypeAlias = Annotated[UUID, Parameter(description="The report's id.")]


class GivenOptions(msgspec.Struct, frozen=True):
    """What a report was asked for."""

    as_of: datetime | None
    interpolation: Interpolation
    max_gap: str
    include_unknown: bool
    stores: list[str] | None


class ReportProgress(msgspec.Struct, frozen=True):
    """How far a report is."""

    stores_done: int
    stores_total: Annotated[int | None, Meta(description="Null until it runs.")]
    percent: Annotated[Annotated[float, Meta(ge=0, le=100)] | None, Meta(description="Of stores.")]
    seconds_left: Annotated[float | None, Meta(description="Estimated, while it runs.")]


class ReportLinks(msgspec.Struct, frozen=True):
    """Where to go on."""

    self: str
    csv: str
    events: str


class ReportDetails(msgspec.Struct, frozen=True):
    """A report that somebody asked for."""

    id: UUID
    status: State
    as_of: Annotated[
        datetime | None, Meta(description="End of every window; null while it is not known.")
    ]
    options: GivenOptions
    progress: ReportProgress
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    seconds: Annotated[float | None, Meta(description="How long it ran, or runs so far.")]
    file_size: Annotated[int | None, Meta(description="Bytes of its CSV.")]
    error: Annotated[str | None, Meta(description="Why it failed.")]
    links: ReportLinks


async def known_report(pool: asyncpg.Pool, report_id: UUID) -> Report:
    """The report with an id.

    Raises:
        Problem: there is none (404)
    """
    report = await read_report(pool, report_id)
    if report is None:
        raise no_such_report()
    return report


def no_such_report() -> Problem:
    """What to say of an id without a report."""
    return Problem(404, "There is no report with this id.", slug="report-not-found")


def details_of(report: Report) -> ReportDetails:
    """What the API shows of a report."""
    seconds = None
    if report.started_at is not None and report.state != "queued":
        seconds = ((report.finished_at or report.read_at) - report.started_at).total_seconds()
        seconds = round(max(0, seconds), 3)
    place = link(f"/reports/{report.id}")
    return ReportDetails(
        id=report.id,
        status=report.state,
        as_of=report.as_of,
        options=GivenOptions(
            report.asked_as_of,
            report.interpolation,
            format_span(report.options.max_gap),
            report.include_unknown,
            report.stores,
        ),
        progress=_progress(report, seconds),
        created_at=report.created_at,
        started_at=report.started_at,
        finished_at=report.finished_at,
        seconds=seconds,
        file_size=report.file_size,
        error=report.error,
        links=ReportLinks(place, f"{place}/csv", f"{place}/events"),
    )


def _progress(report: Report, seconds: float | None) -> ReportProgress:
    done, total = report.stores_done, report.stores_total
    share = None if total is None else done / total if total else 1.0
    left = None
    if report.state == "running" and share and seconds is not None:
        left = round(seconds * (1 - share) / share, 1)
    return ReportProgress(done, total, None if share is None else round(100 * share, 1), left)
