"""Worker processes, and the fork server that they come from, that are killed at any time."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from compute.batch import Question, StoreBatch
from compute.report_rows import ReportRows, report_rows
from service.database.pool import open_pool
from service.reports import pipeline
from service.reports.files import FolderFiles
from service.reports.options import ReportOptions
from service.reports.queue import create_report
from service.reports.runner import ReportRunner
from service.reports.sources import Sources
from service.workers.pool import WorkerDied, Workers
from service.workers.worker import begin_worker
from tests.harness.database import DAY, add_many_stores, ask
from tests.harness.processes import PATIENCE, eventually, is_alive
from tests.harness.service import freeze_workers, running_service

WORKERS = 3
STORES = 40_000

#: The pool ends the other workers as soon as one has died.
ended_by_the_pool = suppress(psutil.NoSuchProcess)


def kill_one(workers: list[psutil.Process]) -> None:
    workers[0].kill()
    for worker in workers[1:]:
        with ended_by_the_pool:
            worker.resume()


def kill_all(workers: list[psutil.Process]) -> None:
    for worker in workers:
        with ended_by_the_pool:
            worker.kill()


def kill_fork_server(workers: list[psutil.Process]) -> None:
    workers[0].parent().kill()
    for worker in workers:
        with ended_by_the_pool:
            worker.resume()


def kill_fork_server_and_all(workers: list[psutil.Process]) -> None:
    workers[0].parent().kill()
    kill_all(workers)


@pytest.mark.parametrize("kill", [kill_one, kill_all, kill_fork_server, kill_fork_server_and_all])
def test_a_report_in_the_middle_of_which_workers_are_killed_completes_with_fresh_ones(
    database_url: str, tmp_path: Path, kill: Callable[[list[psutil.Process]], None]
) -> None:
    expected = add_many_stores(database_url, STORES)
    with running_service(database_url, tmp_path, STOREWATCH_WORKERS=str(WORKERS)) as service:
        report_id, workers = freeze_workers(service, WORKERS)
        kill(workers)
        assert service.wait_for(report_id) == "Completed", service.log
        assert service.csv(report_id).read_bytes() == expected
        assert service.files() == service.files_of(report_id)
        assert ask(database_url, "select attempts from report") == [(1,)]
        eventually(lambda: not any(map(is_alive, workers)))
        assert service.report() == expected


def test_a_worker_that_is_killed_between_two_reports_is_not_missed(
    database_url: str, tmp_path: Path
) -> None:
    expected = add_many_stores(database_url, 1000)
    with running_service(database_url, tmp_path) as service:
        assert service.report() == expected
        kill_all(service.workers())
        assert service.report() == expected


@pytest.mark.parametrize("and_workers", [False, True])
def test_a_fork_server_that_is_killed_between_two_reports_is_not_missed(
    database_url: str, tmp_path: Path, and_workers: bool
) -> None:
    expected = add_many_stores(database_url, 1000)
    with running_service(database_url, tmp_path) as service:
        assert service.report() == expected
        workers = service.workers()
        workers[0].parent().kill()
        for worker in workers if and_workers else ():
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        assert service.report() == expected
        eventually(lambda: not any(map(is_alive, workers)))
        assert service.workers()


def square(number: int) -> int:
    return number * number


def fork_server_of(workers: Workers) -> psutil.Process:
    return psutil.Process(workers.processes()[0]).parent()


def test_every_batch_has_its_result_although_fork_servers_are_killed_while_processes_start() -> (
    None
):
    async def run() -> None:
        workers = Workers(4)
        try:
            for _ in range(2):
                batches = [asyncio.create_task(workers.run(square, number)) for number in range(4)]
                await asyncio.to_thread(eventually, workers.processes)
                fork_server_of(workers).kill()
                assert await asyncio.gather(*batches) == [number**2 for number in range(4)]
        finally:
            workers.close()

    asyncio.run(run())


def wait_for(file: Path) -> bool:
    while not file.exists():
        time.sleep(0.01)
    return True


def cancel_as_asked(batches: list[asyncio.Task[bool]], workers: Workers) -> None:
    batches[4].cancel()


def cancel_so_that_the_executors_thread_dies(
    batches: list[asyncio.Task[bool]], workers: Workers
) -> None:
    list(workers._pool._pending_work_items.values())[4].future.cancel()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("cancel", [cancel_as_asked, cancel_so_that_the_executors_thread_dies])
def test_batches_beside_a_cancelled_one_are_not_lost_when_their_pool_breaks(
    tmp_path: Path, cancel: Callable[[list[asyncio.Task[bool]], Workers], None]
) -> None:
    async def run() -> None:
        workers = Workers(1)
        try:
            # Two are given to the worker; the others wait in the executor.
            batches = [
                asyncio.create_task(workers.run(wait_for, tmp_path / "go")) for _ in range(6)
            ]
            await asyncio.to_thread(eventually, workers.processes)
            await asyncio.to_thread(
                eventually, lambda: workers._pool._pending_work_items[1].future.running()
            )
            cancel(batches, workers)
            psutil.Process(workers.processes()[0]).kill()
            (tmp_path / "go").touch()
            results = await asyncio.gather(*batches, return_exceptions=True)
            assert results[:4] + results[5:] == [True] * 5
        finally:
            workers.close()

    asyncio.run(run())


def begin_and_wait(begun: Path) -> None:
    begin_worker()
    begun.touch()
    time.sleep(600)


def test_a_worker_whose_fork_server_is_gone_ends_by_itself(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("forkserver").Process(
        target=begin_and_wait, args=(tmp_path / "begun",)
    )
    worker.start()
    eventually((tmp_path / "begun").exists)
    assert worker.pid is not None
    process = psutil.Process(worker.pid)
    process.parent().kill()
    eventually(lambda: not is_alive(process))


_ASKS_FOR_A_WORKER_AND_ENDS = """
import os
from multiprocessing import forkserver
from service.workers.pool import Workers

