"""Local business hours and time zones → business time, as merged UTC intervals.

Packed hours, as the database keeps them, are pairs of little-endian int4, ascending: the start in
milliseconds since Monday 00:00 local time, the end in milliseconds since 00:00 of the start's day.
They are a store's week without a date; the single row (-1, -1) is an empty one: closed on every
day. `compute.packed_rows` describes dated weeks and special hours. A store without any week is
always open; one with weeks is closed wherever no row of the week in force covers the time.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from compute.axis import DAY_MS, Axis, Ints
from compute.intervals import Intervals, merged
from compute.packed_rows import (
    NEVER,
    NO_ROWS,
    PackedRows,
    unpack_dated_weeks,
    unpack_special_hours,
)
from compute.wall_time import WallTime, offsets_over
from compute.zones import DEFAULT_TIMEZONE

#: A row of packed hours: start and end.
HOURS = np.dtype(("<i4", 2))
#: The packed form of a week without a date that is closed on every day.
EMPTY_WEEK = np.array([NEVER, NEVER], dtype=HOURS.base).tobytes()
MIDNIGHT_FROM_MS = DAY_MS - 60_000  # 23:59: many feeds cannot write 24:00 and write this instead
_MONDAY = 3  # 1970-01-01 was a Thursday: the weekday of day d is (d + 3) % 7
# Local dates to look at before and after a stretch of UTC: an interval may begin on the local date
# before and end two days later, and a local date may differ from the UTC date by one.
_DATES_BEFORE, _DATES_AFTER = 3, 1
_EVER = -(2**40)  # a date before all dates; with a minus, after all


def pack_hours(weekday: Ints, start_ms: Ints, end_ms: Ints) -> bytes:
    """The packed form of one store's week.

    Args:
        weekday: int64[n], 0 = Monday … 6 = Sunday
        start_ms: int64[n], milliseconds since local midnight, below 86,400,000
        end_ms: int64[n], the same, up to 86,400,000
    """
    rows = np.unique(np.column_stack([weekday * DAY_MS + start_ms, end_ms]), axis=0)
    return rows.astype(HOURS.base).tobytes()


def pack_weeks(store: Ints, hours: Ints) -> tuple[list[int], list[bytes]]:
    """The stores of some rows of hours, and the packed week of each.

    Args:
        store: int64[n], the store's number
        hours: int64[n], start in milliseconds since Monday 00:00 << 32 | end in milliseconds since
            the start's midnight
    """
    order = np.lexsort((hours, store))
    store, hours = store[order], hours[order]
    other = (store[1:] != store[:-1]) | (hours[1:] != hours[:-1])
    distinct = np.append(True, other)[: len(hours)]
    store, hours = store[distinct], hours[distinct]
    stores, first = np.unique(store, return_index=True)
    packed = np.column_stack([hours >> 32, hours & 0xFFFF_FFFF]).astype(HOURS.base).tobytes()
    bounds = [*(first * HOURS.itemsize).tolist(), len(packed)]
    weeks = [packed[start:end] for start, end in pairwise(bounds)]
    return stores.tolist(), weeks


def unpack_hours(packed: bytes) -> tuple[Ints, Ints, Ints]:
    """Weekdays, starts and ends (int64[n] each, as `pack_hours` takes them); none: `EMPTY_WEEK`."""
    rows = np.frombuffer(packed, dtype=HOURS).astype(np.int64)
    rows = rows[rows[:, 0] != NEVER]
    return rows[:, 0] // DAY_MS, rows[:, 0] % DAY_MS, rows[:, 1]


def counted_ends(start: Ints, end: Ints) -> Ints:
    """When rows of hours end as they count: from 23:59 on at midnight, else maybe on the next day.

    Args:
        start: int64[n], milliseconds since midnight
        end: int64[n], the same, as a feed gives it

    Returns:
        int64[n], milliseconds since the midnight that the start's day begins with
    """
    end = np.where(end >= MIDNIGHT_FROM_MS, DAY_MS, end)
    return np.where(end <= start, end + DAY_MS, end)


def business_time(
    axis: Axis,
    hours: PackedRows,
    zone: Ints,
    zone_names: tuple[str, ...],
    dated_weeks: PackedRows = NO_ROWS,
    special_hours: PackedRows = NO_ROWS,
) -> Intervals:
    """Business time of a batch of stores over the parts of the axis.

    Args:
        axis: the time to look at
        hours: weeks without a date
        zone: int64[stores], index into `zone_names`, or -1: none given
        zone_names: IANA names
        dated_weeks: the others
        special_hours: of single dates

    Raises:
        zoneinfo.ZoneInfoNotFoundError: the tz database lacks a name
    """
    names = (*zone_names, DEFAULT_TIMEZONE)
    zone_of_store = zone % len(names)
    special = _Special.of(special_hours)
    weekly, always = _weekly(len(zone), hours, dated_weeks, special)
    starts, ends = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for part_start, part_end in axis.parts:
        first_date, last_date = _dates(part_start, part_end)
        row, date = weekly.dates(first_date, last_date)
        store = weekly.store[row]
        if len(special.named):
            of_week = ~special.replaces(store, date, len(zone), first_date, last_date)
            row, date, store = row[of_week], date[of_week], store[of_week]
        start, end = weekly.start[row], weekly.end[row]
        if len(special.store):
            here = special.between(first_date, last_date)
            store = np.concatenate([store, special.store[here]])
            date = np.concatenate([date, special.date[here]])
            start = np.concatenate([start, special.start[here]])
            end = np.concatenate([end, special.end[here]])
        clocks = WallTime.of(names, *_stretch(first_date, last_date))
        midnight, in_zone = date * DAY_MS, zone_of_store[store]
        start_utc = np.maximum(clocks.to_utc(in_zone, midnight + start), part_start)
        end_utc = np.minimum(clocks.to_utc(in_zone, midnight + end), part_end)
        some = np.flatnonzero(end_utc > start_utc)
        starts += [axis.position(store[some], start_utc[some]), axis.position(always, part_start)]
        ends += [axis.position(store[some], end_utc[some]), axis.position(always, part_end)]
    return merged(np.concatenate(starts), np.concatenate(ends))


@dataclass(frozen=True)
class _Weekly:
    """Rows of weekly hours, int64[rows] each."""

    store: Ints
    weekday: Ints
    start: Ints  # milliseconds since midnight
    end: Ints  # the same, as it counts
    valid_from: Ints  # the first date on which an interval may begin, days since 1970-01-01
    valid_until: Ints  # the first date on which none may any more

    def dates(self, first: int, last: int) -> tuple[Ints, Ints]:
        """Rows, and the dates from `first` to `last` on which their intervals begin."""
        low = np.maximum(self.valid_from, first)
        low += (self.weekday - low - _MONDAY) % 7
        count = np.maximum((np.minimum(self.valid_until, last + 1) - low + 6) // 7, 0)
        row = np.repeat(np.arange(len(count)), count)
        nth = np.arange(len(row)) - (np.cumsum(count) - count)[row]
        return row, low[row] + 7 * nth


def _weekly(
    stores: int, hours: PackedRows, dated_weeks: PackedRows, special: "_Special"
) -> tuple[_Weekly, Ints]:
    """All rows of weekly hours, and the stores that are always open, which have none.

    A store that is always open, but not on some special date, has a row for each whole day.
    """
    base = np.frombuffer(hours.packed, dtype=HOURS).astype(np.int64)
    valid_from, dated_start, dated_end = unpack_dated_weeks(dated_weeks.packed)
    base_store, dated_store = hours.store, dated_weeks.store
    has_week = np.zeros(stores, dtype=bool)
    has_week[base_store] = has_week[dated_store] = True
    opens_special = np.zeros(stores, dtype=bool)
    opens_special[special.named] = True
    always, spelt = np.flatnonzero(~has_week & ~opens_special), ~has_week & opens_special

    first_dated, valid_until = _following(stores, dated_store, valid_from)
    whole = np.repeat(np.flatnonzero(spelt), 7)
    day = np.tile(np.arange(7), len(whole) // 7) * DAY_MS
    store = np.concatenate([base_store, dated_store, whole])
    starts = np.concatenate([base[:, 0], dated_start, day])
    ends = np.concatenate([base[:, 1], dated_end, np.full(len(whole), DAY_MS)])
    dateless = len(base_store)
    since = np.concatenate([np.full(dateless, _EVER), valid_from, np.full(len(whole), _EVER)])
    until = np.concatenate([first_dated[base_store], valid_until, first_dated[whole]])

    some = starts != NEVER
    if not some.all():
        store, starts, ends, since, until = (
            column[some] for column in (store, starts, ends, since, until)
        )
    weekday, start = np.divmod(starts, DAY_MS)
    return _Weekly(store, weekday, start, counted_ends(start, ends), since, until), always


def _following(stores: int, store: Ints, valid_from: Ints) -> tuple[Ints, Ints]:
    """The first date of each store that has another week, and each row's following one.

    Args:
        stores: how many there are
        store: int64[rows], of rows of dated weeks, ascending
        valid_from: int64[rows], ascending within a store

    Returns:
        int64[stores] and int64[rows]
    """
    first_dated = np.full(stores, -_EVER)
    if not len(store):
        return first_dated, store
    begins = np.append(True, (store[1:] != store[:-1]) | (valid_from[1:] != valid_from[:-1]))
    of_week, from_date = store[begins], valid_from[begins]
    first_dated[of_week[::-1]] = from_date[::-1]
    following = np.append(np.where(of_week[1:] == of_week[:-1], from_date[1:], -_EVER), -_EVER)
    return first_dated, following[np.cumsum(begins) - 1]


@dataclass(frozen=True)
class _Special:
    """Rows of special hours."""

    named: Ints  # int64[rows], store of each row, also of those that only close a date
    on: Ints  # int64[rows], date of the same
    store: Ints  # int64[n], store of each interval
    date: Ints  # int64[n]
    start: Ints  # int64[n], milliseconds since midnight
    end: Ints  # int64[n], the same, as it counts

    @classmethod
    def of(cls, rows: PackedRows) -> "_Special":
        store = rows.store
        date, start, end = unpack_special_hours(rows.packed)
        some = start != NEVER
        ends = counted_ends(start[some], end[some])
        return cls(store, date, store[some], date[some], start[some], ends)

    def replaces(
        self, store: Ints, date: Ints, stores: int, first: int, last: int
    ) -> npt.NDArray[np.bool_]:
        """Whether a store has special hours on a date from `first` to `last` (bool[n])."""
        replaced = np.zeros((stores, last - first + 1), dtype=bool)
        here = (self.on >= first) & (self.on <= last)
        replaced[self.named[here], self.on[here] - first] = True
        found: npt.NDArray[np.bool_] = replaced[store, date - first]
        return found

    def between(self, first: int, last: int) -> npt.NDArray[np.bool_]:
        """Which intervals begin on a date from `first` to `last`."""
        here: npt.NDArray[np.bool_] = (self.date >= first) & (self.date <= last)
        return here


def offsets_at(axis: Axis, name: str, instants: Ints) -> Ints:
    """How far a zone is east of UTC at some instants of an axis.

    Args:
        axis: the stretch of time that the instants lie in
        name: IANA name
        instants: int64[n], milliseconds since 1970-01-01 UTC

    Returns:
        int64[n], milliseconds

    Raises:
        zoneinfo.ZoneInfoNotFoundError: the tz database lacks the name
    """
    found = offsets_over(name, *_stretch(*_dates(axis.origin, axis.end)))
    changes = [offset.start for offset in found[1:]]
    ahead = np.array([offset.ahead for offset in found])
    return ahead[np.searchsorted(changes, instants, side="right")]


def _dates(from_ms: int, to_ms: int) -> tuple[int, int]:
    """First and last local date to look at for some time of UTC, days since 1970-01-01."""
    return from_ms // DAY_MS - _DATES_BEFORE, to_ms // DAY_MS + _DATES_AFTER


def _stretch(first_date: int, last_date: int) -> tuple[int, int]:
    """The local time from before some local dates to after them, milliseconds."""
    return (first_date - 1) * DAY_MS, (last_date + 3) * DAY_MS
