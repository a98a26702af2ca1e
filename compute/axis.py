"""The line that the kernel computes on: the instants of many stores, side by side, in integers.

One position is half a millisecond, so that the midpoint of two polls is always a whole number and
`uptime + downtime + unknown` equals business time exactly. Each store has its own stretch of the
line; stretches lie so far apart that no poll can speak across to the next store.
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
    """A stretch of time, once per store.

    Store `i`'s instant `t` lies at `i * stride + PER_MS * (t - origin)`.

    Attributes:
        origin: the first instant of every store's stretch, milliseconds since 1970-01-01 UTC
        end: the first instant after it, milliseconds since 1970-01-01 UTC
        reach: for how long an observation speaks to either side (`max_gap`), milliseconds
    """

    origin: int
    end: int
    reach: int

    @property
    def stride(self) -> int:
        """Positions from a store's stretch to the next.

        Between two stretches lie two reaches and the two days of which a stretch has only a part.
        """
        return PER_MS * (self.end - self.origin + 2 * self.reach + 2 * DAY_MS)

    def place(self, store: Ints, instant: Ints | int) -> Ints:
        """Positions of instants.

        Args:
            store: int64[n], place of each instant's store in its batch
            instant: int64[n] or one for all, milliseconds since 1970-01-01 UTC
        """
        return store * self.stride + PER_MS * (instant - self.origin)
