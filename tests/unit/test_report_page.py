"""Totals that are packed, filtered, ordered and compared, against plain lists and sorting."""

import json
import struct
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
from compute.packed_rows import PackedTexts
from compute.packed_totals import VERSION, NotReadable, StoreTotals, pack_totals
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
from compute.store_tags import tag_columns, zone_column
from compute.targets import NO_TARGET, SCALE
from compute.uptime import Totals

WEEK = 604_800_000
ZONES = ("Asia/Tokyo", "America/Chicago", "Europe/Berlin")


@dataclass(frozen=True)
class Store:
    """`parts`: up, down, unknown and excluded, each of the hour, the day and the week."""

    store_id: str
    zone: int
    parts: tuple[tuple[int, ...], ...]
    name: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    target: int = NO_TARGET

    @property
    def availability(self) -> float | None:
        return self.availability_in(2)

    def availability_in(self, window: int) -> float | None:
        up, down = self.parts[0][window], self.parts[1][window]
        return up / (up + down) if up + down else None


def _stores(letters: str, most: int) -> st.SearchStrategy[list[Store]]:
    """Few different ids, names, tags and numbers, so that many are equal."""
    part = st.sampled_from([0, 0, 1, 2, 3, 2 * WEEK])
    parts = st.tuples(*[st.tuples(part, part, part)] * 4)
    ids = st.text(st.sampled_from(letters), min_size=1, max_size=6)
    names = st.sampled_from(["", "", "Oak", 'Main "St", 5', "é\n"])
    tags = st.dictionaries(
        st.sampled_from(["brand", "é:", '"']), st.sampled_from(["X", "y,\u00e9"])
    )
    targets = st.sampled_from([NO_TARGET, NO_TARGET, 1, SCALE // 2, SCALE])
    of_store = st.tuples(
        st.integers(-1, 2),
        parts,
        names,
        tags.map(lambda found: tuple(sorted(found.items()))),
        targets,
    )
    return st.dictionaries(ids, of_store, max_size=most).map(
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
    tags = [json.dumps(dict(store.tags)) if store.tags else "" for store in stores]
    return pack_totals(
        ids,
        size,
        zone_column(zone, ZONES),
        totals,
        longest,
        names=texts([store.name for store in stores]),
        tags=tag_columns(texts(tags), len(stores)),
        target=np.array([store.target for store in stores], dtype=np.int64),
    )


def texts(given: list[str]) -> PackedTexts:
    encoded = [text.encode() for text in given]
    return PackedTexts(b"".join(encoded), np.array([len(one) for one in encoded], dtype=np.int64))


def opened(file: bytes) -> StoreTotals:
    return StoreTotals(lambda start, length: file[start : start + length], len(file))


def columns(stores: list[Store]) -> tuple[bytes, Ints, Totals]:
    ids = [store.store_id.encode() for store in stores]
    values = np.array([store.parts for store in stores], dtype=np.int64).reshape(-1, 4, 3)
    size = np.array([len(one) for one in ids], dtype=np.int64)
    return b"".join(ids), size, Totals(*(values[:, part] for part in range(4)))


@pytest.mark.parametrize("version", [1, 2])
def test_files_of_older_versions_are_read(version: int) -> None:
    measures = 3 if version == 1 else 4
    parts = np.arange(measures * 3 * 2).reshape(measures, 3, 2)
    sizes = struct.pack("<IHHII", 2, 3, 4, len(b"Asia/Tokyo"), len(b"ab"))
    texts = b"Asia/Tokyo" + b"ab" + struct.pack("<HHhh", 1, 1, 0, 0)
    chunk = sizes + texts + parts.astype("<i4").tobytes()
    found = opened(b"storewatch totals %d\n" % version + chunk)
    every = np.arange(2)
    for window in range(3):
        told = found.window(window)
        assert [part.tolist() for part in told[:measures]] == parts[:, window].tolist()
        assert measures == 4 or told.excluded.tolist() == [0, 0]
    assert found.totals(every).unknown.tolist() == parts[2].T.tolist()
    assert (found.ids[0], found.ids[1], found.zone_names) == (b"a", b"b", ("Asia/Tokyo",))
    assert found.names_and_tags(every) == (["", ""], [{}, {}])
    assert found.target.tolist() == [NO_TARGET] * 2
    assert found.tagged("brand", None).all()
    assert wanted_stores(found, Filter(search=b"B")).tolist() == [1]
    assert wanted_stores(found, Filter(missed=True)).tolist() == []


def read(stores: list[Store]) -> StoreTotals:
    return opened(packed(stores, []))


@given(stores_of_a_report, st.lists(st.integers(0, 40), max_size=4), st.sampled_from([1, 400]))
def test_what_is_packed_in_batches_is_read_whole(
    stores: list[Store], cuts: list[int], weeks: int
) -> None:
    found = opened(packed(stores, cuts, weeks * WEEK))
    assert len(found) == len(stores)
    windows = [found.window(number) for number in range(3)]
    for place, store in enumerate(stores):
        assert found.ids[place].decode() == store.store_id
        assert found.zone_names[found.zone[place]] == (*ZONES, "America/Chicago")[store.zone]
        parts = zip(*(tuple(part[place] for part in window) for window in windows), strict=True)
        assert tuple(parts) == store.parts
        assert found.target[place] == store.target
    assert sum(stores_by_zone(found).values()) == len(stores)


@given(stores_of_a_report, st.lists(st.integers(0, 40), max_size=4), st.data())
def test_some_stores_are_read_in_any_order(
    stores: list[Store], cuts: list[int], data: st.DataObject
) -> None:
    found = opened(packed(stores, cuts))
    places = data.draw(st.lists(st.sampled_from(range(len(stores))))) if stores else []
    indexes = np.array(places, dtype=np.int64)
    names, tags = found.names_and_tags(indexes)
    assert names == [stores[place].name for place in places]
    assert [tuple(one.items()) for one in tags] == [stores[place].tags for place in places]
    totals = found.totals(indexes)
    for measure, part in enumerate((totals.up, totals.down, totals.unknown, totals.excluded)):
        assert part.tolist() == [list(stores[place].parts[measure]) for place in places]


@given(
    stores_of_a_report,
    st.lists(st.integers(0, 40), max_size=4),
    st.lists(
        st.sampled_from(["brand:X", "brand:", "é::y,é", 'none:"', '":X', "none:"]), max_size=2
    ),
    st.sampled_from([None, 0.0, 0.5, 1.0]),
    st.booleans(),
    st.sampled_from([0, 1, -1]),
    st.sampled_from(["", "", "OA", "é", "b"]),
)
def test_filters_let_pass_what_meets_all_of_them(
    stores: list[Store],
    cuts: list[int],
    tags: list[str],
    below: float | None,
    missed: bool,
    window: int,
    search: str,
) -> None:
    pairs = [tuple(tag.rsplit(":", 1)) for tag in tags]

    def passes(store: Store) -> bool:
        up, down = store.parts[0][window], store.parts[1][window]
        share = store.availability_in(window)
        reached = store.target == NO_TARGET or up * SCALE >= store.target * (up + down)
        lower = (text.encode().lower() for text in (store.store_id, store.name))
        return (
            all(dict(store.tags).get(key, "") == value for key, value in pairs)
            and (below is None or (share is not None and share < below))
            and not (missed and (share is None or reached))
            and any(search.encode().lower() in text for text in lower)
        )

    wanted = Filter(
        search=search.encode(),
        below=below,
        missed=missed,
        window=window,
        tags=tuple((key, value) for key, value in pairs if value),
        without=tuple(key for key, value in pairs if not value),
    )
    places = wanted_stores(opened(packed(stores, cuts)), wanted).tolist()
    assert places == [place for place, store in enumerate(stores) if passes(store)]


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"storewatch totals 4\n",
        VERSION + b"\1",
        packed([Store("a", 0, ((1,) * 3,) * 4)], [])[:-1],
        packed([Store("a", 0, ((1,) * 3,) * 4)], []) + b"\0" * 40,
    ],
    ids=["empty", "later", "cut in a size", "cut in totals", "followed by zeros"],
)
def test_what_is_no_such_file_is_not_read(file: bytes) -> None:
    with pytest.raises(NotReadable):
        opened(file)


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
    assert [found.ids[place].decode() for place in places.tolist()] == [
        store.store_id for store in wanted
    ]


@given(stores_of_a_report, st.text(st.sampled_from("abAB1,é"), max_size=4))
def test_a_search_finds_the_ids_and_names_that_hold_a_text_in_either_case(
    stores: list[Store], text: str
) -> None:
    def plain(one: str) -> bytes:
        return one.encode().lower()  # of A to Z alone

    places = wanted_stores(read(stores), Filter(search=text.encode())).tolist()
    assert places == [
        place
        for place, store in enumerate(stores)
        if any(plain(text) in plain(of_store) for of_store in (store.store_id, store.name))
    ]


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
