"""Reads stores in pages, and has computed how they stand: near first, then as far as needed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from compute.axis import DAY_MS, Ints
from compute.batch import StoreBatch
from compute.outages import LOOK_BACK_MS, NO_INSTANT, question_about
from compute.packed_rows import NO_TEXTS
from compute.standing import Flags, Standing, Stood, nothing_known, stand
from compute.states import NO_STATE
from compute.timeline import STATES
from compute.zones import DEFAULT_TIMEZONE, zone_names
from service.states.table import ALL_DAYS, SOME_DAYS, Known
from service.stores.batches import read_batch
from service.stores.selection import Selection
from service.stores.snapshot import ALL, Snapshot, StoreColumns
from service.workers.pool import Workers
from service.workers.stream import stream

#: How far back is looked at stores of which the first look does not tell enough, milliseconds.
FAR_MS = 8 * DAY_MS
#: Stores of one look that are looked at as far back as anything is, and those of a batch of them.
_DEEP, _DEEP_BATCH = 128, 8
#: Stores that are named in one query.
_NAMED = 4096
#: So few stores with so few polls are not worth the way to a worker.
_FEW_STORES, _FEW_BYTES = 256, 400_000
_DOWN = STATES.index("down")


@dataclass
class Seen:
    """What one look has found.

    Attributes:
        store: int64[n], numbers of the stores
        standing: of each
        sure: bool[n]
        left_out: int64[m], stores that cannot be looked at
        names: ids of those that need a deeper look, by number
    """

    store: Ints
    standing: Standing
    sure: Flags
    left_out: Ints
    names: dict[int, str]


class Eyes:
    """Reads stores in pages, and has computed how they stand.

    Args:
        stored: all stores
        workers: compute
        known: how they stood; awaited when it is wanted, again and again
        as_of: milliseconds since 1970-01-01 UTC
        max_gap: milliseconds
        near: how far back is looked first, milliseconds
    """

    def __init__(
        self,
        stored: Snapshot,
        workers: Workers,
        known: Awaitable[Known],
        as_of: int,
        max_gap: int,
        near: int,
    ) -> None:
        self._stored, self._workers, self._known = stored, workers, known
        self._as_of, self._max_gap, self._near = as_of, max_gap, near
        self._zones: dict[int, str] = {}
        self._lacking: list[int] = []

    async def open(self) -> list[str]:
        """Get ready; names of zones that the tz database lacks, and that stores are in."""
        zones = await self._stored.zone_names()
        lacking = [number for number, name in zones.items() if name not in zone_names()]
        lost = {one.name for one in await self._stored.stores_in(lacking)} if lacking else set()
        self._lacking = [number for number in lacking if zones[number] in lost]
        # Computed as if they were there, and left out then.
        self._zones = zones | dict.fromkeys(lacking, DEFAULT_TIMEZONE)
        return sorted(lost)

    async def at_all(self, *, from_scratch: bool) -> tuple[Seen, Ints]:
        """All stores, and how far back was looked at each.

        Args:
            from_scratch: whether what was known counts only for what lies more than `FAR_MS` back
        """
        near = await self._look(self._near, [ALL], go_on=not from_scratch)
        return await self._farther(near, set())

    async def at_some(self, earliest: Mapping[str, int]) -> tuple[Seen, Ints]:
        """The same of some stores whose polls have come.

        Args:
            earliest: id → instant of the earliest of its polls, milliseconds since 1970-01-01 UTC
        """
        late = sorted(
            one for one, instant in earliest.items() if instant < self._as_of - self._near
        )
        soon = sorted(set(earliest).difference(late))
        near = await self._look(self._near, _named(soon, _NAMED))
        if not late:
            return await self._farther(near, set())
        again = await self._look(self._near, _named(late, _NAMED), go_on=False)
        older = {one for one in late if earliest[one] < self._as_of - FAR_MS}
        numbers = {number for number, name in again.names.items() if name in older}
        return await self._farther(_joined([near, again]), numbers)

    async def _farther(self, near: Seen, doubtful: set[int]) -> tuple[Seen, Ints]:
        """Look farther back at stores of which a look does not tell enough.

        Args:
            near: what it tells
            doubtful: numbers of stores of which also what was known farther back may be wrong
        """
        seen = near
        unsure = ~seen.sure
        if unsure.any():
            names = sorted(seen.names[store] for store in seen.store[unsure].tolist())
            seen = _put(seen, await self._look(FAR_MS, _named(names, _NAMED)))
        known = (await self._known).of(seen.store)
        now = seen.standing
        whole = (
            (now.since != NO_INSTANT)
            & (now.newest_poll != NO_INSTANT)
            & ((now.spoken == NO_STATE) | (now.spoken_since != NO_INSTANT))
        )
        enough = seen.sure & (whole | (known.depth == ALL_DAYS))
        enough &= ~(unsure & np.isin(seen.store, list(doubtful)))
        depth = np.where(enough, ALL_DAYS, SOME_DAYS)
        wanted = np.flatnonzero(~enough)
        # Those that are down first: for how long matters most.
        urgent = 2 * ~seen.sure[wanted] + (now.spoken[wanted] == _DOWN)
        wanted = wanted[np.argsort(-urgent, kind="stable")]
        names = [seen.names[store] for store in seen.store[wanted].tolist() if store in seen.names][
            :_DEEP
        ]
        if names:
            deep = await self._look(LOOK_BACK_MS, _named(sorted(names), _DEEP_BATCH), go_on=False)
            seen = _put(seen, deep)
            depth[np.searchsorted(seen.store, deep.store)] = ALL_DAYS
        return seen, depth

    async def _look(
        self, look_back: int, wanted: Sequence[Selection], *, go_on: bool = True
    ) -> Seen:
        """Look at stores.

        Args:
            look_back: how far, milliseconds
            wanted: the stores, some at a time; none of them twice
            go_on: whether what was known counts
        """
        question = question_about(self._as_of, self._max_gap, look_back)
        days = sum(last - first + 1 for first, last in question.day_ranges)
        excluded = await self._stored.exclusions_between(*question.stretch)
        parts: list[Seen] = []
        deep = 0  # those that are sure, but not looked at as far as they could be

        async def pages() -> AsyncIterator[StoreColumns]:
            for some in wanted:
                async for page in self._stored.pages(some, days, described=False):
                    yield page

        async def compute(page: StoreColumns) -> tuple[StoreColumns, Known, Stood]:
            batch = await read_batch(self._stored, page, self._zones, question, excluded)
            batch = _only_times(batch)
            known = (await self._known).of(page.id)
            before = known.to_go_on if go_on else nothing_known(len(page.id))
            if len(page.id) <= _FEW_STORES and len(batch.polls) <= _FEW_BYTES:
                stood = await asyncio.to_thread(stand, batch, question, before)
            else:
                stood = await self._workers.run(stand, batch, question, before)
            return page, known, stood

        async def write(computed: tuple[StoreColumns, Known, Stood]) -> float:
            nonlocal deep
            page, known, stood = computed
            kept = ~np.isin(page.timezone, self._lacking)
            deeper = np.flatnonzero(kept & ~stood.sure)
            shallow = np.flatnonzero(kept & stood.sure & (known.depth != ALL_DAYS))
            shallow = shallow[: max(0, _DEEP - deep)]
            deep += len(shallow)
            parts.append(
                Seen(
                    page.id[kept],
                    stood.now.of(kept),
                    stood.sure[kept],
                    page.id[~kept],
                    _names(page, np.concatenate([deeper, shallow])),
                )
            )
            return 0

        await stream(self._workers, pages(), compute, write)
        return _joined(parts)


def _only_times(batch: StoreBatch) -> StoreBatch:
    """A batch without what a look has no use for, and a worker would be sent."""
    return replace(batch, names=NO_TEXTS, tags=NO_TEXTS, targets=np.empty(0, dtype=np.int64))


def _names(page: StoreColumns, places: Ints) -> dict[int, str]:
    """Ids of some stores of a page, by their numbers."""
    if not len(places):
        return {}
    spans = list(pairwise([0, *np.cumsum(page.id_size).tolist()]))
    return {
        int(page.id[place]): page.store_ids[slice(*spans[place])].decode()
        for place in places.tolist()
    }


def _named(store_ids: Sequence[str], at_once: int) -> list[Selection]:
    """Stores by their ids, some at a time."""
    return [
        Selection(tuple(store_ids[first : first + at_once]))
        for first in range(0, len(store_ids), at_once)
    ]


def _joined(parts: Sequence[Seen]) -> Seen:
    """What was found of several batches of different stores, in the order of their numbers."""
    none = np.empty(0, dtype=np.int64)
    store = np.concatenate([none, *(part.store for part in parts)])
    order = np.argsort(store)
    return Seen(
        store[order],
        Standing.joined([part.standing for part in parts]).of(order),
        np.concatenate([np.empty(0, dtype=bool), *(part.sure for part in parts)])[order],
        np.unique(np.concatenate([none, *(part.left_out for part in parts)])),
        {store: name for part in parts for store, name in part.names.items()},
    )


def _put(seen: Seen, deeper: Seen) -> Seen:
    """What was found, with what a deeper look has found of some of the stores."""
    place = np.searchsorted(seen.store, deeper.store)
    sure = seen.sure.copy()
    sure[place] = deeper.sure
    return replace(
        seen,
        standing=seen.standing.with_rows(place, deeper.standing),
        sure=sure,
        names=seen.names | deeper.names,
    )
