"""The rules of uptime written out slowly, one store and one piece of time at a time.

The kernel in `compute` is fast and therefore clever; this is neither. It exists to be read beside
the rules and to be right, and the tests hold the kernel to it. Everything is exact: instants are
whole milliseconds, totals are fractions of a millisecond.
"""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

Interpolation = Literal["nearest", "previous"]
State = Literal["closed", "excluded", "unknown", "down", "up"]
Interval = tuple[int, int]
#: Weekday with 0 = Monday, start and end, both in milliseconds since local midnight.
Row = tuple[int, int, int]
#: The local date from which a week is in force, None: from the beginning of time; and its rows.
Week = tuple[date | None, tuple[Row, ...]]
#: Up, down, unknown and excluded, milliseconds.
Parts = tuple[Fraction, Fraction, Fraction, Fraction]
Totals = dict[str, Parts]
#: Begin (None: before all that was looked at, or never), end, counted time down, and the state that
#: ends it (None: it is open).
Outage = tuple[Fraction | None, Fraction, Fraction, State | None]

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
    `hours` are the rows of the week that has no date, the end of each at most 24:00; `weeks` are
    those that have one, and where the one without a date is empty, that. No row and no week means
    open around the clock. `special` are local dates, each with the (start, end) that replace its
    weekly hours; none: closed. `exclusions` are UTC milliseconds [from, to). `tags` are key and
    value; `target` is its own.
    """

    store_id: str
    polls: tuple[tuple[int, bool], ...] = ()
    hours: tuple[Row, ...] = ()
    timezone: str | None = None
    weeks: tuple[Week, ...] = ()
    special: tuple[tuple[date, tuple[Interval, ...]], ...] = ()
    exclusions: tuple[Interval, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    target: Fraction | None = None

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone or DEFAULT_TIMEZONE)


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


def week_on(store: Store, day: date) -> tuple[Row, ...]:
    """The rows of the week that is in force on a local date."""
    weeks = {valid_from or date.min: rows for valid_from, rows in store.weeks}
    if store.hours:
        weeks[date.min] = store.hours
    if not weeks:
        return tuple((weekday, 0, DAY) for weekday in range(7))
    in_force = [valid_from for valid_from in weeks if valid_from <= day]
    return weeks[max(in_force)] if in_force else ()


def beginning_on(store: Store, day: date) -> list[Interval]:
    """Start and end on the wall of the intervals that begin on a local date."""
    special = dict(store.special)
    if day in special:
        return list(special[day])
    return [(start, end) for weekday, start, end in week_on(store, day) if weekday == day.weekday()]


def business_time(store: Store, first: int, last: int) -> list[Interval]:
    """Business time that holds every open instant from `first` to `last`, both included.

    The intervals may reach beyond `first` and `last`; they are not cut there.
    """
    # A local date can differ from the UTC date by one, an overnight interval reaches one further,
    # and a zone that skips a whole date adds a third.
    day = datetime.fromtimestamp(first // 1000, UTC).date() - timedelta(days=3)
    stop = datetime.fromtimestamp(last // 1000, UTC).date() + timedelta(days=3)
    intervals = []
    while day <= stop:
        intervals += [opening(day, *interval, store.zone) for interval in beginning_on(store, day)]
        day += timedelta(days=1)
    return merged(intervals)


def holds(intervals: Sequence[Interval], instant: int | Fraction) -> bool:
    return any(start <= instant < end for start, end in intervals)


def observations(
    store: Store, first: int, last: int, as_of: int, max_gap: int
) -> list[tuple[int, bool]]:
    """Polls inside counted time that can speak from `first` to `last`.

    They ascend, and there is one per millisecond.
    """
    earliest, latest = first - max_gap, min(last + max_gap, as_of)
    business = business_time(store, earliest, latest)
    last_arrival = dict(store.polls)
    return [
        (instant, active)
        for instant, active in sorted(last_arrival.items())
        if earliest <= instant <= latest
        and holds(business, instant)
        and not holds(store.exclusions, instant)
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
    store: Store, window: Interval, as_of: int, interpolation: Interpolation, max_gap: int
) -> Iterator[tuple[Fraction, Fraction, State]]:
    """A window in pieces: start, end, and the state throughout.

    The window is cut wherever anything can change; within a piece nothing does, so its middle
    decides for all of it.
    """
    first, last = window
    if first >= last:
        return
    business = business_time(store, first, last)
    observed = observations(store, first, last, as_of, max_gap)

    cuts = [Fraction(first), Fraction(last)]
    for start, end in (*business, *store.exclusions):
        cuts += [Fraction(start), Fraction(end)]
    for seen, _ in observed:
        cuts += [Fraction(seen - max_gap), Fraction(seen), Fraction(seen + max_gap)]
    for (earlier, _), (later, _) in pairwise(observed):
        cuts.append(Fraction(earlier + later, 2))

    inside = sorted(cut for cut in set(cuts) if first <= cut <= last)
    for begin, finish in pairwise(inside):
        middle = (begin + finish) / 2
        state: State
        if not holds(business, middle):
            state = "closed"
        elif holds(store.exclusions, middle):
            state = "excluded"
        else:
            status = status_at(middle, observed, interpolation, max_gap)
            state = "unknown" if status is None else "up" if status else "down"
        yield begin, finish, state


def state_at(store: Store, as_of: int, max_gap: int) -> State:
    """The state of a store at an instant, which is also the `as_of` of that question."""
    if not holds(business_time(store, as_of, as_of), as_of):
        return "closed"
    if holds(store.exclusions, as_of):
        return "excluded"
    observed = observations(store, as_of, as_of, as_of, max_gap)
    if not observed:
        return "unknown"
    seen, active = observed[-1]
    # A reach is half open: that long after its last poll a store is unknown.
    if as_of - seen >= max_gap:
        return "unknown"
    return "up" if active else "down"


def reference_past(
    store: Store, as_of: int, max_gap: int, look_back: int
) -> list[tuple[Fraction, Fraction, State]]:
    """The `previous` timeline before an instant, and, without length, what is at the instant."""
    window = as_of - look_back, as_of
    now = Fraction(as_of)
    return [
        *pieces(store, window, as_of, "previous", max_gap),
        (now, now, state_at(store, as_of, max_gap)),
    ]


def reference_outages(store: Store, as_of: int, max_gap: int, look_back: int) -> list[Outage]:
    """The outages that an instant has behind it or is in, as far as one looks back."""
    found: list[Outage] = []
    begin: Fraction | None = None
    end, length = Fraction(0), Fraction(0)
    is_down = was_other = False
    for start, finish, state in reference_past(store, as_of, max_gap, look_back):
        if state == "down":
            if not is_down:
                begin, length = start if was_other else None, Fraction(0)
            is_down, end = True, finish
            length += finish - start
        elif state in ("up", "unknown"):
            if is_down:
                found.append((begin, end, length, state))
            is_down, was_other = False, True
    if is_down:
        found.append((begin, end, length, None))
    return found


def reaching(outages: Sequence[Outage], window: Interval, as_of: int) -> list[Outage]:
    """Those outages that reach into a window, which ends at the instant or before.

    One that is open reaches up to the instant, through whatever closing, and is there at it.
    """
    first, last = window
    return [
        (begin, end, length, then)
        for begin, end, length, then in outages
        if first < last
        and (then is None or end > first)
        and (begin is None or begin < last or begin == last == as_of)
    ]


def reference_since(store: Store, as_of: int, max_gap: int, look_back: int) -> Fraction | None:
    """Since when a store has been in its state; None: for longer than one looks back, or ever."""
    *before, (begin, _, now) = reference_past(store, as_of, max_gap, look_back)
    joins: tuple[State, ...] = ("closed", "excluded") if now in ("up", "down") else ()
    for start, _, state in reversed(before):
        if state == now:
            begin = start
        elif state not in joins:
            return begin
    return None


def reference_newest_poll(store: Store, as_of: int) -> tuple[int, bool] | None:
    """The newest poll at or before an instant, whether the store was open then or not."""
    return max(
        ((seen, on) for seen, on in dict(store.polls).items() if seen <= as_of), default=None
    )


def reference_down_for(store: Store, as_of: int, max_gap: int, look_back: int) -> Fraction:
    """Counted downtime of the outage that is open at an instant, as far as one looks back."""
    length = Fraction(0)
    for start, finish, state in reversed(reference_past(store, as_of, max_gap, look_back)):
        if state in ("up", "unknown"):
            break
        if state == "down":
            length += finish - start
    return length


def reference_counted(store: Store, first: int, last: int) -> Fraction:
    """Milliseconds of counted time between two instants."""
    told = pieces(store, (first, last), last, "previous", DAY)
    closed: tuple[State, ...] = ("closed", "excluded")
    return sum((end - start for start, end, state in told if state not in closed), Fraction(0))


def reference_silent_for(store: Store, as_of: int) -> Fraction:
    """Counted time since the newest poll; 0 if there is none."""
    newest = reference_newest_poll(store, as_of)
    return Fraction(0) if newest is None else reference_counted(store, newest[0], as_of)


def reference_parts(
    store: Store, window: Interval, as_of: int, interpolation: Interpolation, max_gap: int
) -> Parts:
    """Milliseconds (up, down, unknown, excluded) of one window."""
    total: dict[State, Fraction] = defaultdict(Fraction)
    for start, end, state in pieces(store, window, as_of, interpolation, max_gap):
        total[state] += end - start
    return total["up"], total["down"], total["unknown"], total["excluded"]


def reference_totals(
    store: Store, as_of: int, interpolation: Interpolation, max_gap: int
) -> Totals:
    """The same of the windows of a report without any, "hour", "day" and "week"."""
    return {
        window: reference_parts(store, (as_of - length, as_of), as_of, interpolation, max_gap)
        for window, length in WINDOWS.items()
    }


def reference_down_by_hour(
    stores: Sequence[Store], as_of: int, interpolation: Interpolation, max_gap: int
) -> list[Fraction]:
    """Milliseconds of downtime in the week by local hour of the week, of all stores.

    A quarter of an hour of UTC belongs to the local hour that it begins in.
    """
    quarter = 15 * MINUTE
    hours = [Fraction(0)] * (7 * 24)
    week = as_of - WEEK, as_of
    for store in stores:
        for start, end, state in pieces(store, week, as_of, interpolation, max_gap):
            if state != "down":
                continue
            begin = int(start // quarter) * quarter
            while begin < end:
                local = datetime.fromtimestamp(begin // 1000, store.zone)
                stop = min(end, Fraction(begin + quarter))
                hours[local.weekday() * 24 + local.hour] += stop - max(start, Fraction(begin))
                begin += quarter
    return hours


def business_total(store: Store, window: Interval) -> int:
    """Milliseconds of business time in a window."""
    first, last = window
    if first >= last:
        return 0
    business = business_time(store, first, last)
    return sum(max(0, min(end, last) - max(start, first)) for start, end in business)


def shared(store: Store, keys: Sequence[str]) -> tuple[str, ...]:
    """What a store has in common with the others of its group."""
    tags = {**dict(store.tags), "timezone": store.timezone or DEFAULT_TIMEZONE}
    return tuple(tags.get(key, "") for key in keys)


@dataclass
class Together:
    """Some stores in one window: milliseconds, and how many there are of them.

    `met`, `missed` and `without` count those that have a target; `used` and `allowed` are their
    downtime, and the downtime that their targets allow. `worst` are the stores with any downtime,
    most first: id, up, down.
    """

    parts: Parts
    met: int
    missed: int
    without: int
    used: Fraction
    allowed: Fraction
    worst: list[tuple[str, Fraction, Fraction]]


def reference_together(
    stores: Sequence[tuple[Store, Parts]], of_report: Fraction | None
) -> Together:
    """Stores and their parts of one window together; `of_report`: the report's target."""
    met = missed = without = 0
    used = allowed = Fraction(0)
    for store, (up, down, _, _) in stores:
        target = of_report if store.target is None else store.target
        if target is None:
            continue
        if not up + down:
            without += 1
            continue
        if up >= target * (up + down):
            met += 1
        else:
            missed += 1
        used += down
        allowed += (1 - target) * (up + down)
    unknown, excluded = (sum((parts[at] for _, parts in stores), Fraction(0)) for at in (2, 3))
    up, down = (sum((parts[at] for _, parts in stores), Fraction(0)) for at in (0, 1))
    worst = [(store.store_id, parts[0], parts[1]) for store, parts in stores if parts[1]]
    worst.sort(key=lambda one: (-one[2], one[0].encode()))
    return Together((up, down, unknown, excluded), met, missed, without, used, allowed, worst)


