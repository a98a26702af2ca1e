"""What a report was made of, beside polls, in one short value: reports can be checked afterwards.

Two reports with the same fingerprint, `as_of`, options and tz version over unchanged polls are the
same bytes. It depends on what is known of the stores in the order of the report, not on batches:
stores are hashed by blocks, the first of the report and so on, and the value is the hash of these
hashes. So whoever computes a batch hashes the blocks in it, and little else has to be passed on.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import add

import numpy as np

from compute.batch import StoreBatch
from compute.packed_rows import PackedRows

#: Stores of a block. Batches that begin and end with one are hashed as they are computed.
BLOCK = 64
#: Bytes of the longest name of a zone, and more.
_ZONE_NAME = 64
#: How many rows, or bytes of its id, a store has.
_COUNT = np.dtype("<i4")

#: What is known of some stores, column by column; empty: of none.
_Columns = tuple[bytes, ...]


@dataclass(frozen=True)
class BatchPrint:
    """What the fingerprint takes of a batch of stores.

    Attributes:
        first: how many stores of the report come before
        stores: how many these are
        begin: those that belong to a block which began before
        blocks: hashes of the blocks that are here as a whole, joined
        rest: those of a block that has begun here, and does not end
    """

    first: int
    stores: int
    begin: _Columns
    blocks: bytes
    rest: _Columns


def batch_print(batch: StoreBatch) -> BatchPrint:
    """What the fingerprint takes of a batch: ids, zones, hours, special hours and exclusions."""
    stores = len(batch.id_size)
    lead = min(-batch.first % BLOCK, stores)
    cuts = [0, *range(lead, stores, BLOCK), stores]
    begin, *blocks = _cut(batch, cuts)
    rest = blocks.pop() if blocks and cuts[-1] - cuts[-2] < BLOCK else ()
    return BatchPrint(
        batch.first, stores, begin if lead else (), b"".join(map(_hashed, blocks)), rest
    )


class Fingerprint:
    """Grows by the batches of a report, in their order."""

    def __init__(self) -> None:
        self._blocks = hashlib.sha256()
        self._stores = 0
        self._open: _Columns = ()

    def add(self, batch: BatchPrint) -> None:
        """Add the batch that follows.

        Raises:
            ValueError: it is another one
        """
        if batch.first != self._stores:
            raise ValueError(f"store {batch.first} of the report follows store {self._stores}")
        lacking = -self._stores % BLOCK
        self._stores += batch.stores
        self._open = _joined(self._open, batch.begin)
        if batch.stores >= lacking:
            self._blocks.update(_hashed(self._open) + batch.blocks)
            self._open = batch.rest

    @property
    def value(self) -> bytes:
        """Of all that was added, 32 bytes."""
        whole = self._blocks.copy()
        whole.update(_hashed(self._open) + self._stores.to_bytes(8, "little"))
        return whole.digest()


def _cut(batch: StoreBatch, cuts: Sequence[int]) -> list[_Columns]:
    """What is known of the stores from each cut to the next."""
    stores = len(batch.id_size)
    # The last stands for -1: none given.
    zones = np.array([*batch.zone_names, ""], dtype=f"S{_ZONE_NAME}")[batch.zone]
    pieces = [_pieces(zones.tobytes(), [_ZONE_NAME * cut for cut in cuts])]
    of_counts = [_COUNT.itemsize * cut for cut in cuts]
    ids = PackedRows(batch.store_ids, batch.id_size)
    for rows in (ids, batch.hours, batch.dated_weeks, batch.special_hours, batch.exclusions):
        count = rows.rows if len(rows.rows) else np.zeros(stores, dtype=np.int64)
        pieces.append(_pieces(count.astype(_COUNT).tobytes(), of_counts))
        ends = np.concatenate([[0], np.cumsum(count)])
        row = len(rows.packed) // max(1, int(ends[-1]))
        pieces.append(_pieces(rows.packed, (row * ends[cuts]).tolist()))
    return list(zip(*pieces, strict=True))


def _pieces(packed: bytes, cuts: Sequence[int]) -> list[bytes]:
    return [packed[begin:end] for begin, end in pairwise(cuts)]


def _joined(one: _Columns, other: _Columns) -> _Columns:
    return tuple(map(add, one, other)) if one and other else one or other


def _hashed(columns: _Columns) -> bytes:
    """The hash of what is known of some stores; empty: there are none."""
    return hashlib.sha256(b"".join(columns)).digest() if columns else b""
