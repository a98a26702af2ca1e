"""The life of a report, a row of the table `report`: queued, running, then completed, failed or
cancelled. A completed report expires once its file was kept long enough. Finally a row is removed.

The table is also the queue that all instances on one database share. The instance that runs a
report has a lease on it, which it renews. If a lease runs out, the instance must have died, and the
next one that looks takes the report over. A queue library (pgqueuer) would keep jobs of its own
beside these rows, with its own tables and migrations, and both would have to agree on every state.
"""

import hashlib
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Literal, get_args
from uuid import UUID, uuid4

import asyncpg
import msgspec

from compute.csv_rows import DEFAULT_UNIT, Unit
from compute.instants import instant_of, milliseconds_of
from compute.uptime import Interpolation
from compute.windows import Window, resolve_windows
from compute.zones import TZ_VERSION
from service.database import locks
from service.database.pool import Database, transaction
from service.reports.options import ReportOptions
from service.reports.pipeline import Progress
from service.reports.summary import to_kept
from service.reports.windows import csv_names

State = Literal["queued", "running", "completed", "failed", "cancelled", "expired"]
#: States in which nothing computes the report any more. The only step from one of them to another
#: is from completed to expired.
FINAL: frozenset[State] = frozenset(("completed", "failed", "cancelled", "expired"))

