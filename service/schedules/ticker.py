"""Queues the reports of schedules when their times come, each once, whichever instance does it.

A schedule whose time has come is locked; in the same transaction its report is queued and its next
time is written. So an instance that dies in the middle has done nothing, and the next one does all
of it. The database's clock tells what has come: one that is set back brings no time again. Of all
times that were missed, the latest is caught up.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime

import asyncpg

from service.background import beside
from service.database.pool import DATABASE_AWAY, DATABASE_FAILED, Database, transaction
from service.reports.options import ReportOptions
from service.reports.queue import QueueFull, create_report
from service.schedules.cron import CronRefused, Plan, ZoneMissing
from service.schedules.table import Schedule, Settings, move_on, note_run, take_due, try_later

log = logging.getLogger("storewatch.schedules")

#: How often to look for schedules whose time has come.
_LOOK_SECONDS = 1.0
#: When to try again if the queue is full; and if this instance is at fault, as another may not be.
_QUEUE_SECONDS, _FAULT_SECONDS = 10.0, 60.0
#: While schedules are looked at, the database has this long to answer for each.
_ANSWER_SECONDS = 20.0


class ReportRefused(Exception):  # noqa: N818 - read by a person as a sentence
    """What a schedule asks for cannot be asked for any more."""


#: From what a schedule asks and the instant at which it fires to the options of a report. Raises
#: ReportRefused.
OptionsOf = Callable[[Database, Settings, datetime], Awaitable[ReportOptions]]


class Ticker:
    """Queues what schedules ask for.

    Args:
        pool: the database
        options_of: what makes the options of a report
        most_queued: how many reports may wait in the queue
    """

    def __init__(self, pool: asyncpg.Pool, options_of: OptionsOf, most_queued: int) -> None:
        self._pool, self._options_of, self._most_queued = pool, options_of, most_queued

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Queue reports until the block ends."""
        async with beside(self._run()):
            yield

    async def _run(self) -> None:
        while True:
            try:
                while await self._one():
                    pass
            except DATABASE_FAILED as error:
                log.warning(
                    "cannot look for schedules, will try again: %s", error or type(error).__name__
                )
            await asyncio.sleep(_LOOK_SECONDS)

    async def _one(self) -> bool:
        """See to one schedule whose time has come; false: there is none, or the queue is full."""
        schedule: Schedule | None = None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS), transaction(self._pool) as connection:
                schedule = await take_due(connection)
                if schedule is None:
                    return False
                return await self._fire(connection, schedule)
        except DATABASE_AWAY:
            raise
        except Exception as error:
            if schedule is None or schedule.next_run is None:
                raise
            # Nothing was written. The others must not wait for this one.
            log.exception("schedule %s: cannot queue its report", schedule.id)
            told = f"the service could not queue it ({type(error).__name__}); its log says more"
            await try_later(self._pool, schedule.id, schedule.next_run, _FAULT_SECONDS, told)
            return True

    async def _fire(self, connection: asyncpg.Connection, schedule: Schedule) -> bool:
        due, settings = schedule.next_run, schedule.settings
        if due is None:
            raise ValueError("a schedule is due that has no next run")
        now = max(due, schedule.read_at)  # the clock may just have been set back
        try:
            plan = Plan(settings.cron, settings.timezone)
        except (CronRefused, ZoneMissing) as error:
            log.warning("schedule %s: %s", schedule.id, error)
            await try_later(connection, schedule.id, due, _FAULT_SECONDS, str(error))
            return True
        fired = plan.latest(due, now)
        next_run = next(plan.after(now), None)
        try:
            options = await self._options_of(connection, settings, fired)
            report = await create_report(connection, options, most_queued=self._most_queued)
        except ReportRefused as error:
            log.warning("schedule %s: no report for %s: %s", schedule.id, fired, error)
            told = f"no report for {fired:%Y-%m-%dT%H:%M}Z: {error}"
            await move_on(connection, schedule.id, fired=None, next_run=next_run, error=told)
            return True
        except QueueFull:
            text = f"{self._most_queued} reports are waiting already: its report will wait for room"
            log.warning("schedule %s: %s", schedule.id, text)
            await try_later(connection, schedule.id, due, _QUEUE_SECONDS, text)
            return False
        await note_run(connection, report.id, schedule, fired)
        await move_on(connection, schedule.id, fired=fired, next_run=next_run, error=None)
        log.info("schedule %s: queued report %s for %s", schedule.id, report.id, fired)
        return True
