"""Windows by their texts: what they are called, where they lie, and what is refused."""

from datetime import UTC, datetime

import pytest

from compute.batch import Question, default_windows
from compute.csv_rows import WINDOWS_MS, header
from compute.windows import Window, WindowRefused, by_name, instants_of, resolve_windows
from tests.harness.reference import DAY, HOUR


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


AS_OF = ms("2026-10-07T12:00")  # a Wednesday


def names(*texts: str, as_of: int = AS_OF, calendar: str | None = None) -> list[str]:
    return [window.name for window in resolve_windows(texts, as_of, calendar)]


@pytest.mark.parametrize(
    ("text", "name", "canonical"),
    [
        ("30d", "last_30d", "30d"),
        ("1d12h", "last_1d12h", "1d12h"),
        ("090m", "last_90m", "90m"),
        ("0d5h", "last_5h", "5h"),
        ("2026", "2026", "2026"),
        ("2026-Q3", "2026_Q3", "2026-Q3"),
        ("2026-10", "2026_10", "2026-10"),
        ("2026-W44", "2026_W44", "2026-W44"),
        ("2026-10-05", "2026_10_05", "2026-10-05"),
        ("this-day", "2026_10_07", "2026-10-07"),
        ("this-week", "2026_W41", "2026-W41"),
        ("this-month", "2026_10", "2026-10"),
        ("this-quarter", "2026_Q4", "2026-Q4"),
        ("this-year", "2026", "2026"),
        ("previous-day", "2026_10_06", "2026-10-06"),
        ("previous-week", "2026_W40", "2026-W40"),
        ("previous-month", "2026_09", "2026-09"),
        ("previous-quarter", "2026_Q3", "2026-Q3"),
        ("months:this-month", "2026_10", "2026-10"),
        ("days:2026-10-05", "2026_10_05", "2026-10-05"),
        (
            "2026-10-05 02:00:00.1239+02:00/2026-10-06T00:00",
            "range_1",
            "2026-10-05T00:00:00.123Z/2026-10-06T00:00:00Z",
        ),
    ],
)
def test_a_text_has_a_name_and_a_canonical_form(text: str, name: str, canonical: str) -> None:
    (window,) = resolve_windows([text], AS_OF, None)
    assert (window.name, window.text) == (name, canonical)
    # What it says of itself means the same.
    assert resolve_windows([window.text], AS_OF, None) == (window,)


@pytest.mark.parametrize(
    ("as_of", "text", "name"),
    [
        ("2021-01-02T12:00", "this-week", "2020_W53"),
        ("2021-01-05T12:00", "previous-week", "2020_W53"),
        ("2024-12-30T12:00", "this-week", "2025_W01"),
        ("2025-01-01T00:00", "previous-year", "2024"),
        ("2025-01-01T00:00", "previous-quarter", "2024_Q4"),
        ("2025-01-01T00:00", "previous-month", "2024_12"),
        ("2025-01-01T00:00", "previous-day", "2024_12_31"),
        ("2024-03-31T12:00", "previous-month", "2024_02"),
    ],
)
def test_periods_over_new_year(as_of: str, text: str, name: str) -> None:
    assert names(text, as_of=ms(as_of)) == [name]


def test_the_date_of_as_of_is_that_of_the_calendar_zone_or_of_utc() -> None:
    at = ms("2026-10-01T03:00")
    assert names("this-month", as_of=at) == ["2026_10"]
    assert names("this-month", as_of=at, calendar="America/Chicago") == ["2026_09"]
    assert names("this-day", as_of=at, calendar="Pacific/Kiritimati") == ["2026_10_01"]


def test_days_and_months_are_windows_of_their_own() -> None:
    assert names("days:2026-W41") == [f"2026_10_{day:02}" for day in range(5, 12)]
    assert names("months:previous-quarter") == ["2026_07", "2026_08", "2026_09"]
    assert len(names("days:2026-09")) == 30


def test_a_name_that_comes_up_twice_is_reported_once() -> None:
    one_day = "2026-10-05T00:00Z/2026-10-06T00:00Z"
    other_day = "2026-10-04T00:00Z/2026-10-05T00:00Z"
    texts = ("this-month", "24h", one_day, "2026-10", "24h", "1d", other_day, one_day)
    assert names(*texts) == ["2026_10", "last_24h", "range_1", "last_1d", "range_2"]


