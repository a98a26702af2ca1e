"""The fingerprint of what a report is made of."""

from dataclasses import replace

import numpy as np

from compute.axis import Ints
from compute.batch import StoreBatch
from compute.fingerprint import Fingerprint
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
    for batch in batches:
        fingerprint.add(batch)
    return fingerprint.value


def test_it_does_not_depend_on_how_stores_are_cut_into_batches() -> None:
    assert of(FIRST, SECOND) == of(BOTH)
    assert of(FIRST, SECOND) != of(SECOND, FIRST)


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
