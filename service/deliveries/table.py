"""The deliveries, rows of the table `delivery`: waiting until they are delivered or have failed.

A waiting one is looked at when it is due. Who takes it has a lease on it: until that passes, it is
not due. So a delivery whose instance died is taken by the next one that looks. `attempts` tells who
has it: each taking counts it up, and every statement of who takes it names it.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec

from service.database.pool import Database

DeliveryState = Literal["waiting", "delivered", "failed"]
DeliveryFormat = Literal["csv", "csv.gz", "ndjson", "parquet"]

LEASE = timedelta(seconds=20)
#: Between attempts: the first pause, doubled each time, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=10), timedelta(hours=1)
#: After the first attempt, a delivery is tried again for so long.
TRIED_FOR = timedelta(hours=24)
_FORGOTTEN_AT_ONCE = 500


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the files of a report.

    Attributes:
        report_id: of the report
        schedule_id: of the schedule that asked for it
        schedule_name: its name, as it was then
        deliver_to: where, as it was then
        formats: of the files, as they were then
        state: where the delivery is
        due: when it is looked at next; None: it has ended
        attempts: how often an instance took it
        broken_off: how often in a row one took it and never said what came of it
        error: why the last attempt failed; None: none did, or it is delivered
        files: names of what was delivered, paths or URLs, in the order of `formats`
        ended_at: when it ended
    """

    report_id: UUID
    schedule_id: UUID
    schedule_name: str
    deliver_to: str
    formats: list[DeliveryFormat]
    state: DeliveryState
    due: datetime | None
    attempts: int
    broken_off: int
    error: str | None
    files: list[str]
    ended_at: datetime | None


_COLUMNS = ", ".join(Delivery.__struct_fields__)


async def queue_delivery(
    connection: asyncpg.Connection,
    report_id: UUID,
    schedule_id: UUID,
    schedule_name: str,
    deliver_to: str,
    formats: Sequence[DeliveryFormat],
) -> None:
    """Let a report be delivered when it is completed; in the transaction that queues it."""
    await connection.execute(
        """
        insert into delivery (report_id, schedule_id, schedule_name, deliver_to, formats)
        values ($1, $2, $3, $4, $5)
        """,
        report_id,
        schedule_id,
        schedule_name,
        deliver_to,
        formats,
    )


async def read_deliveries(
    connection: Database, report_ids: Collection[UUID]
) -> dict[UUID, Delivery]:
    """Those deliveries of some reports that there are, by the ids of the reports."""
    rows = await connection.fetch(
        f"select {_COLUMNS} from delivery where report_id = any ($1::uuid[])", report_ids
    )
    return {row["report_id"]: _delivery(row) for row in rows}


async def claim_delivery(connection: Database) -> Delivery | None:
    """Take a delivery that is due, whose report has ended or is gone; None: there is none."""
    row = await connection.fetchrow(
        f"""
        update delivery set attempts = attempts + 1, broken_off = broken_off + 1,
            first_tried_at = coalesce(first_tried_at, clock_timestamp()),
            due = clock_timestamp() + $1::interval
        where report_id = (
            select report_id from delivery left join report on report.id = report_id
            where due <= clock_timestamp()
                and (report.id is null or report.state not in ('queued', 'running'))
            order by due limit 1 for update of delivery skip locked
        )
        returning {_COLUMNS}
        """,
        LEASE,
    )
    return None if row is None else _delivery(row)


async def renew_lease(connection: Database, delivery: Delivery) -> bool:
    """Keep a delivery that was taken; false: another instance has it by now."""
    kept: bool | None = await connection.fetchval(
        """
        update delivery set due = clock_timestamp() + $3::interval
        where report_id = $1 and attempts = $2 and state = 'waiting' returning true
        """,
        delivery.report_id,
        delivery.attempts,
        LEASE,
    )
    return bool(kept)


async def hand_back(connection: Database, delivery: Delivery) -> None:
    """Let another instance take a delivery at once, as this one ends."""
    await connection.execute(
        """
        update delivery set due = clock_timestamp(), broken_off = 0
        where report_id = $1 and attempts = $2 and state = 'waiting'
        """,
        delivery.report_id,
        delivery.attempts,
    )


async def note_delivered(connection: Database, delivery: Delivery, files: Sequence[str]) -> bool:
    """Note that all files are where they should be; false: another instance has it by now."""
    noted: bool | None = await connection.fetchval(
        """
        update delivery set state = 'delivered', files = $3, ended_at = clock_timestamp(),
            due = null, error = null, broken_off = 0
        where report_id = $1 and attempts = $2 and state = 'waiting' returning true
        """,
        delivery.report_id,
        delivery.attempts,
        files,
    )
    return bool(noted)


async def note_failed(
    connection: Database, delivery: Delivery, error: str, *, for_good: bool
) -> Delivery | None:
    """Note why an attempt failed, and when the next one comes, if any.

    Args:
        connection: where to write
        delivery: as this attempt took it
        error: why
        for_good: no other attempt could succeed; without it there is none when it was tried for
            `TRIED_FOR`

    Returns:
        as it is now; None: another instance has it
    """
    doublings = min(delivery.attempts - 1, 20)
    pause = min(_FIRST_PAUSE * 2**doublings, _LONGEST_PAUSE)
    row = await connection.fetchrow(
        f"""
        with told as (
            select report_id as id, clock_timestamp() as now,
                $4 or clock_timestamp() + $5::interval > first_tried_at + $6::interval as ends
            from delivery where report_id = $1
        )
        update delivery set error = $3, broken_off = 0,
            state = case when ends then 'failed' else 'waiting' end,
            ended_at = case when ends then now end,
            due = case when ends then null else now + $5::interval end
        from told
        where report_id = id and attempts = $2 and state = 'waiting'
        returning {_COLUMNS}
        """,
        delivery.report_id,
        delivery.attempts,
        error,
        for_good,
        pause,
        TRIED_FOR,
    )
    return None if row is None else _delivery(row)


async def forget_deliveries(connection: Database, kept_for: timedelta) -> None:
    """Remove some that ended long enough ago, of reports that are gone."""
    await connection.execute(
        """
        delete from delivery where report_id in (
            select report_id from delivery
            where ended_at < now() - $1::interval
                and not exists (select from report where report.id = report_id)
            limit $2 for update skip locked
        )
        """,
        kept_for,
        _FORGOTTEN_AT_ONCE,
    )


def _delivery(row: asyncpg.Record) -> Delivery:
    return Delivery(**{name: row[name] for name in Delivery.__struct_fields__})
