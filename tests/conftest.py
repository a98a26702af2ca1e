"""What tests share: a PostgreSQL, a made-up feed, and a service that has loaded it.

The PostgreSQL is the one at TEST_DATABASE_URL, else a private one for the session.
"""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from service.database.embedded import embedded_postgres
from service.feeds.made_up import FeedFiles, write_feed
from tests.harness.database import run_migrate
from tests.harness.feeds import ingest
from tests.harness.service import Service, running_service

# A machine that does much else may take any time.
settings.register_profile(
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("patient")


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder that every account can reach."""
    # No other account reaches pytest's own folder for temporary files: root's server would not.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every account can reach, for the home of a private PostgreSQL."""
    with reachable_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The DSN of a server whose superuser we are."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    with reachable_folder() as home, asyncio.Runner() as runner:
        # As many connections as servers usually have: tests run two instances, and look themselves.
        server = embedded_postgres(home, own=True, connections=60)
        yield runner.run(server.__aenter__())
        runner.run(server.__aexit__(None, None, None))


@contextmanager
def new_database(server: str, template: str = "template1") -> Iterator[str]:
    """The DSN of a database like the one that is named, which nobody is connected to."""
    name = f"storewatch_test_{uuid4().hex[:16]}"
    asyncio.run(_execute(server, f"create database {name} template {template}"))
    yield urlsplit(server)._replace(path=f"/{name}").geturl()
    asyncio.run(_execute(server, f"drop database {name} with (force)"))


@pytest.fixture(scope="session")
def tables(postgres_server: str) -> Iterator[str]:
    """The name of a database with our tables and no rows: to copy it is cheaper than to migrate."""
    with new_database(postgres_server) as url:
        asyncio.run(run_migrate(url))
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
def database_url(postgres_server: str, tables: str) -> Iterator[str]:
    """The DSN of a database that is the test's own, with our tables and no rows."""
    with new_database(postgres_server, tables) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres_server: str) -> Iterator[str]:
    """The DSN of a database that is the test's own and has no tables."""
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(postgres_server: str, tables: str) -> Iterator[str]:
    """The DSN of a database that the tests of one module share, with our tables and no rows."""
    with new_database(postgres_server, tables) as url:
        yield url


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> FeedFiles:
    """A small made-up feed."""
    return write_feed(tmp_path_factory.mktemp("feed"), stores=60)


@pytest.fixture(scope="module")
def service(
    module_database_url: str, feed: FeedFiles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service with the feed and no report; a test that changes it uses stores of its own."""
    home = tmp_path_factory.mktemp("service")
    ingest(feed, database_url=module_database_url, home=home)
    with running_service(module_database_url, home) as service:
        yield service


@pytest.fixture(scope="module")
def empty_service(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service that knows of no store."""
    with running_service(module_database_url, tmp_path_factory.mktemp("service")) as service:
        yield service


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
