"""The outages of a single store, and the one that an id means."""

import asyncio
from typing import NamedTuple

import asyncpg
import numpy as np

from compute.axis import PER_MS
from compute.batch import Question
from compute.outages import (
    LOOK_BACK_MS,
    NEAR_MS,
    Outages,
    far_back,
    near_back,
    outages,
    question_about,
)
from service.outages.ids import OutageId
from service.stores.known import KnownStore, batch_of_store
from service.stores.polls import count_polls

#: Polls that are read of a store for its beginnings: of 400 days, one every 17 seconds.
MOST_POLLS = 2_000_000
#: Of an outage of long ago the time up to so long after its anchor is looked at, milliseconds.
_AFTER_MS = LOOK_BACK_MS // 2


class TooManyPolls(Exception):  # noqa: N818 - its attribute says all
    """There are too many polls to look at.

    Attributes:
        polls: how many
    """

    def __init__(self, polls: int) -> None:
        super().__init__(polls)
        self.polls = polls


async def outages_of(
    pool: asyncpg.Pool, store: KnownStore, as_of: int, max_gap: int, first: int
) -> Outages:
    """The outages of a store up to an instant, with the beginnings that lie in 400 days before it.

    Of a store with more than `MOST_POLLS` in that time only a few days before `first` are looked
    at, as of the stores in `service.outages.all_stores`.

    Args:
        pool: the database
        store: which
        as_of: milliseconds since 1970-01-01 UTC
        max_gap: for how long an observation speaks, milliseconds
        first: from when on they matter, the same, before `as_of`

    Raises:
        TooManyPolls: there are too many from a few days before `first` on
        ZoneUnknown: the tz database lacks the store's zone
    """
    question = question_about(as_of, max_gap, far_back(as_of, first))
    if await _polls(pool, store, question) > MOST_POLLS:
        question = question_about(as_of, max_gap, near_back(as_of, first))
        if (polls := await _polls(pool, store, question)) > MOST_POLLS:
            raise TooManyPolls(polls)
    batch = await batch_of_store(pool, store, question)
    return await asyncio.to_thread(outages, batch, question)


async def _polls(pool: asyncpg.Pool, store: KnownStore, question: Question) -> int:
    return await count_polls(pool, store.number, question.day_ranges)


class Held(NamedTuple):
    """The outage that an id means.

    Attributes:
        asked: the id
        store: of the outage
        outage: that alone
        as_of: up to when was looked, milliseconds since 1970-01-01 UTC
    """

    asked: OutageId
    store: KnownStore
    outage: Outages
    as_of: int


async def outage_of(
    pool: asyncpg.Pool, store: KnownStore, asked: OutageId, as_of: int, max_gap: int
) -> Held | None:
    """The outage that an id means, as it is known at an instant; None: there is none.

    Args:
        pool: the database
        store: that the id names
        asked: the id
        as_of: milliseconds since 1970-01-01 UTC
        max_gap: for how long an observation speaks, milliseconds

    Raises:
        TooManyPolls: there are too many from a few days before the anchor on
        ZoneUnknown: the tz database lacks the store's zone
    """
    if asked.anchor > as_of:
        return None
    found = await outages_of(pool, store, as_of, max_gap, asked.anchor)
    held = found.only(
        (found.begin <= PER_MS * asked.anchor)
        & (PER_MS * asked.anchor < np.maximum(found.end, found.begin + PER_MS))
    )
    return Held(asked, store, held, as_of) if len(held.store) else None


def looked_at_from(asked: OutageId, now: int) -> int:
    """As of when an outage is told unless somebody says so, milliseconds since 1970-01-01 UTC.

    That is now, if the anchor lies in the time that can be looked at from there.
    """
    return now if now - asked.anchor <= LOOK_BACK_MS - NEAR_MS else asked.anchor + _AFTER_MS
