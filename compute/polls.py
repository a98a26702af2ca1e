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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

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
    midnight, words, count = _rows_in_order(midnight, words, count)
    return np.repeat(midnight, count) + words


def _rows_in_order(
    key: Ints, words: npt.NDArray[np.int32], count: Ints
) -> tuple[Ints, npt.NDArray[np.int32], Ints]:
    """Rows by a key, with their words and how many each has: the database promises no order."""
    if not np.any(key[1:] < key[:-1]):
        return key, words, count
    order = np.argsort(key)
    first = (np.cumsum(count) - count)[order]
    key, count = key[order], count[order]
    words = words[np.repeat(first - (np.cumsum(count) - count), count) + np.arange(len(words))]
    return key, words, count


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

    @property
    def polls(self) -> int:
        """How many polls there are."""
        return len(self.packed) // WORD.itemsize

    def only(self, keep: npt.NDArray[np.bool_]) -> "PollDays":
        """The rows to keep (bool[rows])."""
        if keep.all():
            return self
        words = np.frombuffer(self.packed, dtype=WORD)
        kept = words[np.repeat(keep, self.size // WORD.itemsize)]
        return PollDays(self.store[keep], self.day[keep], self.size[keep], kept.tobytes())

    def rows(self) -> tuple[list[int], list[int], list[bytes]]:
        """Stores, days and packed polls of each row."""
        end = np.cumsum(self.size)
        bounds = zip((end - self.size).tolist(), end.tolist(), strict=True)
        return (
            self.store.tolist(),
            self.day.tolist(),
            [self.packed[start:end] for start, end in bounds],
        )


def join_days(parts: Sequence[PollDays]) -> PollDays:
    """Rows of several, one after the other; of none, none."""
    if len(parts) == 1:
        return parts[0]
    none = np.empty(0, dtype=np.int64)
    return PollDays(
        np.concatenate([none, *(part.store for part in parts)]),
        np.concatenate([none, *(part.day for part in parts)]),
        np.concatenate([none, *(part.size for part in parts)]),
        b"".join([part.packed for part in parts]),
    )


def pack_polls(store: Ints, poll: Ints) -> PollDays:
    """Polls by store and day, in order, the last arrival of each store and millisecond.

    Args:
        store: int64[n], the store's number, in order of arrival
        poll: int64[n], milliseconds since 1970-01-01 UTC << 1 | active
    """
    return join_days(list(packed_slices(store, poll, max(1, len(poll)))))


def packed_slices(store: Ints, poll: Ints, size: int) -> Iterator[PollDays]:
    """The same, slice by slice: the rows of some stores, with about so many polls.

    The first slice takes longest: it waits until all polls are in order.
    """
    if not len(poll):
        yield _rows(store, poll)
        return
    # Sorting numbers is several times faster than finding an order, so store and poll become one
    # number where they fit into it.
    first_store, first_poll = int(store.min()), int(poll.min()) & ~1
    bits = (int(poll.max()) - first_poll).bit_length()
    if (int(store.max()) - first_store).bit_length() + bits < 64:
        both = store - first_store
        both <<= bits
        both |= poll - first_poll
        both.sort()
        other = both[1:] ^ both[:-1]  # 0: the same again; 1: another status for the same instant
        if not other.all():
            both = both[np.append(True, other != 0)]
        if not (other == 1).any():
            del other
            for start, end in _slices(both, size, bits):
                some = both[start:end]
                yield _rows((some >> bits) + first_store, (some & ((1 << bits) - 1)) + first_poll)
            return
        # Two statuses for one instant: which came last, the sorted numbers do not tell.
        del both, other
    order = _in_order(store, poll)
    store, poll = store[order], poll[order]
    last = ~np.append(_same_instant(store, poll), False)
    store, poll = store[last], poll[last]
    for start, end in _slices(store, size):
        yield _rows(store[start:end], poll[start:end])


def _slices(store: Ints, size: int, bits: int = 0) -> Iterator[tuple[int, int]]:
    """Where slices of about so many polls begin and end, between the polls of different stores.

    Args:
        store: int64[n], the store's number, ascending, above so many bits of something else
        size: of a slice
        bits: how many
    """
    last = store[size - 1 :: size] | ((1 << bits) - 1)
    ends = np.unique(np.append(np.searchsorted(store, last, side="right"), len(store)))
    yield from pairwise([0, *ends.tolist()])


def _in_order(store: Ints, poll: Ints) -> npt.NDArray[np.intp]:
    """Order by store and millisecond; those of one millisecond stay as they are."""
    return np.lexsort((poll >> 1, store))


def _same_instant(store: Ints, poll: Ints) -> npt.NDArray[np.bool_]:
    """Whether each poll but the last has the store and the millisecond of the next."""
    same: npt.NDArray[np.bool_] = (store[1:] == store[:-1]) & (poll[1:] >> 1 == poll[:-1] >> 1)
    return same


def _rows(store: Ints, poll: Ints) -> PollDays:
    """Rows of polls that are in order and distinct."""
    day = poll // (2 * DAY_MS)  # much faster than `divmod`
    word = poll - day * (2 * DAY_MS)
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
    """What became of polls that arrived.

    Attributes:
        days: stored and arrived polls together, a row for each store and day that anything arrived
            for
        changed: bool[rows], rows of `days` that differ from what was stored
        known: bool[rows], rows of `days` of which some poll was stored
        counts: int64[feeds, 3], for each feed its polls of an instant that had none, those whose
            status differs from the one before, and those that were there already
    """

    days: PollDays
    changed: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]
    counts: Ints


#: In the order of `Merged.counts`.
_NEW, _REPLACED, _UNCHANGED = range(3)
#: A row's number and a poll's millisecond of its day become one number.
_MS_BITS = 27


def merge_polls(
    stored: PollDays, store: Ints, poll: Ints, feed: Ints | None = None, feeds: int = 1
) -> Merged:
    """Polls that arrived, of one feed or of several, into the stored rows; an arrival replaces.

    What each feed is told is what it would be told if the feeds had come one after the other.

    Args:
        stored: rows of the stores and days that arrived, where there are any; in any order
        store: int64[n], the store's number, in order of arrival
        poll: int64[n], as `pack_polls` takes it
        feed: int64[n], which feed each is of, ascending; None: all are of one
        feeds: how many there are
    """
    if feed is None:
        feed = np.zeros(len(poll), dtype=np.int64)
    rows, key, active, feed = _arrivals(store, poll, feed)
    old_key, old_word, known = _stored_on(rows, stored)

    at = np.searchsorted(old_key, key)
    met = np.zeros(len(key), dtype=bool)
    inside = at < len(old_key)
    met[inside] = old_key[at[inside]] == key[inside]
    first = np.append(True, key[1:] != key[:-1])[: len(key)]
    last = np.append(key[1:] != key[:-1], True)[: len(key)]
    old_active = np.zeros(len(key), dtype=np.int64)
    old_active[met] = old_word[at[met]] & 1
    # Of an instant, the first arrival meets the stored poll, and each other one the one before it.
    before = np.where(first, old_active, np.append(0, active[:-1])[: len(key)])
    became = np.where(first & ~met, _NEW, np.where(active != before, _REPLACED, _UNCHANGED))
    counts = np.bincount(3 * feed + became, minlength=3 * feeds).reshape(feeds, 3)

    row, word = key >> _MS_BITS, (key & ((1 << _MS_BITS) - 1)) << 1 | active
    added, kept = last & ~met, last & met
    differs = added | (kept & (active != old_active))
    merged = old_word.copy()
    merged[at[kept]] = word[kept]
    size = np.bincount(old_key >> _MS_BITS, minlength=len(rows))
    size += np.bincount(row[added], minlength=len(rows))
    changed = np.zeros(len(rows), dtype=bool)
    changed[row[differs]] = True
    day = rows.astype(np.int32).astype(np.int64)
    return Merged(
        PollDays(
            store=(rows - day) >> 32,
            day=day,
            size=size * WORD.itemsize,
            packed=np.insert(merged, at[added], word[added]).astype(WORD, copy=False).tobytes(),
        ),
        changed,
        known,
        counts,
    )


def _arrivals(store: Ints, poll: Ints, feed: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Arrivals in order of store and instant; of one feed's polls of an instant, the last alone.

    Returns:
        the rows that they belong to, int64[rows], store << 32 + day, ascending; and of each poll
        its key, row << _MS_BITS | millisecond of the day, its status and its feed
    """
    if not _are_distinct_and_ascend(store, poll):
        order = _in_order(store, poll)
        store, poll, feed = store[order], poll[order], feed[order]
        again = _same_instant(store, poll) & (feed[1:] == feed[:-1])
        keep = np.append(~again, True)[: len(poll)]
        store, poll, feed = store[keep], poll[keep], feed[keep]
    day, word = np.divmod(poll, 2 * DAY_MS)
    row_key = (store << 32) + day
    begins = np.append(True, row_key[1:] != row_key[:-1])[: len(poll)]
    row = np.cumsum(begins) - 1
    return row_key[begins], (row << _MS_BITS) + (word >> 1), word & 1, feed


def _are_distinct_and_ascend(store: Ints, poll: Ints) -> bool:
    above = store[1:] > store[:-1]
    return bool((above | ((store[1:] == store[:-1]) & (poll[1:] >> 1 > poll[:-1] >> 1))).all())


def _stored_on(
    rows: Ints, stored: PollDays
) -> tuple[Ints, npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Stored polls in the order of the rows that something arrived for.

    Returns:
        the key of each poll, ascending, as `_arrivals` makes them; its word; and bool[rows],
        whether a row has any
    """
    row = np.searchsorted(rows, (stored.store << 32) + stored.day)
    words = np.frombuffer(stored.packed, dtype=WORD)
    row, words, count = _rows_in_order(row, words, stored.size // WORD.itemsize)
    known = np.zeros(len(rows), dtype=bool)
    known[row] = True
    return (np.repeat(row, count) << _MS_BITS) + (words >> 1), words, known


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
