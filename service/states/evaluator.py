"""Looks at all stores every so often, and at once at those whose polls have just come.

A look is one transaction, which has the row of `state_round` locked from its beginning to its end:
so looks come one after the other, over all instances, and an instance that dies in the middle of
one has done nothing. One that is frozen loses its session to the server, and with it the lock.

What a look reads goes back some hours. What lies farther back is told on from the look before (see
`compute.standing`); only of stores of which that does not say enough, more is read.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeAlias

import asyncpg
import numpy as np

from compute.axis import Ints
from compute.feed_rows import FeedRows
from compute.outages import NO_INSTANT
from compute.standing import NOT_KNOWN
from compute.states import NO_STATE
from service.background import beside, happens
from service.database.pool import DATABASE_FAILED, transaction
from service.states.eyes import Eyes, Seen
from service.states.look import NEVER_SEEN, Look
from service.states.table import (
    Known,
    database_clock,
    end_turn,
    forget,
    forget_changes,
    leave_out,
    read_known,
    read_turn,
    take_doubts,
    take_turn,
    write_changes,
    write_known,
)
from service.stores.snapshot import Snapshot, snapshot
from service.workers.pool import Workers

log = logging.getLogger("storewatch.states")

#: Called in the transaction of each look, before it is committed. If it fails, nothing is written,
#: and the look is made again.
OnLook: TypeAlias = Callable[[asyncpg.Connection, Look], Awaitable[None]]
#: The present, milliseconds since 1970-01-01 UTC.
Clock: TypeAlias = Callable[[asyncpg.Connection], Awaitable[int]]

#: How far back is looked at every store, beside the time of two rounds, milliseconds.
NEAR_MS = 2 * 3_600_000
#: The silence of a store is noted when its newest poll is older than `max_gap` by so much; since
#: younger ones it is counted.
_NOTED_AFTER_MS = 3_600_000
#: Stores that wait to be looked at, and those that are looked at together.
_MOST_TOUCHED, _TOUCHED_AT_ONCE = 50_000, 4096
#: A poll of an instant that is still to come is waited for so long.
_AHEAD_MS = 60_000
#: How often stores whose polls have come are looked at. Where so many come that a look takes long,
#: it is rarer: looks take a twentieth of the time, and the rest is for polls.
_PAUSE, _LONGEST_TOUCHED_PAUSE, _PAUSE_BY_LOOK = 1.0, 10.0, 20
#: A look that failed is made again after a pause, which doubles, seconds.
_LONGEST_PAUSE = 60.0
#: A look that takes longer is given up.
_LONGEST_LOOK = 900.0
#: While a look computes, the server must not take it for frozen, seconds.
_PING = 5.0


class _Busy(Exception):  # noqa: N818
    """A look of another instance takes long."""


@dataclass(frozen=True)
class _Touched:
    """Polls of a store that have come: the earliest and the latest instant, milliseconds."""

    earliest: int
    latest: int


class Evaluator:
    """Looks at stores, as one of all instances.

    Args:
        pool: the database, for the transaction of a look
        reading: the same, for what is looked at, on three connections
        workers: compute what many stores are like
        every: seconds between looks at all stores, above 0
        max_gap: for how long an observation speaks, milliseconds
        on_look: called in order in the transaction of each look, before it is committed
        clock: the present; looks never have an earlier one than those before
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        reading: asyncpg.Pool,
        workers: Workers,
        *,
        every: float,
        max_gap: int,
        on_look: Sequence[OnLook] = (),
        clock: Clock = database_clock,
    ) -> None:
        self._pool, self._reading, self._workers = pool, reading, workers
        self._every, self._max_gap = round(1000 * every), max_gap
        self._on_look, self._clock = tuple(on_look), clock
        self._touched: dict[str, _Touched] = {}
        self._zones_told: set[str] = set()
        self._failure = ""

    def touch(self, rows: FeedRows) -> None:
        """Have the stores of polls that were stored looked at soon.

        Of very many, some are left to the next look at all stores.
        """
        if len(rows.value) == 1:
            instant = int(rows.value[0]) >> 1
            self._touch(rows.store_ids[0], _Touched(instant, instant))
            return
        instants = rows.value >> 1
        earliest = np.full(len(rows.store_ids), np.iinfo(np.int64).max)
        latest = np.full(len(rows.store_ids), np.iinfo(np.int64).min)
        np.minimum.at(earliest, rows.store, instants)
        np.maximum.at(latest, rows.store, instants)
        for store_id, first, last in zip(
            rows.store_ids, earliest.tolist(), latest.tolist(), strict=True
        ):
            self._touch(store_id, _Touched(first, last))

    def _touch(self, store_id: str, polls: _Touched) -> None:
        known = self._touched.get(store_id)
        if known is not None:
            polls = _Touched(min(known.earliest, polls.earliest), max(known.latest, polls.latest))
        elif len(self._touched) >= _MOST_TOUCHED:
            return
        self._touched[store_id] = polls

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look until the block ends."""
        async with beside(self._run()):
            yield

    async def _run(self) -> None:
        time = asyncio.get_running_loop().time
        pause = _PAUSE
        while True:
            begun = time()
            touched = await self._succeeds(self.look_at_touched)
            took = time() - begun
            if await self._succeeds(self.look_at_all) and touched:
                pause = min(max(_PAUSE, _PAUSE_BY_LOOK * took), _LONGEST_TOUCHED_PAUSE)
                self._failure = ""
            else:
                pause = min(2 * pause, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _succeeds(self, look: Callable[[], Awaitable[bool]]) -> bool:
        """Look; false: it failed, which is told."""
        try:
            await look()
        except Exception as error:
            self._tell(error)
            return False
        return True

    def _tell(self, error: Exception) -> None:
        """Log a failure: with its stack once, if it is not the database's, and then in a line."""
        told = f"{type(error).__name__}: {error}"
        if isinstance(error, DATABASE_FAILED) or told == self._failure:
            log.warning("cannot look at the stores, will try again: %s", told)
        else:
            log.error("cannot look at the stores, will try again", exc_info=error)
        self._failure = told

    async def look_at_all(self) -> bool:
        """Look at all stores, if it is time to and no other instance does; whether it did.

        Raises whatever keeps it from that; nothing is written then.
        """
        async with self._pool.acquire() as connection:
            if await self._clock(connection) < (await read_turn(connection)).next_at:
                return False
        return await self._look(None)

    async def look_at_touched(self) -> bool:
        """Look at stores whose polls have come; whether it did: there may be none.

        Raises what keeps it from that, as `look_at_all` does; they are looked at next time, then.
        """
        touched = dict(islice(self._touched.items(), _TOUCHED_AT_ONCE))
        if not touched:
            return False
        for store_id in touched:
            del self._touched[store_id]
        try:
            return await self._look(touched)
        except BaseException as error:
            for store_id, polls in touched.items():
                self._touch(store_id, polls)
            if isinstance(error, _Busy):
                return False
            raise

    async def _look(self, touched: dict[str, _Touched] | None) -> bool:
        async with asyncio.timeout(_LONGEST_LOOK), transaction(self._pool) as holder:
            try:
                turn = await take_turn(holder, wait=touched is not None)
            except asyncpg.LockNotAvailableError:
                raise _Busy from None
            if turn is None:
                return False
            as_of = max(await self._clock(holder), turn.as_of or 0)
            if touched is None and as_of < turn.next_at:
                return False  # another instance has just looked
            doubts = touched is None and await take_doubts(holder)
            async with _kept_awake(holder), snapshot(self._reading) as stored:
                # Beside the first of the stores, as reading what is known of all takes its time.
                reading = asyncio.create_task(_known(stored, turn.full_at, touched))
                try:
                    near = NEAR_MS + 2 * self._every
                    eyes = Eyes(stored, self._workers, reading, as_of, self._max_gap, near)
                    lacking = await eyes.open()
                    if touched is None:
                        seen, depth = await eyes.at_all(from_scratch=doubts)
                    else:
                        earliest = {name: polls.earliest for name, polls in touched.items()}
                        seen, depth = await eyes.at_some(earliest)
                    known = await reading
                finally:
                    reading.cancel()
            self._tell_of_zones(lacking)
            changed = await self._write(holder, as_of, known, seen, depth, full=touched is None)
            next_at = as_of + self._every if touched is None else None
            await end_turn(holder, as_of, next_at, changed=changed)
        if touched is None:
            await self._tidy(as_of)
        else:
            for store_id, polls in touched.items():
                if as_of < polls.latest <= as_of + _AHEAD_MS:
                    self._touch(store_id, polls)
        return True

    async def _write(
        self,
        holder: asyncpg.Connection,
        as_of: int,
        known: Known,
        seen: Seen,
        depth: Ints,
        *,
        full: bool,
    ) -> bool:
        """Write what is new, and tell of the look; whether any store's state has changed."""
        before = known.of(seen.store)
        now = seen.standing
        never = before.standing.state == NO_STATE
        look = Look(
            as_of=as_of,
            store=seen.store,
            before=np.where(never, NEVER_SEEN, before.standing.state),
            state=now.state,
            since=now.since,
            was_down_for=before.standing.down_for,
            down_for=now.down_for,
            silent_for=now.silent_for,
        )
        changed = ~never & (look.before != look.state)
        # A store that is polled as usual is not written anew as time passes.
        recent = (now.newest_poll != NO_INSTANT) & (
            now.newest_poll >> 1 > as_of - self._max_gap - _NOTED_AFTER_MS
        )
        noted = replace(now, silent_for=np.where(recent, NOT_KNOWN, now.silent_for))
        await write_known(holder, Known(seen.store, noted, depth), before)
        await leave_out(holder, seen.left_out)
        if full:
            there = np.concatenate([seen.store, seen.left_out])
            await forget(holder, known.store[~np.isin(known.store, there)])
        await write_changes(holder, look, changed)
        for told in self._on_look:
            await told(holder, look)
        return bool(changed.any())

    async def _tidy(self, as_of: int) -> None:
        """Remove changes that are no longer kept, some at a time."""
        more = True
        while more:
            async with transaction(self._pool) as holder:
                if await take_turn(holder, wait=False) is None:
                    return  # whoever looks now tidies
                more = await forget_changes(holder, as_of)

    def _tell_of_zones(self, lacking: Iterable[str]) -> None:
        new = sorted(set(lacking) - self._zones_told)
        if new:
            log.warning(
                "the tz database of this instance lacks %s: the states of stores there stay as "
                "they were. Update the package tzdata, run a newer storewatch, or give those "
                "stores another zone",
                ", ".join(new),
            )
            self._zones_told.update(new)


async def _known(stored: Snapshot, full_at: int | None, stores: Iterable[str] | None) -> Known:
    """What is known of some stores, or of all. Nobody writes it during a look but who looks."""
    async with stored.reader() as reader:
        return await read_known(reader, full_at, None if stores is None else list(stores))


@contextlib.asynccontextmanager
async def _kept_awake(holder: asyncpg.Connection) -> AsyncIterator[None]:
    """Use a connection now and then, so that the server does not take its instance for frozen."""
    done = asyncio.Event()

    async def ping() -> None:
        while not await happens(done, _PING):
            await holder.execute("select 1")

    pinging = asyncio.create_task(ping())
    try:
        yield
    finally:
        done.set()
        await asyncio.wait({pinging}, timeout=_PING)
        pinging.cancel()
        await asyncio.gather(pinging, return_exceptions=True)
