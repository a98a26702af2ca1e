"""One transaction that stores the polls of several small requests, as if one came after the other.

It never waits for a lock for long. Requests for a store and day that another transaction is writing
are left out, and so are later ones for what those are for, because the order of arrival counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, NamedTuple

import asyncpg
import numpy as np
import numpy.typing as npt

from compute.axis import DAY_MS, Ints
from compute.feed_rows import FeedRows
from compute.instants import instant_of
from compute.polls import WORD, PollDays, merge_polls
from service.database import locks
from service.feeds.history import KEPT, Ingested, Sender, note_load
from service.feeds.store_rows import numbers_of_stores

#: What becomes of a poll that is added.
_ONE_NEW = Ingested(rows=1, stores=1, new=1, replaced=0, unchanged=0)

Flags = npt.NDArray[np.bool_]

#: Of the connection. What is new may be new in another transaction too, which then has this long to
#: end; and rows are found by the indexes, whatever the planner takes the tables' sizes for. Plans
#: are made once: with partitions the planner would think those for each poll worth making, and they
#: take twice as long as all else.
SETTINGS = """
    set lock_timeout = '100ms';
    set enable_hashjoin = off; set enable_mergejoin = off; set enable_seqscan = off;
    set plan_cache_mode = force_generic_plan
