"""Hypothesis strategies: stores, their polls and hours, and a report's instant and settings.

They look for trouble: nights when clocks change, polls on the very edge of an interval or a window,
silence longer than `max_gap`, stores that say nothing between stores that do, weeks and special
days that change there.
"""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from tests.harness.reference import (
    DAY,
    DEFAULT_TIMEZONE,
    HOUR,
    MINUTE,
    WEEK,
    WINDOWS,
    Interpolation,
    Interval,
    Store,
    Week,
    business_time,
)
from tests.harness.reference_windows import (
    KINDS,
    dates_of,
    period_that_holds,
    periods,
    reference_windows,
)

ZONES = [
    None,
    "UTC",
    "America/Chicago",
    "America/New_York",
    "Europe/London",
    "Europe/Dublin",
    "Asia/Beirut",  # clocks change at midnight: 00:00 does not exist, 23:00 comes twice
    "America/Havana",  # forward at 00:00, back at 01:00 to 00:00
    "America/Santiago",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Africa/Casablanca",  # clocks change around Ramadan
    "Asia/Pyongyang",  # half an hour at 23:30 in May 2018
    "America/Caracas",
    "Australia/Lord_Howe",  # changes by half an hour
    "Antarctica/Troll",  # changes by two hours
    "Pacific/Apia",  # 2011-12-30 did not happen
    "Pacific/Kiritimati",
    "Pacific/Chatham",
    "Pacific/Pago_Pago",
    "America/Nuuk",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Asia/Tokyo",
]

FIRST_INSTANT = int(datetime(2011, 1, 1, tzinfo=UTC).timestamp()) * 1000
LAST_INSTANT = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp()) * 1000


@dataclass(frozen=True)
class Question:
    """A batch of stores and what is asked about them."""

    stores: tuple[Store, ...]
    as_of: int
    interpolation: Interpolation
    max_gap: int


