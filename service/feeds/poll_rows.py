"""Rows of `poll_day` as a large feed writes them: its polls, merged with those that are stored."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import asyncpg
import numpy as np
import numpy.typing as npt

from compute.axis import DAY_MS, Ints
from compute.instants import instant_of
from compute.polls import PollDays, merge_polls, packed_slices, unpack_polls
from service.feeds.storing import patiently
from service.stores.packed import from_array_send
from service.stores.polls import copy_polls, poll_days

#: About how many polls are packed together.
_SLICE = 250_000

Flags = npt.NDArray[np.bool_]


class ArrivedPolls:
    """Polls of some stores, which begin to be packed at once, while the database does other work.

    Args:
        stores: how many
        store: int64[n], index of each poll's store, in order of arrival
        poll: int64[n], as `pack_polls` takes it
    """

    def __init__(self, stores: int, store: Ints, poll: Ints) -> None:
        self._stores, self._store, self._poll = stores, store, poll
        self._begun: _Packing | None = self._begin()

    @cached_property
    def newest(self) -> int:
        """The newest of them."""
        return int(self._poll.max())

    @cached_property
    def oldest(self) -> tuple[int, int]:
        """The oldest of them: index of its store, and itself."""
        at = int(self._poll.argmin())
        return int(self._store[at]), int(self._poll[at])

    @property
    def days(self) -> tuple[int, int]:
        """The first and the last, days since 1970-01-01."""
        return self.oldest[1] // (2 * DAY_MS), self.newest // (2 * DAY_MS)

    @property
    def stores(self) -> Ints:
        """Indexes of the stores that have any."""
        return np.flatnonzero(np.bincount(self._store, minlength=self._stores))

    async def packed(self, number: Ints) -> AsyncIterator[PollDays]:
        """All of them, some stores after the other; the next ones are packed meanwhile.

        Args:
            number: int64[stores], the stores' numbers in the database, in the order of their ids
        """
        slices, ahead = self._begun or self._begin()
        self._begun = None
        while (days := await ahead) is not None:
            ahead = _next(slices)
            yield replace(days, store=number[days.store])

    def _begin(self) -> "_Packing":
        slices = packed_slices(self._store, self._poll, _SLICE)
        return _Packing(slices, _next(slices))


class _Packing(NamedTuple):
    slices: Iterator[PollDays]
    ahead: "asyncio.Task[PollDays | None]"


def _next(slices: Iterator[PollDays]) -> "asyncio.Task[PollDays | None]":
    return asyncio.create_task(asyncio.to_thread(next, slices, None))


async def write_polls(connection: asyncpg.Connection, number: Ints, arrived: ArrivedPolls) -> Ints:
    """Merge polls of some stores with those that are stored.

    Args:
        connection: in a transaction of `storing`
        number: int64[stores], the stores' numbers in the database, in the order of their ids
        arrived: their polls

    Returns:
        int64[3], how many were new, replaced and unchanged
    """
    if not await _is_any_stored(connection, number[arrived.stores], *arrived.days):
        copied = await _copy(connection, arrived.packed(number))
        if copied is not None:
            return np.array([copied, 0, 0])
    counts = np.zeros(3, dtype=np.int64)
    async for days in arrived.packed(number):
        counts += await _add_or_merge(connection, days)
    return counts


async def _is_any_stored(
    connection: asyncpg.Connection, stores: Ints, first_day: int, last_day: int
) -> bool:
    """Whether anything is stored of some stores from one day to another."""
    is_any: bool = await connection.fetchval(
        """
        select exists (
            select from unnest($1::integer[]) as arrived (store)
            cross join lateral (
                select from poll_day
                where poll_day.store = arrived.store and day between $2 and $3 limit 1
            ) as stored
        )
        """,
        stores.tolist(),
        first_day,
        last_day,
    )
    return is_any


async def _copy(connection: asyncpg.Connection, rows: AsyncIterator[PollDays]) -> int | None:
    """Add rows as they are packed: the fastest way, for which none may be stored.

    Returns:
        polls; None: another transaction has added one of the rows, so nothing was added
    """
    polls = 0

    async def counted() -> AsyncIterator[PollDays]:
        nonlocal polls
        async for days in rows:
            polls += days.polls
            yield days

    await connection.execute("savepoint copying")
    try:
        await copy_polls(connection, counted())
    except (asyncpg.UniqueViolationError, asyncpg.LockNotAvailableError):
        await connection.execute("rollback to copying")
        return None
    await connection.execute("release copying")
    return polls


async def _add_or_merge(connection: asyncpg.Connection, arrived: PollDays) -> Ints:
    """Add the rows that there are not yet, and merge the others.

    Returns:
        int64[3], how many polls were new, replaced and unchanged
    """
    added = await _add_or_lock(connection, arrived)
    counts = np.array([arrived.only(added).polls, 0, 0])
    if not added.all():
        counts += await _merge(connection, arrived.only(~added))
    return counts


async def _add_or_lock(connection: asyncpg.Connection, arrived: PollDays) -> Flags:
    """Add the rows that there are not yet, and lock the others, all in one order.

    Returns:
        bool[rows], which were added
    """
    added = await patiently(
        connection,
        # Rows for which the condition is false are locked all the same.
        """
        with added as (
            insert into poll_day (store, day, polls)
            select * from unnest($1::integer[], $2::integer[], $3::bytea[])
            on conflict (store, day) do update set polls = excluded.polls where false
            returning (store::bigint << 32) + day as store_day
        )
        select array_send(array_agg(store_day)) from added
        """,
        *arrived.rows(),
    )
    keys = (arrived.store << 32) + arrived.day
    is_added: Flags = np.isin(keys, from_array_send(added, ">i8"))
    return is_added


async def _merge(connection: asyncpg.Connection, arrived: PollDays) -> Ints:
    """Merge polls into rows that are locked.

    Returns:
        int64[3], how many were new, replaced and unchanged
    """
    stored = poll_days(
        await connection.fetchrow(
            """
            select string_agg(polls, '') as polls,
                   array_send(array_agg((store::bigint << 32) + day)) as store_day,
                   array_send(array_agg(length(polls))) as size
            from unnest($1::integer[], $2::integer[]) as arrived (store, day)
            cross join lateral (
                select polls from poll_day
                where poll_day.store = arrived.store and poll_day.day = arrived.day
                    and poll_day.day between $3 and $4  -- no other partition is looked at
                limit 1  -- so that it is no join, for which many partitions lead to a bad plan
            ) as stored
            """,
            arrived.store.tolist(),
            arrived.day.tolist(),
            int(arrived.day.min()),
            int(arrived.day.max()),
        )
    )
    merged = await asyncio.to_thread(merge_polls, stored, *unpack_polls(arrived))
    await connection.execute(
        # An `update` would be a join, for which outdated statistics may lead to a bad plan.
        """
        insert into poll_day (store, day, polls)
        select * from unnest($1::integer[], $2::integer[], $3::bytea[])
        on conflict (store, day) do update set polls = excluded.polls
        """,
        *merged.days.only(merged.changed).rows(),
    )
    counts: Ints = merged.counts[0]
    return counts


async def note_newest(connection: asyncpg.Connection, poll: int) -> None:
    """Note the newest poll of those that a transaction adds."""
    await connection.execute("select note_newest_poll($1)", instant_of(poll >> 1))
