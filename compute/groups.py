"""Stores by groups: those that share the values of some tags, and what they have together.

Workers hand back the parts of each batch of stores, and `GroupSums` adds them to the groups of the
report, many stores at a time: a batch has hardly two of one group. A store without a tag is in the
group of its empty value; `timezone` stands for the zone that a store is computed in. Seconds are
added first and divided once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from compute.axis import AnyInts, Ints
from compute.feed_values import tag_key_problem
from compute.store_tags import NO_VALUE, TagColumn
from compute.targets import ALLOWED, ALLOWED_REST, MET, MISSED, SCALE, UNKNOWN, USED
from compute.uptime import Totals

#: Stands among keys of tags for the zone that a store is computed in.
TIMEZONE = "timezone"
MOST_KEYS = 3
MOST_GROUPS = 100_000
#: Rows of all groups and windows: a sheet of a spreadsheet has 1,048,576.
MOST_ROWS = 1_000_000
#: Stores that are told of each group and window.
MOST_WORST = 3
#: A store among those of a group with the most downtime is one number, the greatest the worst: its
#: downtime, which has 37 bits in the longest window, above a number that sinks with its place.
_PLACE_BITS = 26
_LAST_PLACE = (1 << _PLACE_BITS) - 1
#: Ids of stores that were among the worst of some group, of which the rest is let go.
_IDS_KEPT = 200_000
#: Windows of stores that are added at a time, and of groups that are told at a time.
_ADDED_AT_ONCE, _ROWS_AT_ONCE = 200_000, 2_000
#: What is added up of a store and window: up, down, unknown, excluded, then what
#: `compute.targets.judged` has.
_TIMES, _SUMS = 4, 10


class GroupsRefused(ValueError):  # noqa: N818 - read by a person as a sentence
    """A report cannot be by these groups; the message says why."""


def check_keys(keys: Sequence[str]) -> None:
    """Check by what a report is to be grouped.

    Raises:
        GroupsRefused: it cannot be; the message continues a sentence that begins with the option
    """
    for key in keys:
        if problem := tag_key_problem(key):
            raise GroupsRefused(f"has {key[:80]!r}, which {problem}")
    if len(set(keys)) < len(keys):
        raise GroupsRefused("names a tag twice")
    if not 0 < len(keys) <= MOST_KEYS:
        raise GroupsRefused(f"names {len(keys)} tags: 1 to {MOST_KEYS} are allowed")


class StoreDown(NamedTuple):
    """A store with downtime.

    Attributes:
        store_id: its id
        up: half-milliseconds
        down: half-milliseconds
    """

    store_id: str
    up: int
    down: int


class Group(NamedTuple):
    """Stores that share some values. All lists are by window, amounts in half-milliseconds.

    Attributes:
        values: that they share, in the order of the keys; empty: they have no such tag
        stores: how many they are
        up: their uptime
        down: their downtime
        unknown: their unknown time
        excluded: their excluded time
        met: stores that met their target
        missed: stores that missed it
        without: stores that have a target but of which nothing is known
        used: downtime of the stores that have a target
        allowed: downtime that their targets allow them, in hundred-millionths
        worst: those with the most downtime, worst first
    """

    values: tuple[str, ...]
    stores: int
    up: list[int]
    down: list[int]
    unknown: list[int]
    excluded: list[int]
    met: list[int]
    missed: list[int]
    without: list[int]
    used: list[int]
    allowed: list[int]
    worst: list[list[StoreDown]]


class GroupColumns(NamedTuple):
    """Groups of a report in byte order of their values, column by column.

    Attributes:
        values: of each group, in the order of the keys
        stores: int64[groups]
        totals: int64[groups, windows, 10 + 2 * MOST_WORST], up, down, unknown and excluded,
            half-milliseconds; what `compute.targets.judged` has; then up and down of each of the
            stores with the most downtime, worst first, 0 and 0: there are no more
        worst_ids: the same stores' UTF-8 ids, joined
        worst_id_size: int64[groups, windows * MOST_WORST], bytes of each; 0: there are no more
    """

    values: list[tuple[str, ...]]
    stores: Ints
    totals: Ints
    worst_ids: bytes
    worst_id_size: Ints

    def groups(self) -> list[Group]:
        """The same, group by group."""
        end = np.cumsum(self.worst_id_size)
        bounds = zip((end - self.worst_id_size.ravel()).tolist(), end.tolist(), strict=True)
        ids = [self.worst_ids[begin:until].decode() for begin, until in bounds]
        size = self.worst_id_size.shape[1]
        rows = zip(self.values, self.stores.tolist(), self.totals.tolist(), strict=True)
        return [
            group_of(*row, ids[size * at : size * (at + 1)])  # of all windows
            for at, row in enumerate(rows)
        ]


def group_of(
    values: Sequence[str], stores: int, totals: Sequence[Sequence[int]], worst_ids: Sequence[str]
) -> Group:
    """A group, of what `GroupColumns` has of it; `worst_ids`: '' where there are no more."""
    columns = [list(column) for column in zip(*totals, strict=True)]
    judged, worst = columns[_TIMES:_SUMS], columns[_SUMS:]
    return Group(
        values=tuple(values),
        stores=stores,
        up=columns[0],
        down=columns[1],
        unknown=columns[2],
        excluded=columns[3],
        met=judged[MET],
        missed=judged[MISSED],
        without=judged[UNKNOWN],
        used=judged[USED],
        allowed=[
            whole * SCALE + rest
            for whole, rest in zip(judged[ALLOWED], judged[ALLOWED_REST], strict=True)
        ],
        worst=[
            [
                StoreDown(worst_ids[MOST_WORST * window + rank], up[window], down[window])
                for rank, (up, down) in enumerate(zip(worst[::2], worst[1::2], strict=True))
                if down[window]
            ]
            for window in range(len(totals))
        ],
    )


@dataclass(frozen=True)
class GroupParts:
    """What groups are made of: a batch of stores, as `GroupSums` takes it.

    Attributes:
        values: of each key the values that there are, each once
        which: of each key int[stores], index into its values, or `NO_VALUE`
        sums: int32 or int64[n, windows, stores], the first of what `GroupColumns` has of groups:
            10, or 4 where no store has a target
        store_ids: UTF-8 ids, joined
        id_size: int64[stores], bytes of each id
    """

    values: list[tuple[str, ...]]
    which: list[AnyInts]
    sums: AnyInts
    store_ids: bytes
    id_size: Ints


def store_parts(
    keys: Sequence[str],
    tags: Mapping[str, TagColumn],
    zone: TagColumn,
    totals: Totals,
    judged: Ints | None,
    *,
    store_ids: bytes,
    id_size: Ints,
) -> GroupParts:
    """What groups are made of.

    Args:
        keys: of the tags whose values the stores of a group share, or `TIMEZONE`
        tags: of the stores, by their keys
        zone: that the stores are computed in
        totals: of the same stores
        judged: of the same stores, from `compute.targets.judged`; None: none has a target
        store_ids: UTF-8 ids of the same stores, joined
        id_size: int64[stores], bytes of each id
    """
    none = TagColumn((), np.full(len(totals.up), NO_VALUE, dtype=np.int32))
    columns = [zone if key == TIMEZONE else tags.get(key, none) for key in keys]
    times = (totals.up, totals.down, totals.unknown, totals.excluded)
    sums = np.stack([part.T for part in times])
    if judged is not None:
        sums = np.concatenate([sums, judged])
    small = sums.max(initial=0) <= np.iinfo(np.int32).max
    return GroupParts(
        [column.values for column in columns],
        [column.index for column in columns],
        sums.astype(np.int32) if small else sums,
        store_ids,
        id_size,
    )


class GroupSums:
    """The groups of a report, to which its batches of stores are added in their order.

    Args:
        keys: how many tags the stores of a group share
        windows: how many the report has
    """

    def __init__(self, keys: int, windows: int) -> None:
        self._windows = windows
        # Values are numbered as they come, key by key, and groups by the numbers of their values.
        self._codes: list[dict[str, int]] = [{} for _ in range(keys)]
        self._numbers: dict[tuple[int, ...], int] = {}
        self._waiting: list[_Waiting] = []
        self._waiting_stores = 0
        self._ids = b""
        self._id_end = np.zeros(1, dtype=np.int64)
        self._let_go_at = _IDS_KEPT
        self._stores = np.zeros(0, dtype=np.int64)
        self._sums = np.zeros((_SUMS, windows, 0), dtype=np.int64)
        self._worst = np.zeros((windows, MOST_WORST, 0), dtype=np.int64)
        self._worst_up = np.zeros((windows, MOST_WORST, 0), dtype=np.int64)

    def add(self, parts: GroupParts) -> None:
        """Add the batch that follows.

        Raises:
            GroupsRefused: there are too many groups by now
        """
        code = np.empty((len(self._codes), len(parts.id_size)), dtype=np.int32)
        for row, codes, values, which in zip(
            code, self._codes, parts.values, parts.which, strict=True
        ):
            # What has no value is -1, which is the last: the empty one.
            told = [codes.setdefault(value, len(codes)) for value in (*values, "")]
            row[:] = np.array(told, dtype=np.int32)[which]
        self._waiting.append(_Waiting(code, parts))
        self._waiting_stores += len(parts.id_size)
        if self._waiting_stores * self._windows >= _ADDED_AT_ONCE:
            self.add_up()

    def add_up(self) -> None:
        """Add the stores that wait until there are many.

        Raises:
            GroupsRefused: there are too many groups by now
        """
        if not self._waiting_stores:
            return
        waiting, self._waiting, self._waiting_stores = self._waiting, [], 0
        order, first, group = self._grouped(np.concatenate([one.code for one in waiting], axis=1))
        count = np.diff(first, append=len(order))
        self._grow(len(self._numbers))
        self._stores[group] += count

        parts = max(len(one.parts.sums) for one in waiting)
        batches = [_with_zeros(one.parts.sums, parts) for one in waiting]
        up_and_down: list[Ints] = []
        for part in range(parts):  # one by one, so that each fits into the cache of a core
            sums = np.concatenate([of_batch[part] for of_batch in batches], axis=1)
            sums = np.take(sums, order, axis=1).astype(np.int64, copy=False)
            self._sums[part][:, group] += np.add.reduceat(sums, first, axis=1)
            if len(up_and_down) < 2:
                up_and_down.append(sums)

        before = len(self._id_end) - 1
        self._ids += b"".join(one.parts.store_ids for one in waiting)
        sizes = np.concatenate([one.parts.id_size for one in waiting])
        self._id_end = np.append(self._id_end, self._id_end[-1] + np.cumsum(sizes))
        self._add_worst(up_and_down[0], up_and_down[1], before + order, first, count, group)
        if len(self._id_end) > self._let_go_at:
            self._let_go()

    def columns(self) -> Iterator[GroupColumns]:
        """All groups, in byte order of their values, some at a time.

        Raises:
            GroupsRefused: there are too many
        """
        self.add_up()
        values, in_order = self._in_order()
        size = max(1, _ROWS_AT_ONCE // self._windows)
        for begin in range(0, len(values), size):
            number = in_order[begin : begin + size]
            worst = self._worst[..., number].transpose(2, 0, 1)
            worst_up = self._worst_up[..., number].transpose(2, 0, 1)
            there = worst > 0
            place = _places(worst[there])
            id_size = np.zeros(worst.shape, dtype=np.int64)
            id_size[there] = self._id_end[place + 1] - self._id_end[place]
            told = np.stack([worst_up, worst >> _PLACE_BITS], axis=3)
            shape = (len(number), self._windows, -1)
            yield GroupColumns(
                values=values[begin : begin + size],
                stores=self._stores[number],
                totals=np.concatenate([self._sums[..., number].T, told.reshape(shape)], axis=2),
                worst_ids=b"".join(self._ids_at(place)),
                worst_id_size=id_size.reshape(len(number), -1),
            )

    def _in_order(self) -> tuple[list[tuple[str, ...]], Ints]:
        """The values of all groups in byte order, and their numbers."""
        codes = np.array(list(self._numbers), dtype=np.int64).reshape(-1, len(self._codes))
        texts, ranks = [], []
        for of_key, numbers in zip(codes.T, self._codes, strict=True):
            values = list(numbers)
            rank = np.empty(len(values), dtype=np.int64)
            # As texts they have the order that they have as bytes.
            rank[sorted(range(len(values)), key=values.__getitem__)] = np.arange(len(values))
            texts.append(values)
            ranks.append(rank[of_key])
        order = np.lexsort(ranks[::-1])
        columns = (
            [values[code] for code in of_key]
            for values, of_key in zip(texts, codes[order].T.tolist(), strict=True)
        )
        return list(zip(*columns, strict=True)), order

    def _check(self) -> None:
        groups = len(self._numbers)
        if groups > MOST_GROUPS:
            raise GroupsRefused(
                f"the tags that the report is grouped by make more than {MOST_GROUPS:,} groups: "
                "group by others, or limit the report to some stores"
            )
        if groups * self._windows > MOST_ROWS:
            raise GroupsRefused(
                f"the report has more than {MOST_ROWS:,} rows of groups, one for each group and "
                "window: ask for fewer windows, or group by other tags"
            )

    def _grouped(self, code: AnyInts) -> tuple[Ints, Ints, Ints]:
        """Stores in the order of their groups.

        Args:
            code: int32[keys, stores], numbers of their values

        Returns:
            the stores, those of a group together and in their order; where each group begins among
            them; its number
        """
        sizes = [len(codes) for codes in self._codes]
        together = code[0].astype(np.int64)
        for of_key, size in zip(code[1:], sizes[1:], strict=True):
            together = together * size + of_key  # below 2**63: a key has few more than MOST_GROUPS
        # Numbers of two bytes, which those of most reports are, are sorted many times as fast.
        together = together.astype(np.min_scalar_type(prod(sizes)))
        order = np.argsort(together, kind="stable")
        together = together[order]
        first = np.flatnonzero(np.append(True, together[1:] != together[:-1]))
        found = zip(*code[:, order[first]].tolist(), strict=True)
        numbers = self._numbers
        group = np.array([numbers.setdefault(codes, len(numbers)) for codes in found])
        self._check()
        return order, first, group

    def _add_worst(
        self, up: Ints, down: Ints, place: Ints, first: Ints, count: Ints, group: Ints
    ) -> None:
        """Keep the worst stores of each group and window.

        Args:
            up: int64[windows, stores], of stores in the order of their groups
            down: the same
            place: int64[stores], of their ids
            first: int64[groups], where each group begins
            count: int64[groups], its stores
            group: int64[groups], its number
        """
        for window in range(self._windows):
            told = (down[window] << _PLACE_BITS) | (_LAST_PLACE - place)
            left = np.where(down[window] > 0, told, 0)
            worst = np.zeros((2 * MOST_WORST, len(group)), dtype=np.int64)
            worst_up = np.zeros_like(worst)
            worst[:MOST_WORST] = self._worst[window][:, group]
            worst_up[:MOST_WORST] = self._worst_up[window][:, group]
            for rank in range(MOST_WORST, 2 * MOST_WORST):
                worst[rank] = np.maximum.reduceat(left, first)
                # No two are the same: it is one of each group that has any left.
                at = np.flatnonzero((left == np.repeat(worst[rank], count)) & (left > 0))
                worst_up[rank, worst[rank] > 0] = up[window, at]
                left[at] = 0
            ranks = np.argsort(-worst, axis=0)[:MOST_WORST]
            self._worst[window][:, group] = np.take_along_axis(worst, ranks, axis=0)
            self._worst_up[window][:, group] = np.take_along_axis(worst_up, ranks, axis=0)

    def _grow(self, groups: int) -> None:
        """Make room for so many groups."""
        if groups <= len(self._stores):
            return
        more = max(groups, 2 * len(self._stores)) - len(self._stores)

        def grown(array: Ints) -> Ints:
            none = np.zeros((*array.shape[:-1], more), dtype=np.int64)
            return np.concatenate([array, none], axis=-1)

        self._stores, self._sums = grown(self._stores), grown(self._sums)
        self._worst, self._worst_up = grown(self._worst), grown(self._worst_up)

    def _let_go(self) -> None:
        """Forget the ids of stores that are not among the worst any more."""
        needed = np.zeros(len(self._id_end) - 1, dtype=bool)
        needed[_places(self._worst[self._worst > 0])] = True
        places = np.flatnonzero(needed)
        place = (np.cumsum(needed) - 1)[_places(self._worst)]
        told = (self._worst & ~_LAST_PLACE) | (_LAST_PLACE - place)
        self._worst = np.where(self._worst > 0, told, 0)
        ids = self._ids_at(places)
        self._ids = b"".join(ids)
        self._id_end = np.cumsum([0, *map(len, ids)])
        self._let_go_at = max(_IDS_KEPT, 2 * len(ids))

    def _ids_at(self, places: Ints) -> list[bytes]:
        ends = zip(self._id_end[places].tolist(), self._id_end[places + 1].tolist(), strict=True)
        return [self._ids[begin:end] for begin, end in ends]


class _Waiting(NamedTuple):
    """A batch of stores that is not added yet.

    Attributes:
        code: int32[keys, stores], the numbers of their values
        parts: of the same stores
    """

    code: AnyInts
    parts: GroupParts


def _with_zeros(sums: AnyInts, parts: int) -> AnyInts:
    """The sums of a batch without targets, beside others that have them."""
    missing = parts - len(sums)
    return np.pad(sums, [(0, missing), (0, 0), (0, 0)]) if missing else sums


def _places(worst: Ints) -> Ints:
    """The places in numbers of stores; of 0 it is 0."""
    return np.where(worst > 0, _LAST_PLACE - (worst & _LAST_PLACE), 0)
