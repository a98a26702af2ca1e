"""What changed from one report to a later one: stores whose availability is worse or better."""

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from compute.axis import Ints
from compute.packed_totals import StoreTotals, Texts
from compute.report_page import availability

#: Stores of a report whose ids are compared at the same time.
_AT_ONCE = 10_000


@dataclass(frozen=True)
class Changed:
    """Stores that changed in one direction.

    Attributes:
        stores: how many did
        index: int64[n], of those that changed the most, their indexes in the later report
        was: float64[n], their availability before
        is_: float64[n], their availability now
    """

    stores: int
    index: Ints
    was: npt.NDArray[np.float64]
    is_: npt.NDArray[np.float64]


def changes(before: StoreTotals, after: StoreTotals, most: int) -> tuple[Changed, Changed]:
    """Stores that are worse in the last window, and those that are better.

    Only those count that have an availability in both. The most changed come first, of equal ones
    those with more downtime now, then by id.

    Args:
        before: the earlier report
        after: the later one
        most: stores of either kind that are told one by one
    """
    old, new = _same_stores(before, after)
    earlier, later = before.window(-1), after.window(-1)
    was = availability(earlier.up, earlier.down)[old]
    is_ = availability(later.up, later.down)[new]
    down = later.down[new]

    def those(change: npt.NDArray[np.float64]) -> Changed:
        changed = np.flatnonzero(change > 0)  # NaN is not
        first = changed[np.lexsort((-down[changed], -change[changed]))[:most]]
        return Changed(len(changed), new[first], was[first], is_[first])

    return those(was - is_), those(is_ - was)


def _same_stores(before: StoreTotals, after: StoreTotals) -> tuple[Ints, Ints]:
    """Places before, and after, of the stores that both have, in their order."""
    both = before.ids, after.ids  # each is read once
    if both[0].joined == both[1].joined:
        every = np.arange(len(after))
        return every, every
    cuts = sorted({one[cut] for one in both for cut in range(0, len(one), _AT_ONCE)})
    # Between two cuts lie few stores of either.
    bounds = [
        [bisect_left(range(len(one)), cut, key=one.__getitem__) for cut in cuts] + [len(one)]
        for one in both
    ]
    old, new = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for (from_old, to_old), (from_new, to_new) in zip(*map(pairwise, bounds), strict=True):
        if from_old < to_old and from_new < to_new:
            known = _ids(both[0], from_old, to_old)
            wanted = _ids(both[1], from_new, to_new)
            at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            found = np.flatnonzero(known[at] == wanted)
            old.append(from_old + at[found])
            new.append(from_new + found)
    return np.concatenate(old), np.concatenate(new)


def _ids(ids: Texts, start: int, end: int) -> npt.NDArray[np.bytes_]:
    """Ids of some stores, as wide as the longest."""
    begin = ids.start[start : end + 1]
    size = np.diff(begin)
    letters = np.frombuffer(ids.joined, np.uint8, int(begin[-1] - begin[0]), int(begin[0]))
    text = np.zeros((end - start, int(size.max())), dtype=np.uint8)
    text[np.arange(text.shape[1]) < size[:, None]] = letters
    found: npt.NDArray[np.bytes_] = text.view(f"S{text.shape[1]}").ravel()
    return found
