"""When in their week stores are down: downtime by local hour of the week, of all stores together.

Downtime begins where an inactive run or, within one, counted time begins, and ends where one of
the two ends. So it needs no look at single hours, only at those instants: each stretch that begins
in a quarter of an hour of UTC adds what is left of it and all later quarters, each that ends takes
the same away. A zone's quarters then go to the local hour that they begin in.
"""

from functools import lru_cache

import numpy as np

from compute.axis import PER_MS, Axis, Ints
from compute.business_hours import offsets_at
from compute.intervals import Intervals
from compute.uptime import Runs
from compute.zones import DEFAULT_TIMEZONE

HOURS = 7 * 24
#: As fine as offsets from UTC are, since 1972.
_QUARTER_MS = 15 * 60_000
_QUARTER = PER_MS * _QUARTER_MS
_HOUR_MS, _MONDAY_MS = 3_600_000, 4 * 86_400_000  # 1970-01-05 was a Monday


def down_by_hour(
    observed: Runs,
    counted: Intervals,
    axis: Axis,
    window: tuple[int, int],
    zone: Ints,
    zone_names: tuple[str, ...],
) -> Ints:
    """Downtime of all stores in a window, by the hours of their weeks.

    Args:
        observed: the runs of all stores
        counted: counted time of all stores
        axis: the axis of both
        window: half-open, milliseconds since 1970-01-01 UTC, within the axis
        zone: int64[stores], index into `zone_names`, or -1: none given
        zone_names: IANA names

    Returns:
        int64[HOURS], half-milliseconds, from Monday 00:00 on
    """
    down = np.flatnonzero(observed.active == 0)
    begin, end = observed.start[down], observed.end[down]
    at_begin, at_end = counted.begun(begin), counted.begun(end)
    open_at_begin, open_at_end = counted.holds(begin, at_begin), counted.holds(end, at_end)
    # Of the edges of counted time, those from a run's first instant to its end.
    opening = counted.start[_ranges(at_begin, at_end)]
    closing = counted.end[_ranges(at_begin - open_at_begin, at_end - open_at_end)]
    rising = np.concatenate([begin[open_at_begin], opening])
    falling = np.concatenate([end[open_at_end], closing])

    first = window[0] // _QUARTER_MS * _QUARTER_MS
    quarters = (window[1] - first) // _QUARTER_MS + 1
    names = (*zone_names, DEFAULT_TIMEZONE)
    instant = np.concatenate([rising, falling])
    sign = np.ones(len(instant))
    sign[len(rising) :] = -1
    # A run lies on its store's stretch or at most one reach beyond either end of it.
    store = (instant + PER_MS * axis.reach) // axis.stride
    low, high = (PER_MS * (edge - axis.origin) for edge in window)
    within = np.minimum(np.maximum(instant - store * axis.stride, low), high)
    since_first = within - PER_MS * (first - axis.origin)
    quarter = since_first // _QUARTER  # with the rest by itself, faster than divmod
    rest = since_first - quarter * _QUARTER
    slot = (zone % len(names))[store] * quarters + quarter
    # Sums of whole numbers below 2**53 are exact in float64, which is what bincount adds in. What
    # begins in a zone ends in it, so nothing lasts into the next one.
    lasting = np.bincount(slot, sign, len(names) * quarters).astype(np.int64).cumsum()
    by_quarter = lasting * _QUARTER - np.bincount(slot, sign * rest, len(names) * quarters)
    hours = _hours_of_weeks(names, axis, first, quarters)
    by_hour: Ints = np.bincount(hours, by_quarter, HOURS).astype(np.int64)
    return by_hour


def _ranges(first: Ints, last: Ints) -> Ints:
    """All whole numbers from each first to before its last, one after the other."""
    count = last - first
    ends = np.cumsum(count)
    numbers: Ints = np.repeat(last - ends, count) + np.arange(ends[-1] if len(ends) else 0)
    return numbers


@lru_cache(maxsize=1024)
def _hours_of_week(name: str, axis: Axis, first: int, quarters: int) -> Ints:
    """int64[quarters]: the local hour of the week that each quarter begins in.

    Args:
        name: IANA name
        axis: on which the quarters lie
        first: begin of the first quarter, milliseconds since 1970-01-01 UTC
        quarters: how many
    """
    begin = first + _QUARTER_MS * np.arange(quarters)
    return (begin + offsets_at(axis, name, begin) - _MONDAY_MS) // _HOUR_MS % HOURS


@lru_cache(maxsize=64)
def _hours_of_weeks(names: tuple[str, ...], axis: Axis, first: int, quarters: int) -> Ints:
    """int64[zones * quarters]: the same of each zone, joined."""
    return np.concatenate([_hours_of_week(name, axis, first, quarters) for name in names])
