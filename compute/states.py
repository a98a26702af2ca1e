"""The state of each store at an instant, since when it has been so, and its newest poll."""

from dataclasses import dataclass

import numpy as np

from compute.axis import DAY_MS, PER_MS, Ints
from compute.batch import Question, Seen, StoreBatch, seen
from compute.outages import NO_INSTANT, joined, past
from compute.timeline import STATES, Timeline

_DOWN, _UP = STATES.index("down"), STATES.index("up")
#: In place of a state: there is none.
NO_STATE = -1


@dataclass(frozen=True)
class States:
    """How the stores of a batch are at `as_of`.

    Attributes:
        state: int64[stores], index into `compute.timeline.STATES`
        since: int64[stores], half-milliseconds since 1970-01-01 UTC: the beginning of a stretch of
            `up` or `down`, joined over closing and excluded times, or of a segment of another
            state; or `NO_INSTANT`: there is none in what was looked at
        newest_poll: int64[stores], a `poll` (see `compute.polls`): the newest at or before `as_of`,
            observation or not; or `NO_INSTANT`: there is none on the question's days
        spoken: int64[stores], state of the last stretch of `unknown`, `down` or `up`, which is the
            store's own unless it is closed or excluded; or `NO_STATE`: it is that all the time
        spoken_since: int64[stores], where that stretch begins, as `compute.outages.Stretches` has
            it
        down_for: int64[stores], half-milliseconds of counted downtime of the outage that is open,
            as far as was looked; 0: none is
        silent_for: int64[stores], half-milliseconds of counted time from the newest poll, whatever
            it said, to `as_of`; of what lies farther back than observations speak into what is
            looked at, nothing is counted
    """

    state: Ints
    since: Ints
    newest_poll: Ints
    spoken: Ints
    spoken_since: Ints
    down_for: Ints
    silent_for: Ints


def states(batch: StoreBatch, question: Question) -> States:
    """The state of each store of a batch at the question's `as_of`.

    Args:
        batch: the stores, with the polls of the question's days
        question: as `compute.outages.question_about` makes it
    """
    known = seen(batch, question)
    return states_of(known, past(known))


def states_of(known: Seen, parts: Timeline) -> States:
    """The same of stores on an axis, whose past has these parts."""
    axis, polls = known.axis, known.polls
    as_of = axis.end - 1
    stores = np.arange(known.stores)
    last = np.searchsorted(parts.store, stores, side="right") - 1
    begins_here = parts.store[last - 1] != stores
    begins_here[:1] |= last[:1] == 0
    state = parts.state[last]
    since = np.where(begins_here, NO_INSTANT, parts.start[last])

    stretches = joined(parts)
    goes_on = stretches.then < 0
    whose = stretches.store[goes_on]
    spoken, begin = np.full(known.stores, NO_STATE), np.full(known.stores, NO_INSTANT)
    length = np.zeros(known.stores, dtype=np.int64)
    spoken[whose], begin[whose] = stretches.state[goes_on], stretches.begin[goes_on]
    length[whose] = stretches.length[goes_on]
    since = np.where((state == _DOWN) | (state == _UP), begin, since)

    now = axis.position(stores, as_of)
    newest = np.searchsorted(polls, now + 1, side="right")
    poll = np.append(NO_INSTANT, polls)[newest]
    # Days are read as a whole, so some polls come before the axis; those of the store before, which
    # may be found in place of none, are farther away.
    own = poll >= axis.position(stores, axis.origin - DAY_MS)
    to_epoch = stores * axis.stride - PER_MS * axis.origin
    first = axis.position(stores, axis.origin)
    silent_from = np.maximum(np.where(own, poll - (poll & 1), NO_INSTANT), first)
    return States(
        state,
        since,
        np.where(own, poll - to_epoch, NO_INSTANT),
        spoken,
        begin,
        np.where(spoken == _DOWN, length, 0),
        known.counted.until(now) - known.counted.until(silent_from),
    )