LEASE = timedelta(seconds=10)
#: How long an idempotency key stands for the report that it was first used for.
KEY_LASTS = timedelta(hours=24)
#: How long the id of a deleted report is remembered.
_DELETED_REMEMBERED = timedelta(days=1)
#: Rows that one statement forgets.
_FORGOTTEN_AT_ONCE = 500
_MILLISECOND = timedelta(milliseconds=1)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A report that somebody asked for.

    Attributes:
        id: its id
        state: where it is in its life
        as_of: the end of every window; None: not asked for, and not known until it runs
        asked_as_of: the one that was asked for
        interpolation: how to estimate the status between observations
        max_gap: for how long an observation speaks to either side
        include_unknown: whether the CSV has the columns of unknown time
        include_excluded: whether the CSV has the columns of excluded time
        windows: texts of the windows that were asked for; None: the last hour, day and week
        calendar: zone of calendar periods; None: each store's own
        unit: of the CSV, for windows; None: the three windows have theirs
        escape_formulas: whether ids that a spreadsheet takes for formulas are escaped in the CSV
        named_stores: how many stores it is limited to; None: it is about all
        tags: what its stores have, `key:value`; None: anything
        group_by: what the stores of a group have in common; None: it has no groups
        target: of the stores that have none of their own; None: none
        queryable: whether its stores can be queried by SQL
        stores_done: stores written
        stores_total: stores of the report; None until it runs
        error: why it failed
        run: how often an instance took it
        attempts: how often an instance took it and did not hand it back
        version: counts the changes of this row that clients are told about
        created_at: when it was asked for
        started_at: when it was last taken
        finished_at: when it ended
        file_size: bytes of its CSV
        file_sha256: of its CSV
        file_name: what its CSV is called; None: not completed, or by an older version
        totals_size: bytes of the file with each store's totals; None: not completed, or by an older
            version, which kept none
        tz_version: release of the tz database that it was made with; None: not completed, or by an
            older version
        fingerprint: of the hours, special hours, exclusions and zones that it was made of; None: as
            with `tz_version`
        polls_kept_since: since when polls were kept, where it is also about time before; None: it
            is not, or not completed, or by an older version
        schedule_id: of the schedule that asked for it; None: somebody did
        scheduled_for: the time of that plan; None: it was run by hand, or is none of a schedule
        read_at: when this was read, by the database's clock
    """

    id: UUID
    state: State
    as_of: datetime | None
    asked_as_of: datetime | None
    interpolation: Interpolation
    max_gap: timedelta
    include_unknown: bool
    include_excluded: bool
    windows: list[str] | None
    calendar: str | None
    unit: Unit | None
    escape_formulas: bool
    named_stores: int | None
    tags: list[str] | None
    group_by: list[str] | None
    target: int | None
    queryable: bool
    stores_done: int
    stores_total: int | None
    error: str | None
    run: int
    attempts: int
    version: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    file_size: int | None
    file_sha256: bytes | None
    file_name: str | None
    totals_size: int | None
    tz_version: str | None
    fingerprint: bytes | None
    polls_kept_since: datetime | None
    schedule_id: UUID | None
    scheduled_for: datetime | None
    read_at: datetime

    def options(self, stores: Sequence[str] | None) -> ReportOptions:
        """What it asks; `stores`: the ids that it names, as `read_stores` tells them."""
        return ReportOptions(
            as_of=milliseconds_of(self.as_of),
            interpolation=self.interpolation,
            max_gap=self.max_gap // _MILLISECOND,
            include_unknown=self.include_unknown,
            include_excluded=self.include_excluded,
            windows=None if self.windows is None else tuple(self.windows),
            calendar=self.calendar,
            unit=self.unit or DEFAULT_UNIT,
            tags=None if self.tags is None else tuple(self.tags),
            group_by=None if self.group_by is None else tuple(self.group_by),
            target=self.target,
            escape_formulas=self.escape_formulas,
            stores=None if stores is None else tuple(stores),
            queryable=self.queryable,
        )

    @property
    def asked_windows(self) -> tuple[Window, ...]:
        """The windows that it names; none: it is the default report, or `as_of` is not known yet.

        Raises:
            WindowRefused: one goes beyond the limits, so the report fails, or has failed
        """
        if self.windows is None or self.as_of is None:
            return ()
        return resolve_windows(self.windows, milliseconds_of(self.as_of), self.calendar)

    @property
    def file(self) -> str:
        """What its CSV is called, of a completed one."""
        return self.file_name or self._name_before_runs

    @property
    def run_file(self) -> str:
        """What this run calls its CSV: no other run of the report can replace it."""
        return f"{self.id}.{self.run}.csv"

    @property
    def totals_file(self) -> str:
        """What the file with each store's totals is called, of a completed one that has it."""
        return f"{self.file.removesuffix('.csv')}.totals"

    @property
    def run_totals(self) -> str:
        """What this run calls that file."""
        return f"{self.id}.{self.run}.totals"

    @property
    def files(self) -> list[str]:
        """All names under which a run of it may have left a file."""
        runs = range(1, self.run + 1)
        of_runs = [f"{self.id}.{run}.{kind}" for run in runs for kind in ("csv", "totals")]
        return [self._name_before_runs, *of_runs]

    @property
    def _name_before_runs(self) -> str:
        """What version 0.1 called it, whichever run made it."""
        return f"{self.id}.csv"


# Named one by one: `*` would read all ids of named stores, and would break an instance that has
# prepared its statements when a newer version adds a column.
_COLUMNS = ", ".join(Report.__struct_fields__[:-1]) + ", clock_timestamp() as read_at"


class IdempotencyKey(msgspec.Struct, frozen=True):
    """What shows that a request is sent again, and is not another one.

    Attributes:
        caller: id of the API key that it came with; 0: none was needed
        text: unique to each report
    """

    caller: int
    text: str


class QueueFull(Exception):  # noqa: N818
    """As many reports are queued as the limit allows."""


class KeyReused(Exception):  # noqa: N818
    """An idempotency key that was used for a report with other options."""


