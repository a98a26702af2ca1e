"""What endpoints are told of reports: made of the report when it is first sent, then kept.

A trigger of the database notes that a report ended, in the transaction that ends it, whichever
instance does that.
"""

from datetime import datetime
from uuid import UUID

from service.database.pool import Database
from service.reports.queue import Report, read_report
from service.reports.summary import WindowSummary, read_summary
from service.reports.windows import csv_names
from service.webhooks.events import (
    MissedWindow,
    ReportCompletedData,
    ReportFailedData,
    TargetMissedData,
    payload_of,
)


async def report_payload(
    connection: Database, base: str, kind: str, sequence: int, report_id: UUID, happened: datetime
) -> bytes | None:
    """The body of a delivery that tells of a report; None: the report was deleted.

    Args:
        connection: where to ask
        base: what the service's paths come after in links
        kind: of the event
        sequence: its number
        report_id: of the report
        happened: when the report ended
    """
    report = await read_report(connection, report_id)
    if report is None:
        return None
    if kind == "report.failed":
        return payload_of(kind, happened, _failed(report, base, sequence))
    if kind == "report.completed":
        return payload_of(kind, happened, _completed(report, base, sequence))
    summary = await read_summary(connection, report_id)
    windows = () if summary is None else summary.windows
    names = csv_names(report.asked_windows)
    data = TargetMissedData(
        sequence=sequence,
        report_id=report_id,
        as_of=report.as_of,
        schedule_id=report.schedule_id,
        windows=[
            missed
            for window, name in zip(windows, names, strict=False)
            if (missed := _window(window, f"{base}/reports/{report_id}", name)) is not None
        ],
        url=f"{base}/reports/{report_id}/stores?missed=true",
    )
    return payload_of(kind, happened, data)


def _completed(report: Report, base: str, sequence: int) -> ReportCompletedData:
    return ReportCompletedData(
        sequence=sequence,
        report_id=report.id,
        as_of=report.as_of,
        created_at=report.created_at,
        finished_at=report.finished_at,
        stores=report.stores_total,
        schedule_id=report.schedule_id,
        scheduled_for=report.scheduled_for,
        url=f"{base}/reports/{report.id}",
    )


def _failed(report: Report, base: str, sequence: int) -> ReportFailedData:
    return ReportFailedData(
        sequence=sequence,
        report_id=report.id,
        created_at=report.created_at,
        finished_at=report.finished_at,
        error=report.error,
        schedule_id=report.schedule_id,
        scheduled_for=report.scheduled_for,
        url=f"{base}/reports/{report.id}",
    )


def _window(window: WindowSummary, report_url: str, name: str) -> MissedWindow | None:
    """How targets did in a window, which lists of the report call so; None: no store has one."""
    if window.stores_met is None or window.stores_missed is None or window.stores_unknown is None:
        return None
    return MissedWindow(
        window=window.window,
        stores_met=window.stores_met,
        stores_missed=window.stores_missed,
        stores_unknown=window.stores_unknown,
        url=f"{report_url}/stores?missed=true&window={name}",
    )
