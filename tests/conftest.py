"""A PostgreSQL for the tests: the one at TEST_DATABASE_URL, else a private one for the session."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from service.embedded import embedded_postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The DSN of a server whose superuser we are."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    # Not pytest's own folder for temporary files: no other account reaches that one.
    with tempfile.TemporaryDirectory() as home, asyncio.Runner() as runner:
        Path(home).chmod(0o755)
        server = embedded_postgres(Path(home), own=True)
        yield runner.run(server.__aenter__())
        runner.run(server.__aexit__(None, None, None))


@pytest.fixture
def database_url(postgres_server: str) -> Iterator[str]:
    """The DSN of an empty database that is the test's own."""
    name = f"storewatch_test_{uuid4().hex[:16]}"
    asyncio.run(_execute(postgres_server, f"create database {name}"))
    yield urlsplit(postgres_server)._replace(path=f"/{name}").geturl()
    asyncio.run(_execute(postgres_server, f"drop database {name} with (force)"))


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
