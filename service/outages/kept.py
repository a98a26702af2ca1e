"""Anchors that are kept, so that ids stay, and what people note of outages: the table `outage`."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import asyncpg
import msgspec
import numpy as np

from compute.axis import PER_MS
from compute.instants import instant_of, milliseconds_of
from compute.outages import LOOK_BACK_MS, NO_INSTANT, Outages
from compute.timeline import STATES
from service.database import locks
from service.database.pool import Database
from service.outages.ids import OutageId, anchor_of
from service.states.look import Look

#: An anchor that nobody notes anything at is kept for as long as outages are looked for.
_KEPT_FOR = timedelta(milliseconds=LOOK_BACK_MS)
#: Such anchors that one look tidies away.
_TIDIED_AT_ONCE = 1000
_DOWN = STATES.index("down")


class Kept(msgspec.Struct, frozen=True):
    """An anchor that is kept, and what is noted there.

    Attributes:
        id: what the anchor is told as
        note: what people say of the outage; None: nothing
        cause: why it was; None: nothing is said
        author: who says so; None: nobody is named
        noted_at: when one of the three was last set; None: there is none of them
    """

    id: OutageId
    note: str | None = None
    cause: str | None = None
    author: str | None = None
    noted_at: datetime | None = None


class Named(NamedTuple):
    """How an outage is called, and what is noted of it.

    Attributes:
        id: that of its earliest anchor that is kept, or else of its beginning
        notes: all that have something, by their anchors; more than one where outages became one
        kept: all anchors within it that are kept, by their instants
    """

    id: OutageId
    notes: list[Kept]
    kept: list[Kept]


async def names_of(
    connection: Database, stores: Sequence[int], found: Outages, as_of: int
) -> list[Named]:
    """How some outages are called, and what is noted of them.

    Args:
        connection: where to ask
        stores: of each outage, the number of its store in the database
        found: the outages
        as_of: up to when was looked, milliseconds since 1970-01-01 UTC
    """
    # An anchor before all that was looked at may be that of an older outage.
    first = np.where(found.begun, found.begin // PER_MS, max(0, as_of - LOOK_BACK_MS))
    last = np.maximum(found.end // PER_MS, first + 1)
    rows = await connection.fetch(
        """
        select place, outage.store, anchor, note, cause, author, noted_at
        from unnest($1::integer[], $2::timestamptz[], $3::timestamptz[])
            with ordinality as asked (store, first, last, place)
        join outage on outage.store = asked.store and anchor >= first and anchor < last
        order by place, anchor
        """,
        stores,
        [instant_of(one) for one in first.tolist()],
        [instant_of(one) for one in last.tolist()],
    )
    kept: list[list[Kept]] = [[] for _ in stores]
    for place, *row in rows:
        kept[place - 1].append(_kept(*row))
    return [
        Named(
            id=within[0].id if within else OutageId(store, anchor_of(begin, end)),
            notes=[one for one in within if one.noted_at is not None],
            kept=within,
        )
        for store, begin, end, within in zip(
            stores, found.begin.tolist(), found.end.tolist(), kept, strict=True
        )
    ]


def _kept(
    store: int,
    anchor: datetime,
    note: str | None,
    cause: str | None,
    author: str | None,
    noted_at: datetime | None,
) -> Kept:
    return Kept(OutageId(store, milliseconds_of(anchor)), note, cause, author, noted_at)


async def take_notes(connection: asyncpg.Connection) -> None:
    """Have notes to oneself until the transaction ends: whoever changes one looks at others."""
    await connection.execute("select pg_advisory_xact_lock($1)", locks.OUTAGE_NOTES)


def noted_at(asked: OutageId, named: Named) -> Kept:
    """Where something is noted of the outage that an id means.

    That is where the id itself says, if something is noted there; or else the first note, or else
    the earliest anchor that is kept; or, if there is none, the id's own.
    """
    itself = [one for one in named.notes if one.id == asked]
    return [*itself, *named.notes, *named.kept, Kept(asked)][0]


async def write_note(connection: asyncpg.Connection, noted: Kept) -> None:
    """Set what is noted at an anchor, which is kept from now on, also where nothing is noted."""
    await connection.execute(
        """
        insert into outage (store, anchor, note, cause, author, noted_at)
        select id, $2, $3, $4, $5,
            case when num_nonnulls($3::text, $4::text, $5::text) > 0 then now() end
        from store where id = $1
        on conflict (store, anchor) do update
        set note = excluded.note, cause = excluded.cause, author = excluded.author,
            noted_at = excluded.noted_at
        """,
        *(noted.id.store, instant_of(noted.id.anchor), noted.note, noted.cause, noted.author),
    )


async def remember(connection: asyncpg.Connection, look: Look) -> None:
    """Keep the beginnings of outages that a look is the first to see, so that their ids stay.

    Of one without a known beginning it is the instant before the look. An outage in which an anchor
    is kept already gets no other one: its id would change. Some of the anchors that were kept long
    enough are tidied away.
    """
    # Who is down again after a night has the outage of the evening, of which the beginning may not
    # have been known then.
    new = (look.state == _DOWN) & (look.down_for > 0)
    new &= (look.was_down_for == 0) | (look.before != _DOWN)
    as_of = instant_of(look.as_of)
    since = look.since[new]
    begun = since != NO_INSTANT
    first = np.where(begun, since, max(0, look.as_of - LOOK_BACK_MS))
    anchor = np.where(begun, since, look.as_of - 1)
    if new.any():
        await connection.execute(
            """
            insert into outage (store, anchor)
            select seen.store, seen.anchor
            from unnest($1::integer[], $2::timestamptz[], $3::timestamptz[])
                as seen (store, first, anchor)
            where exists (select from store where id = seen.store) and not exists (
                select from outage
                where outage.store = seen.store and outage.anchor between first and $4
            )
            on conflict do nothing
            """,
            look.store[new].tolist(),
            [instant_of(one) for one in first.tolist()],
            [instant_of(one) for one in anchor.tolist()],
            as_of,
        )
    await connection.execute(
        """
        delete from outage where (store, anchor) in (
            select store, anchor from outage where noted_at is null and anchor < $1
            order by anchor limit $2 for update skip locked
        )
        """,
        as_of - _KEPT_FOR,
        _TIDIED_AT_ONCE,
    )
