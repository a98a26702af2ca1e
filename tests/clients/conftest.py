"""The service, a key for it, and its document, for what others make of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.feeds.made_up import FeedFiles, write_feed
from tests.clients.tools import install_npm_packages
from tests.conftest import new_database
from tests.harness.feeds import ingest
from tests.harness.processes import storewatch
from tests.harness.service import Service, running_service


@pytest.fixture
def key(database_url: str, tmp_path: Path) -> str:
    """An API key; from now on the service wants one."""
    made = storewatch("keys", "create", "client", database_url=database_url, home=tmp_path)
    assert made.returncode == 0, made.stderr.decode()
    return made.stdout.decode().strip()


@pytest.fixture
def service(database_url: str, key: str, tmp_path: Path) -> Iterator[Service]:
    deliveries = {"STOREWATCH_DELIVER_TO": str(tmp_path)}
    with running_service(database_url, tmp_path, **deliveries) as service:
        yield service


@pytest.fixture(scope="session")
def feed(tmp_path_factory: pytest.TempPathFactory) -> FeedFiles:
    return write_feed(tmp_path_factory.mktemp("feed"), stores=24)


@pytest.fixture(scope="session")
def loaded_service(
    postgres_server: str,
    tables: str,
    feed: FeedFiles,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """A service with the feed and without a key, for all tests that only look at it."""
    home = tmp_path_factory.mktemp("loaded")
    with new_database(postgres_server, tables) as url:
        ingest(feed, database_url=url, home=home)
        with running_service(url, home) as service:
            yield service


@pytest.fixture(scope="session")
def document(loaded_service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The OpenAPI document of the running service, as a file."""
    file = tmp_path_factory.mktemp("document") / "openapi.json"
    file.write_bytes(loaded_service.get("/schema/openapi.json").content)
    return file


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder of npm's packages."""
    return install_npm_packages()
