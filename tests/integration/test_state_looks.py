"""Looks at stores, one after another, by a clock of the test's own: what they find and write."""

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from compute.standing import LONGEST_TOLD
from service.feeds.poll_removal import delete_polls, delete_store
from service.states.look import NEVER_SEEN, Look
from tests.harness.reference import (
    DAY,
    HOUR,
    MINUTE,
    Store,
    reference_down_for,
    reference_silent_for,
    reference_since,
    state_at,
)
from tests.harness.states import EVERY, MAX_GAP, World, told, transitions, world

#: The clocks of Chicago go back two days later.
NOW = int(datetime(2023, 11, 3, 12, tzinfo=UTC).timestamp()) * 1000
FAR = 40 * DAY
DAYTIME = tuple((day, 9 * HOUR, 17 * HOUR) for day in range(7))


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def expected(store: Store, as_of: int) -> tuple[str, int | None, int, int]:
    """What a look must tell of a store."""
    since = reference_since(store, as_of, MAX_GAP, FAR)
    down_for = reference_down_for(store, as_of, MAX_GAP, FAR)
    return (
        state_at(store, as_of, MAX_GAP),
        None if since is None else int(since),
        min(int(down_for), LONGEST_TOLD + 1),
        min(int(reference_silent_for(store, as_of)), LONGEST_TOLD + 1),
    )


def hourly(*, active: bool, hours: float, until: int = NOW) -> tuple[tuple[int, bool], ...]:
    """A poll an hour, for so long before an instant."""
    return tuple((until - step * HOUR, active) for step in range(round(hours), -1, -1))


def test_a_live_poll_shows_at_once_and_again_in_the_next_round(database_url: str) -> None:
    async def test() -> None:
        async with world(database_url, NOW) as here:
            await here.load(Store("s", hourly(active=True, hours=3)))
            first = await here.round()
            assert transitions(first) == []
            assert first.before.tolist() == [NEVER_SEEN]
            here.now += 1000
            await here.poll("s", active=False, at=here.now - 10)
            assert await here.instances[0].look_at_touched()
            look = here.looks[-1]
            number = here.numbers["s"]
            assert transitions(look) == [(number, "up", "down")]
            assert told(look, number) == ("down", here.now - 10, 10, 10)
            assert await here.changes() == [("s", "up", "down", here.now)]
            assert not await here.instances[0].look_at_touched()
            later = await here.round()
            assert transitions(later) == []
            assert later.was_down_for.tolist() == [10]
            assert later.down_for.tolist() == [10 + 1000 * EVERY]

    run(test())


def test_a_poll_that_is_a_little_ahead_shows_when_its_instant_comes(database_url: str) -> None:
    async def test() -> None:
        async with world(database_url, NOW) as here:
            await here.load(Store("s", hourly(active=True, hours=3)))
            await here.round()
            ahead = here.now + 5000
            await here.poll("s", active=False, at=ahead)
            assert await here.instances[0].look_at_touched()
            assert await here.state_of("s") == "up"
            here.now = ahead
            assert await here.instances[0].look_at_touched()
            assert await here.state_of("s") == "down"
            assert not await here.instances[0].look_at_touched()

    run(test())


def test_two_instances_take_turns_and_a_round_is_made_once(database_url: str) -> None:
    async def test() -> None:
        async with world(database_url, NOW, instances=2) as here:
            await here.load(Store("s", hourly(active=True, hours=3)))
            one, other = here.instances
            here.now += 1000 * EVERY
            done = await asyncio.gather(one.look_at_all(), other.look_at_all())
            assert sum(done) == 1
            assert not await other.look_at_all()
            # What comes at one instance is told as the other one knows it.
            await here.poll("s", active=False, at=here.now, instance=1)
            await here.poll("s", active=False, at=here.now, instance=0)
            both = await asyncio.gather(one.look_at_touched(), other.look_at_touched())
            assert all(both)
            assert await here.changes() == [("s", "up", "down", here.now)]

    run(test())


