"""How stores stand at one look after another, each told on from the look before.

A state may have begun long ago. To read all of that time again and again would cost too much, so a
look reads a short time, the window, and takes from the look before what lies farther back. It does
so only where the two agree: what the window itself tells differently counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from compute.axis import PER_MS, Ints
from compute.batch import Question, Seen, StoreBatch, seen
from compute.outages import NO_INSTANT, past
from compute.states import NO_STATE, States, states_of
from compute.timeline import STATES, Timeline

#: Up to this much counted time `down_for` and `silent_for` are exact, milliseconds; more is told as
#: a millisecond more.
LONGEST_TOLD = 24 * 3_600_000
#: In place of `silent_for`: not known.
NOT_KNOWN = -1
_DOWN, _UP = STATES.index("down"), STATES.index("up")

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Standing:
    """How stores stand, each at an instant of its own.

    Attributes:
        at: int64[stores], the instant, milliseconds since 1970-01-01 UTC
        state: int64[stores], index into `compute.timeline.STATES`; or `NO_STATE`: nothing that can
            be told on is known of the store
        since: int64[stores], milliseconds since 1970-01-01 UTC, or `NO_INSTANT`: as
            `compute.states.States` has it
        spoken: int64[stores], as there
        spoken_since: int64[stores], as there, milliseconds since 1970-01-01 UTC
        down_for: int64[stores], milliseconds of counted downtime of the outage that is open
        newest_poll: int64[stores], a `poll` (see `compute.polls`), or `NO_INSTANT`
        silent_for: int64[stores], milliseconds of counted time since it, 0 if there is none; or
            `NOT_KNOWN`
    """

    at: Ints
    state: Ints
    since: Ints
    spoken: Ints
    spoken_since: Ints
    down_for: Ints
    newest_poll: Ints
    silent_for: Ints

    def columns(self) -> list[Ints]:
        """All of them, in their order."""
        return [getattr(self, one.name) for one in fields(self)]

    def of(self, rows: Ints | Flags) -> "Standing":
        """That of some stores."""
        return Standing(*(column[rows] for column in self.columns()))

    def with_rows(self, rows: Ints | Flags, others: "Standing") -> "Standing":
        """The same, but of some stores that of others, in their order."""
        columns = [column.copy() for column in self.columns()]
        for column, other in zip(columns, others.columns(), strict=True):
            column[rows] = other
        return Standing(*columns)

    @classmethod
    def joined(cls, parts: Sequence["Standing"]) -> "Standing":
        """Those of several batches, one after the other."""
        parts = parts or [nothing_known(0)]
        return cls(
            *(np.concatenate(same) for same in zip(*(one.columns() for one in parts), strict=True))
        )


@dataclass(frozen=True)
class Stood:
    """How stores stand now.

    Attributes:
        now: at `as_of`
        sure: bool[stores], whether all of it is known; else what lies before the window is missing
    """

    now: Standing
    sure: Flags


def stand(batch: StoreBatch, question: Question, before: Standing) -> Stood:
    """How the stores of a batch stand at the question's `as_of`.

    Args:
        batch: the stores, with the polls of the question's days
        question: as `compute.outages.question_about` makes it
        before: how they stood at a look before; used of a store if that was in the window
    """
    known = seen(batch, question)
    parts = past(known)
    found = states_of(known, parts)
    first = question.axis.origin + question.max_gap
    usable = (before.state != NO_STATE) & (first <= before.at) & (before.at <= question.as_of)
    since_look = np.where(usable, before.at, question.as_of)
    # What is joined to the time before the window, and what the look before said of that time.
    spoken, spoken_since, down_for, spoken_sure = _spoken(
        found, before, usable, first, _down_after(parts, since_look)
    )
    since = _milliseconds(found.since)
    reaches_back = found.since == NO_INSTANT
    goes_on = usable & (before.state == found.state) & (before.since <= first)
    since_sure = ~reaches_back | goes_on
    since = np.where(reaches_back & goes_on, before.since, since)
    by_stretch = (found.state == _UP) | (found.state == _DOWN)
    since = np.where(by_stretch, spoken_since, since)
    newest, silent_for, silent_sure = _silence(known, found, before, usable, since_look)
    return Stood(
        Standing(
            np.full(known.stores, question.as_of),
            found.state,
            since,
            spoken,
            spoken_since,
            np.minimum(down_for, LONGEST_TOLD + 1),
            newest,
            np.minimum(silent_for, LONGEST_TOLD + 1),
        ),
        spoken_sure & np.where(by_stretch, True, since_sure) & silent_sure,
    )


def _spoken(
    found: States, before: Standing, usable: Flags, first: int, down_after: Ints
) -> tuple[Ints, Ints, Ints, Flags]:
    """The last stretch: its state, its begin, its downtime, and whether they are known.

    A stretch of the look before goes on if it began before the window and the window has no other.
    """
    goes_on = usable & (before.spoken_since <= first)
    silent = found.spoken == NO_STATE
    from_before = (
        goes_on & (found.spoken_since == NO_INSTANT) & (silent | (found.spoken == before.spoken))
    )
    begin = np.where(from_before, before.spoken_since, _milliseconds(found.spoken_since))
    down_for = np.where(from_before, before.down_for + down_after, found.down_for // PER_MS)
    return (
        np.where(from_before, before.spoken, found.spoken),
        begin,
        down_for,
        from_before | (found.spoken_since != NO_INSTANT),
    )


def _silence(
    known: Seen, found: States, before: Standing, usable: Flags, since_look: Ints
) -> tuple[Ints, Ints, Flags]:
    """The newest poll, the counted time since it, and whether they are known."""
    axis, counted = known.axis, known.counted
    stores = np.arange(known.stores)
    instant = found.newest_poll >> 1
    on_axis = instant >= axis.origin
    # An older poll than those that were read can only be the one that was known.
    is_older = before.newest_poll >> 1 < axis.origin
    same = (
        usable
        & is_older
        & ((found.newest_poll == NO_INSTANT) | (instant == before.newest_poll >> 1))
    )
    newest = np.where(
        same & (found.newest_poll == NO_INSTANT), before.newest_poll, found.newest_poll
    )
    after = counted.until(axis.position(stores, axis.end - 1)) - counted.until(
        axis.position(stores, since_look)
    )
    from_before = same & ~on_axis & (before.silent_for != NOT_KNOWN)
    silent_for = np.where(
        from_before, before.silent_for + after // PER_MS, found.silent_for // PER_MS
    )
    silent_for[newest == NO_INSTANT] = 0
    long_enough = (newest != NO_INSTANT) & (silent_for > LONGEST_TOLD)
    return newest, silent_for, on_axis | from_before | long_enough


def _down_after(parts: Timeline, instant: Ints) -> Ints:
    """Milliseconds of counted downtime of each store since an instant of its own."""
    down = parts.state == _DOWN
    store = parts.store[down]
    length = np.maximum(parts.end[down] - np.maximum(parts.start[down], PER_MS * instant[store]), 0)
    total = np.append(0, np.cumsum(length))
    ends = np.searchsorted(store, np.arange(len(instant)), side="right")
    down_for: Ints = np.diff(total[ends], prepend=0) // PER_MS
    return down_for


def _milliseconds(position: Ints) -> Ints:
    """Half-milliseconds, which by `previous` are whole ones; `NO_INSTANT` stays."""
    return np.where(position == NO_INSTANT, NO_INSTANT, position // PER_MS)


def nothing_known(stores: int) -> Standing:
    """Stores of which nothing is known."""
    none, zero = np.full(stores, NO_INSTANT), np.zeros(stores, dtype=np.int64)
    no_state = np.full(stores, NO_STATE)
    return Standing(zero, no_state, none, no_state, none, zero, none, np.full(stores, NOT_KNOWN))
