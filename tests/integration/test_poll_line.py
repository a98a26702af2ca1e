"""Small requests with polls are stored together, and none holds up but what comes after it."""

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import numpy as np
import pytest

from compute.feed_rows import FeedRows
from service.database import locks
from service.database.migrations import migrate
from service.database.pool import DATABASE_FAILED, WORK, pool_of
from service.feeds import poll_line, storing
from service.feeds.history import Ingested
from service.feeds.poll_group import SETTINGS, PollRequest, append_polls
from service.feeds.poll_line import LineFull, PollLine
from tests.harness.database import ask
from tests.harness.processes import PATIENCE

NOON = 1_674_388_800_000
DAY = NOON // 86_400_000
NEXT_DAY = NOON + 86_400_000
TAKE_A = """
    begin;
    select from poll_day join store on store.id = store where store_id = 'a' for update of poll_day
"""
ADD_A = f"""
    begin;
    insert into poll_day select id, {DAY + 1}, '\\x00000000' from store where store_id = 'a'
"""  # noqa: S608
TAKE_ALL = f"begin; select pg_advisory_xact_lock({locks.STORE_A_FEED})"
ONE_NEW = Ingested(1, 1, 1, 0, 0)


def polls(*stores: str, active: bool = True, at: int = NOON) -> FeedRows:
    return FeedRows(list(stores), np.arange(len(stores)), np.full(len(stores), at << 1 | active))


async def prepare(database_url: str) -> None:
    async with session(database_url) as connection:
        await migrate(connection)


@asynccontextmanager
async def instance(database_url: str, turn: float = 10) -> AsyncIterator[PollLine]:
    await prepare(database_url)
    async with pool_of(database_url, replace(WORK, turn=turn), 4) as pool:
        line = PollLine(pool)
        async with line.running():
            yield line


