"""The kernel gives the numbers of the slow reference, exactly, whatever the stores look like."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compute import batch as kernel
from compute.csv_rows import Unit
from compute.windows import resolve_windows
from tests.harness.kernel import (
    kernel_csv,
    kernel_instants,
    kernel_rows,
    kernel_totals,
    kernel_windows,
)
from tests.harness.reference import (
    DAY,
    DEFAULT_TIMEZONE,
    HOUR,
    MINUTE,
    WINDOWS,
    Interpolation,
    Store,
    Totals,
    business_total,
    reference_csv_row,
    reference_csv_row_of_windows,
    reference_down_by_hour,
    reference_parts,
    reference_totals,
)
from tests.harness.schedules import Question, WindowsQuestion, questions, questions_about_windows

thorough = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
brief = settings(thorough, max_examples=90)


def ask(question: Question) -> list[Totals]:
    return kernel_totals(
        list(question.stores), question.as_of, question.interpolation, question.max_gap
    )


@thorough
@given(questions())
def test_totals_equal_the_reference_exactly(question: Question) -> None:
    expected = [
        reference_totals(store, question.as_of, question.interpolation, question.max_gap)
        for store in question.stores
    ]
    assert ask(question) == expected


@brief
@given(questions(max_stores=6))
def test_downtime_by_hour_of_the_week_equals_the_reference_exactly(question: Question) -> None:
    asked = (question.stores, question.as_of, question.interpolation, question.max_gap)
    found = kernel_rows(*asked).together
    assert found.down_by_hour is not None
    assert [Fraction(down, 2) for down in found.down_by_hour.tolist()] == reference_down_by_hour(
        *asked
    )
    assert found.down_by_hour.sum() == found.sums[-1, 1]


@brief
@given(questions(max_stores=8))
def test_up_down_unknown_and_excluded_add_up_to_business_time(question: Question) -> None:
    for store, totals in zip(question.stores, ask(question), strict=True):
        for window, length in WINDOWS.items():
            business = business_total(store, (question.as_of - length, question.as_of))
            assert sum(totals[window]) == business
            assert min(totals[window]) >= 0


@brief
@given(questions(max_stores=8))
def test_a_stores_totals_do_not_depend_on_its_batch(question: Question) -> None:
    alone = [ask(replace(question, stores=(store,)))[0] for store in question.stores]
    assert ask(question) == alone


@brief
@given(questions(max_stores=8))
def test_a_stores_totals_do_not_depend_on_its_place_in_the_batch(question: Question) -> None:
    backwards = replace(question, stores=question.stores[::-1])
    assert ask(backwards) == ask(question)[::-1]


@brief
@given(questions(max_stores=3), st.booleans())
def test_silent_neighbours_take_and_give_nothing(question: Question, with_hours: bool) -> None:
    hours = ((0, 9 * HOUR, 17 * HOUR),) if with_hours else ()
    quiet = Store("quiet", (), hours, "Asia/Tokyo")
    surrounded = [quiet]
    for store in question.stores:
        surrounded += [store, quiet]
    answers = ask(replace(question, stores=tuple(surrounded)))
    assert answers[1::2] == ask(question)
    silence = reference_totals(quiet, question.as_of, question.interpolation, question.max_gap)
    assert answers[::2] == [silence] * len(answers[::2])


@brief
@given(questions())
def test_the_order_in_which_polls_of_distinct_milliseconds_arrive_is_irrelevant(
    question: Question,
) -> None:
    distinct = tuple(
        replace(store, polls=tuple(dict(store.polls).items())) for store in question.stores
    )
    orders = [
        distinct,
        tuple(replace(store, polls=tuple(sorted(store.polls))) for store in distinct),
        tuple(replace(store, polls=store.polls[::-1]) for store in distinct),
    ]
    answers = [ask(replace(question, stores=stores)) for stores in orders]
    assert answers[0] == answers[1] == answers[2] == ask(question)


@brief
@given(questions())
def test_loading_the_same_polls_twice_changes_nothing(question: Question) -> None:
    twice = tuple(replace(store, polls=store.polls * 2) for store in question.stores)
    assert ask(replace(question, stores=twice)) == ask(question)


@brief
@given(questions())
def test_polls_after_as_of_change_nothing(question: Question) -> None:
    until = tuple(
        replace(store, polls=tuple(poll for poll in store.polls if poll[0] <= question.as_of))
        for store in question.stores
    )
    assert ask(replace(question, stores=until)) == ask(question)


@brief
@given(questions(), st.booleans(), st.booleans())
def test_csv_rows_equal_the_reference_in_the_order_of_store_ids(
    question: Question, include_unknown: bool, include_excluded: bool
) -> None:
    settings_of_report = (
        question.as_of,
        question.interpolation,
        question.max_gap,
        include_unknown,
    )
    asked = kernel.Question(*settings_of_report, include_excluded=include_excluded)
    text = kernel_csv(question.stores, asked)
    in_order = sorted(question.stores, key=lambda store: store.store_id.encode())
    assert text.splitlines() == [
        reference_csv_row(store, *settings_of_report, include_excluded) for store in in_order
    ]


@brief
@given(questions_about_windows())
def test_windows_by_their_texts_equal_the_reference_exactly(asked: WindowsQuestion) -> None:
    question = asked.about
    settings_of_report = question.as_of, question.interpolation, question.max_gap
    found = kernel_windows(question.stores, asked.texts, *settings_of_report, asked.calendar)
    for store, of_store in zip(question.stores, found, strict=True):
        windows = asked.windows(store)
        assert list(of_store) == list(windows)
        for name, window in windows.items():
            assert of_store[name] == reference_parts(store, window, *settings_of_report)
            assert sum(of_store[name]) == business_total(store, window)


@brief
@given(questions_about_windows(max_stores=1))
def test_windows_come_to_the_instants_of_the_reference(asked: WindowsQuestion) -> None:
    (store,) = asked.about.stores
    zone = store.timezone or DEFAULT_TIMEZONE
    found = kernel_instants(asked.texts, asked.about.as_of, asked.calendar, zone)
    assert list(found.items()) == list(asked.windows(store).items())


UNITS: dict[Unit, int] = {"seconds": 1000, "minutes": MINUTE, "hours": HOUR}


@brief
@given(
    questions_about_windows(max_stores=2),
    st.sampled_from(list(UNITS)),
    st.booleans(),
    st.booleans(),
)
def test_csv_rows_of_windows_equal_the_reference(
    asked: WindowsQuestion, unit: Unit, include_unknown: bool, include_excluded: bool
) -> None:
    question = asked.about
    settings_of_report = question.as_of, question.interpolation, question.max_gap
    windows = resolve_windows(asked.texts, question.as_of, asked.calendar)
    text = kernel_csv(
        question.stores,
        kernel.Question(
            *settings_of_report,
            include_unknown,
            windows,
            include_excluded=include_excluded,
            unit=unit,
        ),
    )
    columns = [0, 1] + [2] * include_unknown + [3] * include_excluded
    in_order = sorted(question.stores, key=lambda store: store.store_id.encode())
    assert text.splitlines() == [
        reference_csv_row_of_windows(
            store,
            list(asked.windows(store).values()),
            *settings_of_report,
            columns,
            UNITS[unit],
        )
        for store in in_order
    ]


MONDAY_NOON = 1_674_475_200_000  # 2023-01-23T12:00Z


def csv_line(store: Store, include_unknown: bool = False, max_gap: int = DAY) -> str:
    question = kernel.Question(MONDAY_NOON, "nearest", max_gap, include_unknown)
    return kernel_csv([store], question).rstrip("\r\n")


def test_a_csv_line_has_minutes_for_the_hour_and_hours_for_the_day_and_the_week() -> None:
    polls = ((MONDAY_NOON - 106 * MINUTE, True), (MONDAY_NOON - 45 * MINUTE, False))
    store = Store("s", polls, ((0, 9 * HOUR, 12 * HOUR),), "UTC")
    # 1 h 44 min 30 s up, 1 h 15 min 30 s down; the store was closed in the rest of the week.
    assert csv_line(store) == "s,0.00,1.74,1.74,60.00,1.26,1.26"
    assert csv_line(store, include_unknown=True) == (
        "s,0.00,1.74,1.74,60.00,1.26,1.26,0.00,0.00,0.00"
    )


def test_a_csv_line_reports_silence_as_unknown() -> None:
    store = Store("s", ((MONDAY_NOON - 2 * HOUR, True),))
    assert csv_line(store, include_unknown=True, max_gap=HOUR) == (
        "s,0.00,2.00,2.00,0.00,0.00,0.00,60.00,22.00,166.00"
    )


@pytest.mark.parametrize(
    ("open_for", "minutes", "hours"),
    [
        (299, "0.00", "0.00"),
        (300, "0.01", "0.00"),
        (1_500, "0.03", "0.00"),
        (18_000, "0.30", "0.01"),
        (60_300, "1.01", "0.02"),
        (90_000, "1.50", "0.03"),
        (89_999, "1.50", "0.02"),
        (3_600_000, "60.00", "1.00"),
    ],
)
def test_csv_amounts_round_half_away_from_zero(open_for: int, minutes: str, hours: str) -> None:
    start = 11 * HOUR
    store = Store("s", ((MONDAY_NOON - HOUR, True),), ((0, start, start + open_for),), "UTC")
    assert csv_line(store) == f"s,{minutes},{hours},{hours},0.00,0.00,0.00"


@pytest.mark.parametrize(("apart", "minutes"), [(599, "0.00"), (600, "0.01")])
def test_csv_rounding_sees_half_a_millisecond(apart: int, minutes: str) -> None:
    # The status switches half way: after 299.5 ms or after 300 ms.
    opening = MONDAY_NOON - HOUR
    polls = ((opening, True), (opening + apart, False))
    store = Store("s", polls, ((0, 11 * HOUR, 12 * HOUR),), "UTC")
    assert csv_line(store).startswith(f"s,{minutes},")


@pytest.mark.parametrize("interpolation", ["nearest", "previous"])
def test_no_stores_give_no_rows(interpolation: Interpolation) -> None:
    assert kernel_totals([], MONDAY_NOON, interpolation, DAY) == []
    assert kernel_csv([], kernel.Question(MONDAY_NOON, interpolation, DAY)) == ""
