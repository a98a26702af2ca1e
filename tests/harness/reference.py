"""The rules of uptime written out slowly, one store and one piece of time at a time.

The kernel in `compute` is fast and therefore clever; this is neither. It exists to be read beside
the rules and to be right, and the tests hold the kernel to it. Everything is exact: instants are
whole milliseconds, totals are fractions of a millisecond.
"""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

Interpolation = Literal["nearest", "previous"]
Interval = tuple[int, int]
Totals = dict[str, tuple[Fraction, Fraction, Fraction]]

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
WINDOWS = {"hour": HOUR, "day": DAY, "week": WEEK}

DEFAULT_TIMEZONE = "America/Chicago"
LAST_MINUTE_OF_DAY = 23 * HOUR + 59 * MINUTE
MILLISECOND = timedelta(milliseconds=1)
EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Store:
    """What is known of one store.

    `polls` are (UTC instant in milliseconds since 1970-01-01, active) in order of arrival.
    `hours` are (weekday with 0 = Monday, start, end), both in milliseconds since local midnight,
    the end at most 24:00; no row at all means open around the clock.
    """

    store_id: str
    polls: tuple[tuple[int, bool], ...] = ()
    hours: tuple[tuple[int, int, int], ...] = ()
    timezone: str | None = None


def utc_instant(day: date, clock: int, zone: ZoneInfo) -> int:
    """UTC milliseconds of the wall time `clock` milliseconds after 00:00 of a local date.

    An ambiguous wall time is its first occurrence, a skipped one takes the offset before the gap:
    both are what `fold=0` says.
    """
    wall = datetime(day.year, day.month, day.day) + timedelta(milliseconds=clock)
    offset = wall.replace(tzinfo=zone, fold=0).utcoffset()
    assert offset is not None
    return (wall - offset - EPOCH) // MILLISECOND


def opening(day: date, start: int, end: int, zone: ZoneInfo) -> Interval:
    """One row of business hours on one local date, as UTC milliseconds [start, end).

    The interval is empty where the end does not come after the start.
    """
    last_day = day
    if end >= LAST_MINUTE_OF_DAY:
        end = DAY
    if end <= start:
        last_day = day + timedelta(days=1)
    return utc_instant(day, start, zone), utc_instant(last_day, end, zone)


def merged(intervals: list[Interval]) -> list[Interval]:
    """The same instants as disjoint intervals in ascending order, without empty ones."""
    result: list[Interval] = []
    for start, end in sorted(intervals):
        if end <= start:
            continue
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], end))
        else:
            result.append((start, end))
    return result