@asynccontextmanager
async def session(
    database_url: str, statements: str = "select"
) -> AsyncIterator[asyncpg.Connection]:
    """Another transaction, that of another instance perhaps."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(statements)
        yield connection
    finally:
        await connection.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario()

    asyncio.run(bounded())


def later(line: PollLine, rows: FeedRows) -> "asyncio.Task[Ingested]":
    return asyncio.create_task(line.store(rows))


def test_who_waits_for_another_transaction_holds_up_only_who_comes_after_it(
    database_url: str,
) -> None:
    async def scenario() -> None:
        async with instance(database_url) as line:
            for store in ("a", "b", "c"):
                assert await line.store(polls(store)) == ONE_NEW
            async with session(database_url, TAKE_A) as other:
                waits = later(line, polls("a", "b", active=False))
                behind_it = later(line, polls("b", "c", active=False))
                behind_that = later(line, polls("c", at=NOON + 1))
                for store in ("c", "d"):
                    assert await line.store(polls(store, at=NEXT_DAY)) == ONE_NEW
                assert not any(task.done() for task in (waits, behind_it, behind_that))
                await other.execute("rollback")
                assert await waits == Ingested(2, 2, 0, 2, 0)
                assert await behind_it == Ingested(2, 2, 0, 1, 1)
                assert await behind_that == ONE_NEW

    run(scenario)
    assert len(ask(database_url, "select from poll")) == 6


@pytest.mark.parametrize("ends", ["commit", "rollback"])
@pytest.mark.parametrize("what", ["day", "store"])
def test_what_is_new_in_two_transactions_is_not_lost(
    database_url: str, what: str, ends: str
) -> None:
    insert = {
        "day": f"""
            insert into poll_day select id, {DAY}, '\\x00000000' from store where store_id = 'a'
        """,  # noqa: S608
        "store": "insert into store (store_id) values ('new')",
    }

    async def scenario() -> None:
        async with instance(database_url) as line:
            for store in ("a", "b"):
                assert await line.store(polls(store, at=NEXT_DAY)) == ONE_NEW
            async with session(database_url, f"begin; {insert[what]}") as other:
                waits = later(line, polls("new", "a"))
                # What was there before does not wait with it.
                assert await line.store(polls("b", at=NEXT_DAY + 1)) == ONE_NEW
                assert not waits.done()
                await other.execute(ends)
                assert await waits == Ingested(2, 2, 2, 0, 0)

    run(scenario)
    of_the_other = (what, ends) == ("day", "commit")
    assert len(ask(database_url, "select from poll")) == 5 + of_the_other
    assert len(ask(database_url, "select from store")) == 3


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_first_polls_of_a_day_in_two_transactions_are_not_lost(
    database_url: str, ends: str
) -> None:
    async def scenario() -> None:
        async with instance(database_url) as line:
            for store in ("a", "b", "c"):
                assert await line.store(polls(store)) == ONE_NEW
            async with session(database_url, ADD_A) as other:
                waits = later(line, polls("a", at=NEXT_DAY))
                # Those of others do not wait with it, be they the first of their day or not.
                beside = [
                    later(line, polls("b", at=NOON + 1)),
                    later(line, polls("c", at=NEXT_DAY)),
                    later(line, polls("b", "c", at=NEXT_DAY + 1)),
                ]
                assert await asyncio.gather(*beside) == [ONE_NEW, ONE_NEW, Ingested(2, 2, 2, 0, 0)]
                assert not waits.done()
                await other.execute(ends)
                assert await waits == ONE_NEW

    run(scenario)
    assert len(ask(database_url, "select from poll")) == 8 + (ends == "commit")


def test_what_comes_after_a_request_that_waits_does_not_overtake_it(database_url: str) -> None:
    async def scenario() -> None:
        async with instance(database_url) as line:
            await line.store(polls("a", "b"))
            async with session(database_url, ADD_A) as other:
                waits = later(line, polls("a", "b", at=NEXT_DAY))
                behind_it = later(line, polls("b", active=False, at=NEXT_DAY))
                await asyncio.sleep(0)  # they are in line, and the next one behind them
                assert await line.store(polls("b", at=NOON + 1)) == ONE_NEW
                assert not waits.done()
                assert not behind_it.done()
                await other.execute("commit")
                assert await waits == Ingested(2, 2, 2, 0, 0)
                assert await behind_it == Ingested(1, 1, 0, 1, 0)

    run(scenario)


@pytest.mark.parametrize("together", [True, False], ids=["together", "one by one"])
def test_what_needs_no_merging_is_stored_without(database_url: str, together: bool) -> None:
    first, newer = polls("a", at=NEXT_DAY), polls("b", at=NOON + 1)
    new_store, older = polls("new"), polls("c", at=NOON - 1)
    group = [PollRequest(rows) for rows in (new_store, first, older, newer)]

    async def scenario() -> None:
        async with instance(database_url) as line:
            await line.store(polls("a", "b", "c"))
        async with session(database_url, SETTINGS) as connection:
            parts = [group] if together else [[request] for request in group]
            told = [one for part in parts for one in await append_polls(connection, part)]
            assert told == [None, ONE_NEW, None, ONE_NEW]

    run(scenario)
    newest = f"select instant = to_timestamp({NEXT_DAY / 1000}) from newest_poll"  # noqa: S608
    assert ask(database_url, newest) == [(True,)]
    assert len(ask(database_url, "select from poll")) == 5


def test_a_poll_that_was_tried_alone_keeps_its_place(database_url: str) -> None:
    replaced = Ingested(1, 1, 0, 1, 0)

    async def scenario() -> None:
        async with instance(database_url) as line:
            assert await line.store(polls("a")) == ONE_NEW
            # The first is no new one, and the second comes before that is known.
            group = [later(line, polls("a", active=active)) for active in (False, True)]
            assert await asyncio.gather(*group) == [replaced, replaced]

    run(scenario)


def test_two_instances_lose_nothing_of_each_other(database_url: str) -> None:
    async def scenario() -> None:
        async with instance(database_url) as one, instance(database_url) as other:
            done = await asyncio.gather(
                *(
                    line.store(polls("a", f"s{n % 7}", at=NOON + 2 * n + second))
                    for n in range(300)
                    for second, line in enumerate((one, other))
                )
            )
            assert set(done) == {Ingested(2, 2, 2, 0, 0)}

    run(scenario)
    assert len(ask(database_url, "select from poll")) == 1_200
    newest = f"select extract(epoch from instant) * 1000 = {NOON + 599} from newest_poll"  # noqa: S608
    assert ask(database_url, newest) == [(True,)]


def test_each_is_told_what_it_would_be_told_alone(database_url: str) -> None:
    async def scenario() -> None:
        async with instance(database_url) as line:
            async with session(database_url, TAKE_ALL):
                group = [
                    later(line, rows)
                    for rows in (
                        polls("a"),
                        polls("a", active=False),
                        polls("b", "a", active=False),
                        polls("b", "b"),
                        polls("a"),
                    )
                ]
                await asyncio.sleep(0)
            assert await asyncio.gather(*group) == [
                ONE_NEW,
                Ingested(1, 1, 0, 1, 0),
                Ingested(2, 2, 1, 0, 1),
                Ingested(2, 2, 0, 1, 0),
                Ingested(1, 1, 0, 1, 0),
            ]

    run(scenario)
    assert set(ask(database_url, "select store_id, status from poll")) == {
        ("a", "active"),
        ("b", "active"),
    }


def test_single_polls_in_any_order_end_as_a_feed_of_them_would(database_url: str) -> None:
    rng = random.Random(7)
    sent = [(rng.randrange(NOON, NOON + 30), rng.random() < 0.5) for _ in range(200)]
    sent += [(DAY * 86_400_000 - 1, True), (NEXT_DAY, False), (NOON, True)]

    async def scenario() -> None:
        known: dict[int, bool] = {}
        async with instance(database_url) as line:
            for at, active in sent:
                told = await line.store(polls("a", active=active, at=at))
                expected = (at not in known, known.get(at, active) != active)
                assert (told.new, told.replaced) == expected
                assert told.unchanged == 1 - sum(expected)
                known[at] = active

    run(scenario)
    expected = {(at, "active" if active else "inactive") for at, active in dict(sent).items()}
    stored = ask(
        database_url, "select (1000 * extract(epoch from instant))::bigint, status from poll"
    )
    assert set(stored) == expected
    newest = f"select instant = to_timestamp({NEXT_DAY / 1000}) from newest_poll"  # noqa: S608
    assert ask(database_url, newest) == [(True,)]


def test_the_line_is_bounded(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll_line, "_MOST_REQUESTS", 3)
    monkeypatch.setattr(poll_line, "_MOST_POLLS", 5)

    async def scenario() -> None:
        async with instance(database_url) as line:
            async with session(database_url, TAKE_ALL):
                waiting = [later(line, polls("a", "b")), later(line, polls("c", "d"))]
                await asyncio.sleep(0)
                with pytest.raises(LineFull):
                    await line.store(polls("e", "f"))
                waiting.append(later(line, polls("e")))
                await asyncio.sleep(0)
                with pytest.raises(LineFull):
                    await line.store(polls("f"))
                waiting[1].cancel()  # who leaves makes room
                await asyncio.gather(waiting[1], return_exceptions=True)
                waiting[1] = later(line, polls("f"))
            assert [told.rows for told in await asyncio.gather(*waiting)] == [2, 1, 1]
            assert await line.store(polls("g")) == ONE_NEW

    run(scenario)


def test_who_has_waited_for_too_long_is_told(database_url: str) -> None:
    async def scenario() -> None:
        async with instance(database_url, turn=0.5) as line:
            async with session(database_url, TAKE_ALL):
                with pytest.raises(TimeoutError):
                    await line.store(polls("a"))
            assert await line.store(polls("b")) == ONE_NEW

    run(scenario)
    # Whether the first one is stored is open: it may have been under way.
    assert ("b",) in ask(database_url, "select store_id from poll")


def test_a_request_that_the_database_refuses_harms_no_other(database_url: str) -> None:
    refuse = f"alter table poll_day add check (day <> {DAY + 1}); commit"

    async def scenario() -> None:
        async with instance(database_url) as line:
            async with session(database_url, TAKE_ALL) as other:
                group = [
                    later(line, rows)
                    for rows in (polls("a"), polls("b", at=NEXT_DAY), polls("c", "a", at=NOON + 1))
                ]
                await asyncio.sleep(0)
                await other.execute(refuse)
            first, refused, last = await asyncio.gather(*group, return_exceptions=True)
            assert isinstance(refused, asyncpg.CheckViolationError)
            assert (first, last) == (ONE_NEW, Ingested(2, 2, 2, 0, 0))

    run(scenario)


def test_a_connection_that_is_lost_is_told_and_the_next_request_gets_another(
    database_url: str,
) -> None:
    end_others = """
        select pg_terminate_backend(pid) from pg_stat_activity
        where pid <> pg_backend_pid() and datname = current_database()
    """

    async def scenario() -> None:
        async with instance(database_url) as line:
            assert await line.store(polls("a")) == ONE_NEW
            async with session(database_url) as other:
                for _ in range(3):
                    await other.execute(end_others)
                    try:
                        await line.store(polls("b"))
                    except DATABASE_FAILED:
                        continue
                assert (await line.store(polls("b"))).rows == 1

    run(scenario)


HOLDER = """
import asyncio, sys, asyncpg

