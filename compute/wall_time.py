"""Local wall time → UTC, as RFC 5545 §3.3.5 has it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from compute.axis import DAY_MS, Ints
from compute.zones import Offset, offsets


@dataclass(frozen=True)
class WallTime:
    """UTC offsets of some zones over a stretch of local time, as steps in it.

    A wall time takes the offset before a transition at UTC `T` from offset `a` to `b` unless it is
    at or after `T + max(a, b)`: that is RFC 5545 §3.3.5 (`fold=0`), both for the hour that comes
    twice (first occurrence) and for the one that is skipped (offset before the gap).
    """

    origin: int  # local milliseconds at which every zone's stretch begins
    stride: int  # milliseconds from a zone's stretch to the next
    step: Ints  # [k], zone * stride + (local time of the step - origin)
    offset: Ints  # [k], milliseconds east of UTC from that step on

    @classmethod
    def of(cls, names: tuple[str, ...], origin: int, end: int) -> "WallTime":
        """Of some zones, over the local time from `origin` to before `end`.

        Args:
            names: IANA names
            origin: milliseconds since 1970-01-01 00:00 local time
            end: the same

        Raises:
            zoneinfo.ZoneInfoNotFoundError: the tz database lacks a name
        """
        stride = end - origin
        steps: list[int] = []
        ahead: list[int] = []
        for zone, name in enumerate(names):
            for local, offset in _steps(name, origin, end):
                steps.append(zone * stride + max(local - origin, 0))
                ahead.append(offset)
        return cls(origin, stride, np.array(steps), np.array(ahead))

    def to_utc(self, zone: Ints, local: Ints) -> Ints:
        """Milliseconds since 1970-01-01 UTC.

        Args:
            zone: integers[n], index of each zone's name
            local: int64[n], milliseconds since 1970-01-01 00:00 local time, within the stretch
        """
        step = np.searchsorted(self.step, zone * self.stride + (local - self.origin), side="right")
        utc: npt.NDArray[np.int64] = local - self.offset[step - 1]
        return utc


def offsets_over(name: str, from_ms: int, to_ms: int) -> tuple[Offset, ...]:
    """A zone's offsets over a stretch of local time, milliseconds."""
    return offsets(name, from_ms - DAY_MS, to_ms + DAY_MS)


def _steps(name: str, from_ms: int, to_ms: int) -> Iterator[tuple[int, int]]:
    """Steps of a zone's offset, the first at `from_ms`: (local ms from which, ms east of UTC)."""
    found = offsets_over(name, from_ms, to_ms)
    yield from_ms, found[0].ahead
    for before, after in pairwise(found):
        yield after.start + max(before.ahead, after.ahead), after.ahead
