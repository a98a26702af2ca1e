"""What a report asks, with its bounds and defaults."""

import msgspec

from compute.uptime import Interpolation
from service.spans import parse_span


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
    max_gap: int = 24 * 3_600_000
    include_unknown: bool = False
    escape_formulas: bool = False
    stores: tuple[str, ...] | None = None


SHORTEST_MAX_GAP, LONGEST_MAX_GAP = 60_000, 31 * 86_400_000


def parse_max_gap(text: str) -> int:
    """Milliseconds of a span such as `24h`, `90m` or `1d12h`.

    Raises:
        ValueError: it is no span, or shorter than a minute or longer than 31 days
    """
    span = parse_span(text)
    if not SHORTEST_MAX_GAP <= span <= LONGEST_MAX_GAP:
        raise ValueError("is not between 1m and 31d")
    return span
