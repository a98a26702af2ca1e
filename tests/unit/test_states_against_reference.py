"""States and outages are those of the slow reference, exactly, whatever the stores look like."""

from dataclasses import replace
from fractions import Fraction

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compute.windows import Window
from tests.harness.kernel import (
    kernel_durations,
    kernel_outages,
    kernel_outages_in,
    kernel_states,
)
from tests.harness.reference import (
    DAY,
    HOUR,
    MINUTE,
    WEEK,
    Store,
    reaching,
    reference_counted,
    reference_down_for,
    reference_newest_poll,
    reference_outages,
    reference_parts,
    reference_past,
    reference_since,
    state_at,
)
from tests.harness.schedules import Question, questions

thorough = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
brief = settings(thorough, max_examples=40)

LOOK_BACKS = st.one_of(st.sampled_from([1, MINUTE, DAY, WEEK, 9 * DAY]), st.integers(1, 9 * DAY))


@st.composite
def asked_at_an_edge(draw: st.DrawFn, max_stores: int = 3) -> Question:
    """A question whose `as_of` may be an instant at which something changes, or next to one."""
    question = draw(questions(max_stores))
    first = question.stores[0]
    gap = question.max_gap
    edges = [question.as_of]
    edges += [edge for instant, _ in first.polls for edge in (instant, instant + gap)]
    edges += [edge for interval in first.exclusions for edge in interval]
    edges += [int(start) for start, _, _ in reference_past(first, question.as_of, gap, 2 * DAY)[1:]]
    near = [edge for edge in edges if question.as_of - WEEK <= edge <= question.as_of]
    as_of = draw(st.sampled_from(near)) + draw(st.sampled_from([0, 0, 0, -1, 1, HOUR]))
    return replace(question, as_of=as_of)


@thorough
@given(asked_at_an_edge(), LOOK_BACKS)
def test_states_equal_the_reference_exactly(question: Question, look_back: int) -> None:
    as_of, gap = question.as_of, question.max_gap
    found = kernel_states(question.stores, as_of, gap, look_back)
    for store, (state, since, newest) in zip(question.stores, found, strict=True):
        assert state == state_at(store, as_of, gap)
        assert since == reference_since(store, as_of, gap, look_back)
        expected = reference_newest_poll(store, as_of)
        # Days are read as a whole, so a poll shortly before those that matter may be told.
        if newest is None:
            assert expected is None or expected[0] < as_of - look_back - gap
        else:
            assert newest == expected


@brief
@given(asked_at_an_edge(), LOOK_BACKS)
def test_how_long_stores_are_down_and_silent_equals_the_reference_exactly(
    question: Question, look_back: int
) -> None:
    as_of, gap = question.as_of, question.max_gap
    found = kernel_durations(question.stores, as_of, gap, look_back)
    for store, (down_for, silent_for) in zip(question.stores, found, strict=True):
        assert down_for == reference_down_for(store, as_of, gap, look_back)
        newest, _ = reference_newest_poll(store, as_of) or (0, False)
        # What lies before all that matters is not counted.
        assert silent_for == reference_counted(store, max(newest, as_of - look_back - gap), as_of)


@thorough
@given(asked_at_an_edge(), LOOK_BACKS)
def test_outages_equal_the_reference_exactly(question: Question, look_back: int) -> None:
    asked = question.as_of, question.max_gap, look_back
    expected = [reference_outages(store, *asked) for store in question.stores]
    assert kernel_outages(question.stores, *asked) == expected


@brief
@given(asked_at_an_edge(), st.tuples(st.integers(0, 4 * DAY), st.integers(0, 4 * DAY)))
def test_outages_in_a_window_equal_the_reference_exactly(
    question: Question, before: tuple[int, int]
) -> None:
    first, last = (question.as_of - back // HOUR * HOUR for back in sorted(before, reverse=True))
    asked = question.as_of, question.max_gap, 8 * DAY
    window = Window("asked", "asked", instants=(first, last))
    expected = [
        reaching(reference_outages(store, *asked), (first, last), question.as_of)
        for store in question.stores
    ]
    assert kernel_outages_in(question.stores, window, *asked) == expected


@brief
@given(asked_at_an_edge(), LOOK_BACKS)
def test_outages_add_up_to_the_downtime_by_previous(question: Question, look_back: int) -> None:
    as_of, gap = question.as_of, question.max_gap
    window = as_of - look_back, as_of
    for store, found in zip(
        question.stores, kernel_outages(question.stores, as_of, gap, look_back), strict=True
    ):
        _, down, _, _ = reference_parts(store, window, as_of, "previous", gap)
        assert sum((length for _, _, length, _ in found), Fraction(0)) == down


@brief
@given(asked_at_an_edge(), LOOK_BACKS)
def test_a_store_that_is_down_is_in_an_open_outage_since_then(
    question: Question, look_back: int
) -> None:
    asked = question.stores, question.as_of, question.max_gap, look_back
    for (state, since, _), found in zip(kernel_states(*asked), kernel_outages(*asked), strict=True):
        assert None not in [then for *_, then in found[:-1]]
        is_open = bool(found) and found[-1][3] is None
        if state == "down":
            assert is_open
            assert found[-1][0] == since
        elif is_open:
            assert state in ("closed", "excluded")


@brief
@given(asked_at_an_edge(max_stores=6), LOOK_BACKS)
def test_a_stores_states_and_outages_do_not_depend_on_its_batch(
    question: Question, look_back: int
) -> None:
    asked = question.as_of, question.max_gap, look_back
    stores = (Store("quiet", timezone="Asia/Tokyo"), *question.stores)
    for tell in (kernel_states, kernel_outages):
        assert list(tell(stores, *asked)) == [tell([store], *asked)[0] for store in stores]


@brief
@given(asked_at_an_edge(), LOOK_BACKS, LOOK_BACKS)
def test_looking_back_farther_only_tells_more(question: Question, one: int, other: int) -> None:
    less, more = sorted((one, other))
    asked = question.stores, question.as_of, question.max_gap
    for near, far in zip(kernel_states(*asked, less), kernel_states(*asked, more), strict=True):
        assert near[0] == far[0]
        assert near[1] in (None, far[1])
    for few, many in zip(kernel_outages(*asked, less), kernel_outages(*asked, more), strict=True):
        known = [outage for outage in few if outage[0] is not None]
        assert known == many[len(many) - len(known) :]


def test_no_stores_have_neither_states_nor_outages() -> None:
    assert kernel_states([], WEEK, DAY, DAY) == []
    assert kernel_outages([], WEEK, DAY, DAY) == []
