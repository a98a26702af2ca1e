"""What changed from one report to a later one: stores whose availability is worse or better."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compute.axis import Ints
from compute.packed_totals import NUL, StoreTotals
from compute.report_page import availability

#: Ids that are put into a dictionary at a time: others have their turn in between.
_AT_ONCE = 10_000


@dataclass(frozen=True)
class Changed:
    """Stores that changed in one direction.

    Attributes:
        stores: how many did
        place: int64[n], of those that changed the most, their places in the later report
        was: float64[n], their availability before
        is_: float64[n], their availability now
    """

    stores: int
    place: Ints
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
    was = availability(before.up[-1], before.down[-1])[old]
    is_ = availability(after.up[-1], after.down[-1])[new]
    down = after.down[-1][new]

    def those(change: npt.NDArray[np.float64]) -> Changed:
        changed = np.flatnonzero(change > 0)  # NaN is not
        first = changed[np.lexsort((-down[changed], -change[changed]))[:most]]
        return Changed(len(changed), new[first], was[first], is_[first])

    return those(was - is_), those(is_ - was)


def _same_stores(before: StoreTotals, after: StoreTotals) -> tuple[Ints, Ints]:
    """Places before, and after, of the stores that both have, in their order."""
    if before.ids == after.ids:
        every = np.arange(len(after))
        return every, every
    place: dict[bytes, int] = {}
    old = before.ids.split(NUL)[:-1]
    for start in range(0, len(old), _AT_ONCE):
        place.update(zip(old[start : start + _AT_ONCE], range(start, len(old)), strict=False))
    found = [place.get(store_id, -1) for store_id in after.ids.split(NUL)[:-1]]
    places = np.array(found, dtype=np.int64)
    both = np.flatnonzero(places >= 0)
    return places[both], both
