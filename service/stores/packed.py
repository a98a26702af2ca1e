"""Integer arrays as PostgreSQL sends them: all numbers of a batch in one long value."""

import numpy as np

from compute.axis import Ints

_ARRAY_HEADER = 20  # bytes: dimensions, flags, element type, length, lower bound


def from_array_send(sent: bytes | None, element: str = ">i4") -> Ints:
    """An integer array as PostgreSQL's `array_send` writes it, without nulls; None is empty.

    Args:
        sent: a 20-byte header, then the length and the value of each element, big-endian
        element: ">i4" or ">i8"
    """
    if sent is None:
        return np.empty(0, dtype=np.int64)
    rows = np.frombuffer(sent, dtype=[("size", ">i4"), ("value", element)], offset=_ARRAY_HEADER)
    return rows["value"].astype(np.int64)


def indexes_of(stores: Ints, wanted: Ints) -> Ints:
    """Where each wanted number stands among some, each of which there is once."""
    order = np.argsort(stores)
    indexes: Ints = order[np.searchsorted(stores, wanted, sorter=order)]
    return indexes
