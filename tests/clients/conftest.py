"""The service, and a key for it, for clients that others made: generated ones and schemathesis."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.made_up_feed import FeedFiles, write_feed
from tests.integration.service import Service, running_service, storewatch


@pytest.fixture
def key(database_url: str, tmp_path: Path) -> str:
    """An API key; from now on the service wants one."""
    made = storewatch("keys", "create", "client", database_url=database_url, home=tmp_path)
    assert made.returncode == 0, made.stderr.decode()
    return made.stdout.decode().strip()


@pytest.fixture
def service(database_url: str, key: str, tmp_path: Path) -> Iterator[Service]:
    with running_service(database_url, tmp_path) as service:
        yield service


@pytest.fixture(scope="session")
def feed(tmp_path_factory: pytest.TempPathFactory) -> FeedFiles:
    return write_feed(tmp_path_factory.mktemp("feed"), stores=24)
