"""The rules by example: every expected number here was worked out by hand.

Each example is asked of the kernel and of the slow reference.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from fractions import Fraction

import pytest

from tests.harness.kernel import kernel_totals, kernel_windows
from tests.harness.reference import (
    DAY,
    DEFAULT_TIMEZONE,
    HOUR,
    MINUTE,
    Interpolation,
    Store,
    Totals,
    reference_parts,
    reference_totals,
)
from tests.harness.reference_windows import reference_windows

SECOND = 1000
MONDAY, TUESDAY, SATURDAY, SUNDAY = 0, 1, 5, 6
EVERY_DAY = range(7)

Poll = tuple[int, bool]
Row = tuple[int, int, int]
Amount = int | Fraction
#: Up, down, unknown and excluded of windows by their names.
Told = Mapping[str, tuple[Amount, Amount, Amount, Amount]]


def utc(text: str) -> int:
    """UTC milliseconds of an ISO instant, which may carry an offset: a wall clock and its zone."""
    instant = datetime.fromisoformat(text)
    assert instant.tzinfo is not None
    return round(instant.timestamp() * 1000)


def clock(text: str) -> int:
    """Milliseconds since midnight of HH:MM, HH:MM:SS or HH:MM:SS.mmm."""
    hours, minutes, seconds = (text + ":00").split(":")[:3]
    return int(hours) * HOUR + int(minutes) * MINUTE + round(float(seconds) * SECOND)


def opens(weekdays: int | Iterable[int], start: str, end: str) -> tuple[Row, ...]:
    days = [weekdays] if isinstance(weekdays, int) else weekdays
    return tuple((day, clock(start), clock(end)) for day in days)


def active(text: str) -> Poll:
    return utc(text), True


def inactive(text: str) -> Poll:
    return utc(text), False


def active_every(pace: int, first: str, last: str) -> tuple[Poll, ...]:
    return tuple((instant, True) for instant in range(utc(first), utc(last) + 1, pace))


def hms(hours: int = 0, minutes: int = 0, seconds: int = 0) -> int:
    return hours * HOUR + minutes * MINUTE + seconds * SECOND


class Answers:
    """One way to answer, with the defaults of a report."""

    def __init__(self, answer: Callable[[Store, int, Interpolation, int], Totals]) -> None:
        self._answer = answer

    def __call__(
        self,
        as_of: str,
        polls: tuple[Poll, ...] = (),
        hours: tuple[Row, ...] = (),
        timezone: str | None = "America/Chicago",
        interpolation: Interpolation = "nearest",
        max_gap: int = DAY,
    ) -> Mapping[str, tuple[Amount, Amount, Amount]]:
        store = Store("s", polls, hours, timezone)
        totals = self._answer(store, utc(as_of), interpolation, max_gap)
        assert all(excluded == 0 for *_, excluded in totals.values())
        return {window: (up, down, unknown) for window, (up, down, unknown, _) in totals.items()}


def from_kernel(store: Store, as_of: int, interpolation: Interpolation, max_gap: int) -> Totals:
    return kernel_totals([store], as_of, interpolation, max_gap)[0]


@pytest.fixture(params=["kernel", "reference"])
def report(request: pytest.FixtureRequest) -> Answers:
    return Answers(from_kernel if request.param == "kernel" else reference_totals)


# The examples the rules are taught with.

MONDAY_MORNING = opens(MONDAY, "09:00", "12:00")
MONDAY_NOON = "2023-01-23T12:00-06:00"


def test_status_switches_half_way_between_two_polls_of_a_monday_morning(report: Answers) -> None:
    polls = (active("2023-01-23T10:14-06:00"), inactive("2023-01-23T11:15-06:00"))
    totals = report(MONDAY_NOON, polls, MONDAY_MORNING)
    assert totals["day"] == (hms(1, 44, 30), hms(1, 15, 30), 0)
    assert totals["hour"] == (0, hms(1), 0)
    assert totals["week"] == (hms(1, 44, 30), hms(1, 15, 30), 0)


def test_one_active_poll_speaks_for_the_whole_morning(report: Answers) -> None:
    totals = report(MONDAY_NOON, (active("2023-01-23T10:14-06:00"),), MONDAY_MORNING)
    assert totals["day"] == (hms(3), 0, 0)


def test_a_poll_while_closed_leaves_the_whole_morning_unknown(report: Answers) -> None:
    totals = report(MONDAY_NOON, (active("2023-01-23T08:59-06:00"),), MONDAY_MORNING)
    assert totals["day"] == (0, 0, hms(3))


def test_without_hours_a_poll_a_day_before_as_of_speaks_for_the_whole_day(report: Answers) -> None:
    totals = report("2023-01-24T10:00Z", (active("2023-01-23T10:00Z"),))
    assert totals["day"] == (hms(24), 0, 0)
    assert totals["week"] == (hms(48), 0, hms(120))


def test_polls_at_both_ends_of_the_day_share_it_half_and_half(report: Answers) -> None:
    polls = (active("2023-01-23T10:00Z"), inactive("2023-01-24T10:00Z"))
    totals = report("2023-01-24T10:00Z", polls)
    assert totals["day"] == (hms(12), hms(12), 0)
    assert totals["hour"] == (0, hms(1), 0)


def test_a_night_with_clocks_going_back_is_an_hour_longer(report: Answers) -> None:
    totals = report(
        "2023-11-05T02:00-06:00",
        active_every(HOUR, "2023-11-04T00:00Z", "2023-11-05T08:00Z"),
        opens(EVERY_DAY, "22:00", "02:00"),
    )
    assert totals["day"] == (hms(5), 0, 0)


def test_a_night_with_clocks_going_forward_is_an_hour_shorter(report: Answers) -> None:
    totals = report(
        "2023-03-12T04:00-05:00",
        active_every(HOUR // 2, "2023-03-11T00:00Z", "2023-03-12T09:00Z"),
        opens(EVERY_DAY, "01:00", "04:00"),
    )
    # 03:00 to 04:00 of the day before, then 01:00 to 02:00 and 03:00 to 04:00 of this one.
    assert totals["day"] == (hms(3), 0, 0)


# Clock changes. Chicago goes back on Sunday 2023-11-05 at 07:00 UTC, forward on Sunday 2023-03-12
# at 08:00 UTC.

NOVEMBER_POLLS = active_every(HOUR, "2023-11-04T00:00Z", "2023-11-06T00:00Z")
MARCH_POLLS = active_every(HOUR // 4, "2023-03-11T00:00Z", "2023-03-13T00:00Z")


def test_an_interval_inside_the_ambiguous_hour_is_its_first_occurrence(report: Answers) -> None:
    hours = opens(SUNDAY, "00:45", "01:45")  # 05:45 to 06:45 UTC
    assert report("2023-11-05T07:00Z", NOVEMBER_POLLS, hours)["hour"] == (hms(0, 45), 0, 0)
    later = report("2023-11-05T08:00Z", NOVEMBER_POLLS, hours)
    assert later["hour"] == (0, 0, 0)
    assert later["day"] == (hms(1), 0, 0)


def test_an_interval_from_an_ambiguous_start_holds_the_second_occurrence(report: Answers) -> None:
    hours = opens(SUNDAY, "01:30", "02:30")  # 06:30 to 08:30 UTC
    assert report("2023-11-05T12:00Z", NOVEMBER_POLLS, hours)["day"] == (hms(2), 0, 0)


def test_a_start_that_clocks_skip_takes_the_offset_before(report: Answers) -> None:
    hours = opens(SUNDAY, "02:30", "05:00")  # 08:30 to 10:00 UTC
    totals = report("2023-03-12T09:00Z", MARCH_POLLS, hours)
    assert totals["hour"] == (hms(0, 30), 0, 0)
    assert report("2023-03-12T12:00Z", MARCH_POLLS, hours)["day"] == (hms(1, 30), 0, 0)


def test_an_end_that_clocks_skip_takes_the_offset_before(report: Answers) -> None:
    hours = opens(SUNDAY, "01:00", "02:30")  # 07:00 to 08:30 UTC
    assert report("2023-03-12T08:45Z", MARCH_POLLS, hours)["hour"] == (hms(0, 45), 0, 0)
    assert report("2023-03-12T12:00Z", MARCH_POLLS, hours)["day"] == (hms(1, 30), 0, 0)


def test_an_interval_wholly_inside_the_skipped_hour_keeps_its_length(report: Answers) -> None:
    hours = opens(SUNDAY, "02:15", "02:45")  # 08:15 to 08:45 UTC
    assert report("2023-03-12T12:00Z", MARCH_POLLS, hours)["day"] == (hms(0, 30), 0, 0)


@pytest.mark.parametrize("end", ["03:15", "03:30"])
def test_an_interval_whose_end_does_not_come_after_its_start_is_empty(
    report: Answers, end: str
) -> None:
    # It starts at 08:30 UTC, and ends at 08:15 or 08:30.
    totals = report("2023-03-12T12:00Z", MARCH_POLLS, opens(SUNDAY, "02:30", end))
    assert totals["day"] == (0, 0, 0)


def test_rows_apart_on_the_wall_that_meet_in_utc_count_once(report: Answers) -> None:
    # 07:00 to 08:30 and 08:00 to 09:00 UTC.
    hours = opens(SUNDAY, "01:00", "02:30") + opens(SUNDAY, "03:00", "04:00")
    assert report("2023-03-12T12:00Z", MARCH_POLLS, hours)["day"] == (hms(2), 0, 0)


def test_an_overnight_interval_over_the_night_clocks_go_back(report: Answers) -> None:
    hours = opens(SATURDAY, "23:00", "05:00")  # 04:00 to 11:00 UTC
    assert report("2023-11-05T12:00Z", NOVEMBER_POLLS, hours)["day"] == (hms(7), 0, 0)


def test_an_overnight_interval_over_the_night_clocks_go_forward(report: Answers) -> None:
    hours = opens(SATURDAY, "23:00", "05:00")  # 05:00 to 10:00 UTC
    assert report("2023-03-12T12:00Z", MARCH_POLLS, hours)["day"] == (hms(5), 0, 0)


def test_a_whole_day_lasts_25_hours_when_clocks_go_back_and_23_when_forward(
    report: Answers,
) -> None:
    hours = opens(SUNDAY, "00:00", "24:00")
    # Sunday 05:00 UTC to Monday 06:00 UTC, and Sunday 06:00 UTC to Monday 05:00 UTC.
    long = report("2023-11-06T12:00Z", NOVEMBER_POLLS, hours)
    assert long["week"] == (hms(25), 0, 0)
    short = report("2023-03-13T12:00Z", MARCH_POLLS, hours)
    assert short["week"] == (hms(23), 0, 0)


BEIRUT_POLLS = active_every(HOUR, "2022-03-26T00:00Z", "2022-03-28T00:00Z")


def test_a_midnight_that_does_not_exist_as_a_start(report: Answers) -> None:
    # Beirut skips Sunday 00:00 to 01:00, at 22:00 UTC of Saturday; 02:00 is 23:00 UTC.
    hours = opens(SUNDAY, "00:00", "02:00")
    totals = report("2022-03-27T12:00Z", BEIRUT_POLLS, hours, "Asia/Beirut")
    assert totals["day"] == (hms(1), 0, 0)


@pytest.mark.parametrize("end", ["00:00", "23:59", "24:00"])
def test_a_midnight_that_does_not_exist_as_an_end(report: Answers, end: str) -> None:
    hours = opens(SATURDAY, "22:00", end)  # 20:00 to 22:00 UTC
    totals = report("2022-03-27T12:00Z", BEIRUT_POLLS, hours, "Asia/Beirut")
    assert totals["day"] == (hms(2), 0, 0)


def test_a_whole_day_that_begins_with_a_midnight_that_does_not_exist(report: Answers) -> None:
    hours = opens(SUNDAY, "00:00", "00:00")  # Saturday 22:00 to Sunday 21:00 UTC
    totals = report("2022-03-27T22:00Z", BEIRUT_POLLS, hours, "Asia/Beirut")
    assert totals["day"] == (hms(23), 0, 0)


def test_lord_howe_goes_forward_by_half_an_hour(report: Answers) -> None:
    polls = active_every(HOUR, "2023-09-30T00:00Z", "2023-10-01T00:00Z")
    hours = opens(SUNDAY, "01:00", "04:00")  # 14:30 to 17:00 UTC of Saturday
    totals = report("2023-09-30T20:00Z", polls, hours, "Australia/Lord_Howe")
    assert totals["day"] == (hms(2, 30), 0, 0)


def test_lord_howe_goes_back_by_half_an_hour(report: Answers) -> None:
    polls = active_every(HOUR, "2023-04-01T00:00Z", "2023-04-02T00:00Z")
    hours = opens(SUNDAY, "01:00", "04:00")  # 14:00 to 17:30 UTC of Saturday
    totals = report("2023-04-01T20:00Z", polls, hours, "Australia/Lord_Howe")
    assert totals["day"] == (hms(3, 30), 0, 0)


def test_lord_howe_has_an_ambiguous_half_hour(report: Answers) -> None:
    polls = active_every(HOUR, "2023-04-01T00:00Z", "2023-04-02T00:00Z")
    # 01:30 to 02:00 comes twice: from the first 01:45, 14:45 UTC, to 02:00, 15:30 UTC.
    hours = opens(SUNDAY, "01:45", "02:00")
    totals = report("2023-04-01T20:00Z", polls, hours, "Australia/Lord_Howe")
    assert totals["day"] == (hms(0, 45), 0, 0)


def test_troll_changes_by_two_hours(report: Answers) -> None:
    hours = opens(SUNDAY, "00:00", "04:00")
    forward = report(
        "2023-03-26T12:00Z",
        active_every(HOUR, "2023-03-25T00:00Z", "2023-03-26T12:00Z"),
        hours,  # 00:00 to 02:00 UTC
        "Antarctica/Troll",
    )
    assert forward["day"] == (hms(2), 0, 0)
    back = report(
        "2023-10-29T12:00Z",
        active_every(HOUR, "2023-10-28T00:00Z", "2023-10-29T12:00Z"),
        hours,  # Saturday 22:00 to Sunday 04:00 UTC
        "Antarctica/Troll",
    )
    assert back["day"] == (hms(6), 0, 0)


def test_a_date_that_a_zone_skipped_counts_no_opening_twice(report: Answers) -> None:
    # In Apia Thursday 2011-12-29, 10 hours behind UTC, was followed by Saturday, 14 hours ahead.
    polls = active_every(HOUR, "2011-12-29T00:00Z", "2012-01-01T00:00Z")
    hours = opens(EVERY_DAY, "09:00", "17:00")
    # Thursday is 19:00 to 03:00 UTC, and so is Saturday, a day later.
    totals = report("2011-12-31T12:00Z", polls, hours, "Pacific/Apia")
    assert totals["day"] == (hms(8), 0, 0)
    assert report("2011-12-30T12:00Z", polls, hours, "Pacific/Apia")["day"] == (hms(8), 0, 0)


# Rows of business hours.


def test_no_time_zone_given_is_chicago(report: Answers) -> None:
    polls = (active("2023-01-23T10:14-06:00"), inactive("2023-01-23T11:15-06:00"))
    totals = report(MONDAY_NOON, polls, MONDAY_MORNING, timezone=None)
    assert totals["day"] == (hms(1, 44, 30), hms(1, 15, 30), 0)


def test_a_zone_ahead_of_utc_has_its_own_weekday(report: Answers) -> None:
    # Monday 00:00 to 06:00 in Kathmandu, 5 h 45 min ahead, is Sunday 18:15 to Monday 00:15 UTC.
    polls = (active("2023-01-22T19:00Z"),)
    hours = opens(MONDAY, "00:00", "06:00")
    totals = report("2023-01-22T23:15Z", polls, hours, "Asia/Kathmandu")
    assert totals["day"] == (hms(5), 0, 0)


def test_an_overnight_interval_from_before_the_hour(report: Answers) -> None:
    hours = opens(SUNDAY, "22:00", "02:45")
    totals = report("2023-01-23T03:00-06:00", (active("2023-01-23T01:00-06:00"),), hours)
    assert totals["hour"] == (hms(0, 45), 0, 0)
    assert totals["day"] == (hms(4, 45), 0, 0)


def test_an_overnight_interval_of_the_date_before_the_day(report: Answers) -> None:
    # The day begins on Sunday at noon; the interval began on Saturday and ends half an hour later.
    hours = opens(SATURDAY, "13:00", "12:30")
    totals = report(MONDAY_NOON, (active("2023-01-22T12:15-06:00"),), hours)
    assert totals["day"] == (hms(0, 30), 0, 0)


def test_an_overnight_interval_of_the_date_before_the_week(report: Answers) -> None:
    hours = opens(SUNDAY, "13:00", "12:30")
    polls = (active("2023-01-16T12:15-06:00"), inactive("2023-01-23T00:00-06:00"))
    totals = report(MONDAY_NOON, polls, hours)
    assert totals["week"] == (hms(0, 30), hms(23), 0)


def test_a_store_with_rows_is_closed_where_none_covers(report: Answers) -> None:
    hours = opens(TUESDAY, "09:00", "17:00")
    totals = report(MONDAY_NOON, (active("2023-01-23T10:00-06:00"),), hours)
    assert totals["hour"] == (0, 0, 0)
    assert totals["day"] == (0, 0, 0)
    assert totals["week"] == (0, 0, hms(8))


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("00:00", "00:00"),
        ("00:00", "23:59"),
        ("00:00", "23:59:00.001"),
        ("00:00", "23:59:59"),
        ("00:00", "24:00"),
        ("09:00", "09:00"),
    ],
)
def test_a_whole_day_every_day_has_no_hole(report: Answers, start: str, end: str) -> None:
    polls = active_every(HOUR, "2023-01-15T00:00Z", "2023-01-24T00:00Z")
    totals = report(MONDAY_NOON, polls, opens(EVERY_DAY, start, end))
    assert totals["day"] == (hms(24), 0, 0)
    assert totals["week"] == (hms(168), 0, 0)


@pytest.mark.parametrize(
    ("start", "end", "open_for"),
    [
        ("00:00", "00:00", hms(24)),
        ("00:00", "24:00", hms(24)),
        ("00:00", "23:59", hms(24)),
        ("00:00", "23:58:59.999", hms(23, 58, 59) + 999),
        ("09:00", "09:00", hms(24)),
        ("09:00", "08:59", hms(23, 59)),
        ("23:58", "23:59", hms(0, 2)),
        ("23:59", "00:30", hms(0, 31)),
        ("23:59:30", "23:59", hms(0, 0, 30)),
    ],
)
def test_length_of_one_day_with_an_end_near_midnight(
    report: Answers, start: str, end: str, open_for: int
) -> None:
    polls = active_every(HOUR, "2023-01-16T18:00Z", "2023-01-23T18:00Z")
    polls += active_every(MINUTE // 2, "2023-01-18T05:30Z", "2023-01-18T06:30Z")
    totals = report(MONDAY_NOON, polls, opens(TUESDAY, start, end))
    assert totals["week"] == (open_for, 0, 0)


def test_overlapping_and_touching_rows_are_one_interval(report: Answers) -> None:
    hours = (
        opens(MONDAY, "09:00", "10:30")
        + opens(MONDAY, "10:00", "11:00")
        + opens(MONDAY, "11:00", "12:00")
        + opens(MONDAY, "09:15", "09:30")
        + opens(MONDAY, "09:00", "10:30")
    )
    polls = (active("2023-01-23T10:00-06:00"), inactive("2023-01-23T11:00-06:00"))
    assert report(MONDAY_NOON, polls, hours)["day"] == (hms(1, 30), hms(1, 30), 0)


def test_an_overnight_row_over_the_next_days_row_counts_once(report: Answers) -> None:
    hours = opens(SUNDAY, "20:00", "10:00") + opens(MONDAY, "08:00", "12:00")
    polls = (active("2023-01-23T09:00-06:00"),)
    assert report(MONDAY_NOON, polls, hours)["day"] == (hms(16), 0, 0)


# Polls and what they say.


def test_without_polls_business_time_is_unknown(report: Answers) -> None:
    around_the_clock = report(MONDAY_NOON)
    assert around_the_clock["hour"] == (0, 0, hms(1))
    assert around_the_clock["day"] == (0, 0, hms(24))
    assert around_the_clock["week"] == (0, 0, hms(168))
    with_hours = report(MONDAY_NOON, (), MONDAY_MORNING)
    assert with_hours["day"] == (0, 0, hms(3))


def test_a_poll_exactly_at_closing_is_no_observation(report: Answers) -> None:
    totals = report("2023-01-23T13:00-06:00", (active("2023-01-23T12:00-06:00"),), MONDAY_MORNING)
    assert totals["day"] == (0, 0, hms(3))


def test_a_poll_a_millisecond_before_closing_is_an_observation(report: Answers) -> None:
    polls = (active("2023-01-23T11:59:59.999-06:00"),)
    assert report("2023-01-23T13:00-06:00", polls, MONDAY_MORNING)["day"] == (hms(3), 0, 0)


def test_a_poll_exactly_at_opening_is_an_observation(report: Answers) -> None:
    totals = report(MONDAY_NOON, (active("2023-01-23T09:00-06:00"),), MONDAY_MORNING)
    assert totals["day"] == (hms(3), 0, 0)


def test_a_poll_a_millisecond_before_opening_is_no_observation(report: Answers) -> None:
    totals = report(MONDAY_NOON, (active("2023-01-23T08:59:59.999-06:00"),), MONDAY_MORNING)
    assert totals["day"] == (0, 0, hms(3))


def test_a_poll_at_as_of_counts(report: Answers) -> None:
    totals = report(MONDAY_NOON, (inactive(MONDAY_NOON),))
    assert totals["day"] == (0, hms(24), 0)
    assert totals["week"] == (0, hms(24), hms(144))


def test_a_poll_at_as_of_counts_while_the_store_stays_open(report: Answers) -> None:
    hours = opens(MONDAY, "09:00", "13:00")
    totals = report(MONDAY_NOON, (inactive(MONDAY_NOON),), hours)
    assert totals["day"] == (0, hms(3), 0)


def test_a_poll_at_as_of_is_no_observation_when_the_store_closes_then(report: Answers) -> None:
    totals = report(MONDAY_NOON, (inactive(MONDAY_NOON),), MONDAY_MORNING)
    assert totals["day"] == (0, 0, hms(3))


def test_a_poll_after_as_of_does_not_exist(report: Answers) -> None:
    hours = opens(MONDAY, "09:00", "17:00")
    for later in ("2023-01-23T12:00:00.001-06:00", "2023-01-23T12:30-06:00"):
        polls = (active("2023-01-23T11:00-06:00"), inactive(later))
        assert report(MONDAY_NOON, polls, hours)["day"] == (hms(3), 0, 0)
        assert report(MONDAY_NOON, polls[1:], hours)["day"] == (0, 0, hms(3))


def test_a_closed_poll_between_two_observations_changes_nothing(report: Answers) -> None:
    hours = opens((SUNDAY, MONDAY), "09:00", "12:00")
    polls = (
        active("2023-01-22T11:00-06:00"),
        inactive("2023-01-22T18:00-06:00"),
        active("2023-01-23T10:00-06:00"),
    )
    assert report("2023-01-23T13:00-06:00", polls, hours)["week"] == (hms(6), 0, 0)


def test_elapsed_time_while_closed_counts_for_the_half_way_point(report: Answers) -> None:
    hours = opens((SUNDAY, MONDAY), "09:00", "12:00")
    # Twenty-two hours apart, the half way point is Sunday 22:30, when the store is closed.
    polls = (active("2023-01-22T11:30-06:00"), inactive("2023-01-23T09:30-06:00"))
    totals = report("2023-01-23T13:00-06:00", polls, hours)
    assert totals["week"] == (hms(3), hms(3), 0)


def test_of_two_polls_in_one_millisecond_the_later_arrival_wins(report: Answers) -> None:
    moment = "2023-01-23T11:00-06:00"
    down = report(MONDAY_NOON, (active(moment), inactive(moment)))
    assert down["day"] == (0, hms(24), 0)
    up = report(MONDAY_NOON, (inactive(moment), active(moment)))
    assert up["day"] == (hms(24), 0, 0)


def test_polls_may_arrive_in_any_order(report: Answers) -> None:
    polls = (inactive("2023-01-23T11:15-06:00"), active("2023-01-23T10:14-06:00"))
    totals = report(MONDAY_NOON, polls, MONDAY_MORNING)
    assert totals["day"] == (hms(1, 44, 30), hms(1, 15, 30), 0)


def test_max_gap_cuts_on_both_sides_of_a_lone_poll(report: Answers) -> None:
    totals = report("2023-01-23T12:00Z", (active("2023-01-23T09:00Z"),), max_gap=HOUR)
    assert totals["hour"] == (0, 0, hms(1))
    assert totals["day"] == (hms(2), 0, hms(22))


def test_max_gap_leaves_a_hole_between_polls_further_apart_than_twice_it(report: Answers) -> None:
    polls = (active("2023-01-23T07:00Z"), inactive("2023-01-23T10:00Z"))
    totals = report("2023-01-23T12:00Z", polls, max_gap=HOUR)
    # Up 06:00 to 08:00, down 09:00 to 11:00.
    assert totals["day"] == (hms(2), hms(2), hms(20))


def test_max_gap_leaves_no_hole_between_polls_closer_than_twice_it(report: Answers) -> None:
    polls = (active("2023-01-23T07:00Z"), inactive("2023-01-23T08:00Z"))
    totals = report("2023-01-23T12:00Z", polls, max_gap=HOUR)
    # Up 06:00 to 07:30, down 07:30 to 09:00.
    assert totals["day"] == (hms(1, 30), hms(1, 30), hms(21))


def test_an_observation_speaks_into_a_window_that_begins_within_max_gap(report: Answers) -> None:
    totals = report("2023-01-24T12:00Z", (active("2023-01-23T06:00Z"),))
    # Thirty hours before `as_of`: it speaks for the first eighteen hours of the day.
    assert totals["hour"] == (0, 0, hms(1))
    assert totals["day"] == (hms(18), 0, hms(6))


OPEN_BY_DAY = opens(EVERY_DAY, "09:00", "17:00")


def test_an_observation_days_before_the_week_speaks_into_it(report: Answers) -> None:
    # 5 h of the Monday a week before, six days of 8 h, 3 h of this Monday.
    totals = report(MONDAY_NOON, (active("2023-01-03T10:00-06:00"),), OPEN_BY_DAY, max_gap=31 * DAY)
    assert totals["week"] == (hms(56), 0, 0)


def test_a_closed_poll_days_before_the_week_does_not_speak_into_it(report: Answers) -> None:
    totals = report(MONDAY_NOON, (active("2023-01-03T08:00-06:00"),), OPEN_BY_DAY, max_gap=31 * DAY)
    assert totals["week"] == (0, 0, hms(56))


def test_on_a_tie_of_half_a_millisecond_each_side_gets_its_half(report: Answers) -> None:
    polls = (active("2023-01-23T11:59:59.999Z"), inactive("2023-01-23T12:00Z"))
    half = Fraction(1, 2)
    totals = report("2023-01-23T12:00Z", polls)
    assert totals["hour"] == (hms(1) - half, half, 0)
    assert totals["day"] == (hms(24) - half, half, 0)


# Carrying the last status forward.


def test_previous_switches_exactly_at_the_poll(report: Answers) -> None:
    polls = (active("2023-01-23T09:00Z"), inactive("2023-01-23T10:00Z"))
    totals = report("2023-01-23T12:00Z", polls, interpolation="previous")
    assert totals["hour"] == (0, hms(1), 0)
    assert totals["day"] == (hms(1), hms(2), hms(21))


def test_previous_says_nothing_before_the_first_observation(report: Answers) -> None:
    polls = (active("2023-01-23T10:14-06:00"),)
    totals = report(MONDAY_NOON, polls, MONDAY_MORNING, interpolation="previous")
    assert totals["day"] == (hms(1, 46), 0, hms(1, 14))


def test_previous_carries_a_status_for_max_gap(report: Answers) -> None:
    polls = (active("2023-01-23T09:00Z"), active("2023-01-23T11:30Z"))
    totals = report("2023-01-23T12:00Z", polls, interpolation="previous", max_gap=HOUR)
    # 09:00 to 10:00 and 11:30 to 12:00.
    assert totals["hour"] == (hms(0, 30), 0, hms(0, 30))
    assert totals["day"] == (hms(1, 30), 0, hms(22, 30))


def test_previous_ignores_the_status_seen_while_closed(report: Answers) -> None:
    polls = (active("2023-01-22T11:00-06:00"), inactive("2023-01-23T08:00-06:00"))
    hours = opens((SUNDAY, MONDAY), "09:00", "12:00")
    totals = report(MONDAY_NOON, polls, hours, interpolation="previous")
    # Sunday's status lasts until Monday 11:00.
    assert totals["day"] == (hms(2), 0, hms(1))


def test_previous_gives_a_poll_at_as_of_nothing_to_say(report: Answers) -> None:
    totals = report(MONDAY_NOON, (inactive(MONDAY_NOON),), interpolation="previous")
    assert totals["day"] == (0, 0, hms(24))


# Exclusions, special days, weeks with a date, and windows. `told` gives up, down, unknown and
# excluded of each window that is asked for by its text.


def reference_told(store: Store, as_of: str, *texts: str) -> Told:
    zone = store.timezone or DEFAULT_TIMEZONE
    return {
        name: reference_parts(store, window, utc(as_of), "nearest", DAY)
        for name, window in reference_windows(list(texts), utc(as_of), None, zone).items()
    }


def kernel_told(store: Store, as_of: str, *texts: str) -> Told:
    return kernel_windows([store], texts, utc(as_of), "nearest", DAY)[0]


@pytest.fixture(params=["kernel", "reference"])
def told(request: pytest.FixtureRequest) -> Callable[..., Told]:
    return kernel_told if request.param == "kernel" else reference_told


def test_an_excluded_poll_says_nothing_and_half_way_may_be_excluded(
    told: Callable[..., Told],
) -> None:
    polls = (
        active("2023-01-23T10:14-06:00"),
        inactive("2023-01-23T11:00-06:00"),
        inactive("2023-01-23T11:45-06:00"),
    )
    excluded = (utc("2023-01-23T10:30-06:00"), utc("2023-01-23T11:30-06:00"))
    store = Store("s", polls, MONDAY_MORNING, exclusions=(excluded,))
    assert told(store, MONDAY_NOON, "1d") == {"last_1d": (hms(1, 30), hms(0, 30), 0, hms(1))}


HALF_HOURLY = active_every(HOUR // 2, "2023-01-22T00:00Z", "2023-01-27T00:00Z")
TUESDAY_24TH = date(2023, 1, 24)


def test_a_closed_date_keeps_what_began_on_the_day_before(told: Callable[..., Told]) -> None:
    hours = opens(EVERY_DAY, "18:00", "02:00")
    store = Store("s", HALF_HOURLY, hours, special=((TUESDAY_24TH, ()),))
    windows = told(store, "2023-01-27T00:00Z", "2023-01-24", "2023-01-25")
    assert windows == {"2023_01_24": (hms(2), 0, 0, 0), "2023_01_25": (hms(6), 0, 0, 0)}


def test_a_special_date_of_a_store_that_is_always_open(told: Callable[..., Told]) -> None:
    special = ((TUESDAY_24TH, ((clock("09:00"), clock("14:00")),)),)
    store = Store("s", HALF_HOURLY, special=special)
    windows = told(store, "2023-01-27T00:00Z", "2023-01-24", "2023-01-25")
    assert windows == {"2023_01_24": (hms(5), 0, 0, 0), "2023_01_25": (hms(24), 0, 0, 0)}


def test_special_hours_may_run_overnight_and_end_at_2359(told: Callable[..., Told]) -> None:
    special = (
        (TUESDAY_24TH, ((clock("22:00"), clock("03:00")),)),
        (date(2023, 1, 25), ((clock("20:00"), clock("23:59")),)),
    )
    store = Store("s", HALF_HOURLY, opens(EVERY_DAY, "09:00", "10:00"), special=special)
    windows = told(store, "2023-01-27T00:00Z", "2023-01-24", "2023-01-25", "2023-01-26")
    assert windows == {
        "2023_01_24": (hms(2), 0, 0, 0),
        "2023_01_25": (hms(7), 0, 0, 0),
        "2023_01_26": (hms(1), 0, 0, 0),
    }


def test_hours_change_with_the_week_in_force(told: Callable[..., Told]) -> None:
    store = Store(
        "s",
        active_every(HOUR, "2024-03-01T00:00Z", "2024-03-14T00:00Z"),
        opens(MONDAY, "09:00", "17:00"),
        weeks=((date(2024, 3, 11), opens(MONDAY, "10:00", "16:00")),),
    )
    windows = told(store, "2024-03-14T00:00Z", "2024-03-04", "2024-03-11")
    assert windows == {"2024_03_04": (hms(8), 0, 0, 0), "2024_03_11": (hms(6), 0, 0, 0)}


def test_a_store_is_closed_before_its_first_week_and_while_an_empty_one_is_in_force(
    told: Callable[..., Told],
) -> None:
    weeks = (
        (date(2023, 1, 23), opens(EVERY_DAY, "22:00", "04:00")),
        (date(2023, 1, 24), ()),
    )
    store = Store("s", HALF_HOURLY, weeks=weeks)
    windows = told(store, "2023-01-26T00:00Z", "2023-01-22", "2023-01-23", "2023-01-24")
    # What began on Monday runs into the Tuesday.
    assert windows == {
        "2023_01_22": (0, 0, 0, 0),
        "2023_01_23": (hms(2), 0, 0, 0),
        "2023_01_24": (hms(4), 0, 0, 0),
    }


def test_a_store_whose_only_week_is_empty_is_never_open(told: Callable[..., Told]) -> None:
    store = Store("s", HALF_HOURLY, weeks=((None, ()),))
    assert told(store, "2023-01-25T00:00Z", "7d") == {"last_7d": (0, 0, 0, 0)}


def test_a_month_with_clocks_going_forward_is_an_hour_shorter(told: Callable[..., Told]) -> None:
    store = Store("s", active_every(HOUR, "2024-02-28T00:00Z", "2024-04-03T00:00Z"))
    assert told(store, "2024-04-03T00:00Z", "2024-03") == {"2024_03": (hms(743), 0, 0, 0)}


def test_what_lies_after_as_of_is_cut_off(told: Callable[..., Told]) -> None:
    store = Store("s", HALF_HOURLY)
    windows = told(store, MONDAY_NOON, "this-week", "days:2023-W04", "2023-Q2")
    assert windows == {
        "2023_W04": (hms(12), 0, 0, 0),
        "2023_01_23": (hms(12), 0, 0, 0),
        **{f"2023_01_{day}": (0, 0, 0, 0) for day in range(24, 30)},
        "2023_Q2": (0, 0, 0, 0),
    }


def test_a_later_observation_speaks_into_a_window_but_none_after_as_of(
    told: Callable[..., Told],
) -> None:
    store = Store("s", (inactive("2023-01-24T06:00Z"),))
    window = "2023-01-23T00:00Z/2023-01-24T00:00Z"
    after = told(store, "2023-01-24T06:00Z", window)
    assert after == {"range_1": (0, hms(18), hms(6), 0)}
    before = told(store, "2023-01-24T05:59Z", window)
    assert before == {"range_1": (0, 0, hms(24), 0)}


def test_a_day_whose_midnight_clocks_skip_begins_an_hour_late(told: Callable[..., Told]) -> None:
    store = Store("s", BEIRUT_POLLS, timezone="Asia/Beirut")
    windows = told(store, "2022-03-28T00:00Z", "2022-03-26", "2022-03-27")
    assert windows == {"2022_03_26": (hms(24), 0, 0, 0), "2022_03_27": (hms(23), 0, 0, 0)}


def test_a_date_that_a_zone_skipped_is_an_empty_window(told: Callable[..., Told]) -> None:
    polls = active_every(HOUR, "2011-12-28T00:00Z", "2012-01-02T00:00Z")
    store = Store("s", polls, timezone="Pacific/Apia")
    windows = told(store, "2012-01-02T00:00Z", "2011-12-29", "2011-12-30", "2011-12-31")
    assert windows == {
        "2011_12_29": (hms(24), 0, 0, 0),
        "2011_12_30": (0, 0, 0, 0),
        "2011_12_31": (hms(24), 0, 0, 0),
    }
