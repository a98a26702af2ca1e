"""The line of integers that the kernel computes on: the instants of many stores, side by side.

A position is half a millisecond, so that the midpoint of two polls is always a whole number and
`uptime + downtime + unknown` equals business time exactly. Each store has its own stretch of the
line, and stretches are so far apart that no poll can affect the next store.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
#: The same, maybe in fewer bytes.
AnyInts = npt.NDArray[np.signedinteger[Any]]

#: Positions per millisecond.
PER_MS = 2
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Axis:
    """A stretch of time, repeated for each store.

    Store `i`'s instant `t` lies at `i * stride + PER_MS * (t - origin)`. Positions are plentiful:
    what need not be looked at has some too, but only the parts that matter get business time.

    Attributes:
        origin: the first instant of every store's stretch, milliseconds since 1970-01-01 UTC
        end: the first instant after it, milliseconds since 1970-01-01 UTC
        reach: for how long an observation speaks to either side (`max_gap`), milliseconds
        parts: what matters of the stretch: ascending, half open, none touching the next,
            milliseconds since 1970-01-01 UTC
    """

    origin: int
    end: int
    reach: int
    parts: tuple[tuple[int, int], ...]

    @property
    def stride(self) -> int:
        """Positions from the start of a store's stretch to the start of the next one.

        Between two stretches there is room for two reaches, and for the rest of the first and the
        last day of a stretch, whose polls are read as a whole.
        """
        return PER_MS * (self.end - self.origin + 2 * self.reach + 2 * DAY_MS)

    def position(self, store: Ints, instant: Ints | int) -> Ints:
        """Positions of instants.

        Args:
            store: int64[n], index of each instant's store in its batch
            instant: int64[n] or one for all, milliseconds since 1970-01-01 UTC
        """
        return store * self.stride + PER_MS * (instant - self.origin)
