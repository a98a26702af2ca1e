"""States and outages by example: every expected instant and length here was worked out by hand.

Each example is asked of the kernel and of the slow reference.
"""

from datetime import UTC, datetime
from fractions import Fraction

import pytest

from tests.harness.kernel import kernel_outages, kernel_states
from tests.harness.reference import (
    DAY,
    HOUR,
    MINUTE,
    Store,
    reference_outages,
    reference_since,
    state_at,
)

ZONE = "America/Chicago"
DAYTIME = tuple((day, 9 * HOUR, 17 * HOUR) for day in range(7))
LOOK_BACK = 8 * DAY
#: Begin and end as wall clocks of January 2023 in Chicago, length, and what ends it.
Told = list[tuple[str | None, str, int | Fraction, str | None]]


def utc(text: str) -> int:
    """UTC milliseconds of a day and a wall clock: `23T10:00`; or of a whole instant."""
    whole = f"2023-01-{text}-06:00" if len(text) < 17 else text
    return round(datetime.fromisoformat(whole).timestamp() * 1000)


def wall(instant: Fraction | None) -> str | None:
    if instant is None:
        return None
    moment = datetime.fromtimestamp(float(instant) / 1000 - 6 * 3600, UTC)
    return f"{moment:%dT%H:%M}"


def down(*times: str) -> tuple[tuple[int, bool], ...]:
    return tuple((utc(time), False) for time in times)


def up(*times: str) -> tuple[tuple[int, bool], ...]:
    return tuple((utc(time), True) for time in times)


class Answers:
    """One way to answer."""

    def __init__(self, by_kernel: bool) -> None:
        self._by_kernel = by_kernel

    def outages(self, store: Store, as_of: str, max_gap: int = DAY) -> Told:
        asked = utc(as_of), max_gap, LOOK_BACK
        if self._by_kernel:
            found = kernel_outages([store], *asked)[0]
        else:
            found = reference_outages(store, *asked)
        return [(wall(begin), wall(end) or "", length, then) for begin, end, length, then in found]

    def state(self, store: Store, as_of: str, max_gap: int = DAY) -> tuple[str, str | None]:
        asked = utc(as_of), max_gap, LOOK_BACK
        if self._by_kernel:
            state, since, _ = kernel_states([store], *asked)[0]
        else:
            state = state_at(store, *asked[:2])
            since = reference_since(store, *asked)
        return state, wall(since)


@pytest.fixture(params=["kernel", "reference"])
def told(request: pytest.FixtureRequest) -> Answers:
    return Answers(request.param == "kernel")


def store(
    polls: tuple[tuple[int, bool], ...],
    hours: tuple[tuple[int, int, int], ...] = (),
    exclusions: tuple[tuple[int, int], ...] = (),
) -> Store:
    return Store("s", polls, hours, ZONE, exclusions=exclusions)


OVERNIGHT = store(up("23T16:00") + down("23T16:30") + down("24T09:00") + up("24T10:00"), DAYTIME)


def test_a_night_does_not_end_an_outage_nor_lengthen_it(told: Answers) -> None:
    # 16:30 to 17:00, and 09:00 to 10:00.
    outage = ("23T16:30", "24T10:00", 90 * MINUTE, "up")
    assert told.outages(OVERNIGHT, "24T12:00") == [outage]


def test_in_the_night_an_outage_is_open_and_its_store_closed(told: Answers) -> None:
    assert told.outages(OVERNIGHT, "23T23:00") == [("23T16:30", "23T17:00", 30 * MINUTE, None)]
    assert told.state(OVERNIGHT, "23T23:00") == ("closed", "23T17:00")


def test_in_the_morning_a_store_has_been_down_since_the_evening(told: Answers) -> None:
    assert told.state(OVERNIGHT, "24T09:30") == ("down", "23T16:30")
    assert told.state(OVERNIGHT, "24T10:30") == ("up", "24T10:00")


def test_excluded_time_in_the_middle_is_not_part_of_the_length(told: Answers) -> None:
    excluded = ((utc("23T11:00"), utc("23T12:00")),)
    polls = up("23T09:00") + down("23T10:00") + up("23T11:30") + down("23T12:30") + up("23T13:00")
    one = store(polls, exclusions=excluded)
    # The poll at 11:30 is none of counted time: 10:00 to 11:00, and 12:00 to 13:00.
    assert told.outages(one, "23T14:00") == [("23T10:00", "23T13:00", 2 * HOUR, "up")]
    assert told.outages(one, "23T11:45") == [("23T10:00", "23T11:00", HOUR, None)]
    assert told.state(one, "23T11:45") == ("excluded", "23T11:00")
    assert told.state(one, "23T12:15") == ("down", "23T10:00")


