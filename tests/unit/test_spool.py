"""The parts in which rows that were set aside come back."""

from itertools import pairwise

import numpy as np
import pytest

from service.feeds.spool import Spool

DAY = 1000


def parts_of(rows_of_store: list[int]) -> list[tuple[int, int, list[int], list[int]]]:
    """The parts, of about 100 rows each, of stores whose ranks are their numbers backwards."""
    random = np.random.default_rng(1)
    store = np.repeat(np.arange(len(rows_of_store)), rows_of_store)
    random.shuffle(store)
    value = random.integers(0, 20 * DAY, len(store))
    spool = Spool(None, part_rows=100)
    for some in np.array_split(np.arange(len(store)), 7):
        spool.append(store[some], value[some])
    rank = np.arange(len(rows_of_store))[::-1].copy()
    parts = [
        (first, last, ranks.tolist(), values.tolist())
        for first, last, ranks, values in spool.parts(rank, apart=DAY)
    ]
    came_back = [row for part in parts for row in zip(part[2], part[3], strict=True)]
    arrived = zip(rank[store].tolist(), value.tolist(), strict=True)
    # Those of one store and day come back as they arrived: of two of one instant the later counts.
    assert sorted(came_back, key=store_and_day) == sorted(arrived, key=store_and_day)
    return parts


def store_and_day(row: tuple[int, int]) -> tuple[int, int]:
    return row[0], row[1] // DAY


@pytest.mark.parametrize(
    "rows_of_store",
    [
        [1000],
        [10] * 50,
        [30, 1000, 30],
        [1000, 1, 1, 1000, 1],
        [10] * 20 + [101] + [10] * 20 + [500, 500],
    ],
)
def test_parts_follow_each_other_by_store_and_day(rows_of_store: list[int]) -> None:
    parts = parts_of(rows_of_store)
    for (_, _, before, earlier), (_, _, after, later) in pairwise(parts):
        end = max(map(store_and_day, zip(before, earlier, strict=True)))
        assert end < min(map(store_and_day, zip(after, later, strict=True)))
    for first, last, ranks, _ in parts:
        assert first <= min(ranks)
        assert max(ranks) < last
        assert last - first == 1 or len(ranks) <= 200


def test_a_store_with_very_many_rows_has_parts_of_its_own() -> None:
    sizes = [(part[1] - part[0], len(part[2])) for part in parts_of([30, 1000, 30])]
    assert sizes[0] == sizes[-1] == (1, 30)
    assert {stores for stores, _ in sizes} == {1}
    assert len(sizes) > 7
    assert max(rows for _, rows in sizes) < 250