@cache
def clock_changes(timezone: str) -> tuple[int, ...]:
    """UTC milliseconds of every change of a zone's offset from 2011 to 2026."""
    zone = ZoneInfo(timezone)

    def offset(second: int) -> timedelta | None:
        return datetime.fromtimestamp(second, zone).utcoffset()

    changes = []
    for day_start in range(FIRST_INSTANT // 1000, LAST_INSTANT // 1000, 86_400):
        before, after = day_start, day_start + 86_400
        if offset(before) == offset(after):
            continue
        while after - before > 1:
            middle = (before + after) // 2
            if offset(middle) == offset(day_start):
                before = middle
            else:
                after = middle
        changes.append(after * 1000)
    return tuple(changes)


CLOCK_STARTS = st.one_of(
    st.sampled_from([0, 1, 30 * MINUTE, HOUR, 90 * MINUTE, 2 * HOUR, 150 * MINUTE, 3 * HOUR]),
    st.sampled_from([9 * HOUR, 17 * HOUR, 22 * HOUR, 23 * HOUR, 23 * HOUR + 30 * MINUTE]),
    st.sampled_from([23 * HOUR + 58 * MINUTE, 23 * HOUR + 59 * MINUTE, DAY - 1000, DAY - 1]),
    st.integers(0, 47).map(lambda half_hour: half_hour * 30 * MINUTE),
    st.integers(0, DAY - 1),
)
CLOCK_ENDS = st.one_of(
    CLOCK_STARTS,
    st.sampled_from(
        [23 * HOUR + 59 * MINUTE + more for more in (-1000, -1, 0, 1, 30_000, 59_000, 59_999)]
    ),
    st.just(DAY),
)


@st.composite
def business_hours(draw: st.DrawFn) -> tuple[tuple[int, int, int], ...]:
    """Rows of weekly hours: daily, on some days, overlapping, touching, overnight, or none."""
    rows: list[tuple[int, int, int]] = []
    for _ in range(draw(st.integers(0, 3))):
        weekdays = draw(
            st.one_of(st.just(list(range(7))), st.lists(st.integers(0, 6), min_size=1, max_size=4))
        )
        start, end = draw(CLOCK_STARTS), draw(CLOCK_ENDS)
        shape = draw(st.sampled_from(["alone", "alone", "touching", "overlapping", "whole day"]))
        if shape == "whole day":
            end = start
        rows += [(weekday, start, end) for weekday in weekdays]
        if shape == "touching" and end < DAY:
            next_end = draw(CLOCK_ENDS)
            rows += [(weekday, end, next_end) for weekday in weekdays]
        if shape == "overlapping":
            earlier, later = max(0, start - HOUR), min(DAY, end + HOUR)
            rows += [(weekday, earlier, later) for weekday in weekdays]
    return tuple(draw(st.sampled_from([rows, rows[::-1]])))


def dates_near(as_of: int) -> st.SearchStrategy[date]:
    """Dates of the week before an instant and of the days around it."""
    day = datetime.fromtimestamp(as_of // 1000, UTC).date()
    return st.integers(-10, 2).map(lambda days: day + timedelta(days=days))


def dated_weeks(as_of: int) -> st.SearchStrategy[tuple[Week, ...]]:
    """Weeks that come into force around an instant, some of them empty."""
    weeks = st.dictionaries(dates_near(as_of), business_hours(), min_size=1, max_size=3)
    return st.one_of(st.just(()), weeks.map(lambda found: tuple(found.items())))


def special_days(as_of: int) -> st.SearchStrategy[tuple[tuple[date, tuple[Interval, ...]], ...]]:
    """Special hours around an instant: closed, or one or two intervals."""
    intervals = st.lists(st.tuples(CLOCK_STARTS, CLOCK_ENDS), max_size=2).map(tuple)
    days = st.dictionaries(dates_near(as_of), intervals, min_size=1, max_size=3)
    return st.one_of(st.just(()), days.map(lambda found: tuple(found.items())))


def exclusions(edges: list[int]) -> st.SearchStrategy[tuple[Interval, ...]]:
    """Stretches of time that begin at or around some instants; they may overlap."""
    lengths = st.sampled_from([1, MINUTE, HOUR, 90 * MINUTE, DAY, 3 * DAY, 40 * DAY])
    starts = st.builds(
        lambda edge, distance: edge + distance,
        st.sampled_from(edges),
        st.one_of(st.just(0), st.integers(-DAY, DAY), st.integers(-WEEK, 0)),
    )
    each = st.builds(lambda start, length: (start, start + length), starts, lengths)
    return st.one_of(st.just(()), st.lists(each, min_size=1, max_size=4).map(tuple))


@st.composite
def regular_polls(draw: st.DrawFn, as_of: int, max_gap: int) -> list[tuple[int, bool]]:
    """Polls at a steady pace with some jitter, anchored anywhere from before the week to `as_of`.

    A pace beyond `max_gap` leaves silence between the polls.
    """
    pace = draw(
        st.one_of(
            st.sampled_from([5 * MINUTE, 30 * MINUTE, HOUR, HOUR, HOUR + MINUTE, 7 * HOUR, DAY]),
            st.sampled_from([max_gap, max_gap + 1, 2 * max_gap, 2 * max_gap + 1]),
        )
    )
    count = draw(st.integers(1, 30))
    first = draw(
        st.one_of(
            st.just(as_of - (count - 1) * pace),
            st.just(as_of - DAY),
            st.integers(as_of - WEEK, as_of),
            st.integers(as_of - WEEK - max_gap - DAY, as_of),
        )
    )
    jitter = draw(st.lists(st.integers(-10 * MINUTE, 10 * MINUTE), max_size=3)) or [0]
    statuses = draw(st.lists(st.booleans(), min_size=1, max_size=5))
    return [
        (first + nth * pace + jitter[nth % len(jitter)], statuses[nth % len(statuses)])
        for nth in range(count)
    ]


def telling_instants(store: Store, as_of: int, max_gap: int) -> list[int]:
    """Instants where a rule could be off by one: edges of business time and of the windows."""
    edges = [as_of, as_of + 1, as_of + HOUR]
    for length in WINDOWS.values():
        edges += [as_of - length, as_of - length - max_gap]
    for start, end in (*business_time(store, as_of - WEEK, as_of)[-6:], *store.exclusions):
        edges += [start, end]
    return sorted(set(edges) | {edge - 1 for edge in edges})


@st.composite
def arrivals(
    draw: st.DrawFn, store: Store, as_of: int, max_gap: int
) -> tuple[tuple[int, bool], ...]:
    """Polls of a store in order of arrival."""
    polls: list[tuple[int, bool]] = []
    for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
        polls += draw(regular_polls(as_of, max_gap))
    on_edges = st.sampled_from(telling_instants(store, as_of, max_gap))
    anywhere = st.integers(as_of - WEEK - max_gap - DAY, as_of + DAY)
    polls += draw(
        st.lists(st.tuples(st.one_of(on_edges, on_edges, anywhere), st.booleans()), max_size=8)
    )
    order = draw(st.sampled_from(["ascending", "descending", "interleaved", "as drawn"]))
    if order == "ascending":
        polls.sort()
    elif order == "descending":
        polls.sort(reverse=True)
    elif order == "interleaved":
        polls = polls[::2] + polls[1::2]
    if polls:
        again = draw(st.lists(st.sampled_from(polls), max_size=3))
        polls += [(instant, not active) for instant, active in again]
    return tuple(polls)


STORE_IDS = st.one_of(
    st.uuids().map(str),
    st.integers(10**18, 10**19 - 1).map(str),
    st.sampled_from(["a", "B", "10", "9", "é", "\N{SNOWMAN}", "Main St, 5", 'the "old" one']),
)


@st.composite
def questions(draw: st.DrawFn, max_stores: int = 4) -> Question:
    """One to `max_stores` stores, some of them silent, and a report about them."""
    timezones = draw(st.lists(st.sampled_from(ZONES), min_size=1, max_size=max_stores))
    max_gap = draw(
        st.one_of(
            st.sampled_from([MINUTE, HOUR, 2 * HOUR, DAY, DAY, DAY, 2 * DAY, 31 * DAY]),
            st.integers(MINUTE, 31 * DAY),
        )
    )
    any_instant = st.integers(FIRST_INSTANT, LAST_INSTANT)
    changes = clock_changes(timezones[0] or DEFAULT_TIMEZONE)
    if changes:
        near_a_change = st.builds(
            lambda change, distance: change + distance,
            st.sampled_from(changes),
            st.one_of(
                st.integers(-2 * 48, 16 * 48).map(lambda half_hours: half_hours * 30 * MINUTE),
                st.integers(-3 * HOUR, 8 * DAY),
                st.integers(-DAY, WEEK + 32 * DAY),
            ),
        )
        as_of = draw(st.one_of(near_a_change, near_a_change, near_a_change, any_instant))
    else:
        as_of = draw(any_instant)
    store_ids = draw(
        st.lists(STORE_IDS, min_size=len(timezones), max_size=len(timezones), unique=True)
    )
    stores = []
    for store_id, timezone in zip(store_ids, timezones, strict=True):
        store = Store(store_id, (), draw(business_hours()), timezone)
        if draw(st.booleans()):
            store = replace(
                store, weeks=draw(dated_weeks(as_of)), special=draw(special_days(as_of))
            )
            if not store.hours and draw(st.booleans()):
                store = replace(store, weeks=((None, ()), *store.weeks))
            edges = telling_instants(store, as_of, max_gap)
            store = replace(store, exclusions=draw(exclusions(edges)))
        polls = draw(arrivals(store, as_of, max_gap))
        stores.append(replace(store, polls=polls))
    interpolation: Interpolation = draw(st.sampled_from(["nearest", "nearest", "previous"]))
    return Question(tuple(stores), as_of, interpolation, max_gap)


#: Zones whose calendar counts for all stores, or none.
CALENDARS = [None, None, "UTC", "America/Havana", "Asia/Beirut", "Pacific/Apia", "Asia/Tokyo"]


@st.composite
def window_texts(draw: st.DrawFn, as_of: int, calendar: str | None) -> list[str]:
    """Texts of one to three windows, or of the days or months of some period."""
    today = datetime.fromtimestamp(as_of // 1000, ZoneInfo(calendar or "UTC")).date()
    spans = st.sampled_from(["1m", "90m", "1h", "36h", "1d12h", "7d", "30d"])
    kind = st.sampled_from([*KINDS, "day", "day", "week", "month"])
    near = st.builds(
        lambda days, kind: period_that_holds(today + timedelta(days=days), kind),
        st.integers(-30, 3),
        kind,
    )
    long_ago = st.integers(-400, -30).map(lambda days: (today + timedelta(days=days)).isoformat())
    relative = st.builds(
        lambda which, kind: f"{which}-{kind}", st.sampled_from(["this", "previous"]), kind
    ).filter(lambda text: text != "previous-year")
    days = st.one_of(near, relative).filter(lambda text: len(periods(f"days:{text}", today)) <= 31)
    months = st.sampled_from(["this-quarter", "previous-quarter", "this-month", "this-year"])
    instants = st.integers(as_of - 40 * DAY, as_of + 2 * DAY)
    ranges = st.builds(
        lambda start, length: f"{instant_text(start)}/{instant_text(start + length)}",
        instants,
        st.sampled_from([1, MINUTE, HOUR, DAY, 20 * DAY]),
    )
    one = st.one_of(
        spans,
        near,
        near,
        long_ago,
        relative,
        days.map(lambda text: f"days:{text}"),
        months.map(lambda text: f"months:{text}"),
        ranges,
    )
    earliest = today - timedelta(days=400)
    return draw(
        st.lists(one, min_size=1, max_size=3).filter(
            lambda texts: all(
                dates_of(period)[0] >= earliest
                for text in texts
                if "/" not in text and text[-1] not in "mhd"
                for period in periods(text, today)
            )
        )
    )


def instant_text(milliseconds: int) -> str:
    at = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03}Z"


@dataclass(frozen=True)
class WindowsQuestion:
    """A question about windows that are named by their texts."""

    about: Question
    texts: tuple[str, ...]
    calendar: str | None

    def windows(self, store: Store) -> dict[str, Interval]:
        """What the reference says that the windows come to for a store."""
        zone = store.timezone or DEFAULT_TIMEZONE
        return reference_windows(list(self.texts), self.about.as_of, self.calendar, zone)


@st.composite
def questions_about_windows(draw: st.DrawFn, max_stores: int = 3) -> WindowsQuestion:
    """A question, with polls and exclusions also around the edges of its windows."""
    about = draw(questions(max_stores))
    calendar = draw(st.sampled_from(CALENDARS))
    texts = tuple(draw(window_texts(about.as_of, calendar)))
    asked = WindowsQuestion(about, texts, calendar)
    stores = []
    for store in about.stores:
        edges = [edge for window in asked.windows(store).values() for edge in window]
        near = st.builds(
            lambda edge, distance: edge + distance,
            st.sampled_from(edges),
            st.one_of(
                st.sampled_from([-1, 0, 1, HOUR, about.max_gap, -about.max_gap]),
                st.integers(-2 * DAY, 2 * DAY),
                st.integers(-about.max_gap - 1, about.max_gap + 1),
            ),
        )
        more = draw(st.lists(st.tuples(near, st.booleans()), max_size=6))
        excluded = draw(st.one_of(st.just(()), exclusions(edges)))
        stores.append(
            replace(store, polls=(*store.polls, *more), exclusions=(*store.exclusions, *excluded))
        )
    return replace(asked, about=replace(about, stores=tuple(stores)))
