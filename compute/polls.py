"""Packed polls ↔ arrays; of two polls of one store and millisecond, the later arrival counts.

A poll is one number on its whole way, under three names, each for one form of it:

- `poll`, int64: milliseconds since 1970-01-01 UTC << 1 | active. Everything that has the instant
  of a poll and its status in one number, in Python and in arrays, calls it so.
- `word`, little-endian int4: the same since midnight UTC of the poll's day. This is the packed
  form, in which the database keeps a day's polls of a store as a row of words in ascending order.
  Apart from its last bit a word is half-milliseconds, so the kernel only adds the day to it.
- `value`, int64: whatever a row of any feed says, as `feed_rows` and the spool carry it without
  knowing what it means. The value of a row of polls is its `poll`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compute.axis import DAY_MS, Axis, Ints

#: A packed poll.
WORD = np.dtype("<i4")


def observed_positions(axis: Axis, packed: bytes, store: Ints, day: Ints, size: Ints) -> Ints:
    """Polls on an axis, each with its status in the last bit.

    Positions of polls are even, so `position | active` keeps both in one number and in order.

    Args:
        axis: the one that the positions are on
        packed: packed polls of all rows, joined
        store: int64[rows], index of each row's store in its batch
        day: int64[rows], days since 1970-01-01
        size: int64[rows], bytes of each row

    Returns:
        int64[polls], ascending
    """
    words = np.frombuffer(packed, dtype=WORD)
    count = size // WORD.itemsize
    midnight = axis.position(store, day * DAY_MS)
    if np.any(midnight[1:] < midnight[:-1]):  # the database promises no order within a page
        order = np.argsort(midnight)
        first = (np.cumsum(count) - count)[order]
        midnight, count = midnight[order], count[order]
        words = words[np.repeat(first - (np.cumsum(count) - count), count) + np.arange(len(words))]
    return np.repeat(midnight, count) + words


@dataclass(frozen=True)
class PollDays:
    """Polls of some stores, one row per store and UTC day, as the database keeps them.

    Attributes:
        store: int64[rows], the store's number in the database
        day: int64[rows], days since 1970-01-01; rows ascend by (store, day)
        size: int64[rows], bytes of each row
        packed: packed polls of all rows, joined
    """

    store: Ints
    day: Ints
    size: Ints
    packed: bytes

    def rows(self, keep: npt.NDArray[np.bool_]) -> tuple[list[int], list[int], list[bytes]]:
        """Stores, days and packed polls of the rows to keep (bool[rows])."""
        end = np.cumsum(self.size)
        bounds = zip((end - self.size)[keep].tolist(), end[keep].tolist(), strict=True)
        return (
            self.store[keep].tolist(),
            self.day[keep].tolist(),
            [self.packed[start:end] for start, end in bounds],
        )


def pack_polls(store: Ints, poll: Ints) -> PollDays:
    """Polls by store and day, in order, the last arrival of each store and millisecond.

    Args:
        store: int64[n], the store's number, in order of arrival
        poll: int64[n], milliseconds since 1970-01-01 UTC << 1 | active
    """
    if not len(poll):
        return _rows(store, poll)
    # Sorting numbers is several times faster than finding an order, so store and poll become one
    # number where they fit into it.
    first_store, first_poll = int(store.min()), int(poll.min()) & ~1
    polls_per_store = (int(poll.max()) - first_poll + 2) & ~1
    if (int(store.max()) - first_store + 1) * polls_per_store < 1 << 63:
        both = np.sort((store - first_store) * polls_per_store + (poll - first_poll))
        both = both[np.append(True, both[1:] != both[:-1])]
        if not (both[1:] >> 1 == both[:-1] >> 1).any():
            store, poll = np.divmod(both, polls_per_store)
            return _rows(store + first_store, poll + first_poll)
        # Two statuses for one instant: which came last, the sorted numbers do not tell.
    order = _in_order(store, poll)
    store, poll = store[order], poll[order]
    last = ~np.append(_same_instant(store, poll), False)
    return _rows(store[last], poll[last])


def _in_order(store: Ints, poll: Ints) -> npt.NDArray[np.intp]:
    """Order by store and millisecond; those of one millisecond stay as they are."""
    return np.lexsort((poll >> 1, store))


def _same_instant(store: Ints, poll: Ints) -> npt.NDArray[np.bool_]:
    """Whether each poll but the last has the store and the millisecond of the next."""
    same: npt.NDArray[np.bool_] = (store[1:] == store[:-1]) & (poll[1:] >> 1 == poll[:-1] >> 1)
    return same


def _rows(store: Ints, poll: Ints) -> PollDays:
    """Rows of polls that are in order and distinct."""
    day, word = np.divmod(poll, 2 * DAY_MS)
    first = np.append(True, (store[1:] != store[:-1]) | (day[1:] != day[:-1]))[: len(poll)]
    starts = np.flatnonzero(first)
    return PollDays(
        store=store[starts],
        day=day[starts],
        size=np.diff(np.append(starts, len(poll))) * WORD.itemsize,
        packed=word.astype(WORD).tobytes(),
    )


@dataclass(frozen=True)
class Merged:
    """What became of arrived polls.

    Attributes:
        days: stored and arrived polls together
        changed: bool[rows], rows of `days` that differ from what was stored
        known: bool[rows], rows of `days` of which some poll was stored
        new: polls of an instant that had none
        replaced: polls whose status differs from the one stored
        unchanged: polls that were there already
    """

    days: PollDays
    changed: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]
    new: int
    replaced: int
    unchanged: int


def merge_polls(stored: PollDays, arrived: PollDays) -> Merged:
    """Arrived polls into the stored rows of the same stores and days; an arrival replaces.

    Args:
        stored: rows of the stores and days that arrived, where there are any
        arrived: packed by `pack_polls`
    """
    old_store, old_poll = unpack_polls(stored)
    new_store, new_poll = unpack_polls(arrived)
    if not len(old_poll):
        every = np.ones(len(arrived.store), dtype=bool)
        return Merged(arrived, every, ~every, new=len(new_poll), replaced=0, unchanged=0)
    store = np.concatenate([old_store, new_store])
    poll = np.concatenate([old_poll, new_poll])
    arrival = np.repeat([False, True], [len(old_poll), len(new_poll)])
    order = _in_order(store, poll)  # the stored poll before the one that arrived
    store, poll, arrival = store[order], poll[order], arrival[order]
    # Both sides are distinct, so an instant has one poll or a stored and an arrived one.
    met = np.append(False, _same_instant(store, poll))
    replaced = met & np.append(False, poll[1:] != poll[:-1])
    new = arrival & ~met
    last = ~np.append(met[1:], False)
    days = _rows(store[last], poll[last])
    row = np.repeat(np.arange(len(days.store)), days.size // WORD.itemsize)
    changed = np.zeros(len(days.store), dtype=bool)
    changed[row[(new | replaced)[last]]] = True
    return Merged(
        days,
        changed,
        np.isin((days.store << 32) + days.day, (stored.store << 32) + stored.day),
        new=int(new.sum()),
        replaced=int(replaced.sum()),
        unchanged=int(met.sum() - replaced.sum()),
    )


def polls_outside(days: PollDays, first: int, end: int) -> PollDays:
    """The polls that do not lie in a stretch of time; rows without one are left out.

    Args:
        days: rows of polls
        first: milliseconds since 1970-01-01 UTC
        end: the same, not included
    """
    store, poll = unpack_polls(days)
    outside = (poll >> 1 < first) | (poll >> 1 >= end)
    return _rows(store[outside], poll[outside])


def unpack_polls(days: PollDays) -> tuple[Ints, Ints]:
    """Store and poll (int64[n] each, as `pack_polls` takes them) of each poll."""
    count = days.size // WORD.itemsize
    words = np.frombuffer(days.packed, dtype=WORD)
    return np.repeat(days.store, count), np.repeat(days.day * (2 * DAY_MS), count) + words
