"""The exact totals of a report's stores as bytes, as they are kept beside its CSV.

A line that tells the version, then chunks, one for each batch of stores: what is in it (five
little-endian integers), the names of its zones, the ids, and, little-endian: bytes of each id, zone
of each store, then uptime, downtime, unknown and excluded of each window in half-milliseconds.
Those have four bytes where every window of the report fits into them, as a week does, else eight.
Version 1 is the same without excluded time, of which there was none.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compute.axis import PER_MS, AnyInts, Ints
from compute.uptime import Totals
from compute.zones import DEFAULT_TIMEZONE

#: The first bytes of the file.
VERSION = b"storewatch totals 2\n"
_VERSION_1 = b"storewatch totals 1\n"
#: Stores, windows, bytes of a total, bytes of the zones' names, bytes of the ids.
_CHUNK = struct.Struct("<IHHII")
_SIZE, _ZONE = np.dtype("<u2"), np.dtype("<i2")
_SMALL, _LARGE = np.dtype("<i4"), np.dtype("<i8")
#: Measures of each version.
_MEASURES = {VERSION: 4, _VERSION_1: 3}
#: Between ids, and between names of zones: PostgreSQL has no text with it.
NUL = b"\0"


def pack_totals(
    store_ids: bytes,
    id_size: Ints,
    zone: Ints,
    zone_names: tuple[str, ...],
    totals: Totals,
    longest: int,
) -> bytes:
    """A chunk of the file.

    Args:
        store_ids: UTF-8 ids of all stores, joined
        id_size: int64[stores], bytes of each id
        zone: int64[stores], index into `zone_names`, or -1: none given
        zone_names: IANA names
        totals: int64[stores, windows] each
        longest: at least as long as each window of each store, milliseconds
    """
    of_total = _SMALL if PER_MS * longest <= np.iinfo(_SMALL).max else _LARGE
    stores, windows = totals.up.shape
    names = NUL.join(name.encode() for name in (*zone_names, DEFAULT_TIMEZONE))
    parts = np.stack([totals.up.T, totals.down.T, totals.unknown.T, totals.excluded.T]).astype(
        of_total
    )
    return b"".join(
        [
            _CHUNK.pack(stores, windows, of_total.itemsize, len(names), len(store_ids)),
            names,
            store_ids,
            id_size.astype(_SIZE).tobytes(),
            (zone % (len(zone_names) + 1)).astype(_ZONE).tobytes(),
            parts.tobytes(),
        ]
    )


@dataclass(frozen=True)
class StoreTotals:
    """Stores of a report with their exact totals, in byte order of their ids.

    Attributes:
        ids: UTF-8 ids, each with a NUL after it
        id_start: int64[stores + 1], where each begins, and the end of all
        zone: int16[stores], index into `zone_names`
        zone_names: IANA names of the zones that the stores are computed in
        up: int32 or int64[windows, stores], half-milliseconds
        down: the same
        unknown: the same
        excluded: the same
    """

    ids: bytes
    id_start: Ints
    zone: npt.NDArray[np.int16]
    zone_names: tuple[str, ...]
    up: AnyInts
    down: AnyInts
    unknown: AnyInts
    excluded: AnyInts

    def __len__(self) -> int:
        return len(self.zone)

    @property
    def size(self) -> int:
        """Bytes of memory that it takes."""
        arrays = (self.id_start, self.zone, self.up, self.down, self.unknown, self.excluded)
        return len(self.ids) + sum(array.nbytes for array in arrays)

    def store_id(self, index: int) -> bytes:
        """The id of one store."""
        return self.ids[int(self.id_start[index]) : int(self.id_start[index + 1]) - 1]


class NotReadable(Exception):  # noqa: N818
    """Bytes that are not the totals of a report, or of a later version."""


def unpack_totals(packed: bytes) -> StoreTotals:
    """All stores of a file.

    Raises:
        NotReadable: it is none, or by a later version
    """
    measures = _MEASURES.get(packed[: len(VERSION)])
    if measures is None:
        raise NotReadable
    try:
        return _joined(list(_chunks(packed, measures)))
    except (struct.error, ValueError) as error:
        raise NotReadable from error


@dataclass(frozen=True)
class _Chunk:
    """Arrays are as they lie in the file; `totals`: [measures, windows, stores]."""

    zone_names: list[str]
    ids: npt.NDArray[np.uint8]
    id_size: npt.NDArray[np.uint16]
    zone: npt.NDArray[np.int16]
    totals: AnyInts


def _chunks(packed: bytes, measures: int) -> Iterator[_Chunk]:
    position = len(VERSION)
    while position < len(packed):
        stores, windows, of_total, of_names, of_ids = _CHUNK.unpack_from(packed, position)
        position += _CHUNK.size
        names = packed[position : position + of_names].decode().split(NUL.decode())
        position += of_names
        ids = np.frombuffer(packed, np.uint8, of_ids, position)
        position += of_ids
        id_size = np.frombuffer(packed, _SIZE, stores, position)
        position += id_size.nbytes
        zone = np.frombuffer(packed, _ZONE, stores, position)
        position += zone.nbytes
        kind = _SMALL if of_total == _SMALL.itemsize else _LARGE
        totals: AnyInts = np.frombuffer(packed, kind, measures * windows * stores, position)
        position += totals.nbytes
        totals = totals.reshape(measures, windows, stores)
        if measures == _MEASURES[_VERSION_1]:
            totals = np.concatenate([totals, np.zeros_like(totals[:1])])
        yield _Chunk(names, ids, id_size, zone, totals)


def _joined(chunks: list[_Chunk]) -> StoreTotals:
    if not chunks:
        none = np.empty((3, 0), dtype=np.int64)
        return StoreTotals(b"", np.zeros(1, np.int64), np.empty(0, np.int16), (), *[none] * 4)
    numbers: dict[str, int] = {}
    zones = []
    for chunk in chunks:
        of_names = [numbers.setdefault(name, len(numbers)) for name in chunk.zone_names]
        zones.append(np.array(of_names, dtype=np.int16)[chunk.zone])
    with_nul = np.concatenate([chunk.id_size for chunk in chunks]).astype(np.int64) + 1
    start = np.concatenate([[0], np.cumsum(with_nul)])
    ids = np.zeros(int(start[-1]), dtype=np.uint8)
    is_id = np.ones(len(ids), dtype=bool)
    is_id[start[1:] - 1] = False
    ids[is_id] = np.concatenate([chunk.ids for chunk in chunks])
    up, down, unknown, excluded = (
        np.concatenate([chunk.totals[measure] for chunk in chunks], axis=1)
        for measure in range(_MEASURES[VERSION])
    )
    zone = np.concatenate(zones)
    names = tuple(numbers)
    return StoreTotals(ids.tobytes(), start, zone, names, up, down, unknown, excluded)
