"""The life of a report: queued, running, completed or failed; each a row of the table `report`.

Whoever runs a report holds a lease on it and renews it while it works. A lease that has passed is
the mark of a service that died: the next one to look takes the report and runs it again. The file
appears under its name when it is complete, or not at all.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal
from uuid import UUID, uuid4

import asyncpg
import msgspec

from compute.workers import Workers
from service.logs import about_report
from service.pipeline import NoPolls, Progress, ReportOptions, write_report
from service.store import EPOCH

log = logging.getLogger("storewatch.reports")

State = Literal["queued", "running", "completed", "failed"]

_LEASE = timedelta(seconds=10)
_RENEW_SECONDS = 1.0
_LOOK_SECONDS = 1.0
#: A report that was running each time that its service died is not run again.
_MOST_ATTEMPTS = 3
_DIED_EACH_TIME = "the service died each time it ran this report"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A report that somebody asked for."""

    id: UUID
    state: State
    as_of: datetime | None
    interpolation: Literal["nearest", "previous"]
    max_gap: timedelta
    include_unknown: bool
    stores_done: int
    stores_total: int | None
    error: str | None
    attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


_COLUMNS = Report.__struct_fields__


class LeaseLost(Exception):  # noqa: N818
    """Another service took the report over, because this one did not renew its lease in time."""


async def create_report(pool: asyncpg.Pool, options: ReportOptions) -> UUID:
    """Queue a report; any service on the database may run it."""
    report_id = uuid4()
    await pool.execute(
        """
        insert into report (id, state, as_of, interpolation, max_gap, include_unknown)
        values ($1, 'queued', $2, $3, $4, $5)
        """,
        report_id,
        None if options.as_of is None else EPOCH + timedelta(milliseconds=options.as_of),
        options.interpolation,
        timedelta(milliseconds=options.max_gap),
        options.include_unknown,
    )
    return report_id


async def report_state(pool: asyncpg.Pool, report_id: UUID) -> State | None:
    """Where a report is in its life; None: there is no such report."""
    state: State | None = await pool.fetchval("select state from report where id = $1", report_id)
    return state


class ReportRunner:
    """Runs queued reports, several at a time, all on the same workers."""

    def __init__(
        self, pool: asyncpg.Pool, workers: Workers, folder: Path, concurrent_reports: int
    ) -> None:
        self._pool = pool
        self._workers = workers
        self._folder = folder
        self._concurrent = concurrent_reports
        self._look = asyncio.Event()

    def wake(self) -> None:
        """Look for queued reports now, not at the next turn."""
        self._look.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run reports until the block ends; then hand those that are running back to the queue."""
        self._folder.mkdir(parents=True, exist_ok=True)
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                self._look.clear()
                try:
                    while len(running) < self._concurrent and (report := await self._claim()):
                        task = asyncio.create_task(self._run_one(report))
                        running.add(task)
                        task.add_done_callback(running.discard)
                        task.add_done_callback(lambda _: self.wake())
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                    log.warning("cannot look for reports, will try again: %s", error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._look.wait(), _LOOK_SECONDS)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _claim(self) -> Report | None:
        """Take the oldest report that waits, or whose service died."""
        row = await self._pool.fetchrow(
            """
            update report set
                state = 'running',
                attempts = attempts + 1,
                leased_until = now() + $1::interval,
                started_at = now(),
                stores_done = 0
            where id = (
                select id from report
                where state = 'queued' or state = 'running' and leased_until < now()
                order by created_at limit 1 for update skip locked
            )
            returning id, state, as_of, interpolation, max_gap, include_unknown, stores_done,
                      stores_total, error, attempts, created_at, started_at, finished_at
            """,
            _LEASE,
        )
        return None if row is None else Report(**dict(zip(_COLUMNS, row, strict=True)))

    async def _run_one(self, report: Report) -> None:
        with about_report(report.id):
            await self._run_to_its_end(report)

    async def _run_to_its_end(self, report: Report) -> None:
        if report.attempts > _MOST_ATTEMPTS:
            self._remove_unfinished(report)
            log.error("report %s failed: %s", report.id, _DIED_EACH_TIME)
            await self._finish(report, "failed", _DIED_EACH_TIME)
            return
        log.info("report %s began, attempt %d", report.id, report.attempts)
        try:
            progress = await self._write(report)
        except asyncio.CancelledError:
            await asyncio.shield(self._hand_back(report))
            raise
        except LeaseLost:
            log.warning("report %s was taken over by another service", report.id)
        except Exception as error:
            known = isinstance(error, NoPolls | OSError | asyncpg.PostgresError)
            log.error("report %s failed", report.id, exc_info=None if known else error)
            await self._finish(report, "failed", str(error) or type(error).__name__)
        else:
            log.info("report %s completed, %d stores", report.id, progress.stores_done)

    async def _write(self, report: Report) -> Progress:
        """Compute the report into its file, renewing the lease and telling progress meanwhile."""
        self._remove_unfinished(report)
        partial = self._folder / f".{report.id}.{report.attempts}"
        options = ReportOptions(
            as_of=None if report.as_of is None else _milliseconds(report.as_of - EPOCH),
            interpolation=report.interpolation,
            max_gap=_milliseconds(report.max_gap),
            include_unknown=report.include_unknown,
        )
        progress: Progress | None = None

        def on_progress(now: Progress) -> None:
            nonlocal progress
            progress = now

        async def renew() -> None:
            while True:
                await asyncio.sleep(_RENEW_SECONDS)
                await self._renew(report, progress)

        try:
            with partial.open("xb") as file:
                async with asyncio.TaskGroup() as group:
                    renewing = group.create_task(renew())
                    progress = await write_report(
                        self._pool, self._workers, options, file, on_progress
                    )
                    renewing.cancel()
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            await self._renew(report, progress)
            partial.replace(self._folder / f"{report.id}.csv")
            await self._finish(report, "completed", None)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            partial.unlink(missing_ok=True)
        return progress

    def _remove_unfinished(self, report: Report) -> None:
        """Remove what services that died left of the report's file."""
        for left in self._folder.glob(f".{report.id}.*"):
            left.unlink(missing_ok=True)

    async def _renew(self, report: Report, progress: Progress | None) -> None:
        renewed = await self._pool.fetchval(
            """
            update report set leased_until = now() + $3::interval, stores_done = $4,
                stores_total = $5, as_of = $6
            where id = $1 and attempts = $2 and state = 'running'
            returning true
            """,
            report.id,
            report.attempts,
            _LEASE,
            progress.stores_done if progress else 0,
            progress.stores_total if progress else None,
            EPOCH + timedelta(milliseconds=progress.as_of) if progress else report.as_of,
        )
        if not renewed:
            raise LeaseLost

    async def _finish(self, report: Report, state: State, error: str | None) -> None:
        await self._pool.execute(
            """
            update report set state = $3, error = $4, finished_at = now(), leased_until = null
            where id = $1 and attempts = $2 and state = 'running'
            """,
            report.id,
            report.attempts,
            state,
            error,
        )

    async def _hand_back(self, report: Report) -> None:
        """To the queue again, as if it had not been taken."""
        await self._pool.execute(
            """
            update report set state = 'queued', attempts = attempts - 1, leased_until = null,
                stores_done = 0
            where id = $1 and attempts = $2 and state = 'running'
            """,
            report.id,
            report.attempts,
        )
        log.info("report %s handed back to the queue", report.id)


def _milliseconds(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
