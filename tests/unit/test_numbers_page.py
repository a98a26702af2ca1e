"""The figures of docs/numbers.md, computed: by the kernel, and by the slow reference."""

import re
from datetime import date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from compute.batch import Question
from compute.csv_rows import header
from compute.down_by_hour import HOURS
from compute.roll_up import roll_up
from compute.targets import ALLOWED, ALLOWED_REST, SCALE, USED, judged, target_of
from compute.uptime import Interpolation, Totals
from service.reports.summary import availability_of
from service.spans import parse_span
from tests.harness.kernel import (
    kernel_csv,
    kernel_outages,
    kernel_states,
    kernel_totals,
    kernel_windows,
)
from tests.harness.reference import (
    DAY,
    HOUR,
    MINUTE,
    Interval,
    Outage,
    State,
    Store,
    Week,
    reference_outages,
    reference_parts,
    reference_since,
    reference_together,
    reference_totals,
    state_at,
)
from tests.harness.reference_windows import reference_windows

PAGE = (Path(__file__).parents[2] / "docs" / "numbers.md").read_text()
ZONE = "America/Chicago"
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
#: The days that the page means by names of weekdays.
SUNDAY = datetime(2023, 1, 22)

Row = dict[str, str]


def rows_of(last_column: str) -> list[Row]:
    """The rows of all tables of the page that end with this column."""
    rows: list[Row] = []
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
        if lines[0][-1] == last_column:
            rows += [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
    return rows


def milliseconds(clock: str) -> Fraction:
    """Of `0`, or hours:minutes, with seconds or without, which may have a fraction."""
    parts = [Fraction(part) for part in clock.split(":")]
    return sum((part * HOUR / 60**place for place, part in enumerate(parts)), Fraction(0))


def instant(text: str) -> int:
    """UTC milliseconds of a local time: `Mon 10:14`, or with a date."""
    day, clock = text.split()
    midnight = (
        SUNDAY + timedelta(days=(WEEKDAYS.index(day) + 1) % 7)
        if day in WEEKDAYS
        else datetime.fromisoformat(day)
    )
    local = midnight + timedelta(milliseconds=int(milliseconds(clock)))
    return round(local.replace(tzinfo=ZoneInfo(ZONE)).timestamp() * 1000)


def hours(text: str) -> tuple[tuple[int, int, int], ...]:
    """Rows of business hours: `always`, or `Mon 09:00-12:00, daily 22:00-02:00`."""
    if text == "always":
        return ()
    found = []
    for row in text.split(", "):
        day, start, end = re.split("[ -]", row)
        days = range(7) if day == "daily" else [WEEKDAYS.index(day)]
        found += [(one, int(milliseconds(start)), int(milliseconds(end))) for one in days]
    return tuple(found)


def polls(text: str, as_of: int, days: int = 2) -> tuple[tuple[int, bool], ...]:
    """Polls in their order of arrival: `none`, `active every 60 min`, or one by one."""
    if text == "none":
        return ()
    if every := re.fullmatch(r"active every (\d+) min", text):
        pace = int(every[1]) * MINUTE
        return tuple((when, True) for when in range(as_of - days * DAY, as_of + 1, pace))
    each = [poll.rsplit(" ", 1) for poll in text.split(", ")]
    assert {status for _, status in each} <= {"active", "inactive"}
    return tuple((instant(when), status == "active") for when, status in each)


def asked(text: str) -> tuple[Interpolation, int]:
    """Interpolation and `max_gap`; what is not asked is as a report has it."""
    gap = re.search(r"`max_gap` (\w+)", text)
    known = re.sub(r"`previous`|`max_gap` \w+|[, ]", "", text)
    assert not known, f"not understood: {known}"
    interpolation: Interpolation = "previous" if "`previous`" in text else "nearest"
    return interpolation, parse_span(gap[1]) if gap else DAY


def weeks(text: str) -> tuple[Week, ...]:
    """Weeks by the date from which they are in force: `2023-01-23: Mon 10:00-16:00`, or `never`."""
    if not text:
        return ()
    valid_from, rows = text.split(": ")
    return ((date.fromisoformat(valid_from), () if rows == "never" else hours(rows)),)


def special(text: str) -> tuple[tuple[date, tuple[Interval, ...]], ...]:
    """Special hours: `2023-01-24 closed`, or `2023-01-24 09:00-14:00`, any number a date."""
    found: dict[date, tuple[Interval, ...]] = {}
    for one in text.split(", ") if text else []:
        day, told = one.split()
        before = found.setdefault(date.fromisoformat(day), ())
        if told != "closed":
            start, end = (int(milliseconds(clock)) for clock in told.split("-"))
            found[date.fromisoformat(day)] = (*before, (start, end))
    return tuple(found.items())


def exclusions(text: str) -> tuple[Interval, ...]:
    """Exclusions of one day each: `Mon 10:00-11:00`."""
    found = []
    for one in text.split(", ") if text else []:
        day, start, end = re.split("[ -]", one)
        found.append((instant(f"{day} {start}"), instant(f"{day} {end}")))
    return tuple(found)


EXAMPLES = rows_of("unknown")
EXAMPLES_OF_WINDOWS = rows_of("excluded")


@pytest.mark.parametrize("row", EXAMPLES, ids=lambda row: row["example"])
def test_the_last_day_of_an_example_is_what_the_page_says(row: Row) -> None:
    as_of = instant(row["`as_of`"])
    store = Store("example", polls(row["polls"], as_of), hours(row["open"]), ZONE)
    interpolation, max_gap = asked(row.get("asked", ""))
    told = tuple(milliseconds(row[measure]) for measure in ("up", "down", "unknown"))
    (computed,) = kernel_totals([store], as_of, interpolation, max_gap)
    assert computed["day"] == (*told, 0)
    assert reference_totals(store, as_of, interpolation, max_gap)["day"] == (*told, 0)


@pytest.mark.parametrize("row", EXAMPLES_OF_WINDOWS, ids=lambda row: row["example"])
def test_the_window_of_an_example_is_what_the_page_says(row: Row) -> None:
    as_of = instant(row["`as_of`"])
    store = Store(
        "example",
        polls(row.get("polls", "active every 30 min"), as_of, days=33),
        hours(row["open"]) if row["open"] else (),
        ZONE,
        weeks(row.get("from", "")),
        special(row.get("special", "")),
        exclusions(row.get("exclusions", "")),
    )
    told = tuple(milliseconds(row[part]) for part in ("up", "down", "unknown", "excluded"))
    (computed,) = kernel_windows([store], [row["window"]], as_of, "nearest", DAY)[0].values()
    assert computed == told
    (window,) = reference_windows([row["window"]], as_of, None, ZONE).values()
    assert reference_parts(store, window, as_of, "nearest", DAY) == told


@pytest.mark.parametrize("row", rows_of("length"), ids=lambda row: row["example"])
def test_the_state_and_the_outage_of_an_example_are_what_the_page_says(row: Row) -> None:
    as_of, gap = instant(row["`as_of`"]), parse_span(row["`max_gap`"])
    every_day = hours("daily 09:00-17:00")
    known = polls(row["polls"], as_of)
    store = Store("example", known, every_day, ZONE, exclusions=exclusions(row["exclusions"]))
    since: Fraction | None = Fraction(instant(row["since"]))
    begin, end, then = re.split(" to |, ", row["outage"] + ", silence")[:3]
    ends: dict[str, State | None] = {"open": None, "restored": "up", "silence": "unknown"}
    moments = Fraction(instant(begin)), Fraction(instant(end))
    outage: Outage = *moments, milliseconds(row["length"]), ends[then]
    asked_of = as_of, gap, 8 * DAY
    (told,) = kernel_states([store], *asked_of)
    assert (told[0], told[1]) == (row["state"], since)
    assert state_at(store, as_of, gap) == row["state"]
    assert reference_since(store, *asked_of) == since
    assert kernel_outages([store], *asked_of) == [[outage]]
    assert reference_outages(store, *asked_of) == [outage]


def test_the_page_has_examples_of_each_rule() -> None:
    assert len(EXAMPLES_OF_WINDOWS) >= 15
    assert len(EXAMPLES) >= 30


def test_the_csv_is_that_of_the_example() -> None:
    (shown,) = re.findall(r"```csv\n(.*?)```", PAGE, re.DOTALL)
    (row,) = (row for row in EXAMPLES if row["example"].startswith("it switches half way"))
    as_of = instant(row["`as_of`"])
    store = Store("example", polls(row["polls"], as_of), hours(row["open"]), ZONE)
    computed = kernel_csv([store], Question(as_of, "nearest", DAY, include_unknown=True))
    assert shown == header(include_unknown=True).decode() + computed


@pytest.mark.parametrize("row", rows_of("availability"), ids=str)
def test_the_availability_of_stores_is_what_the_page_says(row: Row) -> None:
    def up_and_down(text: str) -> list[int]:
        return [int(milliseconds(part)) for part in text.split(" / ")]

    stores = np.array([up_and_down(store) for store in row["stores, each up / down"].split(", ")])
    # As if the last hour, day and week were the same.
    up, down = (np.repeat(part, 3, axis=1) for part in (stores[:, :1], stores[:, 1:]))
    one_letter_each = b"s" * len(stores), np.ones(len(stores), dtype=np.int64)
    totals = Totals(up, down, np.zeros_like(up), np.zeros_like(up))
    together = roll_up(*one_letter_each, totals, np.zeros(HOURS, dtype=np.int64)).sums
    assert together.tolist() == 3 * [[*up_and_down(row["together"]), 0, 0]]
    told = None if row["availability"] == "none" else float(row["availability"])
    assert availability_of(*up_and_down(row["together"])) == told


@pytest.mark.parametrize("row", rows_of("left"), ids=lambda row: row["target"])
def test_budgets_are_as_the_page_says(row: Row) -> None:
    stores = [
        [milliseconds(one) for one in store.split(" / ")]
        for store in row["stores, each up / down"].split(", ")
    ]
    counts = [int(count) for count in row["met / missed / unknown"].split(" / ")]
    allowed, used = milliseconds(row["allowed"]), milliseconds(row["used"])
    sign = -1 if row["left"].startswith("-") else 1
    assert allowed - used == sign * milliseconds(row["left"].removeprefix("-"))
    target = target_of(row["target"])

    nothing = Fraction(0)
    slow = reference_together(
        [(Store("any"), (up, down, nothing, nothing)) for up, down in stores],
        Fraction(target, SCALE),
    )
    assert [slow.met, slow.missed, slow.without] == counts
    assert (slow.allowed, slow.used) == (allowed, used)

    up, down = np.array(stores, dtype=object).T * 2
    targets = np.full(len(stores), target)
    each = judged(up.astype(np.int64)[:, None], down.astype(np.int64)[:, None], targets)
    together = each.sum(axis=(1, 2)).tolist()
    assert together[:3] == counts
    exact = Fraction(together[ALLOWED] * SCALE + together[ALLOWED_REST], 2 * SCALE)
    assert (exact, Fraction(together[USED], 2)) == (allowed, used)