def test_time_never_goes_back(database_url: str) -> None:
    async def test() -> None:
        async with world(database_url, NOW) as here:
            await here.load(Store("s", hourly(active=True, hours=3)))
            last = await here.round()
            here.now -= HOUR
            await here.poll("s", active=False, at=last.as_of)
            assert await here.instances[0].look_at_touched()
            assert here.looks[-1].as_of == last.as_of
            assert await here.state_of("s") == "down"

    run(test())


def test_what_is_told_in_a_look_that_fails_is_told_again(database_url: str) -> None:
    async def test() -> None:
        async with world(database_url, NOW) as here:
            await here.load(Store("s", hourly(active=True, hours=3)))
            await here.round()
            fails = True

            async def tell(connection: asyncpg.Connection, look: Look) -> None:
                await connection.execute("update store_state set down_for = 77")
                if fails:
                    raise ValueError("not today")

            here.instances[0]._on_look = (*here.instances[0]._on_look, tell)
            await here.poll("s", active=False, at=here.now)
            with pytest.raises(ValueError, match="not today"):
                await here.instances[0].look_at_touched()
            assert await here.changes() == []
            assert await here.state_of("s") == "up"
            fails = False
            assert await here.instances[0].look_at_touched()
            assert await here.changes() == [("s", "up", "down", here.now)]
            assert await here.pool.fetchval("select down_for from store_state") == 77

    run(test())


def test_a_poll_of_long_ago_has_its_store_looked_at_as_far_back_as_anything_is(
    database_url: str,
) -> None:
    async def test() -> None:
        async with world(database_url, NOW) as here:
            store = Store("s", hourly(active=True, hours=12 * 24))
            await here.load(store)
            look = await here.round()
            assert told(look, here.numbers["s"]) == expected(store, here.now)
            at = NOW - 10 * DAY - MINUTE
            await here.poll("s", active=False, at=at)
            assert await here.instances[0].look_at_touched()
            late = replace(store, polls=(*store.polls, (at, False)))
            assert told(here.looks[-1], here.numbers["s"]) == expected(late, here.now)
            assert here.looks[-1].since.tolist() == [NOW - 10 * DAY]

    run(test())


@pytest.mark.parametrize("dies", [True, False], ids=["killed", "frozen"])
def test_a_look_whose_instance_is_gone_in_the_middle_is_made_by_another(
    database_url: str, dies: bool
) -> None:
    async def test() -> None:
        # The server takes a session for frozen that is silent for so long in a transaction.
        async with world(database_url, NOW, instances=2, idle=20 if dies else 1) as here:
            await here.load(Store("s", hourly(active=True, hours=3)))
            await here.round()
            reached, never = asyncio.Event(), asyncio.Event()

            async def stop(_connection: asyncpg.Connection, _look: Look) -> None:
                reached.set()
                await never.wait()

            one, other = here.instances
            one._on_look = (stop,)
            here.now += 1000 * EVERY
            await here.load(Store("s", (*hourly(active=True, hours=3), (NOW + 1, False))))
            gone = asyncio.create_task(one.look_at_all())
            await reached.wait()
            assert not await other.look_at_all()  # the first one has the turn
            if dies:
                await here.pool.execute(
                    """
                    select pg_terminate_backend(pid) from pg_locks
                    where relation = 'state_round'::regclass and mode = 'RowShareLock'
                    """
                )
            await here.poll("s", active=False, at=here.now, instance=1)
            assert await other.look_at_touched()  # which waits for the server to end the session
            assert await here.changes() == [("s", "up", "down", here.now)]
            assert await other.look_at_all()
            never.set()
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
                await gone
            assert len(await here.changes()) == 1

    run(test())


