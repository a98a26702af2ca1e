"""Tells endpoints of stores, in the transaction that notes a look at them.

Looks follow each other, so nobody else writes what an endpoint knows. An endpoint that is changed
meanwhile has another `generation`, by which the next look begins anew.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode
from uuid import UUID

import asyncpg
import msgspec
import numpy as np

from compute.axis import Ints
from compute.instants import instant_of
from compute.outages import NO_INSTANT
from compute.timeline import STATES
from service.states.look import LONGEST_THRESHOLD, Look
from service.stores.selection import with_tags
from service.webhooks.alarms import Alarms, Found, Rules, Worse, asked_about, judge, noted, worse
from service.webhooks.deliveries import add_deliveries, next_sequences
from service.webhooks.events import (
    DATA,
    OF_MANY,
    STORE_EVENTS,
    StoreDownData,
    StoreEvent,
    StoreSilentData,
    StoreUpData,
    payload_of,
)

#: Events of one kind that an endpoint is told one by one within a minute of the looks' time; what
#: goes beyond is told together.
MOST_SINGLE = 100
#: Stores that are named where many are told together.
_NAMED = 20
_MINUTE = 60_000
_DOWN = STATES.index("down")
#: The state that `/stores` lists them by.
_LISTED_BY: Mapping[StoreEvent, str] = {"store.down": "down", "store.up": "up"}


class _Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint, and what it knows; `known_generation` None: nothing yet."""

    id: UUID
    events: list[str]
    tags: list[str]
    down_for: int
    silent_for: int
    generation: int
    known_generation: int | None
    first_look: int | None
    down_told: bytes | None
    down_known: bytes | None
    silent_told: bytes | None
    silent_known: bytes | None
    minute: int | None
    down: int | None
    up: int | None
    silent: int | None

    @property
    def packed(self) -> tuple[bytes | None, ...]:
        """What it knows, as it is kept."""
        return self.down_told, self.down_known, self.silent_told, self.silent_known


class _Store(msgspec.Struct, frozen=True):
    """What is told of a store besides its state."""

    store_id: str
    name: str | None
    tags: dict[str, str]


_Event: TypeAlias = tuple[StoreEvent | str, msgspec.Struct]


class StoreEvents:
    """Tells endpoints of stores.

    Args:
        base: what the service's paths come after in links
    """

    def __init__(self, base: str = "") -> None:
        self._base = base

    async def tell(self, connection: asyncpg.Connection, look: Look) -> None:
        """Write what a look has to tell to each endpoint, and what it knows then.

        Args:
            connection: in the transaction that notes the look
            look: at all stores, or at some
        """
        rows = await connection.fetch(
            """
            select id from webhook where not paused and events && $1::text[]
            order by created_at, id
            """,
            list(STORE_EVENTS),
        )
        if not rows or not len(look.store):
            return
        looked = worse(look)
        for row in rows:
            # One by one: what an endpoint knows may be megabytes.
            endpoint = await _endpoint(connection, row["id"])
            if endpoint is not None:
                await self._tell(connection, look, looked, endpoint)

    async def _tell(
        self, connection: asyncpg.Connection, look: Look, looked: Worse, endpoint: _Endpoint
    ) -> None:
        rules, known = _known(endpoint, look)
        asked = asked_about(looked, endpoint.events)
        found = await asyncio.to_thread(judge, look, asked, rules, known)
        down = await _about(connection, look, found.down, endpoint)
        silent = await _about(connection, look, found.silent, endpoint)
        alarms = noted(found.left, look, found, down, silent)

        minute = look.as_of // _MINUTE
        same_rules = endpoint.known_generation == endpoint.generation
        counts = dict.fromkeys(STORE_EVENTS, 0)
        if same_rules and endpoint.minute == minute:
            told_so_far = (endpoint.down or 0, endpoint.up or 0, endpoint.silent or 0)
            counts = dict(zip(STORE_EVENTS, told_so_far, strict=True))
        events: list[_Event] = []
        of_kind: Mapping[StoreEvent, Ints] = {
            "store.up": found.up,
            "store.down": down,
            "store.silent": silent,
        }
        for kind, places in of_kind.items():
            if kind not in endpoint.events or not len(places):
                continue
            if counts[kind] + len(places) > MOST_SINGLE:
                events.append(await self._together(connection, look, kind, places, endpoint))
                counts[kind] = MOST_SINGLE
            else:
                stores = await _stores(connection, look, places)
                events += self._one_by_one(look, kind, found, places, stores)
                counts[kind] += len(places)
        await _write(connection, endpoint, instant_of(look.as_of), events)
        packed = _packed(alarms)
        if events or not same_rules or packed != endpoint.packed:
            await _note(connection, endpoint, rules, packed, minute, counts)

    async def _together(
        self,
        connection: asyncpg.Connection,
        look: Look,
        kind: StoreEvent,
        places: Ints,
        endpoint: _Endpoint,
    ) -> _Event:
        rows = await connection.fetch(
            """
            select store_id from store where id = any ($1::integer[]) order by store_id limit $2
            """,
            look.store[places].tolist(),
            _NAMED,
        )
        state = [("state", _LISTED_BY[kind])] if kind in _LISTED_BY else []
        query = urlencode([*state, *(("tag", tag) for tag in endpoint.tags)])
        data = DATA[OF_MANY[kind]](
            sequence=0,
            as_of=instant_of(look.as_of),
            count=len(places),
            store_ids=[row["store_id"] for row in rows],
            url=f"{self._base}/stores?{query}".removesuffix("?"),
        )
        return OF_MANY[kind], data

    def _one_by_one(
        self,
        look: Look,
        kind: StoreEvent,
        found: Found,
        places: Ints,
        stores: Mapping[int, _Store],
    ) -> Iterator[_Event]:
        as_of = instant_of(look.as_of)
        for at, place in enumerate(places.tolist()):
            store = stores.get(int(look.store[place]))
            if store is None:  # deleted meanwhile
                continue
            about: dict[str, Any] = {
                "sequence": 0,
                "store_id": store.store_id,
                "name": store.name,
                "tags": store.tags,
                "as_of": as_of,
                "url": f"{self._base}/stores/{quote(store.store_id, safe='')}",
            }
            since = None if look.since[place] == NO_INSTANT else instant_of(int(look.since[place]))
            if kind == "store.down":
                if look.state[place] != _DOWN:
                    since = None
                down_for = _seconds(look.down_for[place])
                yield kind, StoreDownData(**about, since=since, down_for=down_for)
            elif kind == "store.silent":
                yield kind, StoreSilentData(**about, silent_for=_seconds(look.silent_for[place]))
            else:
                yield (
                    kind,
                    StoreUpData(
                        **about,
                        since=since,
                        was_down=bool(found.up_after_down[at]),
                        was_silent=bool(found.up_after_silence[at]),
                    ),
                )


