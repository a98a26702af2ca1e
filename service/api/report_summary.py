"""What a report says of all its stores together."""

import asyncpg
from litestar import get

from service.api.report_details import ReportId
from service.reports.summary import ReportSummary, read_summary
from service.web.problems import Problem, documented


@get(
    "/reports/{report_id:uuid}/summary",
    operation_id="getReportSummary",
    summary="Totals over all stores of a report",
    tags=["reports"],
    opt={"scope": "read"},
    responses=documented(404),
)
async def get_report_summary(pool: asyncpg.Pool, report_id: ReportId) -> ReportSummary:
    """Give the totals over all stores of a completed report, and the stores that were down most."""
    summary = await read_summary(pool, report_id)
    if summary is None:
        raise Problem(
            404,
            "There is no completed report with this id, or it was made by a version that kept no "
            "summary.",
            slug="summary-not-found",
        )
    return summary


ROUTES = [get_report_summary]