def test_a_store_that_is_deleted_in_the_middle_of_a_look_is_forgotten_by_the_next(
    database_url: str,
) -> None:
    async def test() -> None:
        async with world(database_url, NOW) as here:
            for name in ("gone", "kept"):
                await here.load(Store(name, hourly(active=True, hours=3)))
            await here.round()

            async def remove(_connection: asyncpg.Connection, _look: Look) -> None:
                await delete_store(here.pool, "gone")  # which waits for nobody

            looker = here.instances[0]
            looker._on_look = (here.note, remove)
            for name in here.numbers:
                await here.poll(name, active=False, at=here.now)
            assert await looker.look_at_touched()
            assert len(transitions(here.looks[-1])) == 2
            looker._on_look = (here.note,)
            look = await here.round()
            assert look.store.tolist() == [here.numbers["kept"]]
            assert await here.pool.fetchval("select count(*) from store_state") == 1

    run(test())


def test_a_feed_or_a_deletion_has_all_be_looked_at_from_scratch(database_url: str) -> None:
    async def test() -> None:
        async with world(database_url, NOW) as here:
            store = Store("s", hourly(active=False, hours=30))
            await here.load(store)
            look = await here.round()
            assert told(look, here.numbers["s"]) == expected(store, here.now)
            # It is down for 11 hours less, and has been since long before what is read at first.
            excluded = replace(store, exclusions=((NOW - 29 * HOUR, NOW - 18 * HOUR),))
            await here.load(excluded)
            look = await here.round()
            assert told(look, here.numbers["s"]) == expected(excluded, here.now)
            assert await here.pool.fetchval("select count(*) from state_doubt") == 0
            await here.load(store)
            await delete_polls(here.pool, NOW - 10 * HOUR, NOW + 1)
            left = replace(store, polls=store.polls[:20])
            look = await here.round()
            assert told(look, here.numbers["s"]) == expected(left, here.now)
            await delete_store(here.pool, "s")
            look = await here.round()
            assert len(look.store) == 0
            assert await here.pool.fetchval("select count(*) from store_state") == 0

    run(test())


