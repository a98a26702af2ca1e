"""What a window is made of: the segments whose lengths are uptime, downtime and unknown.

Cut at every edge of business time and of runs of observations, a window falls into pieces in which
nothing changes. These are the same edges that `totals` computes with, so the lengths of the
segments of a state add up to its total exactly.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from compute.axis import PER_MS, Ints
from compute.batch import Question, StoreBatch, open_and_observed

State = Literal["closed", "unknown", "down", "up"]
#: What `Timeline.state` counts.
STATES: tuple[State, ...] = ("closed", "unknown", "down", "up")
_CLOSED, _UNKNOWN, _DOWN, _UP = range(4)


@dataclass(frozen=True)
class Timeline:
    """Segments of a window: per store they follow on each other, and neighbours differ in state.

    Attributes:
        store: int64[segments], index of each segment's store in its batch, ascending
        start: int64[segments], half-milliseconds since 1970-01-01 UTC
        end: int64[segments], the same
        state: int64[segments], index into `STATES`
    """

    store: Ints
    start: Ints
    end: Ints
    state: Ints


def timeline(batch: StoreBatch, question: Question) -> Timeline:
    """The segments of the question's longest window, for each store of a batch."""
    axis = question.axis
    stores = np.arange(len(batch.id_size))
    open_time, observed = open_and_observed(batch, question)
    first = axis.position(stores, question.as_of - max(question.windows))
    last = axis.position(stores, question.as_of)
    cuts = np.unique(
        np.concatenate([first, last, open_time.start, open_time.end, observed.start, observed.end])
    )
    # The window that a cut lies in, if any, is the last that begins at or before it.
    store = np.searchsorted(first, cuts, side="right") - 1
    inside = (store >= 0) & (cuts < last[store])
    start, end, store = cuts[inside], np.append(cuts[1:], 0)[inside], store[inside]

    state = np.where(_holds(open_time.start, open_time.end, start), _UNKNOWN, _CLOSED)
    seen = (state == _UNKNOWN) & _holds(observed.start, observed.end, start)
    run = np.searchsorted(observed.start, start[seen], side="right") - 1
    state[seen] = np.where(observed.active[run] == 1, _UP, _DOWN)

    begins = np.append(True, (state[1:] != state[:-1]) | (store[1:] != store[:-1]))[: len(state)]
    ends = np.append(begins[1:], True)[: len(state)]
    to_epoch = store[begins] * axis.stride - PER_MS * axis.origin
    return Timeline(
        store=store[begins],
        start=start[begins] - to_epoch,
        end=end[ends] - to_epoch,
        state=state[begins],
    )


def _holds(starts: Ints, ends: Ints, position: Ints) -> npt.NDArray[np.bool_]:
    """Whether one of some disjoint, ascending, half-open stretches holds each position."""
    stretch = np.searchsorted(starts, position, side="right")
    held: npt.NDArray[np.bool_] = position < np.append(np.iinfo(np.int64).min, ends)[stretch]
    return held
