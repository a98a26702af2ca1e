"""All stores of a completed report in the formats that are made of its exact totals."""

from collections.abc import Iterator
from typing import Literal

from compute.instants import milliseconds_of
from compute.packed_totals import StoreTotals
from compute.zones import TZ_VERSION
from service.reports.parquet import about_report, parquet
from service.reports.queue import Report
from service.reports.told_stores import ndjson
from service.reports.windows import window_names

MadeOfTotals = Literal["ndjson", "parquet"]


def rows_as(wanted: MadeOfTotals, report: Report, stores: StoreTotals) -> Iterator[bytes]:
    """The file, some megabytes at a time; each step reads the report's own file.

    Args:
        wanted: the format
        report: completed
        stores: its totals

    Raises:
        NoParquet: with the first piece
    """
    if wanted == "ndjson" or report.as_of is None:
        return ndjson(stores, window_names(report.asked_windows))
    as_of = milliseconds_of(report.as_of)
    return parquet(
        stores,
        report.asked_windows,
        as_of,
        about_report(
            report.options(None),
            as_of,
            report_id=str(report.id),
            tz_version=report.tz_version,
            fingerprint=report.fingerprint,
            polls_kept_since=milliseconds_of(report.polls_kept_since),
        ),
        same_zones=report.tz_version == TZ_VERSION,
    )
