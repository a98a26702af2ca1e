"""Exclusions as they are known: lists of them, and those that matter to a stretch of time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from uuid import UUID

import asyncpg
import msgspec
import numpy as np

from compute.axis import Ints
from compute.instants import instant_of, milliseconds_of
from compute.packed_rows import (
    EXCLUSIONS,
    NO_ROWS,
    PackedRows,
    pack_exclusions,
    unpack_exclusions,
)
from service.database.pool import Database


class KnownExclusion(msgspec.Struct, frozen=True):
    """Time that counts neither for nor against the stores that it covers.

    Attributes:
        id: its own
        store_ids: the stores that it covers; None: see tags
        tags: key → value; it covers the stores that have all of them. None beside no ids: all
        begins: its first instant
        ends: the first one after it
        reason: why
    """

    id: UUID
    store_ids: list[str] | None
    tags: dict[str, str] | None
    begins: datetime
    ends: datetime
    reason: str


async def read_exclusion(connection: Database, exclusion_id: UUID) -> KnownExclusion | None:
    """One exclusion; None: there is none with this id."""
    row = await connection.fetchrow(
        """
        select id, store_ids, tags::text, begins, ends, reason from exclusion where id = $1
        """,
        exclusion_id,
    )
    return None if row is None else _known(row)


@dataclass(frozen=True)
class Exclusions:
    """Those that touch a stretch of time, packed, by whom they cover.

    Attributes:
        of_all: of all stores
        of_id: store id → those that name it
        of_tags: tags as JSON → those of the stores that have all of these
    """

    of_all: bytes
    of_id: Mapping[str, bytes]
    of_tags: Mapping[str, bytes]

    def __bool__(self) -> bool:
        return bool(self.of_all or self.of_id or self.of_tags)

    async def covering(
        self, connection: Database, number: Ints, store_ids: bytes, id_size: Ints
    ) -> PackedRows:
        """Those that cover some stores, as the kernel takes them.

        Args:
            connection: where to ask who has which tags
            number: int64[stores], their numbers in the database
            store_ids: UTF-8 ids, joined
            id_size: int64[stores], bytes of each id
        """
        if not self:
            return NO_ROWS
        each = [self.of_all] * len(number)
        if self.of_id:
            ends = np.cumsum(id_size).tolist()
            for place, (start, end) in enumerate(pairwise([0, *ends])):
                each[place] += self.of_id.get(store_ids[start:end].decode(), b"")
        if self.of_tags:
            places = {store: place for place, store in enumerate(number.tolist())}
            for store, tags in await _with_tags(connection, number.tolist(), list(self.of_tags)):
                each[places[store]] += self.of_tags[tags]
        if self.of_id or self.of_tags:  # in one order, whatever order they were found in
            each = [
                pack_exclusions(*unpack_exclusions(packed)) if packed != self.of_all else packed
                for packed in each
            ]
        rows = np.array([len(packed) // EXCLUSIONS.itemsize for packed in each], dtype=np.int64)
        return PackedRows(b"".join(each), rows)


async def exclusions_between(connection: Database, first: int, end: int) -> Exclusions:
    """All exclusions that touch a stretch of time.

    Args:
        connection: where to ask
        first: milliseconds since 1970-01-01 UTC
        end: the same, not included
    """
    rows = await connection.fetch(
        """
        select store_ids, tags::text, begins, ends from exclusion
        where tstzrange(begins, ends) && tstzrange($1, $2)
        order by begins, ends
        """,
        instant_of(first),
        instant_of(end),
    )
    of_all = b""
    of_id: dict[str, bytes] = {}
    of_tags: dict[str, bytes] = {}
    for store_ids, tags, begins, ends in rows:
        span = [np.array([milliseconds_of(edge)]) for edge in (begins, ends)]
        packed = pack_exclusions(*span)
        if tags is not None:
            of_tags[tags] = of_tags.get(tags, b"") + packed
        elif store_ids is None:
            of_all += packed
        else:
            for store_id in store_ids:
                of_id[store_id] = of_id.get(store_id, b"") + packed
    return Exclusions(of_all, of_id, of_tags)


async def _with_tags(
    connection: Database, numbers: list[int], tags: Sequence[str]
) -> list[tuple[int, str]]:
    """Who of some stores, by their numbers, has all of which tags."""
    rows = await connection.fetch(
        """
        select store.id, wanted.tags
        from store join unnest($2::text[]) as wanted (tags) on store.tags @> wanted.tags::jsonb
        where store.id = any ($1::integer[])
        """,
        numbers,
        tags,
    )
    return [(row["id"], row["tags"]) for row in rows]


async def list_exclusions(
    connection: Database,
    size: int,
    after: tuple[datetime, UUID] | None = None,
    first: datetime | None = None,
    end: datetime | None = None,
    store_id: str | None = None,
) -> list[KnownExclusion]:
    """Exclusions in the order of their begins, and then of their own ids.

    Args:
        connection: where to ask
        size: how many at most
        after: only those that come after one with this begin and id
        first: only those that end after it
        end: only those that begin before it
        store_id: only those that cover this store
    """
    begin, last_id = after or (None, UUID(int=0))
    bounds = (begin, last_id, first, end, size)
    if store_id is None:
        rows = await connection.fetch(
            """
            select id, store_ids, tags::text, begins, ends, reason from exclusion
            where (begins, id) > (coalesce($1::timestamptz, '-infinity'), $2::uuid)
                and ends > coalesce($3::timestamptz, '-infinity')
                and begins < coalesce($4::timestamptz, 'infinity')
            order by begins, id limit $5
            """,
            *bounds,
        )
    else:
        rows = await connection.fetch(
            """
            select id, store_ids, tags::text, begins, ends, reason from exclusion
            where (begins, id) > (coalesce($1::timestamptz, '-infinity'), $2::uuid)
                and ends > coalesce($3::timestamptz, '-infinity')
                and begins < coalesce($4::timestamptz, 'infinity')
                and (
                    store_ids @> array[$6::text]
                    or store_ids is null
                        and coalesce(tags, '{}')
                            <@ coalesce((select tags from store where store_id = $6), '{}')
                )
            order by begins, id limit $5
            """,
            *bounds,
            store_id,
        )
    return list(map(_known, rows))


def _known(row: asyncpg.Record) -> KnownExclusion:
    tags = None if row["tags"] is None else msgspec.json.decode(row["tags"], type=dict[str, str])
    return KnownExclusion(
        row["id"], row["store_ids"], tags, row["begins"], row["ends"], row["reason"]
    )
