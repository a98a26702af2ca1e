"""What a window is made of: the segments whose lengths are uptime, downtime, unknown and excluded.

Cut at every edge of business time, of counted time and of runs of observations, a window falls into
pieces in which nothing changes. These are the same edges that `totals` computes with, so the
lengths of the segments of a state add up to its total exactly.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from compute.axis import PER_MS, Ints
from compute.batch import Question, Seen, StoreBatch, seen

State = Literal["closed", "excluded", "unknown", "down", "up"]
#: What `Timeline.state` counts.
STATES: tuple[State, ...] = get_args(State)
_CLOSED, _EXCLUDED, _UNKNOWN, _DOWN, _UP = range(len(STATES))


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
    """The segments of the question's last window, for each store of a batch.

    A store for which that window is empty has no segment.
    """
    known = seen(batch, question)
    stores = np.arange(len(batch.id_size))
    bounds = question.bounds(batch.zone, batch.zone_names)[-1]
    return segments(
        known, known.axis.position(stores, bounds[:, 0]), known.axis.position(stores, bounds[:, 1])
    )


def segments(known: Seen, first: Ints, last: Ints) -> Timeline:
    """The segments of one stretch of each store.

    Args:
        known: the stores on their axis
        first: int64[stores], position of the start of each store's stretch
        last: int64[stores], position of its end, not included; before the next store's start
    """
    axis, business, counted, observed = known.axis, known.business, known.counted, known.observed
    edges = [first, last, business.start, business.end, observed.start, observed.end]
    if counted is not business:
        edges += [counted.start, counted.end]
    cuts = np.sort(np.concatenate(edges))  # np.unique would hash them, which takes longer
    cuts = cuts[np.append(True, cuts[1:] != cuts[:-1])[: len(cuts)]]
    # The window that a cut lies in, if any, is the last that begins at or before it.
    store = np.searchsorted(first, cuts, side="right") - 1
    inside = (store >= 0) & (cuts < last[store])
    start, end, store = cuts[inside], np.append(cuts[1:], 0)[inside], store[inside]

    state = np.where(business.holds(start), _EXCLUDED, _CLOSED)
    state[counted.holds(start)] = _UNKNOWN
    seen_there = (state == _UNKNOWN) & _holds(observed.start, observed.end, start)
    run = np.searchsorted(observed.start, start[seen_there], side="right") - 1
    state[seen_there] = np.where(observed.active[run] == 1, _UP, _DOWN)

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
