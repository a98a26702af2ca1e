"""What one look after another tells of stores is what the slow reference says."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compute.outages import NO_INSTANT, question_about
from compute.standing import LONGEST_TOLD, NOT_KNOWN, Standing, Stood, nothing_known, stand
from compute.timeline import STATES
from tests.harness.kernel import batch_of
from tests.harness.reference import (
    DAY,
    HOUR,
    MINUTE,
    Store,
    reference_down_for,
    reference_newest_poll,
    reference_silent_for,
    reference_since,
    state_at,
)
from tests.harness.schedules import Question, questions

FAR = 40 * DAY
brief = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def look(
    stores: tuple[Store, ...], as_of: int, gap: int, back: int, before: Standing | None = None
) -> Stood:
    question = question_about(as_of, gap, back)
    known = nothing_known(len(stores)) if before is None else before
    return stand(batch_of(stores, question), question, known)


def expected(store: Store, as_of: int, gap: int) -> tuple[object, ...]:
    """State, since, downtime, silence and newest poll, by the reference."""
    newest = reference_newest_poll(store, as_of)
    down_for = reference_down_for(store, as_of, gap, FAR)
    return (
        state_at(store, as_of, gap),
        reference_since(store, as_of, gap, FAR),
        min(down_for, LONGEST_TOLD + 1),
        min(reference_silent_for(store, as_of), LONGEST_TOLD + 1),
        newest,
    )


def told(stood: Stood) -> list[tuple[object, ...]]:
    now = stood.now
    columns = (now.state, now.since, now.down_for, now.silent_for, now.newest_poll)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        (
            STATES[state],
            None if since == NO_INSTANT else since,
            down_for,
            silent_for,
            None if poll == NO_INSTANT else (poll >> 1, bool(poll & 1)),
        )
        for state, since, down_for, silent_for, poll in rows
    ]


@st.composite
def looks(draw: st.DrawFn) -> tuple[Question, list[int], int]:
    """Stores, the instants at which they are looked at, and how far back."""
    question = draw(questions(3))
    steps = st.one_of(st.sampled_from([0, 1, MINUTE, HOUR]), st.integers(0, 30 * HOUR))
    instants = [question.as_of]
    for step in draw(st.lists(steps, min_size=1, max_size=4)):
        instants.insert(0, instants[0] - step)
    return question, instants, draw(st.sampled_from([MINUTE, 2 * HOUR, DAY]))


@brief
@given(looks(), st.data())
def test_what_is_sure_is_so(asked: tuple[Question, list[int], int], data: Any) -> None:
    question, instants, near = asked
    gap, stores = question.max_gap, question.stores
    unnoted = data.draw(st.sets(st.integers(0, len(instants) - 1)))
    before: Standing | None = None
    for number, as_of in enumerate(instants):
        stood = look(stores, as_of, gap, near, before)
        far = look(stores, as_of, gap, FAR)
        assert told(far) == [expected(store, as_of, gap) for store in stores]
        for sure, one, other in zip(stood.sure.tolist(), told(stood), told(far), strict=True):
            assert not sure or one == other
        before = far.now
        if number in unnoted:  # what was not noted is not told on
            before = replace(before, silent_for=np.full(len(stores), NOT_KNOWN))


@brief
@given(looks())
def test_a_look_soon_after_another_is_sure(asked: tuple[Question, list[int], int]) -> None:
    question, _, near = asked
    gap, stores = question.max_gap, question.stores
    last = question.as_of - near // 2
    before = look(stores, last, gap, FAR).now
    stood = look(stores, question.as_of, gap, near, before)
    # Where another state begins when a store opens, the window alone does not say that it began.
    assert (stood.sure | (stood.now.spoken != before.spoken)).all()


def test_a_late_poll_in_the_window_is_not_told_over() -> None:
    as_of = 400 * DAY
    polls = tuple((as_of - hours * HOUR, False) for hours in range(0, 60, 2))
    store = Store("s", polls)
    before = look((store,), as_of, DAY, FAR).now
    assert before.spoken_since.tolist() == [as_of - 58 * HOUR]
    restored = replace(store, polls=((as_of - 5 * HOUR, True), *polls))
    stood = look((restored,), as_of + MINUTE, DAY, DAY, before)
    assert stood.sure.all()
    assert stood.now.since.tolist() == [as_of - 4 * HOUR]
    assert stood.now.down_for.tolist() == [4 * HOUR + MINUTE]


def test_what_contradicts_the_look_before_is_not_sure() -> None:
    as_of = 400 * DAY
    up = tuple((as_of - hours * HOUR, True) for hours in range(0, 60, 2))
    down = tuple((instant, False) for instant, _ in up)
    before = look((Store("s", up),), as_of, DAY, FAR).now
    assert not look((Store("s", down),), as_of + MINUTE, DAY, DAY, before).sure.any()


def test_a_late_poll_that_joins_two_outages_is_not_told_over() -> None:
    as_of = 400 * DAY
    # Unknown between: the first poll speaks for a day.
    store = Store("s", ((as_of - 40 * HOUR, False), (as_of - 5 * HOUR, False)))
    before = look((store,), as_of, DAY, FAR).now
    assert before.spoken_since.tolist() == [as_of - 5 * HOUR]
    joined = replace(store, polls=(*store.polls, (as_of - 20 * HOUR, False)))
    stood = look((joined,), as_of + MINUTE, DAY, DAY, before)
    assert not stood.sure.any() or stood.now.since.tolist() == [as_of - 40 * HOUR]


def test_a_silence_goes_on_where_nothing_is_read_any_more() -> None:
    as_of = 400 * DAY
    daytime = tuple((day, 9 * HOUR, 13 * HOUR) for day in range(7))
    store = Store("s", ((as_of - 47 * HOUR, True),), daytime, "UTC")
    before = look((store,), as_of, DAY, FAR).now
    stood = look((store,), as_of + 12 * HOUR, DAY, DAY, before)
    assert stood.sure.all()
    assert told(stood) == [expected(store, as_of + 12 * HOUR, DAY)]
    unnoted = replace(before, silent_for=np.array([NOT_KNOWN]))
    assert not look((store,), as_of + 12 * HOUR, DAY, DAY, unnoted).sure.any()