def test_silence_ends_an_outage(told: Answers) -> None:
    one = store(down("23T10:00", "23T11:00", "23T14:00"))
    assert told.outages(one, "23T15:30", 2 * HOUR) == [
        ("23T10:00", "23T13:00", 3 * HOUR, "unknown"),
        ("23T14:00", "23T15:30", 90 * MINUTE, None),
    ]
    assert told.state(one, "23T13:30", 2 * HOUR) == ("unknown", "23T13:00")


def test_a_reach_is_half_open(told: Answers) -> None:
    one = store(down("23T10:00"))
    assert told.state(one, "2023-01-23T11:59:59.999-06:00", 2 * HOUR) == ("down", "23T10:00")
    assert told.state(one, "23T12:00", 2 * HOUR) == ("unknown", "23T12:00")
    assert told.outages(one, "23T12:00", 2 * HOUR) == [
        ("23T10:00", "23T12:00", 2 * HOUR, "unknown")
    ]


def test_polls_exactly_max_gap_apart_leave_no_silence(told: Answers) -> None:
    one = store(down("23T10:00", "23T12:00"))
    assert told.outages(one, "23T13:00", 2 * HOUR) == [("23T10:00", "23T13:00", 3 * HOUR, None)]


def test_what_begins_at_the_instant_itself_is_told(told: Answers) -> None:
    one = store(up("23T10:00") + down("23T11:00"))
    assert told.state(one, "23T11:00") == ("down", "23T11:00")
    assert told.outages(one, "23T11:00") == [("23T11:00", "23T11:00", 0, None)]
    restored = store(down("23T10:00") + up("23T11:00"))
    assert told.state(restored, "23T11:00") == ("up", "23T11:00")
    assert told.outages(restored, "23T11:00") == [("23T10:00", "23T11:00", HOUR, "up")]


def test_closing_is_half_open(told: Answers) -> None:
    one = store(down("23T09:00"), DAYTIME)
    assert told.state(one, "23T09:00") == ("down", "23T09:00")
    assert told.state(one, "23T17:00") == ("closed", "23T17:00")


def test_a_store_that_never_was_polled_has_no_beginning_of_that(told: Answers) -> None:
    assert told.state(store(()), "23T12:00") == ("unknown", None)
    assert told.state(store((), DAYTIME), "23T12:00") == ("unknown", "23T09:00")


def test_what_began_before_one_looks_back_has_no_beginning(told: Answers) -> None:
    one = store(tuple((utc("23T12:00") - nth * 12 * HOUR, False) for nth in range(30)))
    assert told.state(one, "23T12:00") == ("down", None)
    assert told.outages(one, "23T12:00") == [(None, "23T12:00", LOOK_BACK, None)]


@pytest.mark.parametrize(
    ("night", "length"),
    [
        # Open 22:00 to 04:00; down from 00:30 on, and up at 03:30.
        pytest.param("2023-11-05", 4 * HOUR, id="clocks go back"),
        pytest.param("2023-03-12", 2 * HOUR, id="clocks go forward"),
    ],
)
def test_an_outage_of_a_night_when_clocks_change_has_elapsed_time(
    told: Answers, night: str, length: int
) -> None:
    before, after = ("-05:00", "-06:00") if night == "2023-11-05" else ("-06:00", "-05:00")
    begin, end = utc(f"{night}T00:30:00{before}"), utc(f"{night}T03:30:00{after}")
    overnight = tuple((day, 22 * HOUR, 4 * HOUR) for day in range(7))
    one = store(((begin - HOUR, True), (begin, False), (end, True)), overnight)
    found = told.outages(one, f"{night}T12:00:00{after}")
    assert found == [(wall(Fraction(begin)), wall(Fraction(end)), length, "up")]


def test_the_outages_of_a_store_are_told_in_order(told: Answers) -> None:
    polls = up("22T09:00") + down("22T10:00") + up("22T11:00") + down("23T10:00") + up("23T10:10")
    assert told.outages(store(polls), "23T12:00") == [
        ("22T10:00", "22T11:00", HOUR, "up"),
        ("23T10:00", "23T10:10", 10 * MINUTE, "up"),
    ]
