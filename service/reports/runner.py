"""Runs the reports of the queue, several at a time, and removes their files when they expire."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from compute.groups import GroupsRefused
from compute.windows import WindowRefused
from compute.zones import ZoneUnknown
from service import metrics
from service.background import beside, end, happens
from service.database.pool import DATABASE_AWAY, DATABASE_FAILED, transaction
from service.failures import first_failure
from service.logs import about_report
from service.reports import queue as reports
from service.reports.files import ReportFiles, unfinished_file, unfinished_files
from service.reports.groups import write_groups
from service.reports.pipeline import NoPolls, Progress, write_report
from service.reports.queryable import TooManyRows, check_rows, copy_stores
from service.reports.queue import FINAL, Report, State
from service.reports.sources import ReplicaFailed, Sources
from service.storage import StorageFailed
from service.workers.pool import WorkerDied, Workers

if TYPE_CHECKING:
    from service.cluster.client import Cluster  # needs the extra `cluster`

log = logging.getLogger("storewatch.reports")

#: How often a lease is renewed and progress written. A lease lasts ten times as long.
_RENEW_SECONDS = 1.0
#: How often the queue is checked for a report whose instance died; of a new one the database tells.
_LOOK_SECONDS = 1.0
_TIDY_SECONDS = 5.0
#: Removing files that nobody serves may take this long, or is left for later: reports come first.
_REMOVE_SECONDS = 2.0
#: A report that was running each time that its service died is not run again.
_MOST_ATTEMPTS = 3
_LOST = "report was taken over by another instance, or cancelled"
_DIED_EACH_TIME = "the service died, or lost its database, each time it ran this report"
#: Up to so many runs, a report is handed back without counting an attempt if the database was lost.
_MOST_RUNS = 20
#: An instance that ends waits this long for the database to take a report back.
_LET_GO_SECONDS = 1.0
#: While a report runs, the database has this long to answer; after that it counts as lost.
_ANSWER_SECONDS = 5.0


#: Failures that are no fault of the service, and say themselves what is wrong.
_IN_WORDS = (GroupsRefused, NoPolls, TooManyRows, WindowRefused, ZoneUnknown)


class LeaseLost(Exception):  # noqa: N818
    """The report was taken over by another instance, or was cancelled."""


class ReportRunner:
    """Runs queued reports, all on the same workers.

    Args:
        pool: the database, for the queue
        sources: what a report is read from, which may take longer
        workers: compute the rows
        files: gets the CSVs, and with each the exact totals of its stores
        concurrent_reports: how many run at the same time
        kept_for: how long a file is kept; 0: until it is deleted
        history: how long after its end a report without a file is remembered; 0: for ever
        cluster: computes the rows instead of `workers`; None: they do
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        sources: Sources,
        workers: Workers,
        files: ReportFiles,
        concurrent_reports: int,
        kept_for: timedelta,
        history: timedelta = timedelta(),
        cluster: "Cluster | None" = None,
    ) -> None:
        self._pool, self._sources, self._workers, self._files = pool, sources, workers, files
        self._cluster = cluster
        self._concurrent = concurrent_reports
        self._kept_for, self._history = kept_for, history
        self._look = asyncio.Event()
        self._running: dict[UUID, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """Look for queued reports now, not at the next turn."""
        self._look.set()

    def cancelled(self, report_id: UUID) -> None:
        """Stop a report, if it runs here."""
        if task := self._running.get(report_id):
            task.cancel()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run reports until the block ends; then hand those that are running back to the queue."""
        async with beside(self._run(), self._tidy()):
            yield

    async def _run(self) -> None:
        try:
            while True:
                self._look.clear()
                try:
                    await self._fill()
                except DATABASE_FAILED as error:
                    log.warning("cannot look for reports, will try again: %s", error)
                await happens(self._look, _LOOK_SECONDS)
        finally:
            await end(list(self._running.values()))

    async def _fill(self) -> None:
        while len(self._running) < self._concurrent and self._can_compute:
            report = await self._claim()
            if report is None:
                return
            with about_report(report.id):
                task = asyncio.create_task(self._run_one(report))
            self._running[report.id] = task
            task.add_done_callback(self._done)

    @property
    def _can_compute(self) -> bool:
        return self._cluster is None or self._cluster.ready

    async def _claim(self) -> Report | None:
        claim = asyncio.create_task(reports.claim_report(self._pool))
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            # This instance ends: a report that it just took would wait until the lease runs out.
            with contextlib.suppress(*DATABASE_FAILED):
                async with asyncio.timeout(_LET_GO_SECONDS):
                    if report := await claim:
                        await reports.hand_back_report(self._pool, report)
            raise

    def _done(self, ended: asyncio.Task[None]) -> None:
        self._running = {one: task for one, task in self._running.items() if task is not ended}
        self.wake()

    async def _run_one(self, report: Report) -> None:
        try:
            await self._try(report)
        except DATABASE_FAILED as error:
            log.warning(
                "lost what the report is made from or by: %s", error or type(error).__name__
            )
            await self._hand_back_when_possible(report)

    async def _hand_back_when_possible(self, report: Report) -> None:
        """Hand a report back, so that it need not wait until its lease runs out.

        A report that has been handed back too often is not, so that its attempts count: it may be
        the report itself that crashes the database.
        """
        for _ in range(round(reports.LEASE.total_seconds() / _LOOK_SECONDS)):
            if report.run >= _MOST_RUNS:
                return
            with contextlib.suppress(*DATABASE_FAILED):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    if await reports.hand_back_report(self._pool, report):
                        log.info("report handed back to the queue")
                    else:  # a service that was frozen finds its database lost before its lease
                        log.warning(_LOST)
                    await self._remove_unnamed(report)
                    return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _try(self, report: Report) -> None:
        if report.run > 1:
            await self._remove_left(report)
        if report.attempts > _MOST_ATTEMPTS:
            log.error("report failed: %s", _DIED_EACH_TIME)
            await reports.fail_report(self._pool, report, _DIED_EACH_TIME)
            return
        log.info("report began, attempt %d", report.attempts)
        try:
            progress = await self._write(report)
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LET_GO_SECONDS):
                    await asyncio.shield(self._let_go_if_possible(report))
            raise
        except LeaseLost:
            log.warning(_LOST)
        except DATABASE_AWAY:
            raise  # the report is not at fault: it is run again
        except Exception as error:
            known = isinstance(error, (*_IN_WORDS, StorageFailed, *DATABASE_FAILED))
            log.error("report failed: %s", error, exc_info=None if known else error)
            await reports.fail_report(self._pool, report, _told(error))
        else:
            log.info("report completed, %d stores", progress.stores_done)
            return
        await self._remove_unnamed(report)

    async def _let_go_if_possible(self, report: Report) -> None:
        with contextlib.suppress(*DATABASE_FAILED):  # then its lease will pass
            await self._let_go(report)

    async def _let_go(self, report: Report) -> None:
        """Hand the report back because this instance ends, unless the report was cancelled."""
        if await reports.hand_back_report(self._pool, report):
            log.info("report handed back to the queue")
        else:
            log.info("report cancelled")
        await self._remove_unnamed(report)

    async def _write(self, report: Report) -> Progress:
        """Compute the report into its files, renewing the lease and telling progress meanwhile.

        The files have names that are this run's alone, and the report's row names them at the end:
        who lost the report meanwhile has replaced nothing. What is copied into tables is committed
        together with that.
        """
        progress: Progress | None = None
        options = report.options(await reports.read_stores(self._pool, report))

        def on_progress(now: Progress) -> None:
            nonlocal progress
            progress = now
            if report.queryable:
                check_rows(now.stores_total, len(now.roll_up.sums))

        async def renew() -> None:
            while True:
                await asyncio.sleep(_RENEW_SECONDS)
                async with asyncio.timeout(_ANSWER_SECONDS):
                    kept = await reports.renew_lease(self._pool, report, progress)
                if not kept:
                    raise LeaseLost

        with (
            unfinished_file(self._files, report.id, report.run) as file,
            unfinished_file(self._files, report.id, report.run, "totals") as totals,
        ):
            try:
                async with asyncio.TaskGroup() as group:
                    renewing = group.create_task(renew())
                    source = await self._sources.choose()
                    if source.number:
                        log.info("report is read from replica %d", source.number)
                    try:
                        progress = await write_report(
                            *(source.pool, self._workers, options, file, on_progress, totals),
                            timed=metrics.time_of_batch,
                            cluster=self._cluster,
                            server=source.number,
                        )
                    except DATABASE_FAILED as error:
                        if not source.number or isinstance(error, StorageFailed):
                            raise
                        self._sources.rest(source.number, str(error) or type(error).__name__)
                        raise ReplicaFailed(f"replica {source.number}: {error}") from error
                    stores = None
                    if report.queryable:
                        stores = await asyncio.to_thread(totals.reopened)
                    for written, name in ((file, report.run_file), (totals, report.run_totals)):
                        await asyncio.to_thread(written.flush)
                        await self._files.publish(written.path, name)
                    # To copy stores takes longer than the queue waits for an answer.
                    pool = self._pool if stores is None else self._sources.primary
                    async with transaction(pool) as connection:
                        if progress.groups is not None:
                            await write_groups(connection, report.id, progress.groups)
                        if stores is not None:
                            await copy_stores(connection, report.id, stores)
                        renewing.cancel()
                        if not await reports.complete_report(
                            connection,
                            report,
                            progress,
                            size=file.size,
                            sha256=file.sha256,
                            totals_size=totals.size,
                        ):
                            raise LeaseLost
            except BaseExceptionGroup as failures:
                raise first_failure(failures) from None
        return progress

    async def _tidy(self) -> None:
        """Remove what was kept long enough, and what instances that died left behind."""
        while True:
            try:
                await self._remove_unfinished()
                if self._kept_for:
                    for report_id in await reports.outdated_reports(self._pool, self._kept_for):
                        await self._expire(report_id)
                if self._history and (
                    forgotten := await reports.forget_reports(self._pool, self._history)
                ):
                    log.info("%d reports forgotten that ended long ago", forgotten)
                await reports.forget_deleted(self._pool)
            except Exception as error:
                log.warning("cannot tidy up, will try again: %s", error)
            await asyncio.sleep(_TIDY_SECONDS)

    async def _expire(self, report_id: UUID) -> None:
        report = await reports.read_report(self._pool, report_id)
        if report is not None and report.state == "completed":
            # The files go first: an instance that dies in between will begin again, and clients
            # that ask in between are told that the file is gone.
            await self._files.delete(report.files)
            await reports.expire_report(self._pool, report_id)
            log.info("report %s expired", report_id)

    async def _remove_left(self, report: Report) -> None:
        """Remove what earlier runs of a report left: no row will refer to it."""
        try:
            await self._remove_unfinished(report.id)
        except StorageFailed as failed:
            log.warning("cannot remove what an earlier run left: %s", failed)
        await self._remove_files(report.files)

    async def _remove_unnamed(self, report: Report) -> None:
        """Remove the files of a run that did not complete, if it wrote any.

        If a run was cut short just after it completed the report, the file is kept.
        """
        if not await reports.names_file(self._pool, report):
            await self._remove_files([report.run_file, report.run_totals])

    async def _remove_files(self, names: Sequence[str]) -> None:
        """Remove files that nobody serves; any that remain are removed with the report."""
        try:
            async with asyncio.timeout(_REMOVE_SECONDS):
                await self._files.delete(names)
        except (StorageFailed, TimeoutError) as failed:
            log.warning("cannot remove %s: %s", ", ".join(names), failed or "no answer in time")

    async def _remove_unfinished(self, only: UUID | None = None) -> None:
        """Remove unfinished files that no instance writes any more, of all reports or of one."""
        for path, report_id, run in unfinished_files(self._files):
            if only in (None, report_id) and not await reports.is_running(
                self._pool, report_id, run
            ):
                path.unlink(missing_ok=True)


class NotEnded(Exception):  # noqa: N818
    """The report is queued or running.

    Attributes:
        state: which of the two
    """

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.state = state


async def delete_report(pool: asyncpg.Pool, files: ReportFiles, report_id: UUID) -> bool:
    """Delete a report that has ended, and its file; true also if it was already deleted.

    Returns:
        false: there never was such a report, or it was forgotten

    Raises:
        NotEnded: it is queued or running
    """
    async with transaction(pool) as connection:
        report = await reports.read_report(connection, report_id)
        if report is None:
            return await reports.was_deleted(connection, report_id)
        if report.state not in FINAL:
            raise NotEnded(report.state)
        if await reports.take_finished(connection, report_id):
            await files.delete(report.files)
            await reports.delete_row(connection, report_id)
        return True


def _told(error: Exception) -> str:
    """The reason for clients: without paths or SQL."""
    if isinstance(error, (*_IN_WORDS, WorkerDied)):
        return str(error)
    if isinstance(error, StorageFailed):
        return error.told
    if isinstance(error, asyncpg.DiskFullError):
        return "the disk of the database is full"
    return f"the service could not make it ({type(error).__name__}); its log says more"
