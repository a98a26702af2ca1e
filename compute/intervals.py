"""Sets of instants on an axis, as intervals: business time, counted time, excluded time."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from compute.axis import Ints


@dataclass(frozen=True)
class Intervals:
    """Some instants of the stores of a batch: disjoint, ascending, half-open intervals, none empty.

    Attributes:
        start: int64[m], positions
        end: int64[m], positions; each lies before the next start
    """

    start: Ints
    end: Ints

    def until(self, position: Ints) -> Ints:
        """How much lies before each position, summed over all stores up to there.

        Args:
            position: int64[n], positions

        Returns:
            int64[n], half-milliseconds
        """
        begun = self.begun(position)
        until: Ints = self._total[begun] - np.maximum(self._end[begun] - position, 0)
        return until

    def begun(self, position: Ints) -> Ints:
        """How many intervals begin at or before each position (int64[n])."""
        return np.searchsorted(self.start, position, side="right")

    def holds(self, position: Ints, begun: Ints | None = None) -> npt.NDArray[np.bool_]:
        """Whether each position is inside (bool[n]); `begun`: as that tells of them, if known."""
        held: npt.NDArray[np.bool_]
        held = self._end[self.begun(position) if begun is None else begun] > position
        return held

    def without(self, other: "Intervals") -> "Intervals":
        """What of these instants is not in another set on the same axis."""
        if not len(other.start):
            return self
        # What holds just after an edge: 1 only these, -2 only the others, -1 both, 0 neither.
        edge = np.concatenate([self.start, self.end, other.start, other.end])
        step = np.repeat([1, -1, -2, 2], [len(self.start)] * 2 + [len(other.start)] * 2)
        order = np.argsort(edge)
        edge, state = edge[order], np.cumsum(step[order])
        last = np.append(edge[1:] != edge[:-1], True)
        edge, only = edge[last], state[last] == 1
        before = np.append(False, only[:-1])
        return Intervals(start=edge[only & ~before], end=edge[before & ~only])

    # What comes before the first interval, and the intervals.

    @cached_property
    def _total(self) -> Ints:
        return np.concatenate([[0], np.cumsum(self.end - self.start)])

    @cached_property
    def _end(self) -> Ints:
        return np.concatenate([[np.iinfo(np.int64).min // 2], self.end])


def merged(start: Ints, end: Ints) -> Intervals:
    """The instants of intervals that may overlap or touch, in any order.

    Args:
        start: int64[n], positions
        end: int64[n], positions, each after its start
    """
    order = np.argsort(start)
    start, end = start[order], np.maximum.accumulate(end[order])
    apart = start[1:] > end[:-1]
    return Intervals(
        start=start[np.concatenate([[True], apart])[: len(start)]],
        end=end[np.concatenate([apart, [True]])[: len(end)]],
    )
