"""Endpoints of webhooks in a database, and a deliverer whose clock a test moves."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from service.database.pool import REQUESTS, pool_of, transaction
from service.settings import read_settings
from service.webhooks import table
from service.webhooks.deliverer import Deliverer
from service.webhooks.deliveries import MOST_KEPT, Delivery, add_test, list_deliveries
from service.webhooks.events import EVENTS
from service.webhooks.sender import Sender
from service.webhooks.signing import shown

#: This machine is allowed.
HERE = read_settings({"STOREWATCH_WEBHOOK_NETWORKS": "127.0.0.0/8"}).webhook_networks


class Clock:
    """Tells the time, ahead of the true one by as much as a test wants."""

    def __init__(self) -> None:
        self._ahead = timedelta(seconds=1)  # not behind the database's

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def advance(self, **by: float) -> None:
        self._ahead += timedelta(**by)


class Outbox:
    """A database with endpoints, and what delivers to them.

    Attributes:
        pool: the database
        clock: of the deliverer
        deliverer: delivers when it is told to
    """

    def __init__(self, pool: asyncpg.Pool, clock: Clock, deliverer: Deliverer) -> None:
        self.pool, self.clock, self.deliverer = pool, clock, deliverer

    async def endpoint(self, url: str, **more: Any) -> tuple[UUID, str]:
        """Make an endpoint for all events; its id and its secret."""
        wanted: dict[str, Any] = {
            "description": "",
            "events": list(EVENTS),
            "tags": [],
            "down_for": 0,
            "silent_for": 10_800_000,
            "paused": False,
        }
        settings = table.Settings(url=url, **(wanted | more))
        async with transaction(self.pool) as connection:
            made, secret = await table.create_webhook(connection, settings)
        return made.id, shown(secret)

    async def known(self, webhook_id: UUID) -> table.Webhook:
        """An endpoint, which is there."""
        found = await table.read_webhook(self.pool, webhook_id)
        assert found is not None
        return found

    async def change(self, webhook_id: UUID, **more: Any) -> None:
        known = await self.known(webhook_id)
        settings = {
            name: getattr(known.settings, name) for name in known.settings.__struct_fields__
        }
        async with transaction(self.pool) as connection:
            await table.change_webhook(connection, known, table.Settings(**(settings | more)))

    async def event(self, webhook_id: UUID) -> Delivery:
        """Write an event for an endpoint."""
        async with transaction(self.pool) as connection:
            return await add_test(connection, webhook_id)

    async def deliveries(self, webhook_id: UUID) -> Sequence[Delivery]:
        """All of an endpoint, the oldest first."""
        found = await list_deliveries(self.pool, webhook_id, 2 * MOST_KEPT)
        return list(reversed(found))

    async def delivery(self, webhook_id: UUID) -> Delivery:
        """The only one of an endpoint."""
        (found,) = await self.deliveries(webhook_id)
        return found


@asynccontextmanager
async def outbox(database_url: str, **sender: Any) -> AsyncIterator[Outbox]:
    """An outbox without endpoints, in a database that is migrated.

    Args:
        database_url: where
        sender: as `Sender` takes it; this machine is allowed unless something else is
    """
    async with (
        pool_of(database_url, REQUESTS, 4) as pool,
        Sender(**({"allowed": HERE} | sender)) as sending,
    ):
        await pool.execute("truncate webhook, webhook_alarm, webhook_delivery")
        clock = Clock()
        yield Outbox(pool, clock, Deliverer(pool, sending, "https://stores.example.com", clock))
