"""What a report says of all its stores together."""

import asyncpg
from litestar import get

from service.api.report_details import ReportId
from service.reports.summary import ReportSummary, read_summary
from service.web.problems import Problem, documented


@get(
    "/reports/{report_id:uuid}/summary",
    operation_id="getReportSummary",
    summary="A report's stores together",
    tags=["reports"],
    opt={"scope": "read"},
    responses=documented(404),
)
async def get_report_summary(pool: asyncpg.Pool, report_id: ReportId) -> ReportSummary:
    """Tell how all stores of a completed report were together, and which were down the most."""
    summary = await read_summary(pool, report_id)
    if summary is None:
        raise Problem(
            404,
            "There is no completed report of this id, or it was made by a version that kept no "
            "summary.",
            slug="summary-not-found",
        )
    return summary


ROUTES = [get_report_summary]