async def _endpoint(connection: asyncpg.Connection, webhook_id: UUID) -> _Endpoint | None:
    """An endpoint that wants to be told; None: it was deleted or paused a moment ago."""
    row = await connection.fetchrow(
        """
        select id, events, tags, down_for, silent_for, webhook.generation,
            alarm.generation as known_generation, first_look, down_told, down_known, silent_told,
            silent_known, minute, down, up, silent
        from webhook left join webhook_alarm as alarm on alarm.webhook = webhook.id
        where id = $1 and not paused
        """,
        webhook_id,
    )
    return None if row is None else _Endpoint(**row)


def _known(endpoint: _Endpoint, look: Look) -> tuple[Rules, Alarms]:
    """What an endpoint wants and knows; where its rules are new, it knows nothing."""
    if endpoint.known_generation != endpoint.generation or endpoint.first_look is None:
        return Rules(endpoint.down_for, endpoint.silent_for, look.as_of), Alarms()
    return Rules(endpoint.down_for, endpoint.silent_for, endpoint.first_look), Alarms(
        *map(_unpacked, endpoint.packed)
    )


async def _about(
    connection: asyncpg.Connection, look: Look, places: Ints, endpoint: _Endpoint
) -> Ints:
    """Those of some stores that have the tags that an endpoint names."""
    if not endpoint.tags or not len(places):
        return places
    _, tags, without = with_tags(endpoint.tags).arguments
    rows = await connection.fetch(
        """
        select id from store
        where id = any ($1::integer[])
            and ($2::jsonb is null or tags @> $2)
            and (tags is null or not tags ?| $3::text[])
        """,
        look.store[places].tolist(),
        tags,
        without,
    )
    having = np.array([row["id"] for row in rows], np.int64)
    about: Ints = places[np.isin(look.store[places], having)]
    return about


async def _stores(connection: asyncpg.Connection, look: Look, places: Ints) -> Mapping[int, _Store]:
    rows = await connection.fetch(
        """
        select id, store_id, name, coalesce(tags, '{}')::text as tags from store
        where id = any ($1::integer[])
        """,
        look.store[places].tolist(),
    )
    return {
        row["id"]: _Store(
            row["store_id"],
            row["name"],
            msgspec.json.decode(row["tags"], type=dict[str, str]),
        )
        for row in rows
    }


async def _write(
    connection: asyncpg.Connection,
    endpoint: _Endpoint,
    happened: datetime,
    events: Sequence[_Event],
) -> None:
    if not events:
        return
    sequences = await next_sequences(connection, len(events))
    numbered = [
        (
            sequence,
            kind,
            payload_of(kind, happened, msgspec.structs.replace(data, sequence=sequence)),
        )
        for sequence, (kind, data) in zip(sequences, events, strict=True)
    ]
    await add_deliveries(connection, endpoint.id, numbered)


async def _note(
    connection: asyncpg.Connection,
    endpoint: _Endpoint,
    rules: Rules,
    packed: Sequence[bytes],
    minute: int,
    counts: Mapping[StoreEvent, int],
) -> None:
    await connection.execute(
        """
        insert into webhook_alarm (webhook, generation, first_look, down_told, down_known,
                                   silent_told, silent_known, minute, down, up, silent)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        on conflict (webhook) do update set generation = $2, first_look = $3, down_told = $4,
            down_known = $5, silent_told = $6, silent_known = $7, minute = $8, down = $9, up = $10,
            silent = $11
        """,
        endpoint.id,
        endpoint.generation,
        rules.first_look,
        *packed,
        minute,
        counts["store.down"],
        counts["store.up"],
        counts["store.silent"],
    )


def _seconds(milliseconds: np.int64) -> float:
    return min(int(milliseconds), LONGEST_THRESHOLD) / 1000


def _packed(alarms: Alarms) -> tuple[bytes, ...]:
    sets = (alarms.down_told, alarms.down_known, alarms.silent_told, alarms.silent_known)
    return tuple(stores.astype("<i4").tobytes() for stores in sets)


def _unpacked(packed: bytes | None) -> Ints:
    return np.frombuffer(packed or b"", "<i4").astype(np.int64)
