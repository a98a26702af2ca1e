"""Reports over HTTP."""

from typing import Literal
from uuid import UUID

import asyncpg
import msgspec
from litestar import get

from service.api.problems import documented
from service.pipeline import ReportOptions
from service.reports import ReportRunner, create_report, report_state


class Triggered(msgspec.Struct, frozen=True):
    """A report was asked for."""

    report_id: UUID


class ReportStatus(msgspec.Struct, frozen=True):
    """Where a report is."""

    report_id: str
    status: Literal["Started", "Completed", "Failed", "Not Found"]


_STATUS: dict[str | None, Literal["Started", "Completed", "Failed", "Not Found"]] = {
    "queued": "Started",
    "running": "Started",
    "completed": "Completed",
    "failed": "Failed",
    None: "Not Found",
}


@get(
    "/trigger_report",
    operation_id="triggerReport",
    tags=["reports"],
    opt={"scope": "write"},
    responses=documented(),
)
async def trigger_report(pool: asyncpg.Pool, runner: ReportRunner) -> Triggered:
    """Start a report over all stores; ask `/get_report/{report_id}` how far it is."""
    report_id = await create_report(pool, ReportOptions())
    runner.wake()
    return Triggered(report_id)


@get(
    "/get_report/{report_id:str}",
    operation_id="getReportStatus",
    tags=["reports"],
    responses=documented(),
)
async def get_report(pool: asyncpg.Pool, report_id: str) -> ReportStatus:
    """Tell where a report is; a report that there is not is `Not Found`, with HTTP 200."""
    try:
        state = await report_state(pool, UUID(report_id))
    except ValueError:
        state = None
    return ReportStatus(report_id, _STATUS[state])


ROUTES = [trigger_report, get_report]
