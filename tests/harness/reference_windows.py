"""What the texts of windows mean, written out slowly: one text, one date, one zone at a time.

Only texts that mean something: what is refused, and how, is no matter of the reference.
"""

import re
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from tests.harness.reference import DAY, HOUR, MINUTE, Interval, utc_instant

ONE_DAY = timedelta(days=1)
KINDS = ("day", "week", "month", "quarter", "year")


def reference_windows(
    texts: list[str], as_of: int, calendar: str | None, zone: str
) -> dict[str, Interval]:
    """The windows by their names, in order, as instants in one zone, cut at `as_of`."""
    today = datetime.fromtimestamp(as_of // 1000, ZoneInfo(calendar) if calendar else UTC).date()
    found: dict[str, Interval] = {}
    ranges: list[Interval] = []
    for text in texts:
        if "/" in text:
            start, end = (round_down(part) for part in text.split("/"))
            if (start, end) not in ranges:
                ranges.append((start, end))
                found[f"range_{len(ranges)}"] = start, end
        elif re.fullmatch("([0-9]+[dhm])+", text):
            sizes = {"d": DAY, "h": HOUR, "m": MINUTE}
            length = sum(int(part[:-1]) * sizes[part[-1]] for part in re.findall("[0-9]+.", text))
            found[f"last_{text}"] = as_of - length, as_of
        else:
            for period in periods(text, today):
                first, last = dates_of(period)
                local = ZoneInfo(calendar or zone)
                found[period.replace("-", "_")] = (
                    utc_instant(first, 0, local),
                    utc_instant(last + ONE_DAY, 0, local),
                )
    return {name: (min(start, as_of), min(end, as_of)) for name, (start, end) in found.items()}


def periods(text: str, today: date) -> list[str]:
    """The calendar periods that a text stands for, as one writes them: 2026-Q3."""
    if text.startswith("days:"):
        (period,) = periods(text.removeprefix("days:"), today)
        return [day.isoformat() for day in all_dates(period)]
    if text.startswith("months:"):
        (period,) = periods(text.removeprefix("months:"), today)
        return sorted({day.isoformat()[:7] for day in all_dates(period)})
    which, _, kind = text.partition("-")
    if kind not in KINDS:
        return [text]
    period = period_that_holds(today, kind)
    if which == "previous":
        period = period_that_holds(dates_of(period)[0] - ONE_DAY, kind)
    return [period]


@cache
def period_that_holds(day: date, kind: str) -> str:
    year, week, _ = day.isocalendar()
    return {
        "day": day.isoformat(),
        "week": f"{year:04}-W{week:02}",
        "month": f"{day.year:04}-{day.month:02}",
        "quarter": f"{day.year:04}-Q{(day.month + 2) // 3}",
        "year": f"{day.year:04}",
    }[kind]


@cache
def dates_of(period: str) -> tuple[date, date]:
    """First and last date: all dates from the year before to the year after that are in it."""
    kind = {4: "year", 7: "quarter" if "Q" in period else "month", 8: "week", 10: "day"}
    year = int(period[:4])
    day = date(year - 1, 12, 25)
    inside = []
    while day < date(year + 1, 1, 10):
        if period_that_holds(day, kind[len(period)]) == period:
            inside.append(day)
        day += ONE_DAY
    return inside[0], inside[-1]


def all_dates(period: str) -> list[date]:
    first, last = dates_of(period)
    return [first + nth * ONE_DAY for nth in range((last - first).days + 1)]


def round_down(text: str) -> int:
    """Milliseconds of an instant that has an offset or is of UTC, cut."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
