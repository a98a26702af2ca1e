"""A report as the API shows it."""

from datetime import datetime, timedelta
from typing import Annotated, TypeAlias
from uuid import UUID

import asyncpg
import msgspec
from litestar.params import Parameter
from msgspec import UNSET, Meta, UnsetType

from compute.csv_rows import Unit
from compute.instants import milliseconds_of
from compute.targets import target_text
from compute.uptime import Interpolation
from compute.windows import WindowRefused
from service.deliveries.table import Delivery, DeliveryState, read_deliveries
from service.reports.queue import Report, State, read_report, read_stores
from service.reports.summary import PollsKeptSince
from service.reports.windows import ReportWindow, told_windows
from service.spans import format_span
from service.web.links import link
from service.web.problems import Problem

ReportId: TypeAlias = Annotated[UUID, Parameter(description="The report's id.")]


class GivenOptions(msgspec.Struct, frozen=True):
    """What a report was asked for."""

    as_of: Annotated[
        datetime | None,
        Meta(description="What no window reaches beyond; null: the newest poll."),
    ]
    interpolation: Annotated[
        Interpolation, Meta(description="The status between two observations.")
    ]
    max_gap: Annotated[
        str, Meta(description="For how long an observation speaks to either side, such as 24h.")
    ]
    include_unknown: Annotated[bool, Meta(description="Whether columns of unknown time follow.")]
    include_excluded: Annotated[bool, Meta(description="Whether columns of excluded time follow.")]
    windows: Annotated[
        list[str] | None,
        Meta(description="Windows as they were asked for; null: the last hour, day and week."),
    ]
    calendar: Annotated[
        str | None, Meta(description="Zone of calendar periods; null: each store's own.")
    ]
    unit: Annotated[
        Unit | None, Meta(description="Unit of the CSV; null: the default windows have theirs.")
    ]
    escape_formulas: Annotated[
        bool, Meta(description="Whether ids that a spreadsheet takes for formulas are escaped.")
    ]
    named_stores: Annotated[
        int | None, Meta(description="How many stores it was limited to; null: all stores.")
    ]
    tags: Annotated[
        list[str] | None,
        Meta(description="Tags of the stores it was limited to, `key:value`; null: any."),
    ]
    group_by: Annotated[
        list[str] | None,
        Meta(description="Keys of the tags that its groups share; null: it has no groups."),
    ]
    target: Annotated[
        str | None,
        Meta(description="Target of the stores that have none of their own; null: none."),
    ]
    queryable: Annotated[
        bool,
        Meta(description="Whether its stores can be queried by SQL, in `report_store_result`."),
    ]
    stores: Annotated[
        list[str] | UnsetType | None,
        Meta(description="Ids of the stores it was limited to. Left out in lists and events."),
    ] = UNSET


class ReportProgress(msgspec.Struct, frozen=True):
    """How far a report is."""

    stores_done: Annotated[int, Meta(description="Stores that are computed.")]
    stores_total: Annotated[
        int | None, Meta(description="Stores of the report; null until it runs.")
    ]
    percent: Annotated[
        Annotated[float, Meta(ge=0, le=100)] | None,
        Meta(description="`stores_done` as a percentage of `stores_total`; null until it runs."),
    ]
    seconds_left: Annotated[
        float | None, Meta(description="Estimated; null while there is no basis for an estimate.")
    ]


class ReportLinks(msgspec.Struct, frozen=True):
    """Where to find more about the report."""

    self: Annotated[str, Meta(description="Path of the report.")]
    csv: Annotated[str, Meta(description="Path of its file.")]
    events: Annotated[str, Meta(description="Path of its progress, as server-sent events.")]


class ReportDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the files of a report that its schedule wants delivered."""

    status: Annotated[DeliveryState, Meta(description="Where the delivery is.")]
    deliver_to: Annotated[
        str, Meta(description="Where its schedule said, when the report was asked for.")
    ]
    files: Annotated[
        list[str],
        Meta(
            description="Paths or URLs of the files, in the order of the schedule's `deliver_as`; "
            "empty until all are delivered. Beside them lies a `.json` about the report."
        ),
    ]
    delivered_at: Annotated[
        datetime | None, Meta(description="When all were delivered; null until then.")
    ]
    attempts: Annotated[int, Meta(description="How often it was tried.")]
    next_attempt_at: Annotated[
        datetime | None,
        Meta(description="When it is tried again after an attempt that failed; null: it is not."),
    ]
    error: Annotated[str | None, Meta(description="Why the last attempt failed; null: it did not.")]


class ReportDetails(msgspec.Struct, frozen=True):
    """A report that somebody asked for."""

    id: Annotated[UUID, Meta(description="The report's id.")]
    status: Annotated[State, Meta(description="Where it is.")]
    as_of: Annotated[
        datetime | None,
        Meta(description="What no window reaches beyond; null while it is not known."),
    ]
    windows: Annotated[
        list[ReportWindow] | None,
        Meta(description="Where its windows lie; null while `as_of` is not known."),
    ]
    options: Annotated[GivenOptions, Meta(description="What was asked for.")]
    progress: Annotated[ReportProgress, Meta(description="How far it is.")]
    created_at: Annotated[datetime, Meta(description="When it was asked for.")]
    started_at: Annotated[
        datetime | None, Meta(description="When it was last begun; null until it runs.")
    ]
    finished_at: Annotated[
        datetime | None, Meta(description="When it ended, however it did; null until then.")
    ]
    seconds: Annotated[
        float | None, Meta(description="How long it ran or has been running; null until it runs.")
    ]
    tz_version: Annotated[
        str | None,
        Meta(
            description="Release of the tz database that it was made with, such as 2026f; null: "
            "not completed, or made by a version that did not record it."
        ),
    ]
    fingerprint: Annotated[
        str | None,
        Meta(
            description="Of the ids, hours, special hours, exclusions and zones of the stores that "
            "it was made of, in hexadecimal digits. Over unchanged polls, reports with the same "
            "fingerprint, `as_of`, options and `tz_version` are the same bytes. Null: as with "
            "`tz_version`."
        ),
    ]
    polls_kept_since: PollsKeptSince
    file_size: Annotated[
        int | None, Meta(description="Bytes of its CSV; null until it is completed.")
    ]
    error: Annotated[str | None, Meta(description="Why it failed; null if it did not.")]
    links: Annotated[ReportLinks, Meta(description="Where to find more about the report.")]
    schedule_id: Annotated[
        UUID | None,
        Meta(description="The schedule that asked for it, which may be gone; null: somebody did."),
    ]
    scheduled_for: Annotated[
        datetime | None,
        Meta(description="The time of its schedule that it is for; null: there is none."),
    ]
    delivery: Annotated[
        ReportDelivery | UnsetType | None,
        Meta(
            description="What becomes of its files; null: they are to be delivered nowhere. Left "
            "out in lists and events, and when it is asked for."
        ),
    ] = UNSET


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
    """The problem of an id that no report has."""
    return Problem(404, "There is no report with this id.", slug="report-not-found")


async def full_details(pool: asyncpg.Pool, report: Report) -> ReportDetails:
    """What the API shows of a single report: also the ids of its stores, and its delivery."""
    deliveries = await read_deliveries(pool, [report.id])
    return msgspec.structs.replace(
        details_of(report, await read_stores(pool, report)),
        delivery=told_delivery(deliveries.get(report.id)),
    )


def told_delivery(delivery: Delivery | None) -> ReportDelivery | None:
    """What the API shows of a delivery."""
    if delivery is None:
        return None
    return ReportDelivery(
        status=delivery.state,
        deliver_to=delivery.deliver_to,
        files=delivery.files,
        delivered_at=delivery.ended_at if delivery.state == "delivered" else None,
        attempts=delivery.attempts,
        next_attempt_at=None if delivery.error is None else delivery.due,
        error=delivery.error,
    )


def details_of(report: Report, stores: list[str] | UnsetType | None = UNSET) -> ReportDetails:
    """What the API shows of a report; `stores`: the ids that it names, if they are shown."""
    seconds = None
    if report.started_at is not None and report.state != "queued":
        seconds = ((report.finished_at or report.read_at) - report.started_at).total_seconds()
        seconds = round(max(0, seconds), 3)
    path = link(f"/reports/{report.id}")
    return ReportDetails(
        id=report.id,
        status=report.state,
        as_of=report.as_of,
        windows=_windows(report),
        options=GivenOptions(
            report.asked_as_of,
            report.interpolation,
            format_span(report.max_gap // timedelta(milliseconds=1)),
            report.include_unknown,
            report.include_excluded,
            report.windows,
            report.calendar,
            report.unit,
            report.escape_formulas,
            report.named_stores,
            report.tags,
            report.group_by,
            None if report.target is None else target_text(report.target),
            report.queryable,
            stores,
        ),
        progress=_progress(report, seconds),
        created_at=report.created_at,
        started_at=report.started_at,
        finished_at=report.finished_at,
        seconds=seconds,
        tz_version=report.tz_version,
        fingerprint=None if report.fingerprint is None else report.fingerprint.hex(),
        polls_kept_since=report.polls_kept_since,
        file_size=report.file_size,
        error=report.error,
        links=ReportLinks(path, f"{path}/csv", f"{path}/events"),
        schedule_id=report.schedule_id,
        scheduled_for=report.scheduled_for,
    )


def _windows(report: Report) -> list[ReportWindow] | None:
    if report.as_of is None:
        return None
    try:
        return told_windows(report.asked_windows, milliseconds_of(report.as_of))
    except WindowRefused:  # then the report has failed, and its error tells why
        return None


def _progress(report: Report, seconds: float | None) -> ReportProgress:
    done, total = report.stores_done, report.stores_total
    share = None if total is None else done / total if total else 1.0
    left = None
    if report.state == "running" and share and seconds is not None:
        left = round(seconds * (1 - share) / share, 1)
    return ReportProgress(done, total, None if share is None else round(100 * share, 1), left)
