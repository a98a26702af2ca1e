"""Totals that are packed, filtered, ordered and compared, against plain lists and sorting."""

from dataclasses import dataclass
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute import report_changes
from compute.axis import Ints
from compute.csv_rows import csv_rows
from compute.packed_totals import VERSION, NotReadable, StoreTotals, pack_totals, unpack_totals
from compute.report_changes import changes
from compute.report_page import (
    Filter,
    Measure,
    Order,
    ordered,
    rows_of,
    stores_by_zone,
    wanted_stores,
)
from compute.uptime import Totals

WEEK = 604_800_000
ZONES = ("Asia/Tokyo", "America/Chicago", "Europe/Berlin")


@dataclass(frozen=True)
class Store:
    """`parts`: up, down, unknown and excluded, each of the hour, the day and the week."""

    store_id: str
    zone: int
    parts: tuple[tuple[int, ...], ...]

    @property
    def availability(self) -> float | None:
        up, down = self.parts[0][2], self.parts[1][2]
        return up / (up + down) if up + down else None


def _stores(letters: str, most: int) -> st.SearchStrategy[list[Store]]:
    """Few different ids and numbers, so that many are equal."""
    part = st.sampled_from([0, 0, 1, 2, 3, 2 * WEEK])
    parts = st.tuples(*[st.tuples(part, part, part)] * 4)
    ids = st.text(st.sampled_from(letters), min_size=1, max_size=6)
    return st.dictionaries(ids, st.tuples(st.integers(-1, 2), parts), max_size=most).map(
        lambda found: [
            Store(store_id, *found[store_id]) for store_id in sorted(found, key=str.encode)
        ]
    )


stores_of_a_report = _stores("abAB1,é", 40)


def packed(stores: list[Store], cuts: list[int], longest: int = WEEK) -> bytes:
    """The file, in batches that end at the cuts."""
    places = [0, *sorted(min(cut, len(stores)) for cut in cuts), len(stores)]
    return VERSION + b"".join(_chunk(stores[a:b], longest) for a, b in pairwise(places))


def _chunk(stores: list[Store], longest: int) -> bytes:
    ids, size, totals = columns(stores)
    zone = np.array([store.zone for store in stores], dtype=np.int64)
    return pack_totals(ids, size, zone, ZONES, totals, longest)


def columns(stores: list[Store]) -> tuple[bytes, Ints, Totals]:
    ids = [store.store_id.encode() for store in stores]
    values = np.array([store.parts for store in stores], dtype=np.int64).reshape(-1, 4, 3)
    size = np.array([len(one) for one in ids], dtype=np.int64)
    return b"".join(ids), size, Totals(*(values[:, part] for part in range(4)))


def test_a_file_of_version_1_has_no_excluded_time() -> None:
    stores = [Store("a", 0, ((1, 2, 3), (4, 5, 6), (7, 8, 9), (0, 0, 0)))]
    excluded = 3 * 4  # bytes of three windows, which are the last of a chunk
    version_1 = VERSION.replace(b"2", b"1") + _chunk(stores, WEEK)[:-excluded]
    found = unpack_totals(version_1)
    assert found.unknown.tolist() == [[7], [8], [9]]
    assert found.excluded.tolist() == [[0], [0], [0]]
    with pytest.raises(NotReadable):
        unpack_totals(VERSION.replace(b"2", b"3") + _chunk(stores, WEEK))


def read(stores: list[Store]) -> StoreTotals:
    return unpack_totals(packed(stores, []))


@given(stores_of_a_report, st.lists(st.integers(0, 40), max_size=4), st.sampled_from([1, 400]))
def test_what_is_packed_in_batches_is_read_whole(
    stores: list[Store], cuts: list[int], weeks: int
) -> None:
    found = unpack_totals(packed(stores, cuts, weeks * WEEK))
    assert len(found) == len(stores)
    for place, store in enumerate(stores):
        assert found.store_id(place).decode() == store.store_id
        assert found.zone_names[found.zone[place]] == (*ZONES, "America/Chicago")[store.zone]
        parts = (found.up, found.down, found.unknown, found.excluded)
        assert tuple(tuple(part[:, place].tolist()) for part in parts) == store.parts
    assert sum(stores_by_zone(found).values()) == len(stores)


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"storewatch totals 3\n",
        VERSION + b"\1",
        packed([Store("a", 0, ((1,) * 3,) * 4)], [])[:-1],
    ],
)
def test_what_is_no_such_file_is_not_read(file: bytes) -> None:
    with pytest.raises(NotReadable):
        unpack_totals(file)


@given(
    stores_of_a_report,
    st.sampled_from(["availability", "uptime", "downtime", "unknown"]),
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_ranks_are_cut_out_of_a_stable_order(
    stores: list[Store], measure: Measure, window: int, descending: bool, start: int, size: int
) -> None:
    def key(store: Store) -> tuple[bool, float]:
        up, down, unknown, _ = (part[window] for part in store.parts)
        values = {"uptime": up, "downtime": down, "unknown": unknown}
        value: float | None = values.get(measure)
        if measure == "availability":
            value = up / (up + down) if up + down else None
        return value is None, (-1 if descending else 1) * (value or 0)

    found = read(stores)
    every = wanted_stores(found, Filter())
    places = ordered(found, every, Order(measure, window, descending), start, start + size)
    wanted = sorted(stores, key=key)[start : start + size]
    assert [found.store_id(place).decode() for place in places.tolist()] == [
        store.store_id for store in wanted
    ]


@given(stores_of_a_report, st.text(st.sampled_from("abAB1,é"), max_size=4))
def test_a_search_finds_the_ids_that_hold_a_text_in_either_case(
    stores: list[Store], text: str
) -> None:
    def plain(one: str) -> bytes:
        return one.encode().lower()  # of A to Z alone

    places = wanted_stores(read(stores), Filter(search=text.encode())).tolist()
    assert places == [n for n, one in enumerate(stores) if plain(text) in plain(one.store_id)]


@given(stores_of_a_report, st.booleans(), st.booleans(), st.data())
def test_rows_are_those_of_the_reports_csv(
    stores: list[Store], include_unknown: bool, escape: bool, data: st.DataObject
) -> None:
    places = data.draw(st.permutations(range(len(stores))))
    found = rows_of(
        read(stores), np.array(places, dtype=np.int64), include_unknown, escape_formulas=escape
    )
    ids, size, totals = columns([stores[place] for place in places])
    assert found == csv_rows(ids, size, totals, include_unknown, escape_formulas=escape)


@given(_stores("abé", 30), _stores("abé", 30), st.integers(0, 5))
def test_changes_are_those_of_stores_that_both_reports_have(
    before: list[Store], after: list[Store], most: int
) -> None:
    with patch.object(report_changes, "_AT_ONCE", 3):
        found = changes(read(before), read(after), most)
    was = {store.store_id: store.availability for store in before}
    for changed, sign in zip(found, (-1, 1), strict=True):
        wanted = []
        for place, store in enumerate(after):
            old, new = was.get(store.store_id), store.availability
            if old is not None and new is not None and sign * (new - old) > 0:
                wanted.append((-sign * (new - old), -store.parts[1][2], place, old, new))
        wanted.sort()
        told = zip(changed.index.tolist(), changed.was.tolist(), changed.is_.tolist(), strict=True)
        assert changed.stores == len(wanted)
        assert list(told) == [one[2:] for one in wanted[:most]]
