"""Roll-ups: sums of all stores, their spread over availability, and those that were down most."""

from fractions import Fraction
from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compute.conditions import CONDITIONS, meeting
from compute.down_by_hour import HOURS
from compute.roll_up import MOST_DOWNTIME, RANGES, RollUp, StoreSum, no_stores, roll_up
from compute.uptime import Totals

#: Per store: its id, then up, down, unknown and excluded of each of three windows.
_part = st.one_of(st.just(0), st.integers(0, 4), st.integers(0, 1_209_600_000))
_stores = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.tuples(*[st.tuples(_part, _part, _part, _part)] * 3),
    max_size=30,
).map(lambda stores: sorted(stores.items(), key=lambda one: one[0].encode()))
Stores = list[tuple[str, tuple[tuple[int, int, int, int], ...]]]


def _roll_up(stores: Stores) -> RollUp:
    ids = [store_id.encode() for store_id, _ in stores]
    values = np.array([windows for _, windows in stores], dtype=np.int64).reshape(-1, 3, 4)
    totals = Totals(
        up=values[..., 0], down=values[..., 1], unknown=values[..., 2], excluded=values[..., 3]
    )
    size = np.array([len(one) for one in ids], dtype=np.int64)
    return roll_up(b"".join(ids), size, totals, np.arange(HOURS) * len(stores))


def _told(one: RollUp) -> tuple[object, ...]:
    spread = one.by_availability.tolist()
    assert one.conditions is not None
    assert one.down_by_hour is not None
    more = (one.down.tolist(), one.conditions.tolist(), one.down_by_hour.tolist())
    return one.stores, one.sums.tolist(), spread, one.without, one.most_downtime, *more


@given(_stores)
def test_a_roll_up_says_what_a_plain_count_does(stores: Stores) -> None:
    found = _roll_up(stores)
    sums = [[sum(windows[i][j] for _, windows in stores) for j in range(4)] for i in range(3)]
    spread, without = [0] * (RANGES + 1), 0
    for _, (*_, (up, down, *_)) in stores:
        if up + down:
            spread[int(Fraction(up, up + down) * RANGES)] += 1
        else:
            without += 1
    most = [StoreSum(store_id.encode(), *week) for store_id, (*_, week) in stores if week[1]]
    most.sort(key=lambda one: (-one.down, one.store_id))
    first = (len(stores), sums, spread, without, tuple(most[:MOST_DOWNTIME]))
    assert _told(found)[: len(first)] == first
    with_downtime = [sum(windows[i][1] > 0 for _, windows in stores) for i in range(3)]
    assert found.down.tolist() == with_downtime


def test_each_condition_is_what_it_says() -> None:
    """Up and down of the hour, the day and the week, and the conditions that are met."""
    cases: list[tuple[tuple[int, ...], set[str]]] = [
        ((2, 2, 2, 0, 0, 0), set()),
        ((0, 0, 0, 0, 0, 0), {"nothing_known"}),
        ((0, 3, 9, 2, 2, 2), {"down_now", "newly_down"}),
        ((0, 3, 9, 2, 2, 3), {"down_now"}),
        ((1, 3, 9, 1, 1, 1), {"newly_down"}),
        ((2, 3, 9, 0, 1, 1), {"newly_down", "recovered"}),
        ((2, 3, 9, 0, 1, 4), {"recovered"}),
        ((0, 3, 9, 0, 1, 4), set()),
        ((2, 3, 9, 0, 0, 4), set()),
        ((0, 0, 0, 2, 4, 9), {"down_now", "down_all_week"}),
        ((0, 0, 0, 0, 4, 4), {"newly_down", "down_all_week"}),
    ]
    values = np.array([case for case, _ in cases]).T
    met = {one: meeting(one, values[:3], values[3:]).tolist() for one in CONDITIONS}
    assert [{one for one in CONDITIONS if met[one][case]} for case in range(len(cases))] == [
        wanted for _, wanted in cases
    ]
    stores: Stores = [
        (f"{number:02}", ((up[0], down[0], 0, 0), (up[1], down[1], 0, 0), (up[2], down[2], 0, 0)))
        for number, (case, _) in enumerate(cases)
        for up, down in ((case[:3], case[3:]),)
    ]
    conditions = _roll_up(stores).conditions
    assert conditions is not None
    assert conditions.tolist() == [
        [sum(met[one]), sum(case[5] for case, told in cases if one in told)] for one in CONDITIONS
    ]


@given(_stores, st.lists(st.integers(0, 30)))
def test_roll_ups_of_parts_add_up_to_that_of_the_whole(stores: Stores, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(stores)) for cut in cuts), len(stores)]
    parts = [_roll_up(stores[a:b]) for a, b in pairwise(places)]
    assert _told(reduce(add, parts, no_stores())) == _told(_roll_up(stores))