"""
#: How often a group is begun again, because something was in its way.
_ATTEMPTS = 5

_BEGIN = f"begin; select pg_advisory_xact_lock_shared({locks.STORE_A_FEED:d})"


class PollRequest(NamedTuple):
    """Polls that are stored together, or not at all.

    Attributes:
        rows: good ones
        sender: who is noted to have sent them as a file; None: nobody
    """

    rows: FeedRows
    sender: Sender | None = None

    @property
    def single(self) -> tuple[str, int] | None:
        """Store and day of its poll, if it is one poll and nothing more."""
        if len(self.rows.value) != 1 or self.sender is not None:
            return None
        return self.rows.store_ids[0], int(self.rows.value[0]) // (2 * DAY_MS)


async def store_group(
    connection: asyncpg.Connection, group: Sequence[PollRequest]
) -> list[Ingested | None]:
    """Store the polls of some requests; they are durable when this returns.

    Args:
        connection: with SETTINGS, and not in a transaction; after an exception it may be in one
        group: in order of arrival

    Returns:
        what became of each; None: nothing yet, because another transaction is in its way
    """
    polls = _Polls.of(group)
    for _ in range(_ATTEMPTS):
        days, counts = None, None
        try:
            await connection.execute(_BEGIN)
            days = await _lock_days(connection, polls)
            if days.is_held.any():
                polls = polls.without(_must_wait(polls, days, days.is_held))
                days = days.of(polls)
            if len(polls.poll):
                counts = await _write(connection, polls, days)
        except asyncpg.LockNotAvailableError:
            # Polls are being deleted; or what is new here is new in another transaction, too.
            polls = polls.without(
                polls.request if days is None else await _new_elsewhere(connection, polls, days)
            )
        if counts is None:
            await connection.execute("rollback")
            if len(polls.poll):
                continue
            break
        done: list[Ingested | None] = [None] * len(group)
        told = counts.tolist()
        for request in np.unique(polls.request).tolist():
            rows = group[request].rows
            done[request] = Ingested(len(rows.value), len(rows.store_ids), *told[request])
        await _note(connection, group, done)
        await connection.execute("commit")
        return done
    return [None] * len(group)


async def append_polls(
    connection: asyncpg.Connection, group: Sequence[PollRequest]
) -> list[Ingested | None]:
    """Store single polls that are newer than all others of their stores and days, if there are any.

    Args:
        connection: as `store_group` takes it
        group: with a poll each, no two of one store and day

    Returns:
        what became of each; None: nothing, because it is not such a poll, or another transaction is
        in the way of some of them
    """
    if len(group) == 1:
        return [_ONE_NEW if await _store_one(connection, group[0]) else None]
    done: list[Ingested | None] = [None] * len(group)
    order = sorted(range(len(group)), key=lambda one: group[one].rows.store_ids[0])
    poll = np.array([group[one].rows.value[0] for one in order], dtype=np.int64)
    day = poll // (2 * DAY_MS)
    words = (poll - day * (2 * DAY_MS)).astype(WORD)
    try:
        added = await connection.fetchval(
            "select append_polls($1, $2, $3, $4, $5)",
            [group[one].rows.store_ids[0] for one in order],
            day.tolist(),
            [word.tobytes() for word in words],
            [instant_of(one) for one in (poll >> 1).tolist()],
            locks.STORE_A_FEED,
        )
    except asyncpg.LockNotAvailableError:
        return done
    for position in added or ():
        done[order[position - 1]] = _ONE_NEW
    return done


async def _store_one(connection: asyncpg.Connection, request: PollRequest) -> bool:
    """What the function `append_polls` does, for one poll: in a third of the time."""
    poll = int(request.rows.value[0])
    day, word = divmod(poll, 2 * DAY_MS)
    packed = word.to_bytes(WORD.itemsize, "little")
    row = request.rows.store_ids[0], day, packed, instant_of(poll >> 1), locks.STORE_A_FEED
    try:
        appended = await connection.fetchval(
            """
            with held as materialized (select pg_advisory_xact_lock_shared($5)), appended as (
                update poll_day set polls = poll_day.polls || $3
                from store cross join held
                where store.store_id = $1 and poll_day.store = store.id and poll_day.day = $2
                    and packed_int4(poll_day.polls, length(poll_day.polls) / 4 - 1) >> 1
                        < packed_int4($3, 0) >> 1
                returning true
            )
            select note_newest_poll($4) is not null from appended
            """,
            *row,
        )
        if appended is not None:
            return True
        added = await connection.fetchval(
            """
            with held as materialized (select pg_advisory_xact_lock_shared($5)), added as (
                insert into poll_day (store, day, polls)
                select store.id, $2, $3 from store cross join held where store.store_id = $1
                on conflict (store, day) do nothing
                returning true
            )
            select note_newest_poll($4) is not null from added
            """,
            *row,
        )
        return added is not None
    except (asyncpg.LockNotAvailableError, asyncpg.CheckViolationError):
        return False  # too old is said by whoever tries it with `store_group`


async def _note(
    connection: asyncpg.Connection, group: Sequence[PollRequest], done: Sequence[Ingested | None]
) -> None:
    """Note what came as files; of more than are kept, the last."""
    noted = [
        (request.sender, became)
        for request, became in zip(group, done, strict=True)
        if request.sender is not None and became is not None
    ]
    for sender, became in noted[-KEPT:]:
        await note_load(connection, "polls", sender, became)


@dataclass(frozen=True)
class _Polls:
    """Polls of some requests, in order of arrival.

    Attributes:
        store_ids: distinct, in their order
        store: int64[n], index into `store_ids`
        poll: int64[n], as `pack_polls` takes it
        request: int64[n], index of each poll's request in its group, ascending
    """

    store_ids: list[str]
    store: Ints
    poll: Ints
    request: Ints

    @classmethod
    def of(cls, group: Sequence[PollRequest]) -> "_Polls":
        """Those of a group."""
        store_ids = sorted({store_id for request in group for store_id in request.rows.store_ids})
        number = {store_id: index for index, store_id in enumerate(store_ids)}
        return cls(
            store_ids,
            np.concatenate(
                [
                    np.array([number[store_id] for store_id in rows.store_ids])[rows.store]
                    for rows, _ in group
                ]
            ),
            np.concatenate([rows.value for rows, _ in group]),
            np.repeat(np.arange(len(group)), [len(rows.value) for rows, _ in group]),
        )

    @property
    def store_day(self) -> Ints:
        """int64[n], store << 32 + day of each."""
        key: Ints = (self.store << 32) + self.poll // (2 * DAY_MS)
        return key

    def without(self, requests: Ints) -> "_Polls":
        """Those of other requests than these."""
        keep = ~np.isin(self.request, requests)
        return _Polls(self.store_ids, self.store[keep], self.poll[keep], self.request[keep])


@dataclass(frozen=True)
class _Days:
    """What is known of each store and day that polls arrived for, as store << 32 + day.

    Attributes:
        store_day: int64[rows], ascending
        number: int64[rows], the store's number in the database; 0: there is no such store
        polls: what is stored, and locked; None: nothing, or another transaction has it
        is_held: bool[rows], whether another transaction has it
        is_new: bool[rows], whether nothing is stored
    """

    store_day: Ints
    number: Ints
    polls: list[bytes | None]
    is_held: Flags
    is_new: Flags

    def of(self, polls: _Polls) -> "_Days":
        """Those of the stores and days of some polls."""
        keep = np.isin(self.store_day, polls.store_day)
        return _Days(
            self.store_day[keep],
            self.number[keep],
            list(compress(self.polls, keep.tolist())),
            self.is_held[keep],
            self.is_new[keep],
        )

    def stored(self) -> PollDays:
        """What is stored."""
        store, day = _split(self.store_day[~self.is_new])
        polls = [one for one in self.polls if one is not None]
        return PollDays(store, day, np.array([len(one) for one in polls], int), b"".join(polls))


def _split(store_day: Ints) -> tuple[Ints, Ints]:
    """Store and day."""
    day = store_day.astype(np.int32).astype(np.int64)
    return (store_day - day) >> 32, day


async def _lock_days(connection: asyncpg.Connection, polls: _Polls) -> _Days:
    """Lock what is stored of the stores and days, as far as no other transaction has it."""
    store_day = np.unique(polls.store_day)
    store, day = _split(store_day)
    rows = await connection.fetch(
        """
        select coalesce(store.id, 0),
               locked.polls,
               exists (
                   select from poll_day
                   where poll_day.store = store.id and poll_day.day = named.day
                       and poll_day.day between $3 and $4
               )
        from unnest($1::text[], $2::integer[]) with ordinality as named (store_id, day, ordinal)
        left join store on store.store_id = named.store_id
        left join lateral (
            select polls from poll_day
            where poll_day.store = store.id and poll_day.day = named.day
                and poll_day.day between $3 and $4
            for update skip locked
        ) as locked on true
        order by ordinal
        """,
        [polls.store_ids[index] for index in store.tolist()],
        day.tolist(),
        int(day.min()),
        int(day.max()),
    )
    number, stored, there = zip(*rows, strict=True) if rows else ((), (), ())
    is_locked = np.array([one is not None for one in stored], dtype=bool)
    is_there = np.array(there, dtype=bool)
    return _Days(
        store_day,
        np.array(number, dtype=np.int64),
        list(stored),
        is_held=is_there & ~is_locked,
        is_new=~is_there,
    )


def _must_wait(polls: _Polls, days: _Days, is_taken: Flags) -> Ints:
    """The requests for what another transaction has, or an earlier request that waits.

    Args:
        polls: of all requests
        days: of their stores and days
        is_taken: bool[rows], what another transaction has
    """
    is_taken = is_taken.copy()
    row = np.searchsorted(days.store_day, polls.store_day)
    waiting = []
    for request in np.unique(polls.request).tolist():
        rows = row[slice(*np.searchsorted(polls.request, [request, request + 1]))]
        if is_taken[rows].any():
            is_taken[rows] = True
            waiting.append(request)
    return np.array(waiting, dtype=np.int64)


async def _new_elsewhere(connection: asyncpg.Connection, polls: _Polls, days: _Days) -> Ints:
    """The requests that must wait, as another transaction adds what they do, or may: new stores.

    It leaves the connection in a transaction that has to be rolled back.
    """
    await connection.execute("rollback; begin")
    is_taken = days.is_new & (days.number == 0)
    tried = np.flatnonzero(days.is_new & ~is_taken)
    elsewhere = await connection.fetchval(
        "select poll_days_added_elsewhere($1, $2)",
        days.number[tried].tolist(),
        _split(days.store_day[tried])[1].tolist(),
    )
    is_taken[tried[np.array(elsewhere, dtype=np.int64) - 1]] = True
    return _must_wait(polls, days, is_taken)


async def _write(connection: asyncpg.Connection, polls: _Polls, days: _Days) -> Ints | None:
    """Merge polls into what is stored.

    Returns:
        int64[requests, 3], what `Merged.counts` says of each; None: not all was written, because
        another transaction has added a row meanwhile
    """
    requests = int(polls.request[-1]) + 1
    merged = merge_polls(days.stored(), polls.store, polls.poll, polls.request, requests)
    counts: Ints = merged.counts
    if not merged.changed.any():
        return counts
    changed = merged.days.only(merged.changed)
    number = (await _numbers(connection, polls, days))[
        np.searchsorted(days.store_day, (changed.store << 32) + changed.day)
    ]
    changed = replace(changed, store=number)
    is_known = merged.known[merged.changed]
    added = await connection.fetchval(
        """
        with added as (
            insert into poll_day (store, day, polls)
            select * from unnest($1::integer[], $2::integer[], $3::bytea[])
            on conflict (store, day) do nothing returning store
        ), written as (
            insert into poll_day (store, day, polls)
            select * from unnest($4::integer[], $5::integer[], $6::bytea[])
            on conflict (store, day) do update set polls = excluded.polls
        ), noted as materialized (select note_newest_poll($7))
        select (select count(*) from added) from noted
        """,
        *changed.only(~is_known).rows(),
        *changed.only(is_known).rows(),
        instant_of(int(polls.poll.max()) >> 1),
    )
    return counts if added == np.count_nonzero(~is_known) else None


async def _numbers(connection: asyncpg.Connection, polls: _Polls, days: _Days) -> Ints:
    """The number in the database of each row's store: int64[rows]. New ones are made."""
    missing = days.number == 0
    if not missing.any():
        return days.number
    store, _ = _split(days.store_day[missing])
    store_ids = [polls.store_ids[index] for index in store.tolist()]
    number = days.number.copy()
    number[missing] = await numbers_of_stores(connection, store_ids, _run)
    return number


async def _run(connection: asyncpg.Connection, statement: str, *args: Any) -> Any:
    return await connection.fetchval(statement, *args)
