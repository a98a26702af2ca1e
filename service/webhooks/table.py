"""The endpoints, rows of the table `webhook`: made, changed, paused, listed; and their secrets."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import msgspec

from service.database import locks
from service.database.pool import Database
from service.webhooks.signing import new_secret

MOST_WEBHOOKS = 100
#: Characters of a description.
LONGEST_DESCRIPTION = 1000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a person says of an endpoint.

    Attributes:
        url: where it is
        description: what for
        events: what it wants, in the order of `events.EVENTS`
        tags: `key:value` that the stores of its events have, all of them; empty: any store
        down_for: after how much counted downtime it is told, milliseconds
        silent_for: after how much counted time without a poll, milliseconds
        paused: whether nothing is told to it and nothing sent
    """

    url: str
    description: str
    events: list[str]
    tags: list[str]
    down_for: int
    silent_for: int
    paused: bool

    @property
    def rules(self) -> tuple[list[str], list[str], int, int]:
        """What decides of what it is told."""
        return self.events, self.tags, self.down_for, self.silent_for


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as it is known; its secrets are not part of it.

    Attributes:
        id: its id
        settings: what a person said of it
        failing_since: the first delivery that failed since one arrived; None: the last one arrived
        disabled_at: when the service paused it; None: it did not
        disabled_reason: why
        dropped: events that were not delivered, as too many waited
        waiting: deliveries that wait
        old_secret_ends: until when the secret before the present one signs too; None: it does not
        created_at: when it was made
    """

    id: UUID
    settings: Settings
    failing_since: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None
    dropped: int
    waiting: int
    old_secret_ends: datetime | None
    created_at: datetime


class TooManyWebhooks(Exception):  # noqa: N818
    """There are as many endpoints as there may be."""


class SameWebhook(Exception):  # noqa: N818
    """There is an endpoint that wants the same.

    Attributes:
        id: its id
    """

    def __init__(self, webhook_id: UUID) -> None:
        super().__init__(webhook_id)
        self.id = webhook_id


async def create_webhook(
    connection: asyncpg.Connection, settings: Settings
) -> tuple[Webhook, bytes]:
    """Make an endpoint.

    Args:
        connection: in a transaction
        settings: valid

    Returns:
        the endpoint, and its secret

    Raises:
        SameWebhook: another one has the same URL and rules
        TooManyWebhooks: there are `MOST_WEBHOOKS`
    """
    await connection.execute("select pg_advisory_xact_lock($1)", locks.WEBHOOKS)
    same = await connection.fetchval(
        """
        select id from webhook
        where url = $1 and events = $2 and tags = $3 and down_for = $4 and silent_for = $5
        """,
        settings.url,
        *settings.rules,
    )
    if same is not None:
        raise SameWebhook(same)
    if await connection.fetchval("select count(*) from webhook") >= MOST_WEBHOOKS:
        raise TooManyWebhooks
    webhook_id, secret = uuid4(), new_secret()
    await connection.execute(
        """
        insert into webhook (id, url, description, events, tags, down_for, silent_for, paused,
                             secret)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        """,
        webhook_id,
        settings.url,
        settings.description,
        *settings.rules,
        settings.paused,
        secret,
    )
    made = await read_webhook(connection, webhook_id)
    if made is None:
        raise ValueError("an endpoint is gone that was just made")
    return made, secret


async def change_webhook(
    connection: asyncpg.Connection, known: Webhook, settings: Settings
) -> None:
    """Change an endpoint. Told to go on, or of other things, it first learns what is known.

    Args:
        connection: in the transaction in which `known` was taken
        known: as it was
        settings: as it shall be
    """
    was = known.settings
    goes_on = was.paused and not settings.paused
    await connection.execute(
        """
        update webhook set url = $2, description = $3, events = $4, tags = $5, down_for = $6,
            silent_for = $7, paused = $8,
            generation = generation + $9::integer,
            failing_since = case when $10 then null else failing_since end,
            hold_until = case when $10 then null else hold_until end,
            disabled_at = case when $11 then null else disabled_at end,
            disabled_reason = case when $11 then null else disabled_reason end
        where id = $1
        """,
        known.id,
        settings.url,
        settings.description,
        *settings.rules,
        settings.paused,
        int(goes_on or was.rules != settings.rules),
        goes_on or was.url != settings.url,
        goes_on,
    )


async def delete_webhook(connection: Database, webhook_id: UUID) -> None:
    """Remove an endpoint with all that is known of it.

    What is written for it at the same time is not sent, and forgotten when it is old.
    """
    await connection.execute("delete from webhook where id = $1", webhook_id)
    await connection.execute("delete from webhook_alarm where webhook = $1", webhook_id)
    await connection.execute("delete from webhook_delivery where webhook = $1", webhook_id)


async def forget_gone(connection: Database) -> None:
    """Forget what is known of endpoints that were deleted while somebody looked at stores."""
    await connection.execute(
        "delete from webhook_alarm where webhook not in (select id from webhook)"
    )


async def rotate_secret(connection: Database, webhook_id: UUID, overlap: timedelta) -> bytes:
    """Give an endpoint a new secret; the old one signs too for some time. The new one."""
    secret = new_secret()
    await connection.execute(
        """
        update webhook set secret = $2,
            old_secret = case when $3::interval > interval '0' then secret end,
            old_secret_ends = case when $3::interval > interval '0' then now() + $3 end
        where id = $1
        """,
        webhook_id,
        secret,
        overlap,
    )
    return secret


async def read_webhook(connection: Database, webhook_id: UUID) -> Webhook | None:
    """An endpoint; None: there is none with this id."""
    row = await connection.fetchrow(
        """
        select id, url, description, events, tags, down_for, silent_for, paused, failing_since,
            disabled_at, disabled_reason, dropped, created_at,
            case when old_secret_ends > now() then old_secret_ends end as old_secret_ends,
            (select count(*) from webhook_delivery where webhook = $1 and state = 'waiting')
                as waiting
        from webhook where id = $1
        """,
        webhook_id,
    )
    return None if row is None else _webhook(row)


async def take_webhook(connection: asyncpg.Connection, webhook_id: UUID) -> Webhook | None:
    """The same, locked until the transaction ends."""
    await connection.execute("select from webhook where id = $1 for update", webhook_id)
    return await read_webhook(connection, webhook_id)


async def list_webhooks(
    connection: Database, size: int, after: tuple[datetime, UUID] | None = None
) -> Sequence[Webhook]:
    """Endpoints in the order in which they were made.

    Args:
        connection: where to ask
        size: how many at most
        after: only those that come after the one with this `created_at` and id
    """
    rows = await connection.fetch(
        """
        select id, url, description, events, tags, down_for, silent_for, paused, failing_since,
            disabled_at, disabled_reason, dropped, created_at,
            case when old_secret_ends > now() then old_secret_ends end as old_secret_ends,
            (
                select count(*) from webhook_delivery
                where webhook = webhook.id and state = 'waiting'
            ) as waiting
        from webhook
        where $2::timestamptz is null or (created_at, id) > ($2, $3::uuid)
        order by created_at, id limit $1
        """,
        size,
        *(after or (None, None)),
    )
    return [_webhook(row) for row in rows]


def _webhook(row: asyncpg.Record) -> Webhook:
    settings = {name: row[name] for name in Settings.__struct_fields__}
    return Webhook(
        settings=Settings(**settings),
        **{name: row[name] for name in Webhook.__struct_fields__ if name != "settings"},
    )
