"""The database of a test: asked, locked, cut off, or filled with many stores at once."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from service.database.migrations import migrate
from tests.harness.feeds import HEADER


def ask(database_url: str, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """Run one statement."""

    async def run() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(database_url)
        try:
            return [tuple(row) for row in await connection.fetch(sql, *arguments)]
        finally:
            await connection.close()

    return asyncio.run(run())


async def run_migrate(database_url: str) -> None:
    """Bring the tables of a database up to date."""
    connection = await asyncpg.connect(database_url)
    try:
        await migrate(connection)
    finally:
        await connection.close()


@contextmanager
def polls_locked(database_url: str) -> Iterator[None]:
    """Hold up every report, as soon as it reads polls, until the block ends."""
    with table_locked(database_url, "poll_day"):
        yield


@contextmanager
def table_locked(database_url: str, table: str) -> Iterator[None]:
    """Hold up whoever needs a table, until the block ends."""
    with another_transaction(database_url, f"lock table {table} in access exclusive mode"):
        yield


@contextmanager
def another_transaction(database_url: str, statements: str) -> Iterator[None]:
    """Have something locked until the block ends, as another instance or a person may."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database_url))
        try:
            runner.run(connection.execute(f"begin; {statements}"))
            yield
        finally:
            runner.run(connection.close())


def waiting_for_locks(database_url: str) -> int:
    """How many sessions wait for what another one has locked."""
    [(count,)] = ask(
        database_url,
        "select count(*) from pg_stat_activity "
        "where datname = current_database() and wait_event_type = 'Lock'",
    )
    return int(count)


@contextmanager
def database_away(database_url: str, server: str) -> Iterator[None]:
    """Cut off everybody's connections to a database, and let nobody in until the block ends."""
    name = urlsplit(database_url).path.removeprefix("/")
    ask(server, f"alter database {name} allow_connections false")
    ask(server, "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name)
    try:
        yield
    finally:
        ask(server, f"alter database {name} allow_connections true")


DAY = 19_000  # 2022-01-08
NOON_MS = 43_200_000


def add_many_stores(database_url: str, stores: int) -> bytes:
    """Make a report long: many stores, always open, polled at noon, every second one inactive.

    Returns:
        the CSV of their report
    """

    async def run() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await migrate(connection)
            await connection.execute(
                """
                insert into store (store_id)
                select 'store-' || to_char(n, 'FM000000') from generate_series(1, $1::integer) as n
                order by n
                """,
                stores,
            )
            await connection.execute(
                """
                insert into poll_day (store, day, polls)
                select id, $1, case when right(store_id, 1) ~ '[13579]' then $2::bytea else $3 end
                from store
                """,
                DAY,
                (NOON_MS << 1 | 1).to_bytes(4, "little"),
                (NOON_MS << 1).to_bytes(4, "little"),
            )
            await connection.execute(
                "insert into newest_poll_row (instant) values (to_timestamp($1))",
                DAY * 86_400 + NOON_MS / 1000,
            )
        finally:
            await connection.close()

    asyncio.run(run())
    return many_stores_report(range(1, stores + 1))


def many_stores_report(numbers: Sequence[int]) -> bytes:
    """The report of `add_many_stores`: one poll at the end speaks for 24 hours before it."""
    spans, none = "60.00,24.00,24.00", "0.00,0.00,0.00"
    rows = [
        f"store-{number:06},{spans},{none}" if number % 2 else f"store-{number:06},{none},{spans}"
        for number in numbers
    ]
    return "\n".join([HEADER, *rows, ""]).encode()