def test_windows_by_dates_lie_in_each_zone_or_in_the_calendars() -> None:
    (window,) = resolve_windows(["2026-10-05"], AS_OF, None)
    chicago = ms("2026-10-05T05:00"), ms("2026-10-06T05:00")
    assert instants_of(window, "America/Chicago", AS_OF) == chicago
    tokyo = ms("2026-10-04T15:00"), ms("2026-10-05T15:00")
    assert instants_of(window, "Asia/Tokyo", AS_OF) == tokyo
    (window,) = resolve_windows(["2026-10-05"], AS_OF, "Asia/Tokyo")
    assert window.instants == instants_of(window, "America/Chicago", AS_OF) == tokyo


def test_a_window_is_cut_at_as_of_and_empty_after_it() -> None:
    this_month, next_month, last = resolve_windows(["2026-10", "2026-11", "9998-W01"], AS_OF, None)
    assert instants_of(this_month, "UTC", AS_OF) == (ms("2026-10-01"), AS_OF)
    assert instants_of(next_month, "UTC", AS_OF) == (AS_OF, AS_OF)
    assert instants_of(last, "Asia/Tokyo", AS_OF) == (AS_OF, AS_OF)


def test_a_window_has_instants_or_dates() -> None:
    for wrong in ({}, {"instants": (0, 1), "dates": (0, 1)}):
        with pytest.raises(ValueError, match="either instants or dates"):
            Window("w", "w", **wrong)