async def create_report(
    database: Database,
    options: ReportOptions,
    *,
    most_queued: int,
    idempotency_key: IdempotencyKey | None = None,
) -> Report:
    """Queue a report; any instance on the database may run it.

    Args:
        database: where; a connection is in a transaction, of which this becomes a part
        options: what it asks
        most_queued: how many reports may wait, this one included
        idempotency_key: if a report was asked for with the same key at most `KEY_LASTS` ago, that
            report is returned

    Raises:
        KeyReused: that report has other options
        QueueFull: too many wait
    """
    asked = hashlib.sha256(msgspec.json.encode(options.asked())).digest()
    async with _part_of(database) as connection:
        await connection.execute("select pg_advisory_xact_lock($1)", locks.ADD_REPORTS)
        if idempotency_key is not None:
            key = (idempotency_key.caller, idempotency_key.text)
            await connection.execute(
                """
                update report set idempotency_caller = null, idempotency_key = null
                where idempotency_caller = $1 and idempotency_key = $2
                    and created_at <= now() - $3::interval
                """,
                *key,
                KEY_LASTS,
            )
            first = await connection.fetchrow(
                f"""
                select request_sha256, {_COLUMNS} from report
                where idempotency_caller = $1 and idempotency_key = $2
                """,
                *key,
            )
            if first is not None:
                if first["request_sha256"] != asked:
                    raise KeyReused
                return _report(first)
        row = await connection.fetchrow(
            f"""
            insert into report (id, as_of, asked_as_of, interpolation, max_gap, include_unknown,
                                escape_formulas, stores, idempotency_caller, idempotency_key,
                                request_sha256, include_excluded, windows, calendar, unit, tags,
                                group_by, target, queryable)
            select $1, $2, $2, $3, $4, $5, $6, $7, $8, $9, $10, $12, $13, $14, $15,
                   $16, $17, $18, $19
            where (select count(*) from report where state = 'queued') < $11
            returning {_COLUMNS}
            """,
            uuid4(),
            instant_of(options.as_of),
            options.interpolation,
            options.max_gap * _MILLISECOND,
            options.include_unknown,
            options.escape_formulas,
            options.stores,
            None if idempotency_key is None else idempotency_key.caller,
            None if idempotency_key is None else idempotency_key.text,
            asked,
            most_queued,
            options.include_excluded,
            options.windows,
            options.calendar,
            None if options.windows is None else options.unit,
            options.tags,
            options.group_by,
            options.target,
            options.queryable,
        )
    if row is None:
        raise QueueFull
    return _report(row)


