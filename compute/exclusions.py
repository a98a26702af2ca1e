"""Exclusions → excluded time: instants that count neither for nor against a store."""

import numpy as np

from compute.axis import Axis
from compute.intervals import Intervals, merged
from compute.packed_rows import PackedRows, unpack_exclusions


def excluded_time(axis: Axis, exclusions: PackedRows) -> Intervals:
    """What the exclusions of a batch of stores cover of the axis, in business time or not."""
    from_ms, to_ms = unpack_exclusions(exclusions.packed)
    start, end = np.maximum(from_ms, axis.origin), np.minimum(to_ms, axis.end)
    some = end > start
    store = exclusions.store[some]
    return merged(axis.position(store, start[some]), axis.position(store, end[some]))
