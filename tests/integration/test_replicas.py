"""Reports that are read from streaming replicas are the same bytes, or are read elsewhere."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.database.embedded import embedded_postgres
from service.feeds.made_up import FeedFiles
from tests.conftest import new_database, reachable_folder
from tests.harness.database import ask, polls_locked
from tests.harness.feeds import ingest
from tests.harness.processes import eventually, storewatch
from tests.harness.replicas import Replica, replica
from tests.harness.reports import create
from tests.harness.service import Service, running_service


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A private PostgreSQL, also where the other tests use another one."""
    with reachable_folder() as home, asyncio.Runner() as runner:
        private = embedded_postgres(home, own=True, connections=80)
        yield runner.run(private.__aenter__())
        runner.run(private.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def loaded(server: str, feed: FeedFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The DSN of a database with the feed, on the primary."""
    with new_database(server) as url:
        ingest(feed, database_url=url, home=tmp_path_factory.mktemp("loads"))
        yield url


@pytest.fixture
def replicas(server: str, loaded: str) -> Iterator[list[Replica]]:
    with (
        reachable_folder() as first,
        reachable_folder() as second,
        replica(server, first) as one,
        replica(server, second) as other,
    ):
        yield [one, other]


@pytest.fixture
def service(loaded: str, replicas: list[Replica], tmp_path: Path) -> Iterator[Service]:
    urls = ",".join(one.of(loaded) for one in replicas)
    with running_service(loaded, tmp_path / "home", DATABASE_REPLICAS=urls) as service:
        yield service


def _alone(database_url: str, home: Path) -> bytes:
    """The same report by the command, which reads the primary."""
    done = storewatch("report", database_url=database_url, home=home)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def _read_from(service: Service) -> list[str]:
    """The numbers of the replicas that were read, in order."""
    told = "report is read from replica "
    return [line.partition(told)[2][:1] for line in service.log.splitlines() if told in line]


def test_reports_take_turns_at_replicas_that_have_all_that_was_acknowledged(
    service: Service, loaded: str, replicas: list[Replica], feed: FeedFiles, tmp_path: Path
) -> None:
    assert service.report() == service.report() == _alone(loaded, tmp_path)
    assert sorted(_read_from(service)) == ["1", "2"]

    for one in replicas:
        one.stop_replay()
    store = feed.polls.read_text().splitlines()[1].split(",")[0]
    late = f"store_id,status,timestamp_utc\n{store},inactive,2024-03-14 00:00:00 UTC\n"
    answer = service.ask("POST", "/polls/csv", content=late, headers={"Content-Type": "text/csv"})
    assert answer.is_success, answer.text
    assert service.report() == _alone(loaded, tmp_path)  # they are behind: they are not read
    assert len(_read_from(service)) == 2
    for one in replicas:
        one.go_on()


def test_a_report_whose_replica_is_lost_in_the_middle_is_read_elsewhere(
    service: Service, loaded: str, replicas: list[Replica], tmp_path: Path
) -> None:
    with polls_locked(loaded):
        path: str = create(service).headers["Location"]
        eventually(lambda: _read_from(service))
        for one in replicas:
            one.kill()
    eventually(lambda: service.get(path).json()["status"] not in ("queued", "running"))
    assert service.get(path).json()["status"] == "completed"
    assert service.get(f"{path}/rows").content == _alone(loaded, tmp_path)
    assert "rests for" in service.log


def test_a_server_that_is_no_replica_is_never_read(
    server: str, loaded: str, tmp_path: Path
) -> None:
    urls = {"DATABASE_REPLICAS": f"{loaded}, postgresql://127.0.0.1:1/none"}
    with running_service(loaded, tmp_path / "home", **urls) as service:
        assert service.report() == _alone(loaded, tmp_path)
        assert not _read_from(service)
        assert "it is a server of its own now, no replica any more" in service.log
    assert ask(server, "select 1") == [(1,)]
