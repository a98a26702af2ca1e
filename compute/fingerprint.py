"""What a report was made of, beside polls, in one short value: reports can be checked afterwards.

Two reports with the same fingerprint, `as_of`, options and tz version over unchanged polls are the
same bytes. It depends on what is known of the stores in the order of the report, not on batches.
"""

import hashlib

import numpy as np

from compute.axis import Ints
from compute.batch import StoreBatch
from compute.packed_rows import PackedRows

#: Bytes of the longest name of a zone, and more.
_ZONE_NAME = 64
_COLUMNS = 11


class Fingerprint:
    """Grows by the batches of a report, in their order."""

    def __init__(self) -> None:
        # A hash for each column: joined, it is the same however the stores were cut into batches.
        self._columns = [hashlib.sha256() for _ in range(_COLUMNS)]

    def add(self, batch: StoreBatch) -> None:
        """Add the stores of a batch: ids, zones, hours, special hours and exclusions."""
        stores = len(batch.id_size)
        # The last stands for -1: none given.
        zones = np.array([*batch.zone_names, ""], dtype=f"S{_ZONE_NAME}")[batch.zone]
        parts: list[bytes] = [batch.store_ids, _bytes(batch.id_size), zones.tobytes()]
        for rows in (batch.hours, batch.dated_weeks, batch.special_hours, batch.exclusions):
            parts += _of_rows(rows, stores)
        for column, part in zip(self._columns, parts, strict=True):
            column.update(part)

    @property
    def value(self) -> bytes:
        """Of all that was added, 32 bytes."""
        return hashlib.sha256(b"".join(one.digest() for one in self._columns)).digest()


def _of_rows(rows: PackedRows, stores: int) -> tuple[bytes, bytes]:
    """The rows, and how many each store has."""
    count = rows.rows if len(rows.rows) else np.zeros(stores, dtype=np.int64)
    return rows.packed, _bytes(count)


def _bytes(numbers: Ints) -> bytes:
    return numbers.astype("<i4").tobytes()
