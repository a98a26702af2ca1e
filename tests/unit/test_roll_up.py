"""Roll-ups: sums of all stores, their spread over availability, and those that were down most."""

from fractions import Fraction
from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compute.roll_up import MOST_DOWNTIME, RANGES, RollUp, StoreSum, no_stores, roll_up
from compute.uptime import Totals

#: Per store: its id, then up, down and unknown of each of three windows.
_part = st.one_of(st.just(0), st.integers(0, 4), st.integers(0, 1_209_600_000))
_stores = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.tuples(*[st.tuples(_part, _part, _part)] * 3),
    max_size=30,
).map(lambda stores: sorted(stores.items(), key=lambda one: one[0].encode()))
Stores = list[tuple[str, tuple[tuple[int, int, int], ...]]]


def _roll_up(stores: Stores) -> RollUp:
    ids = [store_id.encode() for store_id, _ in stores]
    values = np.array([windows for _, windows in stores], dtype=np.int64).reshape(-1, 3, 3)
    totals = Totals(up=values[..., 0], down=values[..., 1], unknown=values[..., 2])
    return roll_up(b"".join(ids), np.array([len(one) for one in ids], dtype=np.int64), totals)


def _told(one: RollUp) -> tuple[object, ...]:
    spread = one.by_availability.tolist()
    return one.stores, one.sums.tolist(), spread, one.without, one.most_downtime


@given(_stores)
def test_a_roll_up_says_what_a_plain_count_does(stores: Stores) -> None:
    found = _roll_up(stores)
    sums = [[sum(windows[i][j] for _, windows in stores) for j in range(3)] for i in range(3)]
    spread, without = [0] * (RANGES + 1), 0
    for _, (*_, (up, down, _)) in stores:
        if up + down:
            spread[int(Fraction(up, up + down) * RANGES)] += 1
        else:
            without += 1
    most = [StoreSum(store_id.encode(), *week) for store_id, (*_, week) in stores if week[1]]
    most.sort(key=lambda one: (-one.down, one.store_id))
    assert _told(found) == (len(stores), sums, spread, without, tuple(most[:MOST_DOWNTIME]))


@given(_stores, st.lists(st.integers(0, 30)))
def test_roll_ups_of_parts_add_up_to_that_of_the_whole(stores: Stores, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(stores)) for cut in cuts), len(stores)]
    parts = [_roll_up(stores[a:b]) for a, b in pairwise(places)]
    assert _told(reduce(add, parts, no_stores())) == _told(_roll_up(stores))
