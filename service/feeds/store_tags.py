"""Names, tags and targets of stores: a feed sets those whose columns its file has."""

import asyncio
from collections.abc import Iterator

import asyncpg
import msgspec
import numpy as np

from compute.axis import Ints
from compute.feed_faults import Fault, FeedRefused
from compute.feed_values import MOST_TAGS
from service.feeds.spool import Spool
from service.feeds.store_rows import hold_stores

#: Stores that one statement sets: the tags of each may have some ten thousand bytes.
_AT_ONCE = 2_000


class StoreChange(msgspec.Struct):
    """What is to be set of a store, as `compute.feed_rows.store_text` writes it."""

    name: str | msgspec.UnsetType | None = msgspec.UNSET
    tags: dict[str, str | None] = {}
    target: int | msgspec.UnsetType | None = msgspec.UNSET


async def write_stores(
    connection: asyncpg.Connection, store_ids: list[str], rank: Ints, names: list[str], spool: Spool
) -> Ints:
    """Set what a feed says; of several rows of a store, each sets what it has, the last one last.

    Returns:
        int64[4]: stores that had neither name, tags nor target, others and the same; names, tags
        and targets that were taken away

    Raises:
        FeedRefused: a store would have too many tags
    """
    await hold_stores(connection, store_ids)
    counts = np.zeros(4, dtype=np.int64)
    parts = spool.parts(rank)
    while (part := await asyncio.to_thread(next, parts, None)) is not None:
        _, _, rank_of_row, value = part
        changes = _changes(spool, rank_of_row, value[:, 0])
        while some := await asyncio.to_thread(next, changes, None):
            ids = [store_ids[rank] for rank in some]
            counts += await change_stores(connection, ids, list(some.values()))
    return counts


def _changes(spool: Spool, rank: Ints, reference: Ints) -> Iterator[dict[int, StoreChange]]:
    """What is to be set of each store, in some parts, in the order of ranks."""
    order = np.argsort(rank, kind="stable")
    rank, reference = rank[order], reference[order]
    stores, first = np.unique(rank, return_index=True)
    for begin in range(0, len(stores), _AT_ONCE):
        bounds = np.append(first, len(rank))[[begin, min(begin + _AT_ONCE, len(stores))]]
        rows = slice(*bounds.tolist())
        changes: dict[int, StoreChange] = {}
        texts = spool.texts_of(reference[rows])
        for store, text in zip(rank[rows].tolist(), texts, strict=True):
            row = msgspec.json.decode(text, type=StoreChange)
            known = changes.setdefault(store, row)
            if known is not row:
                known.name = known.name if row.name is msgspec.UNSET else row.name
                known.tags = {**known.tags, **row.tags}
                known.target = known.target if row.target is msgspec.UNSET else row.target
        yield changes


async def change_stores(
    connection: asyncpg.Connection, store_ids: list[str], changes: list[StoreChange]
) -> list[int]:
    """Set names, tags and targets of different stores that are there, and locked.

    Returns:
        as `write_stores`

    Raises:
        FeedRefused: a store would have too many tags
    """
    counts = await connection.fetchrow(
        """
        with given as (
            select store.id, store.store_id, store.name as old_name, store.tags as old_tags,
                   store.target as old_target,
                   case when retargeted then given.target else store.target end as target,
                   case when renamed then given.name else store.name end as name,
                   nullif(
                       jsonb_strip_nulls(coalesce(store.tags, '{}') || given.tags::jsonb), '{}'
                   ) as tags,
                   (
                       select count(*) from jsonb_each(given.tags::jsonb) as set
                       where set.value = 'null' and store.tags ? set.key
                   ) + (store.name is not null and renamed and given.name is null)::integer
                   + (store.target is not null and retargeted and given.target is null)::integer
                       as removed
            from unnest($1::text[], $2::boolean[], $3::text[], $4::text[], $5::boolean[], $6::int[])
                as given (store_id, renamed, name, tags, retargeted, target)
            join store using (store_id)
        ), other as (
            select * from given
            where name is distinct from old_name or tags is distinct from old_tags
                or target is distinct from old_target
        ), written as (
            update store set name = other.name, tags = other.tags, target = other.target from other
            where store.id = other.id
        ), fullest as (
            select store_id, (select count(*) from jsonb_object_keys(tags)) as tags
            from other where tags is not null order by 2 desc limit 1
        )
        select (select count(*) from other where coalesce(old_name, old_tags::text) is null
                   and old_target is null),
               (select count(*) from other where coalesce(old_name, old_tags::text) is not null
                   or old_target is not null),
               (select count(*) from given) - (select count(*) from other),
               (select coalesce(sum(removed), 0) from given),
               (select store_id from fullest),
               (select tags from fullest)
        """,
        store_ids,
        [change.name is not msgspec.UNSET for change in changes],
        [None if change.name is msgspec.UNSET else change.name for change in changes],
        [msgspec.json.encode(change.tags).decode() for change in changes],
        [change.target is not msgspec.UNSET for change in changes],
        [None if change.target is msgspec.UNSET else change.target for change in changes],
    )
    *counted, fullest, tags = counts
    if fullest is not None and tags > MOST_TAGS:
        problem = f"store {fullest!r} would have {tags} tags; at most {MOST_TAGS} are allowed"
        raise FeedRefused([Fault(0, "", "", problem)], 1)
    return [int(count) for count in counted]
