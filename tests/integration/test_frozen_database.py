"""A database that is frozen, locked or gone: every request ends, and so does the service."""

import asyncio
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import pytest

from service.database import locks
from tests.harness.database import ask, polls_locked
from tests.harness.processes import eventually, make_key, storewatch
from tests.harness.service import Service, problem, running_service

POLLS = "store_id,status,timestamp_utc\ns1,active,2023-01-22 12:09:39.388884 UTC\n"
#: A stretch of time in which there are none.
POLL = {"store_id": "s1", "status": "active", "timestamp_utc": "2023-01-22T12:09:39Z"}
NO_POLLS = "/polls?from=1999-01-01T00:00Z&to=1999-02-01T00:00Z"
CSV = {"Content-Type": "text/csv"}
#: What needs the database, and may change nothing.
PATHS = (
    *("/stores", "/stores/s1", "/stores/s1/availability", "/outages"),
    *("/reports", "/health/ready"),
)


@contextmanager
def frozen(processes: list[psutil.Process]) -> Iterator[None]:
    """Stop processes until the block ends; those that end meanwhile are left out."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def postgres(service: Service) -> list[psutil.Process]:
    """The processes of a service's own PostgreSQL, the first that was started first."""
    found = []
    for process in service.processes():
        with suppress(psutil.NoSuchProcess):  # one of a session that was just over
            if process.name() == "postgres":
                found.append(process)
    return found


@pytest.fixture
def own_database(public_folder: Path) -> Iterator[Service]:
    """A service with a private PostgreSQL, and a poll."""
    with running_service(None, public_folder) as service:
        assert service.ask("POST", "/polls", content=POLLS, headers=CSV).status_code == 200
        yield service


def test_a_frozen_database_is_told_by_503_and_the_service_goes_on_when_it_does(
    own_database: Service,
) -> None:
    def status(path: str, method: str = "GET", **more: Any) -> int:
        answer = own_database.ask(method, path, **more)
        if answer.status_code == 503:
            assert answer.headers["retry-after"]
            problem(answer)
        return answer.status_code

    with ThreadPoolExecutor(40) as threads, frozen(postgres(own_database)):
        # More requests than connections: who waits for one is answered too.
        stored = threads.submit(status, "/polls", "POST", content=POLLS, headers=CSV)
        single = threads.submit(status, "/polls", "POST", json=[POLL])
        deleted = threads.submit(status, NO_POLLS, "DELETE")
        assert set(threads.map(status, PATHS * 8)) == {503}
        assert (stored.result(), single.result(), deleted.result()) == (503, 503, 503)
        assert own_database.get("/health/live").status_code == 200
    eventually(lambda: own_database.get("/health/ready").status_code == 200)
    assert own_database.ask("POST", "/polls", content=POLLS, headers=CSV).json()["unchanged"] == 1


def test_connections_that_died_without_a_word_are_given_up(own_database: Service) -> None:
    """Their sessions never answer again, as behind a network that swallows what is sent."""

    def is_stored() -> bool:
        return own_database.ask("POST", "/polls", json=[POLL]).status_code == 200

    assert is_stored()
    own_database.report()
    sessions = [one for one in postgres(own_database) if "idle" in " ".join(one.cmdline())]
    assert len(sessions) > 2
    with frozen(sessions):
        eventually(is_stored)
        eventually(lambda: own_database.ask("POST", "/reports").status_code == 202)
        [newest] = own_database.get("/reports?limit=1").json()["items"]
        assert own_database.wait_for(newest["id"]) == "Completed"


def test_who_waits_for_a_turn_is_answered_when_the_database_freezes(
    own_database: Service,
) -> None:
    url = f"postgresql://postgres@/postgres?port=5432&host={own_database.reports.parent}/postgresql/socket"
    with turn_taken(url), ThreadPoolExecutor() as threads:
        posted = threads.submit(own_database.ask, "POST", "/polls", content=POLLS, headers=CSV)
        eventually(lambda: ask(url, "select from pg_locks where not granted"))
        with frozen(postgres(own_database)):
            assert posted.result().status_code == 503


