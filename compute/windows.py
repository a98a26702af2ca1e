"""The windows of a report: from the texts that name them to the instants that they come to.

| text | window |
| --- | --- |
| `30d`, `36h`, `1d12h` | so much elapsed time before `as_of` |
| `2026`, `2026-Q3`, `2026-10`, `2026-W44`, `2026-10-05` | a calendar period |
| `this-month`, `previous-week`, … | the period that holds `as_of`'s date, or the one before it |
| `days:2026-10`, `months:previous-year` | each day, each month of a period |
| `FROM/TO` | from one instant to another |

A calendar period lasts from the local midnight that its first date begins with to the one after its
last date, in each store's own zone or, if a report names a calendar zone, in that one for all.
"""

import re
from calendar import monthrange
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal, NamedTuple, get_args

import numpy as np

from compute.axis import DAY_MS, Ints
from compute.instants import date_on, day_of, instant_of, parse_instant
from compute.wall_time import WallTime
from compute.zones import offsets

MOST_WINDOWS = 100
LONGEST_DAYS = 400
#: Since 1967 no zone's clocks have been further ahead of UTC, or behind it: a test watches that.
MOST_AHEAD_MS, MOST_BEHIND_MS = 14 * 3_600_000, 12 * 3_600_000


@dataclass(frozen=True)
class Window:
    """A window, which is either some time for all stores or some dates of each store's calendar.

    Attributes:
        name: as it stands in the names of CSV columns: last_30d, 2026_10, range_1
        text: what to write to get it: 30d, 2026-10
        instants: half open, milliseconds since 1970-01-01 UTC, not cut at `as_of`; None: by dates
        dates: first and last local date, days since 1970-01-01; None: by instants
    """

    name: str
    text: str
    instants: tuple[int, int] | None = None
    dates: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if (self.instants is None) == (self.dates is None):
            raise ValueError("a window has either instants or dates")


class WindowRefused(Exception):  # noqa: N818 - read by a person as a sentence
    """A text that is no window, or one that goes beyond the limits.

    Attributes:
        text: the text
        problem: what is wrong with it, and what to write instead; continues a sentence that begins
            with the text
    """

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(text, problem)
        self.text = text
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.text!r} {self.problem}"


def resolve_windows(texts: Sequence[str], as_of: int, calendar: str | None) -> tuple[Window, ...]:
    """The windows that texts name, in their order, each name once.

    Args:
        texts: as the table above has them
        as_of: milliseconds since 1970-01-01 UTC
        calendar: IANA name of the zone whose calendar counts for all stores; None: each has its
            own, and the date of `as_of` is that in UTC

    Raises:
        WindowRefused: a text is no window, longer than `LONGEST_DAYS` or begins more than those
            before `as_of`, or together they are more than `MOST_WINDOWS`
        zoneinfo.ZoneInfoNotFoundError: the tz database lacks the zone
    """
    today = _local_date(as_of, calendar)
    found: dict[str, Window] = {}
    ranges = 0
    for text in texts:
        for window in _windows_of(text, as_of, today):
            _check(window, text, as_of, today)
            if window.text in found:
                continue
            named = window
            if not window.name:
                ranges += 1
                named = replace(window, name=f"range_{ranges}")
            if len(found) == MOST_WINDOWS:
                raise WindowRefused(
                    text,
                    f"makes them more than {MOST_WINDOWS} windows: ask for fewer, or for longer"
                    " ones such as months",
                )
            found[window.text] = named
    windows = tuple(found.values())
    return windows if calendar is None else _fixed(windows, calendar, as_of)


def by_name(texts: Sequence[str], as_of: int, zone: str) -> tuple[str, ...]:
    """Texts in which `this-month` and its like are replaced by the period's own, such as `2026-10`.

    Args:
        texts: as `resolve_windows` takes them; one that is no window stays none
        as_of: milliseconds since 1970-01-01 UTC
        zone: IANA name of the zone in which the date of `as_of` counts

    Raises:
        zoneinfo.ZoneInfoNotFoundError: the tz database lacks the zone
    """
    today = _local_date(as_of, zone)
    return tuple(
        _RELATIVE.sub(lambda found: _period(found[0], found[0], today).text, text) for text in texts
    )