REFUSED = {
    "": "is not a window: write a span",
    "soon": "is not a window: write a span",
    "30s": "is not a window: write a span",
    "1h1d": "is not a window: write a span",
    "2026-1": "is not a window: write a span",
    " 2026": "is not a window: write a span",
    "next-month": "is not a window: write a span",
    "days:30d": "is not a window: write a span",
    "days:days:2026-10": "is not a window: write a span",
    "0d": "is a span of nothing: write one such as 30d",
    "2026-q3": "is not a window: write 2026-Q3",
    "days:2026-w41": "is not a window: write days:2026-W41",
    "This-Month": "is not a window: write this-month",
    "2026-Q5": "is not in the calendar",
    "2026-Q0": "is not in the calendar",
    "2026-00": "is not in the calendar",
    "2026-13": "is not in the calendar",
    "2026-10-00": "is not in the calendar",
    "2026-02-29": "is not in the calendar",
    "2025-W53": "is not in the calendar",
    "0000": "is not in the calendar",
    "days:9999-W52": "is not in the calendar",
    "months:2026-W41": "asks for months of less than one: give a year",
    "months:2026-10-05": "asks for months of less than one: give a year",
    "2026-10-05/2026-10-06": "has a FROM, '2026-10-05', that is not an instant such as",
    "2026-10-05T00:00/later": "has a TO, 'later', that is not an instant such as",
    "2026-10-05T00:00/2026-10-05T00:00": "ends no later than it begins",
    "2026-10-05T00:00/2026-10-04T00:00": "ends no later than it begins",
    "401d": "is longer than 400 days",
    "400d1m": "is longer than 400 days",
    "2026-01-01T00:00/2027-03-01T00:00": "is longer than 400 days",
    "2025-09-01": "begins more than 400 days before as_of: ask for what begins at 2025-09-02",
    "2025-08": "begins more than 400 days before as_of",
    "days:2025": "begins more than 400 days before as_of",
    "2025-09-02T11:59/2025-10-01T00:00": "ask for what begins at 2025-09-02T12:00:00Z or later",
    "days:2026": "makes them more than 100 windows: ask for fewer",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_text_that_is_no_window_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(WindowRefused) as refused:
        resolve_windows(["1d", text], AS_OF, None)
    assert refused.value.text == text
    assert refused.value.problem.startswith(REFUSED[text]) or REFUSED[text] in str(refused.value)
    assert str(refused.value).startswith(repr(text))


def test_400_days_are_allowed_and_so_are_100_windows() -> None:
    assert names("400d", "2025-09-02", "2025-09-02T12:00/2025-09-03T00:00") == [
        "last_400d",
        "2025_09_02",
        "range_1",
    ]
    hundred = [f"{hours}h" for hours in range(1, 101)]
    assert len(names(*hundred, "1h", "100h")) == 100
    with pytest.raises(WindowRefused, match="'101h' makes them more than 100 windows"):
        names(*hundred, "101h")


def test_dates_are_limited_by_the_date_of_the_calendar_zone() -> None:
    at = ms("2026-10-07T23:00")
    assert names("2025-09-02", as_of=at) == ["2025_09_02"]
    with pytest.raises(WindowRefused, match="2025-09-03 or later"):
        names("2025-09-02", as_of=at, calendar="Asia/Tokyo")


# What a question needs to know for its windows.


def question(*texts: str, max_gap: int = DAY, calendar: str | None = None) -> Question:
    windows = resolve_windows(texts, AS_OF, calendar)
    return Question(AS_OF, "nearest", max_gap, windows=windows)


def day(text: str) -> int:
    return ms(text) // DAY


def test_the_default_windows_are_the_last_hour_day_and_week() -> None:
    asked = Question(AS_OF, "nearest", DAY)
    assert asked.asked == default_windows(AS_OF)
    assert [window.name for window in asked.asked] == ["last_hour", "last_day", "last_week"]
    assert [window.instants for window in asked.asked] == [
        (AS_OF - one, AS_OF) for one in WINDOWS_MS
    ]
    assert asked.day_ranges == [(day("2026-09-29"), day("2026-10-07"))]


def test_a_day_long_ago_needs_only_the_days_around_it() -> None:
    long_ago = question("2025-12-10", max_gap=HOUR)
    # The date begins somewhere from the 9th at 10:00 UTC on and has ended everywhere on the 11th at
    # 12:00 UTC.
    assert long_ago.day_ranges == [(day("2025-12-09"), day("2025-12-11"))]
    assert question("2025-12-10", max_gap=HOUR, calendar="UTC").day_ranges == [
        (day("2025-12-09"), day("2025-12-11"))
    ]
    together = question("2025-12-10", "1h", "2026-10-06", max_gap=HOUR)
    assert together.day_ranges == [
        (day("2025-12-09"), day("2025-12-11")),
        (day("2026-10-05"), day("2026-10-07")),
    ]


def test_days_after_a_window_matter_as_far_as_polls_speak_and_none_after_as_of() -> None:
    one_day = "2026-10-01T00:00Z/2026-10-02T00:00Z"
    assert question(one_day, max_gap=2 * DAY).day_ranges == [(day("2026-09-29"), day("2026-10-03"))]
    assert question(one_day, max_gap=31 * DAY).day_ranges == [
        (day("2026-08-31"), day("2026-10-07"))
    ]


def test_windows_after_as_of_need_no_days() -> None:
    assert question("2026-11", "2027").day_ranges == []


def test_the_csv_names_each_window_in_each_measure() -> None:
    windows = resolve_windows(["30d", "2026-10"], AS_OF, None)
    assert header(True, True, windows) == (
        b"store_id,uptime_last_30d,uptime_2026_10,downtime_last_30d,downtime_2026_10,"
        b"unknown_last_30d,unknown_2026_10,excluded_last_30d,excluded_2026_10\n"
    )
    assert header(False, True) == (
        b"store_id,uptime_last_hour,uptime_last_day,uptime_last_week,"
        b"downtime_last_hour,downtime_last_day,downtime_last_week,"
        b"excluded_last_hour,excluded_last_day,excluded_last_week\n"
    )


def test_a_period_is_called_by_its_own_name_as_a_zone_has_it() -> None:
    as_of = int(datetime(2026, 10, 31, 23, tzinfo=UTC).timestamp()) * 1000
    texts = ["previous-month", "days:this-week", "30d", "2026-Q3", "previous-fortnight"]
    berlin = ("2026-10", "days:2026-W44", "30d", "2026-Q3", "previous-fortnight")
    assert by_name(texts, as_of, "Europe/Berlin") == berlin
    assert by_name(texts, as_of, "UTC")[0] == "2026-09"
