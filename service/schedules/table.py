"""The schedules, rows of the table `schedule`: made, changed, listed, and what each asks for."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid4

import asyncpg
import msgspec

from service.database import locks
from service.database.pool import Database
from service.deliveries.table import (
    Delivery,
    DeliveryFormat,
    queue_delivery,
    read_deliveries,
)
from service.reports.queue import State
from service.schedules.cron import Plan

#: What a schedule's reports end at: the instant that the plan tells, or the newest poll.
AsOf = Literal["scheduled", "newest_poll"]

MOST_SCHEDULES = 1000
#: All that is told of a schedule, but for its report.
_TOLD = """
    id, name, cron, timezone, as_of, paused, deliver_to, deliver_as, next_run, last_run, last_error,
    (
        select error from delivery where schedule_id = schedule.id and ended_at is not null
        order by ended_at desc limit 1
    ) as last_delivery_error,
    created_at, clock_timestamp() as read_at
"""
#: Characters of a name.
LONGEST_NAME = 200


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a person says of a schedule.

    Attributes:
        name: its own
        cron: when, five fields
        timezone: IANA name of the zone of `cron`
        as_of: what its reports end at
        report: JSON of the body of POST /reports, without `as_of`
        paused: whether it waits until it is told to go on
        deliver_to: where its files are put, as `checked_place` gives it; None: nowhere
        deliver_as: formats of those files
    """

    name: str
    cron: str
    timezone: str
    as_of: AsOf
    report: bytes
    paused: bool
    deliver_to: str | None
    deliver_as: list[DeliveryFormat]


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it is known.

    Attributes:
        id: its id
        settings: what a person said of it
        next_run: when it fires next; None: it is paused, or never does again
        last_run: the last time of its plan for which a report was queued
        last_error: why none was queued at the time after it
        last_delivery_error: why the delivery that ended last failed; None: it did not
        created_at: when it was made
        read_at: when this was read, by the database's clock
    """

    id: UUID
    settings: Settings
    next_run: datetime | None
    last_run: datetime | None
    last_error: str | None
    last_delivery_error: str | None
    created_at: datetime
    read_at: datetime


class Run(msgspec.Struct, frozen=True):
    """A report that a schedule asked for.

    Attributes:
        report_id: its id
        scheduled_for: the time of the plan; None: it was run by hand
        created_at: when it was asked for
        state: of the report
        delivery: of its files; None: there is none
    """

    report_id: UUID
    scheduled_for: datetime | None
    created_at: datetime
    state: State
    delivery: Delivery | None


class NameTaken(Exception):  # noqa: N818
    """Another schedule has the name."""


class TooManySchedules(Exception):  # noqa: N818
    """There are as many schedules as there may be."""


async def create_schedule(connection: asyncpg.Connection, settings: Settings) -> Schedule:
    """Make a schedule, which first fires after now.

    Args:
        connection: in a transaction
        settings: with a valid plan

    Raises:
        NameTaken: another one has the name
        TooManySchedules: there are `MOST_SCHEDULES`
    """
    await connection.execute("select pg_advisory_xact_lock($1)", locks.SCHEDULES)
    if await connection.fetchval("select count(*) from schedule") >= MOST_SCHEDULES:
        raise TooManySchedules
    await _check_name(connection, settings.name)
    now = await now_of(connection)
    made = Schedule(
        id=uuid4(),
        settings=settings,
        next_run=None if settings.paused else first_after(settings, now),
        last_run=None,
        last_error=None,
        last_delivery_error=None,
        created_at=now,
        read_at=now,
    )
    await connection.execute(
        """
        insert into schedule (id, name, cron, timezone, as_of, report, paused, next_run, due,
                              created_at, deliver_to, deliver_as)
        values ($1, $2, $3, $4, $5, $6::text::json, $7, $8, $8, $9, $10, $11)
        """,
        made.id,
        settings.name,
        settings.cron,
        settings.timezone,
        settings.as_of,
        settings.report.decode(),
        settings.paused,
        made.next_run,
        made.created_at,
        settings.deliver_to,
        settings.deliver_as,
    )
    return made


async def change_schedule(
    connection: asyncpg.Connection, known: Schedule, settings: Settings
) -> Schedule:
    """Change a schedule. Another plan, or going on after a pause, counts from now.

    Args:
        connection: in the transaction in which `known` was taken
        known: as it was
        settings: as it shall be, with a valid plan

    Raises:
        NameTaken: another one has the name
    """
    was = known.settings
    next_run = known.next_run
    if settings.paused:
        next_run = None
    elif was.paused or (was.cron, was.timezone) != (settings.cron, settings.timezone):
        next_run = first_after(settings, known.read_at)
    await connection.execute("select pg_advisory_xact_lock($1)", locks.SCHEDULES)
    await _check_name(connection, settings.name, known.id)
    await connection.execute(
        """
        update schedule set name = $2, cron = $3, timezone = $4, as_of = $5,
            report = $6::text::json, paused = $7, next_run = $8, due = $8, last_error = null,
            deliver_to = $9, deliver_as = $10
        where id = $1
        """,
        known.id,
        settings.name,
        settings.cron,
        settings.timezone,
        settings.as_of,
        settings.report.decode(),
        settings.paused,
        next_run,
        settings.deliver_to,
        settings.deliver_as,
    )
    return msgspec.structs.replace(known, settings=settings, next_run=next_run, last_error=None)


async def _check_name(connection: Database, name: str, own: UUID | None = None) -> None:
    """Refuse the name of another schedule than one's own."""
    if await connection.fetchval(
        "select true from schedule where name = $1 and id is distinct from $2", name, own
    ):
        raise NameTaken


