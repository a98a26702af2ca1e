"""Outages: what the `previous` timeline says of a store that was down, with closing times joined.

An outage is a longest stretch of `down` in which nothing but `closed` and `excluded` lies between:
a store that is down in the evening and still so in the morning has one outage, not two. `unknown`
ends it as `up` does.

How far back is looked has a bound. What had begun before it has no beginning here: where only
`closed` and `excluded` lie between that bound and an outage, it may be the rest of an older one.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from compute.axis import DAY_MS, PER_MS, Ints
from compute.batch import Question, Seen, StoreBatch, seen
from compute.timeline import STATES, Timeline, segments
from compute.windows import Window

Flags: TypeAlias = npt.NDArray[np.bool_]

#: How far back is looked by whoever wants to know beginnings, milliseconds: as far as a window may
#: begin before `as_of`.
LOOK_BACK_MS = 400 * DAY_MS
#: How far before the time that matters is looked first, milliseconds: most beginnings lie there.
NEAR_MS = 8 * DAY_MS
#: In place of an instant: there is none.
NO_INSTANT = np.iinfo(np.int64).min
_CLOSED, _EXCLUDED, _DOWN, _UP = (
    STATES.index(state) for state in ("closed", "excluded", "down", "up")
)


@dataclass(frozen=True)
class Stretches:
    """Stretches of `unknown`, `down` and `up`, joined over what is `closed` and `excluded`.

    Neighbours of one store differ in state.

    Attributes:
        store: int64[n], index of each stretch's store in its batch, ascending
        begin: int64[n], half-milliseconds since 1970-01-01 UTC; or `NO_INSTANT`: it is the first of
            its store, and may have begun before what was looked at
        end: int64[n], the first instant after it, the same
        length: int64[n], half-milliseconds of counted time in it
        state: int64[n], index into `compute.timeline.STATES`
        then: int64[n], state of the next one of the store; or -1: there is none, so nothing but
            `closed` and `excluded` follows, up to `as_of`
    """

    store: Ints
    begin: Ints
    end: Ints
    length: Ints
    state: Ints
    then: Ints


@dataclass(frozen=True)
class Outages:
    """Outages of some stores, in order within each.

    Attributes:
        store: int64[n], index of each outage's store in its batch, ascending
        begin: int64[n], half-milliseconds since 1970-01-01 UTC, its first instant of `down`; or
            `NO_INSTANT`: it may have begun before what was looked at
        end: int64[n], where its last `down` ends, the same
        length: int64[n], half-milliseconds of counted time that are down in it; of one without
            `begin`, as far as was looked
        then: int64[n], index into `compute.timeline.STATES`: `up`, or `unknown`, by which it ends;
            or -1: it is open, as nothing but `closed` and `excluded` follows, up to `as_of`
    """

    store: Ints
    begin: Ints
    end: Ints
    length: Ints
    then: Ints

    def only(self, keep: Flags) -> "Outages":
        """The outages to keep (bool[n])."""
        return Outages(
            self.store[keep], self.begin[keep], self.end[keep], self.length[keep], self.then[keep]
        )

    @property
    def is_open(self) -> Flags:
        """bool[n], whether each goes on: nothing but closing has come after it."""
        goes_on: Flags = self.then < 0
        return goes_on

    @property
    def restored(self) -> Flags:
        """bool[n], whether the store was up after each."""
        up: Flags = self.then == _UP
        return up

    @property
    def begun(self) -> Flags:
        """bool[n], whether the beginning of each is known."""
        known: Flags = self.begin != NO_INSTANT
        return known


@dataclass(frozen=True)
class Together:
    """Some outages together. Lengths are half-milliseconds.

    Attributes:
        number: how many there are
        open: how many of them are open
        longest: length of the longest; 0: there is none
        length: of all
        restored: how many were restored and have a known beginning
        restored_length: of those
    """

    number: int = 0
    open: int = 0
    longest: int = 0
    length: int = 0
    restored: int = 0
    restored_length: int = 0

    def __add__(self, other: "Together") -> "Together":
        return Together(
            self.number + other.number,
            self.open + other.open,
            max(self.longest, other.longest),
            self.length + other.length,
            self.restored + other.restored,
            self.restored_length + other.restored_length,
        )


NO_OUTAGES = Together()


def together(found: Outages) -> Together:
    """What outages have together."""
    restored = found.length[found.restored & found.begun]
    return Together(
        number=len(found.store),
        open=int(found.is_open.sum()),
        longest=int(found.length.max(initial=0)),
        length=int(found.length.sum()),
        restored=len(restored),
        restored_length=int(restored.sum()),
    )


def question_about(as_of: int, max_gap: int, look_back: int) -> Question:
    """What has to be read to know states at `as_of`, and the outages before it.

    Args:
        as_of: milliseconds since 1970-01-01 UTC
        max_gap: for how long an observation speaks, milliseconds
        look_back: how far before `as_of` is looked, milliseconds, above 0
    """
    window = Window("looked_at", "looked_at", instants=(as_of - look_back, as_of))
    return Question(as_of, "previous", max_gap, windows=(window,))


def far_back(as_of: int, first: int) -> int:
    """How far before `as_of` is looked for the beginnings of outages, milliseconds.

    Args:
        as_of: milliseconds since 1970-01-01 UTC
        first: from when on outages matter, the same, at or before `as_of`
    """
    return max(LOOK_BACK_MS, as_of - first)


def near_back(as_of: int, first: int) -> int:
    """The same where most beginnings lie, or where there are too many polls to look further."""
    return min(as_of - first + NEAR_MS, far_back(as_of, first))


def past(known: Seen) -> Timeline:
    """The timeline of the question's window and of the instant `as_of` itself.

    What begins at `as_of` is a segment without length, the last of its store.
    """
    axis = known.axis
    as_of = axis.end - 1
    stores = np.arange(known.stores)
    # The axis begins where observations begin to speak into the window. By `previous` everything
    # changes at whole milliseconds: half a one more holds `as_of`, and nothing else.
    first = axis.position(stores, axis.origin + axis.reach)
    parts = segments(known, first, axis.position(stores, as_of) + 1)
    end = np.minimum(parts.end, PER_MS * as_of)
    return Timeline(parts.store, parts.start, end, parts.state)


def joined(parts: Timeline) -> Stretches:
    """The stretches of a timeline that ends with `as_of`."""
    spoken = np.flatnonzero((parts.state != _CLOSED) & (parts.state != _EXCLUDED))
    store, state = parts.store[spoken], parts.state[spoken]
    start, end = parts.start[spoken], parts.end[spoken]
    other_store = store[1:] != store[:-1]
    begins = np.append(True, other_store | (state[1:] != state[:-1]))[: len(spoken)]
    ends = np.append(begins[1:], True)[: len(spoken)]
    is_first = np.append(True, other_store)[: len(spoken)][begins]
    is_last = np.append(other_store, True)[: len(spoken)][ends]
    following = np.append(state[begins][1:], -1)[: len(is_last)]
    total = np.append(0, np.cumsum(end - start))
    return Stretches(
        store=store[begins],
        begin=np.where(is_first, NO_INSTANT, start[begins]),
        end=end[ends],
        length=total[1:][ends] - total[:-1][begins],
        state=state[begins],
        then=np.where(is_last, -1, following),
    )


def outages(batch: StoreBatch, question: Question) -> Outages:
    """The outages of each store of a batch, up to `as_of`.

    Args:
        batch: the stores, with the polls of the question's days
        question: as `question_about` makes it
    """
    found = joined(past(seen(batch, question)))
    down = found.state == _DOWN
    return Outages(
        store=found.store[down],
        begin=found.begin[down],
        end=found.end[down],
        length=found.length[down],
        then=found.then[down],
    )


def touching(found: Outages, bounds: Ints, as_of: int) -> Flags:
    """Which outages reach into a window of their stores.

    An open one reaches up to `as_of`, also where its store is closed since. One that begins at the
    end of the window is in it if that is `as_of`: it is there now.

    Args:
        found: outages up to `as_of`
        bounds: int64[stores, 2], from and to of each store's window, half open, milliseconds since
            1970-01-01 UTC, not after `as_of`
        as_of: milliseconds since 1970-01-01 UTC

    Returns:
        bool[n]
    """
    first, last = PER_MS * bounds[found.store].T
    inside = (found.end > first) | found.is_open
    inside &= found.begin < last + (last == PER_MS * as_of)
    reaching: Flags = inside & (first < last)
    return reaching


def outages_in(batch: StoreBatch, question: Question, window: Window) -> Outages:
    """Those outages of each store of a batch that reach into a window, each as a whole.

    Args:
        batch: the stores, with the polls of the question's days
        question: as `question_about` makes it
        window: in each store's own zone, if it is one by dates; it lies in what is looked at
    """
    found = outages(batch, question)
    bounds = replace(question, windows=(window,)).bounds(batch.zone, batch.zone_names)[0]
    return found.only(touching(found, bounds, question.as_of))


def concatenated(*parts: Outages) -> Outages:
    """The outages of several lists, one list after the other."""
    columns = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("store", "begin", "end", "length", "then")
    )
    return Outages(*columns)


def joined_in_order(one: Outages, other: Outages) -> Outages:
    """The outages of two lists of a batch with no store in common, in the order of the stores."""
    both = concatenated(one, other)
    order = np.argsort(both.store, kind="stable")
    return Outages(
        both.store[order], both.begin[order], both.end[order], both.length[order], both.then[order]
    )
