"""What looks at stores tell endpoints: with the stores' names and tags, many together, and once."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import numpy as np
import pytest

from compute.outages import NO_INSTANT
from compute.timeline import STATES
from service.database.migrations import migrate
from service.database.pool import transaction
from service.states.look import NEVER_SEEN, Look
from service.webhooks.events import DATA
from service.webhooks.store_events import MOST_SINGLE, StoreEvents
from tests.harness.webhooks import Outbox, outbox

#: 2024-01-01T00:00:00Z
START = 1_704_067_200_000
MINUTE, HOUR = 60_000, 3_600_000
STORES = 2 * MOST_SINGLE + 50
BASE = "https://stores.example.com"

Scene = Callable[[Outbox, "Shop"], Awaitable[None]]


class Shop:
    """Stores, numbered from 0, and looks at them.

    Every tenth store is in the west; the first has a name.
    """

    def __init__(self, pool: asyncpg.Pool, numbers: list[int]) -> None:
        self._pool, self._numbers = pool, numbers
        self._events = StoreEvents(BASE)
        self._minute = 0
        self._last: np.ndarray[Any, Any] | None = None

    async def look(
        self,
        down: Mapping[int, int] | None = None,
        silent: Mapping[int, int] | None = None,
        within: asyncpg.Connection | None = None,
    ) -> None:
        """Look a minute later: at stores that are down or silent for some time; others are up."""
        self._minute += 1
        count = len(self._numbers)
        down_for, silent_for = np.zeros(count, np.int64), np.zeros(count, np.int64)
        state = np.full(count, STATES.index("up"))
        since = np.full(count, NO_INSTANT)
        as_of = START + self._minute * MINUTE
        for store, long in (down or {}).items():
            down_for[store], state[store] = long, STATES.index("down")
            since[store] = as_of - long
        for store, long in (silent or {}).items():
            silent_for[store] = long
        now = np.stack([state, down_for])
        before = np.stack([np.full(count, NEVER_SEEN), np.zeros(count, np.int64)])
        before = before if self._last is None else self._last
        self._last = now
        look = Look(
            as_of=as_of,
            store=np.array(self._numbers, np.int64),
            before=before[0],
            state=state,
            since=since,
            was_down_for=before[1],
            down_for=down_for,
            silent_for=silent_for,
        )
        if within is not None:
            await self._events.tell(within, look)
            return
        async with transaction(self._pool) as connection:
            await self._events.tell(connection, look)


@pytest.fixture(scope="module")
def url(module_database_url: str) -> str:
    async def prepare() -> None:
        connection = await asyncpg.connect(module_database_url)
        await migrate(connection)
        await connection.execute(
            """
            insert into store (store_id, name, tags)
            select 'store/' || to_char(n, 'FM000'), case when n = 0 then 'Main Street' end,
                case when n % 10 = 0 then '{"region": "west"}'::jsonb end
            from generate_series(0, $1::integer - 1) as n order by n
            """,
            STORES,
        )
        await connection.close()

    asyncio.run(prepare())
    return module_database_url


def play(url: str, scene: Scene) -> None:
    """Run a scene on endpoints and stores, of which nobody knows anything yet."""

    async def run() -> None:
        async with outbox(url) as scenery:
            rows = await scenery.pool.fetch("select id from store order by id")
            await scene(scenery, Shop(scenery.pool, [row["id"] for row in rows]))

    asyncio.run(run())


async def told(outbox: Outbox, webhook: UUID) -> list[Any]:
    """All that an endpoint was told, in order; each is what its schema says."""
    rows = await outbox.pool.fetch(
        "select type, sequence, payload from webhook_delivery where webhook = $1 order by sequence",
        webhook,
    )
    events = []
    for row in rows:
        event = msgspec.json.decode(row["payload"])
        assert event["type"] == row["type"]
        assert event["data"]["sequence"] == row["sequence"]
        msgspec.convert(event["data"], DATA[row["type"]])
        events.append(event)
    return events


def kinds(events: list[Any]) -> list[str]:
    return [event["type"] for event in events]


def test_a_store_goes_down_and_comes_up_again(url: str) -> None:
    async def scene(outbox: Outbox, shop: Shop) -> None:
        webhook, _ = await outbox.endpoint("https://example.com/", down_for=15 * MINUTE)
        await shop.look()
        await shop.look({0: 14 * MINUTE})
        assert await told(outbox, webhook) == []
        await shop.look({0: 15 * MINUTE})
        await shop.look({0: 16 * MINUTE})
        await shop.look()
        down, up = await told(outbox, webhook)
        assert down["timestamp"] == "2024-01-01T00:03:00Z"
        down["data"].pop("sequence")
        store = {
            "store_id": "store/000",
            "name": "Main Street",
            "tags": {"region": "west"},
            "url": f"{BASE}/stores/store%2F000",
        }
        assert down["type"] == "store.down"
        assert down["data"] == store | {
            "as_of": "2024-01-01T00:03:00Z",
            "since": "2023-12-31T23:48:00Z",
            "down_for": 900.0,
        }
        assert up["type"] == "store.up"
        assert store.items() <= up["data"].items()
        assert (up["data"]["was_down"], up["data"]["was_silent"]) == (True, False)

    play(url, scene)


def test_a_store_falls_silent_and_is_up_again(url: str) -> None:
    async def scene(outbox: Outbox, shop: Shop) -> None:
        webhook, _ = await outbox.endpoint("https://example.com/", silent_for=HOUR)
        downs, _ = await outbox.endpoint(
            "https://example.com/d", silent_for=HOUR, events=["store.down", "store.up"]
        )
        await shop.look()
        await shop.look(silent={3: HOUR})
        await shop.look(silent={3: HOUR + MINUTE})
        await shop.look()
        silent, up = await told(outbox, webhook)
        assert (silent["type"], silent["data"]["silent_for"]) == ("store.silent", 3600.0)
        assert silent["data"]["name"] is None
        assert (up["type"], up["data"]["was_down"], up["data"]["was_silent"]) == (
            "store.up",
            False,
            True,
        )
        assert await told(outbox, downs) == []  # who was not told of the silence

    play(url, scene)


def test_each_endpoint_is_told_by_its_own_tags_thresholds_and_events(url: str) -> None:
    async def scene(outbox: Outbox, shop: Shop) -> None:
        west, _ = await outbox.endpoint("https://example.com/w", tags=["region:west"])
        other, _ = await outbox.endpoint("https://example.com/o", tags=["region:"])
        slow, _ = await outbox.endpoint("https://example.com/s", down_for=HOUR)
        ups, _ = await outbox.endpoint("https://example.com/u", events=["store.up"])
        paused, _ = await outbox.endpoint("https://example.com/p", paused=True)
        reports, _ = await outbox.endpoint("https://example.com/r", events=["report.failed"])
        await shop.look()
        await shop.look({0: 1, 1: 1})
        await shop.look({0: 2, 1: 2})
        await shop.look()
        for webhook, store in ((west, "store/000"), (other, "store/001")):
            found = await told(outbox, webhook)
            assert kinds(found) == ["store.down", "store.up"]
            assert {event["data"]["store_id"] for event in found} == {store}
        assert kinds(await told(outbox, ups)) == ["store.up", "store.up"]
        for webhook in (slow, paused, reports):
            assert await told(outbox, webhook) == []

    play(url, scene)


def test_what_is_so_when_an_endpoint_is_made_changed_or_goes_on_is_not_told(url: str) -> None:
    async def scene(outbox: Outbox, shop: Shop) -> None:
        webhook, _ = await outbox.endpoint("https://example.com/")
        await shop.look({0: 1})
        await shop.look()
        assert await told(outbox, webhook) == []

        await outbox.change(webhook, paused=True)
        await shop.look({1: 1})
        await outbox.change(webhook, paused=False)
        await shop.look({1: 2})
        await shop.look()
        assert await told(outbox, webhook) == []

        await shop.look({2: 1})
        await outbox.change(webhook, description="of no consequence")
        await shop.look({2: 2})
        await shop.look()
        assert kinds(await told(outbox, webhook)) == ["store.down", "store.up"]

        await shop.look({3: 1})
        await outbox.change(webhook, down_for=MINUTE)
        await shop.look({3: 2 * MINUTE})
        await shop.look()
        assert kinds(await told(outbox, webhook)) == ["store.down", "store.up", "store.down"]

    play(url, scene)


def test_a_storm_is_told_together(url: str) -> None:
    async def scene(outbox: Outbox, shop: Shop) -> None:
        webhook, _ = await outbox.endpoint("https://example.com/")
        west, _ = await outbox.endpoint("https://example.com/w", tags=["region:west"])
        await shop.look()
        await shop.look(dict.fromkeys(range(STORES), 1), dict.fromkeys(range(STORES), 3 * HOUR))
        await shop.look()
        found = await told(outbox, webhook)
        assert kinds(found) == ["stores.down", "stores.silent", "stores.up"]
        assert {event["data"]["count"] for event in found} == {STORES}
        down, silent, up = (event["data"] for event in found)
        assert down["store_ids"] == [f"store/{number:03}" for number in range(20)]
        assert [one["url"] for one in (down, silent, up)] == [
            f"{BASE}/stores?state=down",
            f"{BASE}/stores",
            f"{BASE}/stores?state=up",
        ]
        # Few are in the west: these are told one by one.
        assert kinds(await told(outbox, west)) == [
            *["store.down"] * 25,
            *["store.silent"] * 25,
            *["store.up"] * 25,
        ]

    play(url, scene)


def test_a_storm_that_comes_in_several_looks_of_a_minute_is_told_together_too(url: str) -> None:
    async def scene(outbox: Outbox, shop: Shop) -> None:
        webhook, _ = await outbox.endpoint("https://example.com/", tags=["region:west"])
        await outbox.change(webhook, tags=[])
        await shop.look()
        down: dict[int, int] = {}
        for first in range(0, STORES, 50):
            down |= dict.fromkeys(range(first, first + 50), 1)
            await shop.look(down)
            shop._minute -= 1  # within the same minute
        found = await told(outbox, webhook)
        assert kinds(found) == ["store.down"] * MOST_SINGLE + ["stores.down"] * 3
        assert [event["data"]["count"] for event in found[MOST_SINGLE:]] == [50, 50, 50]
        shop._minute += 1
        await shop.look(down | {})
        assert len(await told(outbox, webhook)) == MOST_SINGLE + 3

    play(url, scene)


def test_a_look_that_is_rolled_back_has_told_nothing(url: str) -> None:
    async def scene(outbox: Outbox, shop: Shop) -> None:
        webhook, _ = await outbox.endpoint("https://example.com/")
        await shop.look()
        async with outbox.pool.acquire() as connection:
            await connection.execute("begin")
            await shop.look({0: 1}, within=connection)
            await connection.execute("rollback")
        await shop.look()
        assert await told(outbox, webhook) == []

    play(url, scene)


def test_a_look_waits_for_no_endpoint_that_is_changed_and_survives_one_that_is_deleted(
    url: str,
) -> None:
    async def scene(outbox: Outbox, shop: Shop) -> None:
        webhook, _ = await outbox.endpoint("https://example.com/")
        await shop.look()
        async with transaction(outbox.pool) as connection:
            await connection.execute("delete from webhook where id = $1", webhook)
            async with asyncio.timeout(4):  # less than a statement waits for a lock
                await shop.look({0: 1})
        # What was written meanwhile is sent to nobody.
        assert await outbox.deliverer.deliver_due() == 0
        await outbox.deliverer.tidy()
        assert await outbox.pool.fetchval("select count(*) from webhook_alarm") == 0
        await shop.look({0: 2, 1: 1})
        assert len(await told(outbox, webhook)) == 1

    play(url, scene)
