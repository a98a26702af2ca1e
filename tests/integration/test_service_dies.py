"""The whole service is killed, or told to stop, in the middle of a report, and started again."""

import asyncio
import re
import signal
import socket
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from service.database.pool import open_pool
from service.reports import queue as reports
from service.reports.files import FolderFiles
from service.reports.options import ReportOptions
from service.reports.runner import ReportRunner
from service.reports.sources import Sources
from service.workers.pool import Workers
from tests.harness.database import add_many_stores, ask, polls_locked
from tests.harness.processes import eventually, is_alive
from tests.harness.service import Service, freeze_workers, running_service

WORKERS = 2


def wait_until_running(service: Service, report_id: str, attempt: int = 1) -> None:
    """Until the report has begun its file."""
    eventually(lambda: f".{report_id}.{attempt}" in service.files())


def end_leases(database_url: str) -> None:
    """As time does: nobody renews them."""
    ask(database_url, "update report set leased_until = now() - interval '1 second'")


def test_a_report_that_was_running_when_the_service_was_killed_is_run_again_by_the_next_start(
    database_url: str, tmp_path: Path
) -> None:
    expected = add_many_stores(database_url, 40_000)
    with running_service(database_url, tmp_path, STOREWATCH_WORKERS=str(WORKERS)) as service:
        report_id, workers = freeze_workers(service, WORKERS)
        processes = service.processes()
        assert len(processes) >= WORKERS + 1
        service.kill()
        for worker in workers:
            worker.resume()
        eventually(lambda: not any(map(is_alive, processes)))
        assert not service.csv(report_id).exists()
    # Nobody ends the lease here: the next start waits until it has passed.
    with running_service(database_url, tmp_path) as service:
        assert service.status(report_id) == "Started"
        assert service.wait_for(report_id) == "Completed"
        assert service.csv(report_id).read_bytes() == expected
        assert service.files() == service.files_of(report_id, run=2)
    assert ask(database_url, "select attempts from report") == [(2,)]


def test_a_file_that_a_killed_service_had_begun_is_gone_when_the_report_has_run_again(
    database_url: str, tmp_path: Path
) -> None:
    expected = add_many_stores(database_url, 1000)
    with running_service(database_url, tmp_path) as service:
        with polls_locked(database_url):
            report_id = service.trigger_report()
            begun = [f".{report_id}.1", f".{report_id}.1.totals"]
            eventually(lambda: service.files() == begun)  # some time after it runs
            service.kill()
        assert service.files() == begun
    end_leases(database_url)
    with running_service(database_url, tmp_path) as service:
        assert service.wait_for(report_id) == "Completed"
        assert service.csv(report_id).read_bytes() == expected
        assert service.files() == service.files_of(report_id, run=2)


def test_a_report_that_waited_when_the_service_was_killed_is_run_by_the_next_start(
    database_url: str, tmp_path: Path
) -> None:
    expected = add_many_stores(database_url, 1000)
    one = {"STOREWATCH_CONCURRENT_REPORTS": "1"}
    with running_service(database_url, tmp_path, **one) as service, polls_locked(database_url):
        first = service.trigger_report()
        wait_until_running(service, first)
        second = service.trigger_report()
        service.kill()
    with running_service(database_url, tmp_path) as service:
        assert service.wait_for(second) == "Completed"
        assert service.csv(second).read_bytes() == expected


def test_a_report_whose_service_dies_each_time_is_given_up_with_a_reason_and_leaves_no_file(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 1000)
    report_id = ""
    for attempt in (1, 2, 3):
        with polls_locked(database_url), running_service(database_url, tmp_path) as service:
            report_id = report_id or service.trigger_report()
            wait_until_running(service, report_id, attempt)
            service.kill()
        end_leases(database_url)
    with running_service(database_url, tmp_path) as service:
        assert service.wait_for(report_id) == "Failed"
        assert service.files() == []
    assert ask(database_url, "select error from report") == [
        ("the service died, or lost its database, each time it ran this report",)
    ]


def test_told_to_stop_while_the_database_is_busy_it_hands_its_report_to_the_next_start(
    database_url: str, tmp_path: Path
) -> None:
    expected = add_many_stores(database_url, 1000)
    with running_service(database_url, tmp_path) as service, polls_locked(database_url):
        report_id = service.trigger_report()
        wait_until_running(service, report_id)
        processes = service.processes()
        service.send(signal.SIGTERM)
        service.wait(within=5)
        assert service.files() == []
        eventually(lambda: not any(map(is_alive, processes)))
    assert_is_run_by_the_next_start(database_url, tmp_path, report_id, expected)