def business_time(store: Store, first: int, last: int) -> list[Interval]:
    """Business time that holds every open instant from `first` to `last`, both included.

    The intervals may reach beyond `first` and `last`; they are not cut there.
    """
    if not store.hours:
        return [(first, last + 1)]
    zone = ZoneInfo(store.timezone or DEFAULT_TIMEZONE)
    # A local date can differ from the UTC date by one, an overnight interval reaches one further,
    # and a zone that skips a whole date adds a third.
    day = datetime.fromtimestamp(first // 1000, UTC).date() - timedelta(days=3)
    stop = datetime.fromtimestamp(last // 1000, UTC).date() + timedelta(days=3)
    intervals = []
    while day <= stop:
        for weekday, start, end in store.hours:
            if day.weekday() == weekday:
                intervals.append(opening(day, start, end, zone))
        day += timedelta(days=1)
    return merged(intervals)


def holds(intervals: list[Interval], instant: int | Fraction) -> bool:
    return any(start <= instant < end for start, end in intervals)


def observations(store: Store, as_of: int, max_gap: int) -> list[tuple[int, bool]]:
    """Polls inside business time that can speak into a window, ascending, one per millisecond."""
    earliest = as_of - WEEK - max_gap
    business = business_time(store, earliest, as_of)
    last_arrival = dict(store.polls)
    return [
        (instant, active)
        for instant, active in sorted(last_arrival.items())
        if earliest <= instant <= as_of and holds(business, instant)
    ]


def status_at(
    instant: Fraction,
    observed: list[tuple[int, bool]],
    interpolation: Interpolation,
    max_gap: int,
) -> bool | None:
    """Whether the store counts as up at an instant; None where no observation speaks for it."""
    if interpolation == "nearest":
        candidates = [(abs(instant - seen), seen, active) for seen, active in observed]
    else:
        candidates = [
            (instant - seen, seen, active) for seen, active in observed if seen <= instant
        ]
    if not candidates:
        return None
    # The smallest tuple is the nearest observation and, on a tie, the earlier.
    distance, _, active = min(candidates)
    return active if distance <= max_gap else None


def pieces(
    store: Store, as_of: int, interpolation: Interpolation, max_gap: int
) -> Iterator[tuple[Fraction, Fraction, bool | None]]:
    """Business time of the week in pieces: start, end, and whether it counts as up.

    The week is cut wherever anything can change; within a piece nothing does, so its middle
    decides for all of it.
    """
    business = business_time(store, as_of - WEEK, as_of)
    observed = observations(store, as_of, max_gap)

    cuts = [Fraction(as_of)] + [Fraction(as_of - length) for length in WINDOWS.values()]
    for opens, closes in business:
        cuts += [Fraction(opens), Fraction(closes)]
    for seen, _ in observed:
        cuts += [Fraction(seen - max_gap), Fraction(seen), Fraction(seen + max_gap)]
    for (earlier, _), (later, _) in pairwise(observed):
        cuts.append(Fraction(earlier + later, 2))

    for start, end in pairwise(sorted(set(cuts))):
        if start < as_of - WEEK or end > as_of:
            continue
        middle = (start + end) / 2
        if holds(business, middle):
            yield start, end, status_at(middle, observed, interpolation, max_gap)


def reference_totals(
    store: Store, as_of: int, interpolation: Interpolation, max_gap: int
) -> Totals:
    """Milliseconds (up, down, unknown) of each window, "hour", "day" and "week"."""
    totals = {window: [Fraction(0), Fraction(0), Fraction(0)] for window in WINDOWS}
    for start, end, status in pieces(store, as_of, interpolation, max_gap):
        column = 2 if status is None else 0 if status else 1
        for window, length in WINDOWS.items():
            if start >= as_of - length:
                totals[window][column] += end - start
    return {window: (up, down, unknown) for window, (up, down, unknown) in totals.items()}


def reference_down_by_hour(
    stores: Sequence[Store], as_of: int, interpolation: Interpolation, max_gap: int
) -> list[Fraction]:
    """Milliseconds of downtime in the week by local hour of the week, of all stores.

    A quarter of an hour of UTC belongs to the local hour that it begins in.
    """
    quarter = 15 * MINUTE
    hours = [Fraction(0)] * (7 * 24)
    for store in stores:
        zone = ZoneInfo(store.timezone or DEFAULT_TIMEZONE)
        for start, end, status in pieces(store, as_of, interpolation, max_gap):
            if status is not False:
                continue
            begin = int(start // quarter) * quarter
            while begin < end:
                local = datetime.fromtimestamp(begin // 1000, zone)
                stop = min(end, Fraction(begin + quarter))
                hours[local.weekday() * 24 + local.hour] += stop - max(start, Fraction(begin))
                begin += quarter
    return hours


def business_totals(store: Store, as_of: int) -> dict[str, int]:
    """Milliseconds of business time in each window."""
    business = business_time(store, as_of - WEEK, as_of)
    return {
        window: sum(max(0, min(end, as_of) - max(start, as_of - length)) for start, end in business)
        for window, length in WINDOWS.items()
    }


def two_decimals(amount: Fraction) -> str:
    """A positive amount or zero with two decimals, half away from zero."""
    hundredths = math.floor(amount * 100 + Fraction(1, 2))
    return f"{hundredths // 100}.{hundredths % 100:02d}"


def reference_csv_row(
    store: Store, as_of: int, interpolation: Interpolation, max_gap: int, include_unknown: bool
) -> str:
    """The store's line of the report without its line end: minutes, hours, hours per status."""
    totals = reference_totals(store, as_of, interpolation, max_gap)
    fields = [store.store_id]
    for column in range(3 if include_unknown else 2):
        fields.append(two_decimals(totals["hour"][column] / MINUTE))
        fields.append(two_decimals(totals["day"][column] / HOUR))
        fields.append(two_decimals(totals["week"][column] / HOUR))
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()
