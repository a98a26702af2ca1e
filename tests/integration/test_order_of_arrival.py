"""Of two polls of one store and instant the one that arrived later counts, also when many wait."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from service.database import locks
from service.database.pool import WORK, pool_of
from service.feeds import turn as turns
from tests.harness.database import ask
from tests.harness.processes import PATIENCE
from tests.harness.service import Service, running_service

STORES = 12


@contextmanager
def turn_taken(database_url: str) -> Iterator[None]:
    """Have the turn to store something until the block ends, as another instance may."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database_url))
        try:
            runner.run(connection.execute("select pg_advisory_lock($1)", locks.STORE_A_FEED))
            yield
        finally:
            runner.run(connection.close())


def begin_to_post(service: Service, store: int, status: str) -> HTTPConnection:
    """Send a poll, all of it, without waiting for the answer."""
    poll = {"store_id": f"s{store}", "status": status, "timestamp_utc": "2023-01-22T12:00:00Z"}
    address = urlsplit(service.base_url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=PATIENCE)
    connection.request(
        "POST", "/polls", json.dumps([poll]).encode(), {"Content-Type": "application/json"}
    )
    return connection


def status_of(connection: HTTPConnection) -> int:
    with closing(connection):
        return connection.getresponse().status


def test_who_came_first_is_stored_first(database_url: str, tmp_path: Path) -> None:
    with running_service(database_url, tmp_path) as service:
        with turn_taken(database_url):
            waiting = []
            for number in range(2 * STORES):
                status = "active" if number < STORES else "inactive"
                waiting.append(begin_to_post(service, number % STORES, status))
                # Of each store, the second comes when the first has stood in line for long.
                assert service.get("/health/live").status_code == 200
        assert {status_of(one) for one in waiting} == {200}
        assert ask(database_url, "select distinct status from poll") == [("inactive",)]


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
    await holder.execute("select pg_advisory_xact_lock($1)", int(lock))
    if copying == "True":
        await holder.copy_to_table("target", source=never())
    async for _ in never():
        pass

asyncio.run(main())
"""


@pytest.mark.parametrize("copying", [False, True])
def test_who_is_frozen_in_the_middle_of_storing_loses_the_turn(
    database_url: str, monkeypatch: pytest.MonkeyPatch, copying: bool
) -> None:
    monkeypatch.setattr(turns, "WORK", replace(WORK, idle=0.2))
    monkeypatch.setattr(turns, "_LOOK_SECONDS", 1)

    async def take_turn() -> None:
        async with pool_of(database_url, WORK, 1) as pool, turns.turn(pool) as connection:
            assert await connection.fetchval("select true")

    command = [sys.executable, "-c", HOLDER, database_url, str(locks.STORE_A_FEED), str(copying)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"holds\n"
            holder.send_signal(signal.SIGSTOP)
            asyncio.run(asyncio.wait_for(take_turn(), PATIENCE))
        finally:
            holder.kill()