def test_told_to_stop_while_workers_are_busy_it_hands_its_report_to_the_next_start(
    database_url: str, tmp_path: Path
) -> None:
    expected = add_many_stores(database_url, 40_000)
    with running_service(database_url, tmp_path, STOREWATCH_WORKERS=str(WORKERS)) as service:
        report_id, workers = freeze_workers(service, WORKERS)
        processes = service.processes()
        service.send(signal.SIGTERM)
        eventually(lambda: "report handed back to the queue" in service.log)
        for worker in workers:
            worker.resume()
        service.wait(within=5)
        assert service.files() == []
        eventually(lambda: not any(map(is_alive, processes)))
    assert_is_run_by_the_next_start(database_url, tmp_path, report_id, expected)


def assert_is_run_by_the_next_start(
    database_url: str, home: Path, report_id: str, expected: bytes
) -> None:
    handed_back = "select state, attempts, stores_done, leased_until from report"
    assert ask(database_url, handed_back) == [("queued", 0, 0, None)]
    with running_service(database_url, home) as service:
        assert service.wait_for(report_id) == "Completed"
        assert service.csv(report_id).read_bytes() == expected


def test_told_to_stop_just_when_it_takes_a_report_it_hands_it_back(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_report = reports.claim_report
    taken = asyncio.Event()

    async def claim_slowly(pool: asyncpg.Pool) -> reports.Report | None:
        report = await claim_report(pool)
        taken.set()
        await asyncio.sleep(0.3)  # the answer is on its way
        return report

    async def run() -> None:
        workers = Workers(1)
        async with open_pool(database_url, tmp_path, own=False) as pool:
            await reports.create_report(pool, ReportOptions(), most_queued=1)
            runner = ReportRunner(
                pool, Sources(pool, (), 1), workers, FolderFiles(tmp_path), 1, timedelta()
            )
            async with runner.running():
                await taken.wait()
        workers.close()

    monkeypatch.setattr(reports, "claim_report", claim_slowly)
    asyncio.run(run())
    assert ask(database_url, "select state, attempts from report") == [("queued", 0)]


def test_told_to_stop_it_does_not_wait_for_a_client_that_says_nothing(
    database_url: str, tmp_path: Path
) -> None:
    with running_service(database_url, tmp_path) as service:
        host, _, port = service.base_url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET /trigger_report HTTP/1.1\r\n")
            service.send(signal.SIGTERM)
            service.wait(within=5)


def test_a_service_that_was_frozen_so_long_that_another_took_its_report_over_leaves_it_alone(
    database_url: str, tmp_path: Path
) -> None:
    expected = add_many_stores(database_url, 1000)
    shared = {"STOREWATCH_REPORTS": str(tmp_path / "reports")}
    with running_service(database_url, tmp_path, **shared) as frozen:
        with polls_locked(database_url):
            report_id = frozen.trigger_report()
            wait_until_running(frozen, report_id)
            frozen.send(signal.SIGSTOP)
            end_leases(database_url)
        with running_service(database_url, tmp_path, **shared) as other:
            assert other.wait_for(report_id) == "Completed"
            frozen.send(signal.SIGCONT)
            # It may have given up waiting for the lock, just before.
            given_up = re.compile("taken over by another instance|handed back to the queue")
            eventually(lambda: given_up.search(frozen.log))
            [[run]] = ask(database_url, "select run from report")
            assert run > 1
            eventually(lambda: other.files() == other.files_of(report_id, run=run))
            assert other.csv(report_id).read_bytes() == expected
            assert other.status(report_id) == "Completed"


def test_a_report_whose_database_cut_all_connections_is_run_again(
    database_url: str, postgres_server: str, tmp_path: Path
) -> None:
    expected = add_many_stores(database_url, 40_000)
    with running_service(database_url, tmp_path, STOREWATCH_WORKERS=str(WORKERS)) as service:
        report_id, workers = freeze_workers(service, WORKERS)
        ask(
            postgres_server,
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1",
            urlsplit(database_url).path.removeprefix("/"),
        )
        for worker in workers:
            worker.resume()
        assert service.wait_for(report_id) == "Completed", service.log
        assert service.csv(report_id).read_bytes() == expected
        assert service.files() == service.files_of(report_id, run=2)
    # Its instance lives, so that was no try.
    assert ask(database_url, "select run, attempts from report") == [(2, 1)]
