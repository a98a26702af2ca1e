"""Worker processes that are killed, or kill themselves, in the middle of a report."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import asyncpg
import psutil
import pytest

from compute.report_rows import Question, StoreBatch, report_rows
from compute.roll_up import RollUp
from compute.workers import WorkerDied, Workers
from service import pipeline
from service.pipeline import ReportOptions
from service.report_files import FolderFiles
from service.report_runner import ReportRunner
from service.reports import create_report
from tests.integration.service import (
    DAY,
    add_many_stores,
    ask,
    eventually,
    freeze_workers,
    is_alive,
    running_service,
)

WORKERS = 3
STORES = 40_000


def kill_one(workers: list[psutil.Process]) -> None:
    workers[0].kill()
    for worker in workers[1:]:
        worker.resume()


def kill_all(workers: list[psutil.Process]) -> None:
    for worker in workers:
        worker.kill()


@pytest.mark.parametrize("kill", [kill_one, kill_all])
def test_a_report_in_the_middle_of_which_workers_are_killed_completes_with_fresh_ones(
    database_url: str, tmp_path: Path, kill: Callable[[list[psutil.Process]], None]
) -> None:
    expected = add_many_stores(database_url, STORES)
    with running_service(database_url, tmp_path, STOREWATCH_WORKERS=str(WORKERS)) as service:
        report_id, workers = freeze_workers(service, WORKERS)
        kill(workers)
        assert service.wait_for(report_id) == "Completed", service.log
        assert service.csv(report_id).read_bytes() == expected
        assert service.files() == [f"{report_id}.csv"]
        assert ask(database_url, "select attempts from report") == [(1,)]
        eventually(lambda: not any(map(is_alive, workers)))
        assert service.report() == expected


def test_a_worker_that_is_killed_between_two_reports_is_not_missed(
    database_url: str, tmp_path: Path
) -> None:
    expected = add_many_stores(database_url, 1000)
    with running_service(database_url, tmp_path) as service:
        assert service.report() == expected
        for worker in service.workers():
            with suppress(psutil.NoSuchProcess):  # the pool ends the others when one has died
                worker.kill()
        assert service.report() == expected


def square(number: int) -> int:
    return number * number


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


def rows_unless_deadly(batch: StoreBatch, question: Question) -> tuple[bytes, RollUp]:
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
        async with asyncpg.create_pool(database_url, max_size=12) as pool:
            runner = ReportRunner(pool, workers, FolderFiles(tmp_path), 3, timedelta())
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
        assert "a worker process died each time it was given one batch" in error

    asyncio.run(run())
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [expected] * 2
