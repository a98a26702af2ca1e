"""Sets of instants as intervals, against sets of numbers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compute.intervals import Intervals, merged

#: Start and length of intervals that often meet, on a short line.
intervals = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6)), max_size=8)


def of(pairs: list[tuple[int, int]]) -> Intervals:
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return merged(columns[:, 0], columns[:, 0] + columns[:, 1])


def instants(pairs: list[tuple[int, int]]) -> set[int]:
    return {instant for start, length in pairs for instant in range(start, start + length)}


def assert_is(found: Intervals, wanted: set[int]) -> None:
    """It holds these instants, in as few intervals as there can be."""
    bounds = list(zip(found.start.tolist(), found.end.tolist(), strict=True))
    assert {one for start, end in bounds for one in range(start, end)} == wanted
    assert [start for start, _ in bounds] == sorted(one for one in wanted if one - 1 not in wanted)
    assert len(bounds) == sum(one + 1 not in wanted for one in wanted)


@given(intervals)
def test_merged_intervals_are_the_same_instants(pairs: list[tuple[int, int]]) -> None:
    assert_is(of(pairs), instants(pairs))


@given(intervals, intervals)
def test_without_takes_the_other_instants_away(
    pairs: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    assert_is(of(pairs).without(of(others)), instants(pairs) - instants(others))


@given(intervals)
def test_until_and_holds_are_what_a_count_says(pairs: list[tuple[int, int]]) -> None:
    wanted, found = instants(pairs), of(pairs)
    position = np.arange(-1, 40)
    assert found.until(position).tolist() == [
        sum(one < place for one in wanted) for place in position.tolist()
    ]
    assert found.holds(position).tolist() == [place in wanted for place in position.tolist()]
