"""The fingerprint of what a report is made of."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.axis import Ints
from compute.batch import StoreBatch
from compute.business_hours import HOURS
from compute.fingerprint import BLOCK, Fingerprint, batch_print
from compute.packed_rows import NO_ROWS, PackedRows

NOTHING = np.empty(0, dtype=np.int64)


def numbers(*values: int) -> Ints:
    return np.array(values, dtype=np.int64)


FIRST = StoreBatch(
    store_ids=b"aab",
    id_size=numbers(2, 1),
    hours=PackedRows(bytes(range(16)), numbers(2, 0)),
    zone=numbers(0, -1),
    zone_names=("Asia/Tokyo",),
    polls=b"",
    poll_store=NOTHING,
    poll_day=NOTHING,
    poll_size=NOTHING,
)
SECOND = replace(
    FIRST,
    store_ids=b"c",
    id_size=numbers(1),
    hours=PackedRows(b"", numbers(0)),
    zone=numbers(1),
    zone_names=("America/Chicago", "Asia/Tokyo"),
    dated_weeks=PackedRows(bytes(12), numbers(1)),
)
BOTH = replace(
    FIRST,
    store_ids=b"aabc",
    id_size=numbers(2, 1, 1),
    hours=PackedRows(bytes(range(16)), numbers(2, 0, 0)),
    zone=numbers(0, -1, 0),
    dated_weeks=PackedRows(bytes(12), numbers(0, 0, 1)),
)


def of(*batches: StoreBatch) -> bytes:
    fingerprint = Fingerprint()
    first = 0
    for batch in batches:
        fingerprint.add(batch_print(replace(batch, first=first)))
        first += len(batch.id_size)
    return fingerprint.value


def test_it_does_not_depend_on_how_stores_are_cut_into_batches() -> None:
    assert of(FIRST, SECOND) == of(BOTH)
    assert of(FIRST, SECOND) != of(SECOND, FIRST)


STORES = 4 * BLOCK + 9
IDS = [f"store {number}".encode() for number in range(STORES)]
WEEKS = [bytes(HOURS.itemsize) * (number % 4) for number in range(STORES)]


def stores(begin: int, end: int) -> StoreBatch:
    """Some of many stores."""
    return replace(
        FIRST,
        store_ids=b"".join(IDS[begin:end]),
        id_size=numbers(*map(len, IDS[begin:end])),
        hours=PackedRows(
            b"".join(WEEKS[begin:end]), numbers(*map(len, WEEKS[begin:end])) // HOURS.itemsize
        ),
        zone=np.arange(begin, end) % 2 - 1,
    )


@given(st.lists(st.integers(0, STORES), max_size=12))
def test_many_stores_have_the_same_however_they_are_cut(cuts: list[int]) -> None:
    batches = [stores(*bounds) for bounds in pairwise([0, *sorted(cuts), STORES])]
    assert of(*batches) == of(stores(0, STORES))
    assert of(stores(0, STORES - 1)) != of(stores(0, STORES))


def test_stores_that_are_left_out_are_no_report() -> None:
    fingerprint = Fingerprint()
    fingerprint.add(batch_print(FIRST))
    with pytest.raises(ValueError, match="store 3 of the report follows store 2"):
        fingerprint.add(batch_print(replace(SECOND, first=3)))


def test_it_depends_on_each_thing_that_is_known() -> None:
    others = [
        replace(BOTH, store_ids=b"aaxc"),
        replace(BOTH, id_size=numbers(1, 2, 1)),
        replace(BOTH, hours=PackedRows(bytes(range(16)), numbers(1, 1, 0))),
        replace(BOTH, hours=PackedRows(bytes(range(1, 17)), numbers(2, 0, 0))),
        replace(BOTH, zone=numbers(0, 0, 0)),
        replace(BOTH, zone_names=("Asia/Seoul",)),
        replace(BOTH, dated_weeks=NO_ROWS),
        replace(BOTH, special_hours=PackedRows(bytes(12), numbers(0, 0, 1)), dated_weeks=NO_ROWS),
        replace(BOTH, special_hours=PackedRows(bytes(12), numbers(1, 0, 0))),
        replace(BOTH, exclusions=PackedRows(bytes(16), numbers(0, 1, 0))),
    ]
    assert len({of(BOTH), *map(of, others)}) == 1 + len(others)
    assert of(replace(BOTH, polls=b"1234")) == of(BOTH)
