"""What is told to endpoints, rows of the table `webhook_delivery`: written, taken, tried, tidied.

Whoever tries a delivery first sets `due` ahead and commits: that is its lease, and no transaction
is open while a receiver takes its time. Of an instance that dies in the middle the lease passes,
and another one tries again, with the same id and the same bytes: a delivery is made at least once.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import asyncpg
import msgspec

from service.database.pool import Database
from service.webhooks.events import TEST, WebhookTestData, payload_of

DeliveryState = Literal["waiting", "delivered", "failed"]

#: Longer than an attempt takes with everything around it.
LEASE = timedelta(minutes=1)
#: Deliveries that wait for one endpoint; of more the oldest are dropped.
MOST_WAITING = 1000
#: Deliveries that are over and are still listed, of one endpoint; and for how long at most.
MOST_KEPT = 10_000
KEPT_FOR = timedelta(days=30)
#: Rows that one statement removes.
REMOVED_AT_ONCE = 1000


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as it is known.

    Attributes:
        sequence: its number
        id: its id, the header `webhook-id`
        type: the kind of its event
        state: where it is in its life
        created_at: when it was written
        due: when it is tried next; None: it is over
        attempts: how often it was tried, since it was last replayed
        attempted_at: when it was last tried
        status: HTTP status of the last answer
        error: what was wrong then
        answer: how that answer begins
        finished_at: when it was over
        payload: what is sent; None: not made yet, or not asked for
    """

    sequence: int
    id: UUID
    type: str
    state: DeliveryState
    created_at: datetime
    due: datetime | None
    attempts: int
    attempted_at: datetime | None
    status: int | None
    error: str | None
    answer: str | None
    finished_at: datetime | None
    payload: bytes | None


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that this instance tries now.

    Attributes:
        sequence: its number
        id: its id
        webhook: of its endpoint
        type: the kind of its event
        report: that it tells of; None: of none
        created_at: when it was written
        payload: what is sent; None: not made yet of the report
        attempts: this one included
        run: this attempt, of all
        url: where to
        secrets: those that are valid, the present one first
    """

    sequence: int
    id: UUID
    webhook: UUID
    type: str
    report: UUID | None
    created_at: datetime
    payload: bytes | None
    attempts: int
    run: int
    url: str
    secrets: list[bytes]


async def next_sequences(connection: Database, count: int) -> list[int]:
    """Numbers for events that are about to be written, ascending."""
    rows = await connection.fetch(
        """
        select nextval(pg_get_serial_sequence('webhook_delivery', 'sequence')) as number
        from generate_series(1, $1::integer)
        """,
        count,
    )
    return sorted(row["number"] for row in rows)


async def add_deliveries(
    connection: Database, webhook_id: UUID, events: Sequence[tuple[int, str, bytes]]
) -> None:
    """Write what is to be told to an endpoint.

    Args:
        connection: in the transaction of what it tells
        webhook_id: of the endpoint
        events: number, kind and payload of each
    """
    sequences, kinds, payloads = zip(*events, strict=True)
    await connection.execute(
        """
        insert into webhook_delivery (sequence, webhook, type, payload)
        select sequence, $1, type, payload
        from unnest($2::bigint[], $3::text[], $4::bytea[]) as event (sequence, type, payload)
        """,
        webhook_id,
        sequences,
        kinds,
        payloads,
    )


async def add_test(connection: asyncpg.Connection, webhook_id: UUID) -> Delivery:
    """Write an event that tells of nothing; as a delivery.

    Args:
        connection: in a transaction
        webhook_id: of the endpoint
    """
    (sequence,) = await next_sequences(connection, 1)
    now: datetime = await connection.fetchval("select now()")
    data = WebhookTestData(sequence=sequence, webhook_id=webhook_id)
    await add_deliveries(connection, webhook_id, [(sequence, TEST, payload_of(TEST, now, data))])
    row = await connection.fetchrow(
        """
        select sequence, id, type, state, created_at, due, attempts, attempted_at, status, error,
            answer, finished_at, null::bytea as payload
        from webhook_delivery where sequence = $1
        """,
        sequence,
    )
    return Delivery(**row)


async def endpoints_due(connection: Database, now: datetime) -> Mapping[UUID, bool]:
    """Endpoints to which something is to be delivered, and whether the last delivery failed."""
    rows = await connection.fetch(
        """
        select id, failing_since is not null as failing from webhook
        where not paused and (hold_until is null or hold_until <= $1) and exists (
            select from webhook_delivery
            where webhook = webhook.id and state = 'waiting' and due <= $1
        )
        order by random()
        """,
        now,
    )
    return {row["id"]: row["failing"] for row in rows}


async def take_due(
    connection: Database, now: datetime, wanted: Mapping[UUID, int]
) -> Sequence[Taken]:
    """Take deliveries whose time has come, for as long as `LEASE`.

    Args:
        connection: where to ask
        now: by the clock of the deliverer
        wanted: how many at most, by endpoint
    """
    rows = await connection.fetch(
        """
        update webhook_delivery set due = $1::timestamptz + $2::interval, runs = runs + 1,
            attempts = attempts + 1, attempted_at = $1
        from (
            select due.sequence, webhook.url,
                array_remove(
                    array[secret, case when old_secret_ends > $1 then old_secret end], null
                ) as secrets
            from unnest($3::uuid[], $4::integer[]) as wanted (id, most)
            join webhook on webhook.id = wanted.id and not paused
            cross join lateral (
                select sequence from webhook_delivery
                where webhook = wanted.id and state = 'waiting' and due <= $1
                order by due, sequence limit wanted.most for update skip locked
            ) as due
        ) as taken
        where webhook_delivery.sequence = taken.sequence
        returning webhook_delivery.sequence, id, webhook, type, report, created_at, payload,
            attempts, runs as run, url, secrets
        """,
        now,
        LEASE,
        list(wanted.keys()),
        list(wanted.values()),
    )
    return [Taken(**row) for row in rows]


async def keep_payload(connection: Database, taken: Taken, payload: bytes) -> None:
    """Note what is sent, so that each attempt sends the same."""
    await connection.execute(
        "update webhook_delivery set payload = $2 where sequence = $1 and payload is null",
        taken.sequence,
        payload,
    )


async def note_arrived(
    connection: Database, taken: Taken, now: datetime, status: int | None, answer: str | None
) -> None:
    """Note that a delivery arrived."""
    await connection.execute(
        """
        with noted as (
            update webhook_delivery set state = 'delivered', due = null, finished_at = $3,
                status = $4, error = null, answer = $5
            where sequence = $1 and runs = $2 and state = 'waiting'
            returning webhook
        )
        update webhook set failing_since = null, hold_until = null
        where id in (select webhook from noted)
            and (failing_since is not null or hold_until is not null)
        """,
        taken.sequence,
        taken.run,
        now,
        status,
        answer,
    )


async def note_failed(
    connection: Database,
    taken: Taken,
    now: datetime,
    *,
    status: int | None,
    error: str,
    answer: str | None,
    due: datetime | None,
    hold_until: datetime | None,
) -> datetime | None:
    """Note that an attempt failed.

    Args:
        connection: where to write
        taken: what was tried
        now: by the clock of the deliverer
        status: of the answer
        error: what was wrong
        answer: how the answer begins
        due: when to try again; None: never
        hold_until: until when the receiver wants to be left alone; None: it does not say

    Returns:
        since when no delivery arrived at the endpoint; None: it is gone, or the delivery was taken
        by somebody else
    """
    since: datetime | None = await connection.fetchval(
        """
        with noted as (
            update webhook_delivery set due = $4::timestamptz, status = $5, error = $6, answer = $7,
                state = case when $4 is null then 'failed' else state end,
                finished_at = case when $4 is null then $3::timestamptz end
            where sequence = $1 and runs = $2 and state = 'waiting'
            returning webhook
        )
        update webhook set failing_since = coalesce(failing_since, $3::timestamptz),
            hold_until = coalesce($8::timestamptz, hold_until)
        where id in (select webhook from noted)
        returning failing_since
        """,
        taken.sequence,
        taken.run,
        now,
        due,
        status,
        error,
        answer,
        hold_until,
    )
    return since


async def give_up(connection: Database, taken: Taken, now: datetime, error: str) -> None:
    """Note that a delivery cannot be made, through no fault of its receiver."""
    await connection.execute(
        """
        update webhook_delivery set state = 'failed', due = null, finished_at = $3, error = $4
        where sequence = $1 and runs = $2 and state = 'waiting'
        """,
        taken.sequence,
        taken.run,
        now,
        error,
    )


async def disable(connection: Database, webhook_id: UUID, now: datetime, reason: str) -> bool:
    """Pause an endpoint for a reason that a person has to see; false: it was paused already."""
    paused = await connection.fetchval(
        """
        update webhook set paused = true, disabled_at = $2, disabled_reason = $3
        where id = $1 and not paused returning true
        """,
        webhook_id,
        now,
        reason,
    )
    return bool(paused)


async def list_deliveries(
    connection: Database,
    webhook_id: UUID,
    size: int,
    before: int | None = None,
    state: DeliveryState | None = None,
) -> Sequence[Delivery]:
    """The newest deliveries of an endpoint first, without what was sent.

    Args:
        connection: where to ask
        webhook_id: of the endpoint
        size: how many at most
        before: only those with a smaller number
        state: only those in it; None: any
    """
    rows = await connection.fetch(
        """
        select sequence, id, type, state, created_at, due, attempts, attempted_at, status, error,
            answer, finished_at, null::bytea as payload
        from webhook_delivery
        where webhook = $1 and sequence < coalesce($3, 9223372036854775807)
            and ($4::text is null or state = $4)
        order by sequence desc limit $2
        """,
        webhook_id,
        size,
        before,
        state,
    )
    return [Delivery(**row) for row in rows]


async def read_delivery(
    connection: Database, webhook_id: UUID, delivery_id: UUID
) -> Delivery | None:
    """A delivery with what was sent; None: there is none with this id at this endpoint."""
    row = await connection.fetchrow(
        """
        select sequence, id, type, state, created_at, due, attempts, attempted_at, status, error,
            answer, finished_at, payload
        from webhook_delivery where webhook = $1 and id = $2
        """,
        webhook_id,
        delivery_id,
    )
    return None if row is None else Delivery(**row)


async def replay(connection: Database, webhook_id: UUID, delivery_id: UUID) -> Delivery | None:
    """Let a delivery be made again, at once, as the same one; None: there is none with this id.

    One that is under way is left alone: its lease must not be taken.
    """
    await connection.execute(
        """
        update webhook_delivery set state = 'waiting', finished_at = null, due = now(), attempts = 0
        where webhook = $1 and id = $2
            and (state <> 'waiting' or due <> attempted_at + $3::interval)
        """,
        webhook_id,
        delivery_id,
        LEASE,
    )
    return await read_delivery(connection, webhook_id, delivery_id)


async def drop_too_many(connection: Database) -> Mapping[UUID, int]:
    """Drop the oldest deliveries of endpoints for which too many wait; how many, by endpoint."""
    rows = await connection.fetch(
        """
        with too_many as (
            select webhook.id, newest.sequence from webhook cross join lateral (
                select sequence from webhook_delivery
                where webhook = webhook.id and state = 'waiting'
                order by sequence desc offset $1 limit 1
            ) as newest
        ), gone as (
            delete from webhook_delivery using too_many
            where webhook = too_many.id and state = 'waiting'
                and webhook_delivery.sequence <= too_many.sequence
            returning webhook
        ), counted as (
            select webhook, count(*) as dropped from gone group by webhook
        )
        update webhook set dropped = webhook.dropped + counted.dropped
        from counted where webhook.id = counted.webhook
        returning webhook.id, counted.dropped
        """,
        MOST_WAITING,
    )
    return {row["id"]: row["dropped"] for row in rows}


async def forget_deliveries(connection: Database, now: datetime) -> int:
    """Remove up to `REMOVED_AT_ONCE` deliveries that are too old or too many; how many."""
    removed: Any = await connection.fetch(
        """
        with out as (
            (
                select sequence from webhook_delivery
                where created_at < $1::timestamptz - $2::interval
                order by created_at limit $4
            )
            union all
            select too_many.sequence from webhook cross join lateral (
                select sequence from webhook_delivery
                where webhook = webhook.id and state <> 'waiting'
                order by sequence desc offset $3 limit $4
            ) as too_many
        )
        delete from webhook_delivery where sequence in (
            select sequence from webhook_delivery
            where sequence in (select sequence from out limit $4) for update skip locked
        )
        returning 1
        """,
        now,
        KEPT_FOR,
        MOST_KEPT,
        REMOVED_AT_ONCE,
    )
    return len(removed)