async def never():
    print("holds", flush=True)
    await asyncio.Event().wait()
    yield b""

async def main():
    url, lock, copying = sys.argv[1:]
    holder = await asyncpg.connect(url)
    await holder.execute("create table target (n text); begin")
    await holder.execute("insert into store (store_id) values ('a')")
    await holder.execute("select pg_advisory_xact_lock_shared($1)", int(lock))
    if copying == "True":
        await holder.copy_to_table("target", source=never())
    async for _ in never():
        pass

asyncio.run(main())
"""


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("copying", [False, True])
def test_who_is_frozen_in_the_middle_of_storing_loses_what_it_has_locked(
    database_url: str, monkeypatch: pytest.MonkeyPatch, copying: bool, large: bool
) -> None:
    monkeypatch.setattr(storing, "WORK", replace(WORK, idle=0.2))
    monkeypatch.setattr(storing, "LOOK_SECONDS", 0.5)
    monkeypatch.setattr(poll_line, "LOOK_SECONDS", 0.5)

    command = [sys.executable, "-c", HOLDER, database_url, str(locks.STORE_A_FEED), str(copying)]

    async def scenario() -> None:
        async with instance(database_url) as line:
            if large:
                async with storing.storing(line._pool) as connection:
                    insert = "insert into store (store_id) values ('a') returning store_id"
                    assert await storing.patiently(connection, insert) == "a"
            else:
                assert await line.store(polls("a")) == ONE_NEW

    run(lambda: prepare(database_url))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"holds\n"
            holder.send_signal(signal.SIGSTOP)
            run(scenario)
        finally:
            holder.kill()