def placed(windows: Sequence[Window], zone_names: Sequence[str], as_of: int) -> Ints:
    """The instants that windows come to in some zones, cut at `as_of`.

    A window that begins at or after `as_of` is empty: from `as_of` to `as_of`.

    Args:
        windows: which ones
        zone_names: IANA names
        as_of: milliseconds since 1970-01-01 UTC

    Returns:
        int64[windows, zones, 2], from and to, half open, milliseconds since 1970-01-01 UTC

    Raises:
        zoneinfo.ZoneInfoNotFoundError: the tz database lacks a zone
    """
    found = np.empty((len(windows), len(zone_names), 2), dtype=np.int64)
    by_dates = np.array([window.dates is not None for window in windows], dtype=bool)
    for place, window in enumerate(windows):
        if window.instants is not None:
            found[place] = window.instants
    if by_dates.any() and len(zone_names):
        dates = np.array([window.dates for window in windows if window.dates is not None])
        # In no zone does a date begin before `as_of` that is two later than the one in UTC.
        midnights = np.minimum(dates + np.array([0, 1]), as_of // DAY_MS + 2) * DAY_MS
        first, last = int(midnights.min()), int(midnights.max())
        clocks = WallTime.of(tuple(zone_names), first - DAY_MS, last + DAY_MS)
        found[by_dates] = clocks.to_utc(
            np.arange(len(zone_names))[None, :, None], midnights[:, None, :]
        )
    return np.minimum(found, as_of)


def instants_of(window: Window, zone: str, as_of: int) -> tuple[int, int]:
    """From and to of one window in one zone, as `placed` has them."""
    from_ms, to_ms = placed([window], [zone], as_of)[0, 0].tolist()
    return from_ms, to_ms


def widest(window: Window, as_of: int) -> tuple[int, int]:
    """From and to, cut at `as_of`, of the time that holds the window in every zone there is."""
    if window.dates is None:
        from_ms, to_ms = placed([window], ["UTC"], as_of)[0, 0].tolist()
    else:
        first, last = window.dates
        from_ms = first * DAY_MS - MOST_AHEAD_MS
        to_ms = (last + 1) * DAY_MS + MOST_BEHIND_MS
    return min(from_ms, as_of), min(to_ms, as_of)


# Texts.

_SPAN = re.compile("([0-9]{1,9}d)?([0-9]{1,9}h)?([0-9]{1,9}m)?")
_UNITS_MS = {"d": DAY_MS, "h": 3_600_000, "m": 60_000}
_PERIOD = re.compile(
    "(?P<year>[0-9]{4})(?:-(?:"
    "Q(?P<quarter>[0-9])|W(?P<week>[0-9]{2})|(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2}))?"
    "))?"
)
_LAST_YEAR = 9998  # that of polls; the last week of 9999 ends in a year that has no dates here
_Kind = Literal["day", "week", "month", "quarter", "year"]
_KINDS: tuple[_Kind, ...] = get_args(_Kind)
_RELATIVE = re.compile(f"(this|previous)-({'|'.join(_KINDS)})")
_FORMS = (
    "is not a window: write a span before as_of such as 30d, 36h or 1d12h, a period such as 2026,"
    " 2026-Q3, 2026-10, 2026-W44 or 2026-10-05, this-month or previous-week, days:2026-10 or"
    " months:2026, or two instants as FROM/TO"
)


class _Period(NamedTuple):
    kind: _Kind
    text: str
    first: int  # days since 1970-01-01
    last: int

    @property
    def window(self) -> Window:
        return Window(self.text.replace("-", "_"), self.text, dates=(self.first, self.last))


def _windows_of(text: str, as_of: int, today: int) -> Iterator[Window]:
    """The windows of one text; the name of a range is left empty."""
    if "/" in text:
        yield _range(text)
        return
    each, colon, of = text.partition(":")
    if colon and each in ("days", "months"):
        period = _period(of, text, today)
        if each == "months" and period.kind in ("week", "day"):
            raise WindowRefused(
                text, "asks for months of less than one: give a year, a quarter or a month"
            )
        kind: _Kind = "day" if each == "days" else "month"
        first = period.first
        while first <= period.last:
            part = _period_holding(first, kind)
            yield part.window
            first = part.last + 1
        return
    span = _SPAN.fullmatch(text)
    if text and span is not None:
        parts = [part for part in span.groups() if part is not None and int(part[:-1])]
        length = sum(int(part[:-1]) * _UNITS_MS[part[-1]] for part in parts)
        if not length:
            raise WindowRefused(text, "is a span of nothing: write one such as 30d, 36h or 90m")
        canonical = "".join(f"{int(part[:-1])}{part[-1]}" for part in parts)
        yield Window(f"last_{canonical}", canonical, instants=(as_of - length, as_of))
        return
    yield _period(text, text, today).window


def _range(text: str) -> Window:
    """Two instants."""
    from_text, to_text = text.split("/", 1)
    instants = []
    for which, one in (("FROM", from_text), ("TO", to_text)):
        try:
            instants.append(parse_instant(one))
        except ValueError as error:
            raise WindowRefused(text, f"has a {which}, {one!r}, that {error}") from None
    from_ms, to_ms = instants
    if to_ms <= from_ms:
        raise WindowRefused(text, "ends no later than it begins: write the earlier instant first")
    return Window("", f"{_text_of(from_ms)}/{_text_of(to_ms)}", instants=(from_ms, to_ms))


def _text_of(milliseconds: int) -> str:
    digits = "milliseconds" if milliseconds % 1000 else "seconds"
    return instant_of(milliseconds).replace(tzinfo=None).isoformat(timespec=digits) + "Z"


def _period(text: str, whole: str, today: int) -> _Period:
    """A period by its own text or by `this-` or `previous-`; `whole`: the text that it is part of.

    Raises:
        WindowRefused: it is none
    """
    relative = _RELATIVE.fullmatch(text)
    if relative is not None:
        (kind,) = (one for one in _KINDS if one == relative[2])
        period = _period_holding(today, kind)
        return period if relative[1] == "this" else _period_holding(period.first - 1, kind)
    form = _PERIOD.fullmatch(text)
    if form is None:
        for meant in (text.upper(), text.lower()):
            if _PERIOD.fullmatch(meant) or _RELATIVE.fullmatch(meant):
                instead = whole.replace(text, meant)
                raise WindowRefused(whole, f"is not a window: write {instead}")
        raise WindowRefused(whole, _FORMS)
    year, quarter, week, month, day = (
        None if part is None else int(part)
        for part in form.group("year", "quarter", "week", "month", "day")
    )
    try:
        if year is None or year > _LAST_YEAR:
            raise ValueError
        if week is not None:
            return _period_holding(day_of(date.fromisocalendar(year, week, 1)), "week")
        if quarter is not None:
            return _period_holding(day_of(date(year, 3 * quarter - 2, 1)), "quarter")
        # Not `or`: there is no month 0 and no day 0.
        in_month = 1 if month is None else month
        on_day = 1 if day is None else day
        kind = "year" if month is None else "month" if day is None else "day"
        return _period_holding(day_of(date(year, in_month, on_day)), kind)
    except ValueError:
        raise WindowRefused(
            whole, "is not in the calendar: write a period such as 2026-Q3, 2026-10 or 2026-W44"
        ) from None


def _period_holding(day: int, kind: _Kind) -> _Period:
    """The period of a kind that holds a date; `day`: days since 1970-01-01."""
    that = date_on(day)
    if kind == "day":
        return _Period(kind, that.isoformat(), day, day)
    if kind == "week":
        year, week, weekday = that.isocalendar()
        monday = day - (weekday - 1)
        return _Period(kind, f"{year:04}-W{week:02}", monday, monday + 6)
    months = {"month": 1, "quarter": 3, "year": 12}[kind]
    first = (that.month - 1) // months * months + 1
    last = first + months - 1
    text = {
        "month": f"{that.year:04}-{first:02}",
        "quarter": f"{that.year:04}-Q{last // 3}",
        "year": f"{that.year:04}",
    }[kind]
    return _Period(
        kind,
        text,
        day_of(date(that.year, first, 1)),
        day_of(date(that.year, last, monthrange(that.year, last)[1])),
    )


def _local_date(as_of: int, zone: str | None) -> int:
    """The date of an instant in a zone, or in UTC, days since 1970-01-01."""
    ahead = 0 if zone is None else offsets(zone, as_of, as_of)[0].ahead
    return (as_of + ahead) // DAY_MS


def _check(window: Window, text: str, as_of: int, today: int) -> None:
    """Hold a window to the limits; those of dates are counted on dates."""
    if window.dates is not None:
        first, last = window.dates
        too_long = last - first >= LONGEST_DAYS
        too_early = first < today - LONGEST_DAYS
        earliest = date_on(today - LONGEST_DAYS).isoformat()
    else:
        from_ms, to_ms = window.instants or (0, 0)
        longest = LONGEST_DAYS * DAY_MS
        too_long = to_ms - from_ms > longest
        too_early = from_ms < as_of - longest
        earliest = _text_of(as_of - longest)
    if too_long:
        raise WindowRefused(text, f"is longer than {LONGEST_DAYS} days: ask for a shorter one")
    if too_early:
        raise WindowRefused(
            text,
            f"begins more than {LONGEST_DAYS} days before as_of: ask for what begins at"
            f" {earliest} or later",
        )


def _fixed(windows: tuple[Window, ...], zone: str, as_of: int) -> tuple[Window, ...]:
    """Windows by dates as they lie in one zone."""
    return tuple(
        window
        if window.dates is None
        else replace(window, instants=instants_of(window, zone, as_of), dates=None)
        for window in windows
    )