workers = Workers(1)
workers.begin()
worker, tells_it = forkserver.connect_to_new_process([])
os.close(tells_it)
forkserver.read_signed(worker)  # its id
print(forkserver.read_signed(worker))  # how it ended
"""


def test_a_worker_that_nobody_tells_what_to_do_any_more_ends_without_a_word() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", _ASKS_FOR_A_WORKER_AND_ENDS], capture_output=True, timeout=PATIENCE
    )
    assert (asked.stdout, asked.stderr) == (b"1\n", b"")


def test_workers_that_cannot_be_started_are_told_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dies_each_time(*_: object) -> None:
        raise EOFError("unexpected EOF")

    monkeypatch.setattr("multiprocessing.forkserver.read_signed", dies_each_time)

    async def run() -> None:
        workers = Workers(2)
        try:
            with pytest.raises(WorkerDied, match="no worker process can be started"):
                await workers.run(square, 2)
        finally:
            workers.close()

    asyncio.run(run())


def test_a_batch_that_always_kills_its_worker_fails_alone() -> None:
    async def run() -> None:
        workers = Workers(2)
        try:
            deadly = asyncio.create_task(workers.run(os._exit, 3))
            numbers = range(6)
            squares = await asyncio.gather(*(workers.run(square, number) for number in numbers))
            assert squares == [number * number for number in numbers]
            with pytest.raises(WorkerDied, match="a worker process died each time"):
                await deadly
            assert await workers.run(square, 7) == 49
        finally:
            workers.close()

    asyncio.run(run())


DEADLY = DAY * 86_400_000


def rows_unless_deadly(batch: StoreBatch, question: Question) -> ReportRows:
    if question.as_of == DEADLY:
        os._exit(3)
    return report_rows(batch, question)


def test_a_report_that_always_kills_its_workers_fails_and_the_others_complete(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = add_many_stores(database_url, 10_000)
    monkeypatch.setattr(pipeline, "report_rows", rows_unless_deadly)

    def all_are_over() -> bool:
        return ask(database_url, "select bool_and(finished_at is not null) from report") == [
            (True,)
        ]

    async def run() -> None:
        workers = Workers(2)
        async with open_pool(database_url, tmp_path, own=False, max_size=12) as pool:
            runner = ReportRunner(
                pool, Sources(pool, (), 1), workers, FolderFiles(tmp_path), 3, timedelta()
            )
            asked = (ReportOptions(), ReportOptions(as_of=DEADLY), ReportOptions())
            first, deadly, second = [
                (await create_report(pool, options, most_queued=3)).id for options in asked
            ]
            async with runner.running():
                await asyncio.to_thread(eventually, all_are_over)
            rows = await pool.fetch("select id, state, error from report")
        workers.close()
        states = {row["id"]: row["state"] for row in rows}
        assert states == {first: "completed", deadly: "failed", second: "completed"}
        (error,) = (row["error"] for row in rows if row["id"] == deadly)
        assert "a worker process died each time it was given a certain batch" in error

    asyncio.run(run())
    assert [file.read_bytes() for file in tmp_path.glob("*.csv")] == [expected] * 2