def test_what_cannot_be_looked_at_stays_as_it_was(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with world(database_url, NOW) as here:
            for name, zone in (("lost", "Asia/Tokyo"), ("kept", None)):
                await here.load(Store(name, hourly(active=True, hours=3), timezone=zone))
            await here.round()
            await here.pool.execute(
                "update timezone set name = 'Asia/New_Tokyo' where name = 'Asia/Tokyo'"
            )
            for name in here.numbers:
                await here.poll(name, active=False, at=here.now)
            assert await here.instances[0].look_at_touched()
            await here.round()
            look = await here.round()
            assert look.store.tolist() == [here.numbers["kept"]]
            assert [await here.state_of(name) for name in ("lost", "kept")] == ["up", "down"]
            assert len([one for one in caplog.records if "New_Tokyo" in one.message]) == 1
            await here.pool.execute(
                "update timezone set name = 'Asia/Tokyo' where name = 'Asia/New_Tokyo'"
            )
            look = await here.round()
            number = here.numbers["lost"]
            assert transitions(look) == [(number, "up", "down")]

    run(test())


def test_changes_are_kept_for_a_day(database_url: str) -> None:
    async def test() -> None:
        async with world(database_url, NOW) as here:
            await here.load(Store("s", hourly(active=True, hours=3)))
            await here.round()
            for active in (False, True):
                here.now += MINUTE
                await here.poll("s", active=active, at=here.now)
                await here.instances[0].look_at_touched()
            here.now += DAY - 1000 * EVERY
            await here.round()
            assert [change[2] for change in await here.changes()] == ["up", "unknown"]
            await here.round()
            assert [change[2] for change in await here.changes()] == ["unknown"]
            forgotten = await here.pool.fetchval("select forgotten from state_round")
            assert forgotten == await here.pool.fetchval("select min(id) - 1 from state_change")

    run(test())


class Stores:
    """Stores of which more and more becomes known, live or late."""

    def __init__(self, seed: int, here: World) -> None:
        self.random, self.here = random.Random(seed), here
        self.known: dict[str, Store] = {}
        self.is_up: dict[str, bool] = {}

    async def make(self, name: str) -> None:
        hours = self.random.choice([(), DAYTIME, ((0, 22 * HOUR, 4 * HOUR), (5, 0, DAY))])
        zone = self.random.choice([None, "Asia/Tokyo", "Europe/London"])
        since = self.random.choice([0, 6, 30, 70])
        active = self.random.random() < 0.6
        polls = hourly(active=active, hours=since, until=self.here.now) if since else ()
        self.is_up[name] = active
        await self.know(Store(name, polls, hours, zone))

    async def know(self, store: Store) -> None:
        self.known[store.store_id] = store
        await self.here.load(store)

    async def poll(self, name: str, instance: int) -> None:
        store, dice = self.known[name], self.random.random()
        if dice < 0.15:
            self.is_up[name] = not self.is_up[name]
        late = self.random.choice([5 * MINUTE, 20 * HOUR, 50 * HOUR]) if dice > 0.9 else 20
        at = self.here.now - late
        self.known[name] = replace(store, polls=(*store.polls, (at, self.is_up[name])))
        await self.here.poll(name, active=self.is_up[name], at=at, instance=instance)

    async def change(self) -> str:
        """Change something that no single poll tells; of which store."""
        name = self.random.choice(sorted(self.known))
        store = self.known[name]
        match self.random.randrange(4):
            case 0:
                first = self.here.now - self.random.randrange(60) * HOUR
                span = (first, first + self.random.randrange(1, 30) * HOUR)
                await self.know(replace(store, exclusions=(span,)))
            case 1:
                await self.know(replace(store, hours=() if store.hours else DAYTIME))
            case 2:
                await self.know(replace(store, polls=store.polls[::2]))
            case 3:
                await delete_store(self.here.pool, name)
                del self.known[name], self.here.numbers[name]
        return name


@pytest.mark.parametrize("seed", [1, 2], ids=["one", "another"])
def test_looks_tell_what_the_reference_does_whatever_comes_in_between(
    database_url: str, seed: int
) -> None:
    async def test() -> None:
        async with world(database_url, NOW, instances=2) as here:
            stores = Stores(seed, here)
            for number in range(12):
                await stores.make(f"s{number}")
            state: dict[str, str] = {}
            changes: list[tuple[str, str, str, int]] = []

            def check(look: Look, looked_at: set[str], of_these: set[str]) -> None:
                """A look at these stores: states of all, and all there is of some of them."""
                names = {here.numbers[name]: name for name in stores.known}
                assert {names[number] for number in look.store.tolist()} == looked_at
                thorough = of_these.union(stores.random.sample(sorted(looked_at), 2))
                changed = []
                for number in look.store.tolist():
                    name = names[number]
                    now = state_at(stores.known[name], look.as_of, MAX_GAP)
                    found = told(look, number)
                    assert found is not None
                    assert found[0] == now
                    if name in thorough:
                        assert found == expected(stores.known[name], look.as_of), name
                    if state.get(name, now) != now:
                        changed.append((name, state[name], now, look.as_of))
                    state[name] = now
                assert [names[number] for number, *_ in transitions(look)] == [
                    name for name, *_ in changed
                ]
                changes.extend(changed)

            for step in range(25):
                instance = stores.random.randrange(2)
                changed = set()
                if stores.random.random() < 0.3:
                    changed = {await stores.change()}
                    await stores.make(f"t{step}")
                check(await here.round(instance), set(stores.known), changed)
                here.now += stores.random.choice([1, MINUTE, 40 * MINUTE, 3 * HOUR, 9 * HOUR])
                polled = set(stores.random.sample(sorted(stores.known), 6))
                for name in sorted(polled):
                    await stores.poll(name, instance)
                assert await here.instances[instance].look_at_touched()
                check(here.looks[-1], polled, set())
            kept = await here.changes()
            assert kept == changes[-len(kept) :]
            assert kept

    run(test())