async def delete_schedule(connection: Database, schedule_id: UUID) -> None:
    """Remove a schedule; its reports stay."""
    await connection.execute("delete from schedule where id = $1", schedule_id)


async def read_schedule(connection: Database, schedule_id: UUID) -> Schedule | None:
    """A schedule; None: there is none with this id."""
    row = await connection.fetchrow(
        f"select report::text as report, {_TOLD} from schedule where id = $1",
        schedule_id,
    )
    return None if row is None else _schedule(row)


async def take_schedule(connection: asyncpg.Connection, schedule_id: UUID) -> Schedule | None:
    """The same, locked until the transaction ends."""
    await connection.execute("select from schedule where id = $1 for update", schedule_id)
    return await read_schedule(connection, schedule_id)


async def take_due(connection: asyncpg.Connection) -> Schedule | None:
    """Lock a schedule whose time has come, until the transaction ends; None: there is none.

    What another instance has locked is left to it.
    """
    schedule_id: UUID | None = await connection.fetchval(
        """
        select id from schedule where due <= clock_timestamp()
        order by due limit 1 for update skip locked
        """
    )
    return None if schedule_id is None else await read_schedule(connection, schedule_id)


async def list_schedules(connection: Database, size: int, after: str = "") -> list[Schedule]:
    """Schedules by byte order of their names, without what they ask for.

    Args:
        connection: where to ask
        size: how many at most
        after: only those whose names come after this one
    """
    rows = await connection.fetch(
        f"""
        select '{{}}' as report, {_TOLD} from schedule where name > $2 order by name limit $1
        """,
        size,
        after,
    )
    return [_schedule(row) for row in rows]


async def last_runs(connection: Database, schedule_id: UUID, size: int) -> Sequence[Run]:
    """The newest reports of a schedule that are still known, the newest first."""
    rows = await connection.fetch(
        """
        select id, scheduled_for, created_at, state from report where schedule_id = $1
        order by created_at desc limit $2
        """,
        schedule_id,
        size,
    )
    deliveries = await read_deliveries(connection, [row["id"] for row in rows])
    return [
        Run(
            row["id"],
            row["scheduled_for"],
            row["created_at"],
            row["state"],
            deliveries.get(row["id"]),
        )
        for row in rows
    ]


async def note_run(
    connection: asyncpg.Connection, report_id: UUID, schedule: Schedule, fired: datetime | None
) -> None:
    """Note that a report was asked for by a schedule, and where it is to be delivered.

    Args:
        connection: in the transaction that queued it
        report_id: of the report
        schedule: as it was then
        fired: the time of the plan; None: it was run by hand
    """
    await connection.execute(
        "update report set schedule_id = $2, scheduled_for = $3 where id = $1",
        report_id,
        schedule.id,
        fired,
    )
    settings = schedule.settings
    if settings.deliver_to is not None:
        await queue_delivery(
            connection,
            report_id,
            schedule.id,
            settings.name,
            settings.deliver_to,
            settings.deliver_as,
        )


async def move_on(
    connection: asyncpg.Connection,
    schedule_id: UUID,
    *,
    fired: datetime | None,
    next_run: datetime | None,
    error: str | None,
) -> None:
    """Note what became of a time of the plan, and which one is next.

    Args:
        connection: in the transaction in which the schedule was taken
        schedule_id: of the schedule
        fired: the time for which a report was queued; None: none was
        next_run: the next time; None: there is none
        error: why no report was queued; None: one was
    """
    await connection.execute(
        """
        update schedule set last_run = coalesce($2, last_run), next_run = $3, due = $3,
            last_error = $4
        where id = $1
        """,
        schedule_id,
        fired,
        next_run,
        error,
    )


async def try_later(
    connection: Database, schedule_id: UUID, due: datetime, seconds: float, error: str
) -> None:
    """Look at a schedule again in some seconds, unless it was changed meanwhile.

    Args:
        connection: where to write
        schedule_id: of the schedule
        due: the time that has come, its `next_run`
        seconds: from now
        error: why no report was queued yet
    """
    await connection.execute(
        """
        update schedule set due = clock_timestamp() + make_interval(secs => $3), last_error = $4
        where id = $1 and next_run = $2
        """,
        schedule_id,
        due,
        seconds,
        error,
    )


def first_after(settings: Settings, instant: datetime) -> datetime | None:
    """When a plan fires next; None: never.

    Raises:
        CronRefused, ZoneMissing: it is no plan
    """
    return next(Plan(settings.cron, settings.timezone).after(instant), None)


async def now_of(connection: Database) -> datetime:
    """Now, by the database's clock: it is one for all instances."""
    now: datetime = await connection.fetchval("select clock_timestamp()")
    return now


def _schedule(row: asyncpg.Record) -> Schedule:
    settings = Settings(
        name=row["name"],
        cron=row["cron"],
        timezone=row["timezone"],
        as_of=row["as_of"],
        report=row["report"].encode(),
        paused=row["paused"],
        deliver_to=row["deliver_to"],
        deliver_as=row["deliver_as"],
    )
    return Schedule(
        id=row["id"],
        settings=settings,
        next_run=row["next_run"],
        last_run=row["last_run"],
        last_error=row["last_error"],
        last_delivery_error=row["last_delivery_error"],
        created_at=row["created_at"],
        read_at=row["read_at"],
    )
