"""What a report asks, with its defaults."""

import msgspec

from compute.uptime import Interpolation
from service.reports.max_gap import DEFAULT_MAX_GAP, parse_max_gap


class ReportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a report asks.

    Attributes:
        as_of: the end of every window, milliseconds since 1970-01-01 UTC; None: the newest poll
        interpolation: how to estimate the status between observations
        max_gap: for how long an observation speaks to either side, milliseconds
        include_unknown: whether the CSV has the three columns of unknown time
        escape_formulas: whether ids that a spreadsheet takes for formulas are escaped in the CSV
        stores: ids of the stores to report on, each once; None: all
    """

    as_of: int | None = None
    interpolation: Interpolation = "nearest"
    max_gap: int = parse_max_gap(DEFAULT_MAX_GAP)
    include_unknown: bool = False
    escape_formulas: bool = False
    stores: tuple[str, ...] | None = None
