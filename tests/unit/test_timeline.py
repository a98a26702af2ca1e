"""The segments of a window: they fill it, and they are what its totals are made of."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compute import batch as kernel
from compute.windows import resolve_windows
from tests.harness.kernel import Segment, kernel_segments, kernel_totals, kernel_window
from tests.harness.reference import (
    DAY,
    HOUR,
    MINUTE,
    WEEK,
    WINDOWS,
    Interpolation,
    Parts,
    State,
    Store,
    pieces,
)
from tests.harness.schedules import Question, WindowsQuestion, questions, questions_about_windows

thorough = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
brief = settings(thorough, max_examples=90)

LENGTHS = st.one_of(
    st.sampled_from([1, HOUR, DAY, WEEK, 31 * DAY]), st.integers(1, 400 * DAY), st.integers(1, WEEK)
)
LENGTHS_OF_THE_REFERENCE = st.one_of(st.sampled_from([1, HOUR, DAY, WEEK]), st.integers(1, WEEK))


def ask(question: Question, length: int) -> tuple[list[Parts], list[list[Segment]]]:
    return kernel_window(
        question.stores, question.as_of, question.interpolation, question.max_gap, length
    )


def lengths_by_state(segments: Iterable[Segment]) -> Parts:
    lengths: dict[str, Fraction] = defaultdict(Fraction)
    for start, end, state in segments:
        lengths[state] += end - start
    return lengths["up"], lengths["down"], lengths["unknown"], lengths["excluded"]


def joined(parts: Iterable[tuple[Fraction, Fraction, State]]) -> list[Segment]:
    """Neighbours of one state as one segment."""
    segments: list[Segment] = []
    for start, end, state in parts:
        if segments and segments[-1][2] == state:
            segments[-1] = (segments[-1][0], end, state)
        else:
            segments.append((start, end, state))
    return segments


@thorough
@given(questions(), LENGTHS)
def test_segments_fill_the_window_without_a_hole_or_an_overlap(
    question: Question, length: int
) -> None:
    for segments in ask(question, length)[1]:
        assert segments[0][0] == question.as_of - length
        assert segments[-1][1] == question.as_of
        assert all(start < end for start, end, _ in segments)
        for (_, end, state), (start, _, next_state) in pairwise(segments):
            assert start == end
            assert state != next_state


@thorough
@given(questions(), LENGTHS)
def test_lengths_of_segments_are_the_windows_totals(question: Question, length: int) -> None:
    totals, segments = ask(question, length)
    assert [lengths_by_state(of_store) for of_store in segments] == totals


@brief
@given(questions(), st.sampled_from(sorted(WINDOWS)))
def test_a_window_of_a_report_has_the_reports_numbers(question: Question, window: str) -> None:
    report = kernel_totals(
        question.stores, question.as_of, question.interpolation, question.max_gap
    )
    assert ask(question, WINDOWS[window])[0] == [totals[window] for totals in report]


@thorough
@given(questions(max_stores=2), LENGTHS_OF_THE_REFERENCE)
def test_segments_are_the_pieces_of_the_reference(question: Question, length: int) -> None:
    window = question.as_of - length, question.as_of
    settings_of_report = question.as_of, question.interpolation, question.max_gap
    for store, segments in zip(question.stores, ask(question, length)[1], strict=True):
        assert segments == joined(pieces(store, window, *settings_of_report))


@brief
@given(questions(), LENGTHS, LENGTHS)
def test_a_longer_window_says_the_same_of_what_two_windows_share(
    question: Question, one: int, other: int
) -> None:
    shorter, longer = sorted((one, other))
    cut = question.as_of - shorter
    for short, long in zip(ask(question, shorter)[1], ask(question, longer)[1], strict=True):
        shared = [(max(start, Fraction(cut)), end, state) for start, end, state in long]
        assert short == [segment for segment in shared if segment[0] < segment[1]]


@brief
@given(questions(max_stores=6), LENGTHS)
def test_a_stores_segments_do_not_depend_on_its_batch(question: Question, length: int) -> None:
    alone = [ask(replace(question, stores=(store,)), length)[1][0] for store in question.stores]
    assert ask(question, length)[1] == alone


@brief
@given(questions_about_windows(max_stores=2))
def test_segments_of_the_last_window_are_the_pieces_of_the_reference(
    asked: WindowsQuestion,
) -> None:
    question = asked.about
    settings_of_report = question.as_of, question.interpolation, question.max_gap
    windows = resolve_windows(asked.texts, question.as_of, asked.calendar)
    told = kernel_segments(question.stores, kernel.Question(*settings_of_report, windows=windows))
    for store, segments in zip(question.stores, told, strict=True):
        *_, window = asked.windows(store).values()
        assert segments == joined(pieces(store, window, *settings_of_report))


MONDAY = 1_674_432_000_000  # 2023-01-23T00:00Z


def test_a_day_is_told_in_the_order_of_its_hours() -> None:
    store = Store(
        "s",
        ((MONDAY + 10 * HOUR, True), (MONDAY + 11 * HOUR, False)),
        ((0, 9 * HOUR, 12 * HOUR), (0, 20 * HOUR, 21 * HOUR)),
        "UTC",
    )
    _, [segments] = kernel_window([store], MONDAY + DAY, "nearest", 2 * HOUR, DAY)
    hours = [
        ((start - MONDAY) / HOUR, (end - MONDAY) / HOUR, state) for start, end, state in segments
    ]
    assert hours == [
        (0, 9, "closed"),
        (9, Fraction(21, 2), "up"),
        (Fraction(21, 2), 12, "down"),
        (12, 20, "closed"),
        (20, 21, "unknown"),
        (21, 24, "closed"),
    ]


def test_a_change_half_way_between_two_milliseconds_is_told_exactly() -> None:
    store = Store("s", ((MONDAY, True), (MONDAY + 1, False)))
    _, [segments] = kernel_window([store], MONDAY + MINUTE, "nearest", DAY, MINUTE)
    assert segments == [
        (MONDAY, MONDAY + Fraction(1, 2), "up"),
        (MONDAY + Fraction(1, 2), MONDAY + MINUTE, "down"),
    ]


def test_no_stores_have_no_segments() -> None:
    interpolations: list[Interpolation] = ["nearest", "previous"]
    for interpolation in interpolations:
        assert kernel_window([], MONDAY, interpolation, DAY, DAY) == ([], [])
