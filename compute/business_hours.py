"""Weekly local business hours and time zones → business time, as merged UTC intervals.

Packed hours, as the database keeps them, are pairs of little-endian int4, ascending: the start in
milliseconds since Monday 00:00 local time, the end in milliseconds since 00:00 of the start's day.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from compute.axis import DAY_MS, Axis, Ints
from compute.zones import DEFAULT_TIMEZONE, Offset, offsets

#: A row of packed hours: start and end.
HOURS = np.dtype(("<i4", 2))
MIDNIGHT_FROM_MS = DAY_MS - 60_000  # 23:59: many feeds cannot write 24:00 and write this instead
_MONDAY = 3  # 1970-01-01 was a Thursday: the weekday of day d is (d + 3) % 7
# Local dates to look at before and after a stretch of UTC: an interval may begin on the local date
# before and end two days later, and a local date may differ from the UTC date by one.
_DATES_BEFORE, _DATES_AFTER = 3, 1


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
    """Weekdays, starts and ends (int64[n] each, as `pack_hours` takes them)."""
    rows = np.frombuffer(packed, dtype=HOURS).astype(np.int64)
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


@dataclass(frozen=True)
class BusinessTime:
    """When the stores of a batch are open: disjoint, ascending, half-open intervals on an axis.

    Attributes:
        start: int64[m], positions
        end: int64[m], positions
    """

    start: Ints
    end: Ints

    def until(self, position: Ints) -> Ints:
        """Business time before each position, summed over all stores up to there.

        Args:
            position: int64[n], positions

        Returns:
            int64[n], half-milliseconds
        """
        begun = self.begun(position)
        until: Ints = self._total[begun] - np.maximum(self._end[begun] - position, 0)
        return until

    def begun(self, position: Ints) -> Ints:
        """How many intervals begin at or before each position (int64[n])."""
        return np.searchsorted(self.start, position, side="right")

    def holds(self, position: Ints, begun: Ints) -> npt.NDArray[np.bool_]:
        """Whether each position is in business time (bool[n]); `begun`: as that tells of them."""
        held: npt.NDArray[np.bool_] = self._end[begun] > position
        return held

    # What comes before the first interval, and the intervals.

    @cached_property
    def _total(self) -> Ints:
        return np.concatenate([[0], np.cumsum(self.end - self.start)])

    @cached_property
    def _end(self) -> Ints:
        return np.concatenate([[np.iinfo(np.int64).min // 2], self.end])


def business_time(
    axis: Axis, packed: bytes, rows: Ints, zone: Ints, zone_names: tuple[str, ...]
) -> BusinessTime:
    """Business time of a batch of stores over the axis.

    A store without rows is always open; one with rows is closed whenever no row covers the time.

    Args:
        axis: the stretch of time to look at
        packed: packed hours of all stores, joined
        rows: int64[stores], how many rows of hours each store has
        zone: int64[stores], index into `zone_names`, or -1: none given
        zone_names: IANA names

    Raises:
        zoneinfo.ZoneInfoNotFoundError: the tz database lacks a name
    """
    stores = np.arange(len(rows))
    hours = np.frombuffer(packed, dtype=HOURS).astype(np.int64)
    store = np.repeat(stores, rows)
    weekday, start = np.divmod(hours[:, 0], DAY_MS)
    end = counted_ends(start, hours[:, 1])

    first_date, last_date = _dates(axis)
    weeks = (last_date - first_date) // 7 + 1
    date = first_date + (weekday - first_date - _MONDAY) % 7
    midnight = (date[:, None] + 7 * np.arange(weeks)) * DAY_MS
    zones = _Offsets.of((*zone_names, DEFAULT_TIMEZONE), *_stretch(first_date, last_date))
    zone_of_row = (zone % (len(zone_names) + 1))[store][:, None]
    start_utc = zones.to_utc(zone_of_row, midnight + start[:, None])
    end_utc = zones.to_utc(zone_of_row, midnight + end[:, None])

    start_utc = np.maximum(start_utc, axis.origin)
    end_utc = np.minimum(end_utc, axis.end)
    row, week = np.nonzero(end_utc > start_utc)
    always = stores[rows == 0]
    open_from = np.concatenate(
        [axis.position(store[row], start_utc[row, week]), axis.position(always, axis.origin)]
    )
    open_to = np.concatenate(
        [axis.position(store[row], end_utc[row, week]), axis.position(always, axis.end)]
    )
    return _merge(open_from, open_to)


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
    found = _offsets(name, *_stretch(*_dates(axis)))
    changes = [offset.start for offset in found[1:]]
    ahead = np.array([offset.ahead for offset in found])
    return ahead[np.searchsorted(changes, instants, side="right")]


def _dates(axis: Axis) -> tuple[int, int]:
    """First and last local date to look at, days since 1970-01-01."""
    return axis.origin // DAY_MS - _DATES_BEFORE, axis.end // DAY_MS + _DATES_AFTER


def _stretch(first_date: int, last_date: int) -> tuple[int, int]:
    """The local time from before some local dates to after them, milliseconds."""
    return (first_date - 1) * DAY_MS, (last_date + 3) * DAY_MS


def _merge(start: Ints, end: Ints) -> BusinessTime:
    """Merge overlapping and touching intervals. Those of different stores never touch."""
    order = np.argsort(start)
    start, end = start[order], np.maximum.accumulate(end[order])
    apart = start[1:] > end[:-1]
    return BusinessTime(
        start=start[np.concatenate([[True], apart])[: len(start)]],
        end=end[np.concatenate([apart, [True]])[: len(end)]],
    )


@dataclass(frozen=True)
class _Offsets:
    """UTC offsets of some zones over some dates, as steps in local wall time.

    A wall time takes the offset before a transition at UTC `T` from offset `a` to `b` unless it is
    at or after `T + max(a, b)`: that is RFC 5545 §3.3.5 (`fold=0`), both for the hour that comes
    twice (first occurrence) and for the one that is skipped (offset before the gap).
    """

    origin: int  # local milliseconds at which every zone's stretch begins
    stride: int  # milliseconds from a zone's stretch to the next
    step: Ints  # [k], zone * stride + (local time of the step - origin)
    offset: Ints  # [k], milliseconds east of UTC from that step on

    @classmethod
    def of(cls, names: tuple[str, ...], origin: int, end: int) -> "_Offsets":
        stride = end - origin
        steps: list[int] = []
        offsets: list[int] = []
        for zone, name in enumerate(names):
            for local, offset in _steps(name, origin, end):
                steps.append(zone * stride + max(local - origin, 0))
                offsets.append(offset)
        return cls(origin, stride, np.array(steps), np.array(offsets))

    def to_utc(self, zone: Ints, local: Ints) -> Ints:
        step = np.searchsorted(self.step, zone * self.stride + (local - self.origin), side="right")
        utc: npt.NDArray[np.int64] = local - self.offset[step - 1]
        return utc


def _steps(name: str, from_ms: int, to_ms: int) -> Iterator[tuple[int, int]]:
    """Steps of a zone's offset, the first at `from_ms`: (local ms from which, ms east of UTC)."""
    found = _offsets(name, from_ms, to_ms)
    yield from_ms, found[0].ahead
    for before, after in pairwise(found):
        yield after.start + max(before.ahead, after.ahead), after.ahead


def _offsets(name: str, from_ms: int, to_ms: int) -> tuple[Offset, ...]:
    """A zone's offsets over a stretch of local time, milliseconds."""
    return offsets(name, from_ms - DAY_MS, to_ms + DAY_MS)