def two_decimals(amount: Fraction) -> str:
    """A positive amount or zero with two decimals, half away from zero."""
    hundredths = math.floor(amount * 100 + Fraction(1, 2))
    return f"{hundredths // 100}.{hundredths % 100:02d}"


def reference_csv_row(
    store: Store,
    as_of: int,
    interpolation: Interpolation,
    max_gap: int,
    include_unknown: bool,
    include_excluded: bool = False,
) -> str:
    """The store's line of the report without its line end: minutes, hours, hours per measure."""
    totals = reference_totals(store, as_of, interpolation, max_gap)
    columns = [0, 1] + [2] * include_unknown + [3] * include_excluded
    amounts = [
        totals[window][column] / unit
        for column in columns
        for window, unit in (("hour", MINUTE), ("day", HOUR), ("week", HOUR))
    ]
    return csv_line(store, amounts)


def reference_csv_row_of_windows(
    store: Store,
    windows: Sequence[Interval],
    as_of: int,
    interpolation: Interpolation,
    max_gap: int,
    columns: Sequence[int],
    unit: int,
) -> str:
    """The same of a report with windows: `columns` of `Parts`, all in one unit, milliseconds."""
    parts = [reference_parts(store, each, as_of, interpolation, max_gap) for each in windows]
    return csv_line(store, [part[column] / unit for column in columns for part in parts])


def csv_line(store: Store, amounts: Sequence[Fraction]) -> str:
    line = io.StringIO()
    fields = [store.store_id, *map(two_decimals, amounts)]
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()
