"""The outages of many stores: batches of them through the workers, in byte order of their ids.

Most outages begin not long before the window that they are asked for, so little of the time before
it is read. Where one has no beginning there, its store is looked at again, as far back as the
outages of a single store are: both tell the same.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import asyncpg
import numpy as np

from compute.axis import DAY_MS, PER_MS, Ints
from compute.batch import Question
from compute.outages import (
    LOOK_BACK_MS,
    NO_OUTAGES,
    Outages,
    Together,
    concatenated,
    far_back,
    joined_in_order,
    near_back,
    outages_in,
    question_about,
    together,
)
from compute.packed_rows import PackedTexts
from compute.store_tags import NO_VALUE, tag_columns
from compute.windows import Window, widest
from service.outages.one_store import MOST_POLLS
from service.stores.batches import known_zones, read_batch
from service.stores.known import batch_of, read_stores
from service.stores.polls import count_polls_of_each
from service.stores.selection import Selection
from service.stores.snapshot import Snapshot, StoreColumns, Stretch, snapshot
from service.workers.pool import Workers
from service.workers.stream import stream

#: How many lists and statistics an instance makes at the same time, and connections for them.
LISTS_AT_ONCE = 2
CONNECTIONS = 3 * LISTS_AT_ONCE
#: When a page that is not full stops: days of stores that were looked at, and seconds.
_DAYS_OF_PAGE, _SECONDS_OF_PAGE = 500_000, 5.0
#: Days of stores that statistics may look at.
MOST_DAYS = 1_000_000
#: Values of a tag that statistics are told by.
MOST_VALUES = 1000
#: Batches that are read, computed and waiting at the same time: a page is full soon.
_IN_FLIGHT = 4
#: Polls of stores that are looked at again that are read at a time.
_POLLS_AT_ONCE = 1_000_000
_FAR_DAYS = LOOK_BACK_MS // DAY_MS
_NOBODY = np.empty(0, dtype=np.int64)
_NONE = Outages(*[_NOBODY] * 5)


class TooMuchAsked(Exception):  # noqa: N818 - its message is for who asked
    """More would have to be looked at than one request may; the message says how much, of what."""


class TooManyValues(Exception):  # noqa: N818 - its name says all
    """The stores have more than `MOST_VALUES` values of a tag."""


@dataclass(frozen=True)
class Asked:
    """Which outages are asked for.

    Attributes:
        window: that they reach into
        as_of: up to when is looked, milliseconds since 1970-01-01 UTC
        max_gap: for how long an observation speaks, milliseconds
        stores: of which stores
        shortest: how long they are at least, milliseconds
        only_open: whether only those that are open
    """

    window: Window
    as_of: int
    max_gap: int
    stores: Selection
    shortest: int = 0
    only_open: bool = False

    @property
    def near(self) -> Question:
        """What all stores are looked at for."""
        return self._question(near_back(self.as_of, self._first))

    @property
    def far(self) -> Question:
        """What stores are looked at for of which a beginning is missing."""
        return self._question(far_back(self.as_of, self._first))

    @property
    def _first(self) -> int:
        return widest(self.window, self.as_of)[0]

    def _question(self, look_back: int) -> Question:
        return question_about(self.as_of, self.max_gap, look_back)

    def of_these(self, found: Outages) -> Outages:
        """Those of some outages that are long enough and, if so asked, open."""
        keep = found.length >= PER_MS * self.shortest
        return found.only(keep & found.is_open if self.only_open else keep)


class Batch(NamedTuple):
    """A page of stores, and their outages that are asked for.

    Attributes:
        page: the stores
        found: of them
        days: of stores that were looked at
    """

    page: StoreColumns
    found: Outages
    days: int


class Place(NamedTuple):
    """Where a list goes on.

    Attributes:
        store_id: with outages of this store, or of the next
        begin: with those that begin after it, half-milliseconds since 1970-01-01 UTC or
            `NO_INSTANT`; None: of the next store
    """

    store_id: str
    begin: int | None


@dataclass
class Page:
    """Some outages, in byte order of their stores' ids and as they begin.

    Attributes:
        store_id: of each, the id of its store
        name: of each, what its store is called; None: nothing
        number: of each, its store's number in the database
        found: the outages; their `store` means nothing here
        goes_on: where the next page does; None: there is none
    """

    store_id: list[str]
    name: list[str | None]
    number: list[int]
    found: Outages
    goes_on: Place | None


async def list_outages(
    pool: asyncpg.Pool, workers: Workers, asked: Asked, size: int, place: Place | None = None
) -> Page:
    """A page of outages. It is not full where that takes too long: then it goes on nevertheless.

    Args:
        pool: the database, of which it takes three connections
        workers: compute them
        asked: which ones
        size: how many at most
        place: where the page before ended; None: from the first store on

    Raises:
        WorkerDied: a batch killed its worker, even when it ran alone
        ZoneUnknown: the tz database lacks the zone of one of the stores
    """
    deadline = time.monotonic() + _SECONDS_OF_PAGE
    parts = [_NONE]
    store_ids: list[str] = []
    names: list[str | None] = []
    numbers: list[int] = []
    spent = 0
    goes_on: Place | None = None

    def take(batch: Batch) -> bool:
        nonlocal spent, goes_on
        page, found = batch.page, batch.found
        ids = PackedTexts(page.store_ids, page.id_size).each(len(page.id))
        called = PackedTexts(page.names, page.names_size).each(len(page.id))
        if place is not None and place.begin is not None and ids[0].decode() == place.store_id:
            found = found.only((found.store > 0) | (found.begin > place.begin))
        room = size - len(numbers)
        taken = found.only(np.arange(len(found.store)) < room)
        parts.append(taken)
        stores = taken.store.tolist()
        store_ids.extend(ids[store].decode() for store in stores)
        names.extend(called[store].decode() or None for store in stores)
        numbers.extend(page.id[taken.store].tolist())
        spent += batch.days
        if len(found.store) > room:
            if room:  # else it goes on after the batch before
                goes_on = Place(store_ids[-1], int(taken.begin[-1]))
            return False
        goes_on = Place(ids[-1].decode(), None)
        return spent < _DAYS_OF_PAGE and time.monotonic() < deadline

    if await _read(pool, workers, asked, take, place):
        goes_on = None
    return Page(store_ids, names, numbers, concatenated(*parts), goes_on)


@dataclass
class Statistics:
    """Outages of stores together.

    Attributes:
        stores: how many stores they are
        together: of all of them
        by: value of a tag → stores that have it, and their outages; empty: of those without one
    """

    stores: int = 0
    together: Together = NO_OUTAGES
    by: dict[str, tuple[int, Together]] = field(default_factory=dict)


async def outage_statistics(
    pool: asyncpg.Pool, workers: Workers, asked: Asked, by: str | None = None
) -> Statistics:
    """What the outages of stores have together.

    Args:
        pool: the database, of which it takes three connections
        workers: compute them
        asked: which ones
        by: key of a tag by whose values they are also told; None: of none

    Raises:
        TooMuchAsked: they are too many stores, over too many days
        TooManyValues: the tag has too many values
        WorkerDied: a batch killed its worker, even when it ran alone
        ZoneUnknown: the tz database lacks the zone of one of the stores
    """
    told = Statistics()
    spent = 0

    def take(batch: Batch) -> bool:
        nonlocal spent
        spent += batch.days
        if spent > MOST_DAYS:
            raise TooMuchAsked(
                f"takes more than {MOST_DAYS} days of stores to look at, as many stores have been "
                "down for long"
            )
        told.stores += len(batch.page.id)
        told.together += together(batch.found)
        if by is not None:
            _add_values(told, batch, by)
        return True

    await _read(pool, workers, asked, take, most_days=MOST_DAYS)
    return told


def _add_values(told: Statistics, batch: Batch, key: str) -> None:
    """Add a batch to the statistics by the values of a tag."""
    page, found = batch.page, batch.found
    stores = len(page.id)
    column = tag_columns(PackedTexts(page.tags, page.tags_size), stores).get(key)
    index = np.full(stores, NO_VALUE) if column is None else column.index
    values = () if column is None else column.values
    for value in np.unique(index).tolist():
        of_stores, of_found = told.by.get(
            text := "" if value == NO_VALUE else values[value], (0, NO_OUTAGES)
        )
        some = together(found.only(index[found.store] == value))
        told.by[text] = (of_stores + int((index == value).sum()), of_found + some)
    if len(told.by) > MOST_VALUES:
        raise TooManyValues


async def _read(
    pool: asyncpg.Pool,
    workers: Workers,
    asked: Asked,
    take: Callable[[Batch], bool],
    place: Place | None = None,
    most_days: int | None = None,
) -> bool:
    """Give batch after batch to `take` until it has enough; whether it got all there are.

    Raises:
        TooMuchAsked: the stores and the days that are looked at anyway are more than `most_days`
    """
    near, far = asked.near, asked.far
    days = sum(last - first + 1 for first, last in near.day_ranges)
    wants_more = True
    async with snapshot(pool) as stored:
        if most_days is not None:
            stores = await stored.count_stores(asked.stores)
            if stores * days > most_days:
                raise TooMuchAsked(
                    f"takes {stores} stores over {days} days to look at (some before the window "
                    f"are), more than {most_days} days of stores"
                )
        zones = await known_zones(stored, asked.stores)
        excluded = await stored.exclusions_between(*near.stretch)
        after, itself = ("", False) if place is None else (place.store_id, place.begin is not None)
        # Any of them may have to be looked at again, as far back as can be.
        stretch = Stretch(after, None, itself)
        pages = stored.pages(asked.stores, days + _FAR_DAYS, stretch)

        async def wanted() -> AsyncIterator[StoreColumns]:
            async with aclosing(pages):
                async for page in pages:
                    if not wants_more:
                        return
                    yield page

        async def found(page: StoreColumns) -> Batch:
            batch = await read_batch(stored, page, zones, near, excluded)
            outages = await workers.run(outages_in, batch, near, asked.window)
            unknown = ~outages.begun & (outages.is_open if asked.only_open else True)
            again = np.unique(outages.store[unknown]) if near != far else _NOBODY
            if len(again):
                outages = await _looked_at_again(stored, workers, asked, page, again, outages)
            spent = len(page.id) * days + len(again) * _FAR_DAYS
            return Batch(page, asked.of_these(outages), spent)

        async def write(batch: Batch) -> float:
            nonlocal wants_more
            if wants_more:  # else it was read ahead
                wants_more = await asyncio.to_thread(take, batch)
            return len(batch.page.id)

        await stream(workers, wanted(), found, write, _IN_FLIGHT)
    return wants_more


async def _looked_at_again(
    stored: Snapshot,
    workers: Workers,
    asked: Asked,
    page: StoreColumns,
    again: Ints,
    found: Outages,
) -> Outages:
    """Outages of a page with those of some of its stores as they are known far back.

    Stores with too many polls keep those that they have.

    Args:
        stored: where to read
        workers: compute them
        asked: which ones
        page: the stores
        again: int64[n], the places of those in the page that are looked at again
        found: of all stores of the page, from near
    """
    far = asked.far
    ids = PackedTexts(page.store_ids, page.id_size).each(len(page.id))
    async with stored.reader() as reader:
        polls = await count_polls_of_each(reader, page.id[again].tolist(), far.day_ranges)
    for places in _pieces(again, [polls.get(number, 0) for number in page.id[again].tolist()]):
        async with stored.reader() as reader:
            stores = await read_stores(reader, [ids[place].decode() for place in places])
            batch = await batch_of(reader, stores, far)
        of_these = await workers.run(outages_in, batch, far, asked.window)
        of_these = replace(of_these, store=np.array(places)[of_these.store])
        found = joined_in_order(found.only(~np.isin(found.store, places)), of_these)
    return found


def _pieces(places: Ints, polls: list[int]) -> Iterator[list[int]]:
    """Places of stores in pieces with not too many polls; without those that have too many."""
    piece: list[int] = []
    together = 0
    for place, count in zip(places.tolist(), polls, strict=True):
        if count > MOST_POLLS:
            continue
        if piece and together + count > _POLLS_AT_ONCE:
            yield piece
            piece, together = [], 0
        piece.append(place)
        together += count
    if piece:
        yield piece
