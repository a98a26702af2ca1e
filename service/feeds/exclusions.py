"""Exclusions: stretches of time that count neither for nor against the stores that they cover.

Whom an exclusion covers is one text on the way in: a store's id, `*` for all, or `_SEVERAL` and
JSON of the ids or the tags. So exclusions travel like the rows of any other feed, by store.
"""

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from uuid import UUID

import asyncpg
import msgspec
import numpy as np

from compute.axis import Ints
from compute.instants import instant_of
from service.feeds.spool import Spool
from service.feeds.storing import patiently, storing
from service.stores.exclusions import KnownExclusion, read_exclusion

ALL = "*"
#: No store's id has this character.
_SEVERAL = "\0"
#: Exclusions that one statement writes.
_AT_ONCE = 10_000


class Whom(msgspec.Struct, frozen=True, omit_defaults=True):
    """The stores that an exclusion covers: all, unless one of these is given.

    Attributes:
        store_ids: different ones, in order
        tags: key → value; a store is covered that has all of them
    """

    store_ids: list[str] | None = None
    tags: dict[str, str] | None = None

    @property
    def text(self) -> str:
        """The same in one text, the same for the same stores."""
        if self.store_ids is not None and len(self.store_ids) == 1:
            return self.store_ids[0]
        if self.store_ids is None and self.tags is None:
            return ALL
        return _SEVERAL + msgspec.json.encode(self, order="sorted").decode()

    @classmethod
    def of(cls, text: str) -> "Whom":
        """Those that a text stands for."""
        if text.startswith(_SEVERAL):
            return msgspec.json.decode(text.removeprefix(_SEVERAL), type=cls)
        return cls() if text == ALL else cls([text])


def count_named(texts: Sequence[str]) -> int:
    """How many different ids are named."""
    return len({store_id for text in texts for store_id in Whom.of(text).store_ids or ()})


async def write_exclusions(
    connection: asyncpg.Connection, store_ids: list[str], rank: Ints, names: list[str], spool: Spool
) -> Ints:
    """Add exclusions; one of the same stores, begin and end gets the reason of the last row.

    Args:
        connection: in a transaction of `storing`
        store_ids: texts of whom they cover, in their order
        rank: as the other feeds
        names: none
        spool: as the other feeds

    Returns:
        int64[4], how many were new, had another reason and were the same; 0
    """
    counts = np.zeros(4, dtype=np.int64)
    parts = spool.parts(rank)
    while (part := await asyncio.to_thread(next, parts, None)) is not None:
        _, _, rank_of_row, value = part
        rows = np.column_stack([rank_of_row, value])
        last = await asyncio.to_thread(_last_of_each, rows)
        for begin in range(0, len(last), _AT_ONCE):
            some = last[begin : begin + _AT_ONCE]
            reasons = await asyncio.to_thread(spool.texts_of, some[:, 3])
            counts[:3] += await _add(connection, store_ids, some, reasons)
    return counts


def _last_of_each(rows: Ints) -> Ints:
    """Of rows with the same whom, begin and end the last one, in the order of these three."""
    backwards = rows[::-1]
    _, at = np.unique(backwards[:, :3], axis=0, return_index=True)
    last: Ints = backwards[at]
    return last


async def _add(
    connection: asyncpg.Connection, texts: list[str], rows: Ints, reasons: list[str]
) -> list[int]:
    """Add different exclusions, in an order that all who add some keep to."""
    whom = [Whom.of(texts[rank]) for rank in rows[:, 0].tolist()]
    counts: list[int] = await patiently(
        connection,
        """
        with given as materialized (
            select * from unnest(
                $1::text[], $2::text[], $3::bytea[], $4::timestamptz[], $5::timestamptz[],
                $6::text[]
            ) with ordinality as given (ids, tags, whom, begins, ends, reason, ordinal)
        ), written as (
            insert into exclusion as known (store_ids, tags, whom, begins, ends, reason)
            select case when ids is not null
                       then array(select jsonb_array_elements_text(ids::jsonb)) end,
                   tags::jsonb, whom, begins, ends, reason
            from given order by ordinal
            on conflict (whom, begins, ends) do update set reason = excluded.reason
            where known.reason <> excluded.reason
            returning xmax = 0 as is_new
        )
        select array[
            count(*) filter (where is_new),
            count(*) filter (where not is_new),
            (select count(*) from given) - count(*)
        ]
        from written
        """,
        [None if each.store_ids is None else _json(each.store_ids) for each in whom],
        [None if each.tags is None else _json(each.tags) for each in whom],
        [digest(texts[rank]) for rank in rows[:, 0].tolist()],
        [instant_of(begin) for begin in rows[:, 1].tolist()],
        [instant_of(end) for end in rows[:, 2].tolist()],
        reasons,
    )
    return counts


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def digest(whom: str) -> bytes:
    """What the database tells exclusions of the same stores by."""
    return sha256(whom.encode()).digest()


async def delete_exclusion(pool: asyncpg.Pool, exclusion_id: UUID) -> KnownExclusion | None:
    """Delete an exclusion, and tell what it was; None: there is none, or no more."""
    async with storing(pool) as connection:
        exclusion = await read_exclusion(connection, exclusion_id)
        gone = await connection.execute("delete from exclusion where id = $1", exclusion_id)
    return exclusion if gone == "DELETE 1" else None