@contextmanager
def turn_taken(database_url: str) -> Iterator[None]:
    """Let nobody store a feed until the block ends."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database_url))
        try:
            runner.run(connection.execute("select pg_advisory_lock($1)", locks.STORE_A_FEED))
            yield
        finally:
            runner.run(connection.close())


def test_keys_that_were_seen_count_while_the_database_is_frozen(own_database: Service) -> None:
    home = own_database.reports.parent
    headers = {"X-API-Key": make_key(None, home, "ops")}
    assert own_database.get("/stores", headers=headers).status_code == 200
    with frozen(postgres(own_database)):
        # What needs no database is answered, whoever else waits for it.
        assert own_database.get("/problems", headers=headers).status_code == 200
        assert own_database.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize("busy", [False, True])
def test_it_ends_when_it_is_told_to_although_the_database_is_frozen(
    own_database: Service, busy: bool
) -> None:
    with ThreadPoolExecutor() as threads, frozen(postgres(own_database)):
        if busy:
            threads.submit(lambda: suppressed(own_database, "/stores"))
            threads.submit(lambda: suppressed(own_database, "/trigger_report"))
        own_database.send(signal.SIGTERM)
        own_database.wait(within=10)  # before what waits for the database would give up


def suppressed(service: Service, path: str) -> None:
    with suppress(httpx.HTTPError):
        service.get(path)


def test_a_table_that_somebody_locked_holds_up_only_what_needs_it(
    database_url: str, tmp_path: Path
) -> None:
    with running_service(database_url, tmp_path) as service:
        service.ask("POST", "/polls", content=POLLS, headers=CSV)
        with polls_locked(database_url), ThreadPoolExecutor() as threads:
            blocked = threads.submit(service.get, "/stores/s1/availability")
            assert service.get("/stores?limit=1").status_code == 200
            answer = blocked.result()
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
        assert service.get("/stores/s1/availability").status_code == 200


def test_a_private_postgresql_that_is_killed_is_started_again(own_database: Service) -> None:
    first = postgres(own_database)[0]
    first.kill()
    eventually(lambda: "is running again" in own_database.log)
    eventually(lambda: own_database.get("/health/ready").status_code == 200)
    assert own_database.ask("POST", "/polls", content=POLLS, headers=CSV).json()["unchanged"] == 1
    assert own_database.report()
    own_database.stop()
    eventually(lambda: not left_over(own_database))


def left_over(service: Service) -> list[int]:
    """Processes of PostgreSQL that outlived their service."""
    home = str(service.reports.parent)
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(home in part for part in process.info["cmdline"] or ())
    ]


def test_a_report_that_loses_its_connections_is_taken_up_again_at_once(
    database_url: str, tmp_path: Path
) -> None:
    with running_service(database_url, tmp_path) as service:
        service.ask("POST", "/polls", content=POLLS, headers=CSV)
        with polls_locked(database_url):
            report_id = service.trigger_report()
            running = "select true from report where state = 'running'"
            eventually(lambda: bool(ask(database_url, running)))
            ask(
                database_url,
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and application_name = 'storewatch'",
            )
            again = "select true from report where run = 2"
            eventually(lambda: bool(ask(database_url, again)))
            # It was not its lease that brought it back.
            ((waited, attempts),) = ask(
                database_url,
                "select started_at - created_at < interval '9 seconds', attempts from report",
            )
            assert (waited, attempts) == (True, 1)
        assert service.wait_for(report_id) == "Completed", service.log


def test_more_connections_than_a_server_has_are_refused_at_the_start(
    database_url: str, tmp_path: Path
) -> None:
    (room,) = ask(database_url, "select current_setting('max_connections')::integer")[0]
    done = storewatch(
        *("serve", "--port", "0"),
        database_url=database_url,
        home=tmp_path,
        STOREWATCH_CONCURRENT_REPORTS=str(min(room, 100)),
    )
    assert done.returncode == 3
    assert b"lower STOREWATCH_CONCURRENT_REPORTS" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_private_postgresql_has_as_many_connections_as_its_service_needs(
    public_folder: Path,
) -> None:
    with running_service(None, public_folder, STOREWATCH_CONCURRENT_REPORTS="30") as service:
        assert service.get("/health/ready").status_code == 200


def test_readiness_is_looked_at_once_for_all_who_ask_and_starts_no_worker(
    database_url: str, tmp_path: Path
) -> None:
    with running_service(database_url, tmp_path) as service, ThreadPoolExecutor(30) as threads:
        answers = threads.map(lambda _: service.get("/health/ready").status_code, range(120))
        assert set(answers) == {200}
        assert not service.workers()