@asynccontextmanager
async def _part_of(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A connection in a transaction: the one that is given, or a new one."""
    if not isinstance(database, asyncpg.Pool):
        yield database
        return
    async with transaction(database) as connection:
        yield connection


async def read_report(connection: Database, report_id: UUID) -> Report | None:
    """A report; None: there is none with this id."""
    row = await connection.fetchrow(f"select {_COLUMNS} from report where id = $1", report_id)
    return None if row is None else _report(row)


async def read_stores(connection: Database, report: Report) -> list[str] | None:
    """The ids of the stores that a report names; None: it is about all."""
    if report.named_stores is None:
        return None
    stores: list[str] | None = await connection.fetchval(
        "select stores from report where id = $1", report.id
    )
    return stores


async def list_reports(
    connection: Database,
    size: int,
    after: tuple[datetime, UUID] | None = None,
    *,
    states: Collection[State] = (),
    created_from: datetime | None = None,
    created_to: datetime | None = None,
) -> list[Report]:
    """The newest reports first.

    Args:
        connection: where to ask
        size: how many at most
        after: only those that come after the one with this `created_at` and id
        states: only those in one of these; empty: in any
        created_from: only those that were asked for then or later
        created_to: only those that were asked for earlier
    """
    # The index has the reports of each state in order. So at most one page per state is read,
    # however rare a state is.
    rows = await connection.fetch(
        f"""
        select page.* from unnest($2::text[]) as wanted (in_state) cross join lateral (
            select {_COLUMNS} from report
            where state = wanted.in_state
                and (created_at, id) < (
                    coalesce($3::timestamptz, 'infinity'),
                    coalesce($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                )
                and created_at >= coalesce($5::timestamptz, '-infinity')
                and created_at < coalesce($6::timestamptz, 'infinity')
            order by created_at desc, id desc limit $1
        ) as page
        order by created_at desc, id desc limit $1
        """,
        size,
        list(set(states or get_args(State))),
        *(after or (None, None)),
        created_from,
        created_to,
    )
    return [_report(row) for row in rows]


async def cancel_report(connection: Database, report_id: UUID) -> Report | None:
    """Cancel a queued or running report; None: it is neither. Its instance is notified at once."""
    row = await connection.fetchrow(
        f"""
        update report set state = 'cancelled', finished_at = now(), leased_until = null
        where id = $1 and state in ('queued', 'running') returning {_COLUMNS}
        """,
        report_id,
    )
    return None if row is None else _report(row)


async def claim_report(connection: Database) -> Report | None:
    """Take the oldest report that is queued or whose instance died; None: there is none."""
    row = await connection.fetchrow(
        f"""
        update report set state = 'running', run = run + 1, attempts = attempts + 1,
            leased_until = now() + $1::interval, started_at = now(), stores_done = 0, error = null,
            run_escapes = run + 1, run_windows = run + 1, run_groups = run + 1,
            run_queryable = run + 1
        where id = (
            select id from report
            where state = 'queued' or state = 'running' and leased_until < now()
            order by created_at limit 1 for update skip locked
        )
        returning {_COLUMNS}
        """,
        LEASE,
    )
    return None if row is None else _report(row)


# What follows is for the instance that runs a report; `run` ensures that no other has taken it.


async def renew_lease(connection: Database, report: Report, progress: Progress | None) -> bool:
    """Renew the lease and write the progress; false: it was taken over, or cancelled."""
    kept: bool | None = await connection.fetchval(
        """
        update report set leased_until = now() + $3::interval, stores_done = $4,
            stores_total = $5, as_of = $6
        where id = $1 and run = $2 and state = 'running' returning true
        """,
        report.id,
        report.run,
        LEASE,
        progress.stores_done if progress else 0,
        progress.stores_total if progress else None,
        instant_of(progress.as_of) if progress else report.as_of,
    )
    return bool(kept)


async def complete_report(
    connection: Database,
    report: Report,
    progress: Progress,
    *,
    size: int,
    sha256: bytes,
    totals_size: int,
) -> bool:
    """Name this run's files as the report's.

    Args:
        connection: where to write, maybe in a transaction that began long ago
        report: as this run took it
        progress: all of it
        size: bytes of the CSV
        sha256: of the CSV
        totals_size: bytes of the file with each store's totals

    Returns:
        false: it was taken over, or cancelled
    """
    windows = resolve_windows(report.windows or (), progress.as_of, report.calendar)
    completed: bool | None = await connection.fetchval(
        """
        update report set state = 'completed', finished_at = clock_timestamp(), leased_until = null,
            stores_done = $3, stores_total = $4, as_of = $5, file_size = $6, file_sha256 = $7,
            summary = $8, tz_version = $9, file_name = $10, totals_size = $11, fingerprint = $12,
            window_names = $13, polls_kept_since = $14
        where id = $1 and run = $2 and state = 'running' returning true
        """,
        report.id,
        report.run,
        progress.stores_done,
        progress.stores_total,
        instant_of(progress.as_of),
        size,
        sha256,
        to_kept(progress.roll_up),
        TZ_VERSION,
        report.run_file,
        totals_size,
        progress.fingerprint,
        csv_names(windows),
        instant_of(progress.polls_kept_since),
    )
    return bool(completed)


async def names_file(connection: Database, report: Report) -> bool:
    """Whether this run's file is the report's: a run may have completed it without learning so."""
    named: bool | None = await connection.fetchval(
        "select true from report where id = $1 and file_name = $2", report.id, report.run_file
    )
    return bool(named)


async def fail_report(connection: Database, report: Report, error: str) -> None:
    """Note that a report cannot be made, and why."""
    await connection.execute(
        """
        update report set state = 'failed', error = $3, finished_at = now(), leased_until = null
        where id = $1 and run = $2 and state = 'running'
        """,
        report.id,
        report.run,
        error,
    )


async def hand_back_report(connection: Database, report: Report) -> bool:
    """Put a report back into the queue, as if never taken; false: taken over, or cancelled."""
    handed_back: bool | None = await connection.fetchval(
        """
        update report set state = 'queued', attempts = attempts - 1, leased_until = null,
            stores_done = 0
        where id = $1 and run = $2 and state = 'running' returning true
        """,
        report.id,
        report.run,
    )
    return bool(handed_back)


async def is_running(connection: Database, report_id: UUID, run: int) -> bool:
    """Whether an instance may still be working on this run of a report.

    A lease that has run out does not mean that none is: an instance that was only slow may still
    renew it. An instance that takes the report over begins another run.
    """
    running: bool | None = await connection.fetchval(
        "select true from report where id = $1 and run = $2 and state = 'running'",
        report_id,
        run,
    )
    return bool(running)


async def take_finished(
    connection: asyncpg.Connection, report_id: UUID, states: Sequence[State] = tuple(FINAL)
) -> Report | None:
    """Lock a finished report until the transaction ends; None: there is none in these states."""
    row = await connection.fetchrow(
        f"""
        select {_COLUMNS} from report
        where id = $1 and state = any ($2::text[]) for update
        """,
        report_id,
        states,
    )
    return None if row is None else _report(row)


async def outdated_reports(connection: Database, kept_for: timedelta) -> list[UUID]:
    """Completed reports whose files were kept long enough, and wait for no delivery."""
    rows = await connection.fetch(
        """
        select id from report where state = 'completed' and finished_at < now() - $1::interval
            and not exists (
                select from delivery where report_id = report.id and delivery.state = 'waiting'
            )
        order by finished_at limit 100
        """,
        kept_for,
    )
    return [row["id"] for row in rows]


async def expire_report(connection: Database, report_id: UUID) -> None:
    """Note that the file is gone; the row is kept. A trigger lets groups and stores go."""
    await connection.execute(
        "update report set state = 'expired' where id = $1 and state = 'completed'", report_id
    )


async def delete_row(connection: Database, report_id: UUID) -> None:
    """Remove a report's row; for a day its id is still known as that of a deleted report."""
    await connection.execute(
        """
        with gone as (delete from report where id = $1 returning id)
        insert into deleted_report (id) select id from gone
        """,
        report_id,
    )


async def was_deleted(connection: Database, report_id: UUID) -> bool:
    """Whether a report with this id was deleted within the last day."""
    deleted: bool | None = await connection.fetchval(
        "select true from deleted_report where id = $1", report_id
    )
    return bool(deleted)


async def forget_deleted(connection: Database) -> None:
    """Forget the ids of some reports that were deleted long enough ago."""
    await connection.execute(
        """
        delete from deleted_report where id in (
            select id from deleted_report where deleted_at < now() - $1::interval
            order by deleted_at limit $2 for update skip locked
        )
        """,
        _DELETED_REMEMBERED,
        _FORGOTTEN_AT_ONCE,
    )


async def forget_reports(connection: Database, kept_for: timedelta) -> int:
    """Remove some reports without a file that ended long enough ago; return how many."""
    rows = await connection.fetch(
        """
        delete from report where id in (
            select id from report
            where state in ('failed', 'cancelled', 'expired')
                and finished_at < now() - $1::interval
            order by finished_at limit $2 for update skip locked
        )
        returning id
        """,
        kept_for,
        _FORGOTTEN_AT_ONCE,
    )
    return len(rows)


def _report(row: asyncpg.Record) -> Report:
    return Report(**{name: row[name] for name in Report.__struct_fields__})
