"""What is known of single stores, and lists of them."""

from collections.abc import Sequence

import asyncpg
import msgspec
import numpy as np

from compute.axis import DAY_MS
from compute.batch import Question, StoreBatch
from compute.business_hours import HOURS
from compute.feed_values import LONGEST_STORE_ID
from compute.packed_rows import DATED_WEEKS, NO_ROWS, SPECIAL_HOURS, PackedRows
from compute.polls import WORD
from compute.zones import DEFAULT_TIMEZONE, StoresInZone, ZoneUnknown, zone_names
from service.database.pool import Database
from service.stores.exclusions import exclusions_between
from service.stores.packed import indexes_of
from service.stores.polls import read_polls
from service.stores.selection import Selection


class KnownStore(msgspec.Struct, frozen=True):
    """What is known of one store.

    Attributes:
        number: its number in the database
        store_id: its id
        timezone: IANA name; None: none given
        business_hours: packed; empty: no row at all
        newest_poll: a `poll` (see `compute.polls`); None: there is none
        dated_weeks: packed weeks with a date (see `compute.dated_rows`); empty: none
        special_hours: packed (see `compute.dated_rows`); empty: none
        special_reasons: date, days since 1970-01-01 as text → why it is special
        name: what it is called; None: nothing
        tags: key → value
        target: its own, as `compute.targets` has it; None: none
    """

    number: int
    store_id: str
    timezone: str | None
    business_hours: bytes
    newest_poll: int | None
    dated_weeks: bytes = b""
    special_hours: bytes = b""
    special_reasons: dict[str, str] = {}
    name: str | None = None
    tags: dict[str, str] = {}
    target: int | None = None


async def read_store(connection: Database, store_id: str) -> KnownStore | None:
    """One store; None: no feed has named it."""
    stores = await read_stores(connection, [store_id])
    return stores[0] if stores else None


async def read_store_by_number(connection: Database, number: int) -> KnownStore | None:
    """The store with a number in the database; None: there is none."""
    store_id = await connection.fetchval("select store_id from store where id = $1", number)
    return None if store_id is None else await read_store(connection, store_id)


async def read_stores(connection: Database, store_ids: Sequence[str]) -> list[KnownStore]:
    """Some stores, in the order given; those that no feed has named are left out."""
    rows = await connection.fetch(
        """
        select store.id,
               store_id,
               (select name from timezone where timezone.id = store.timezone) as timezone,
               coalesce(business_hours, '') as business_hours,
               coalesce(dated_weeks, '') as dated_weeks,
               coalesce(special_hours, '') as special_hours,
               coalesce(special_reasons, '{}')::text as special_reasons,
               store.name,
               coalesce(tags, '{}')::text as tags,
               store.target,
               newest.day,
               newest.word
        from unnest($1::text[]) with ordinality as named (wanted, ordinal)
        join store on store_id = wanted
        left join lateral (
            select day, packed_int4(polls, length(polls) / $2::integer - 1) as word
            from poll_day where poll_day.store = store.id order by day desc limit 1
        ) as newest on true
        order by ordinal
        """,
        store_ids,
        WORD.itemsize,
    )
    return [
        KnownStore(
            row["id"],
            row["store_id"],
            row["timezone"],
            row["business_hours"],
            None if row["day"] is None else row["day"] * (2 * DAY_MS) + row["word"],
            row["dated_weeks"],
            row["special_hours"],
            msgspec.json.decode(row["special_reasons"], type=dict[str, str]),
            row["name"],
            msgspec.json.decode(row["tags"], type=dict[str, str]),
            row["target"],
        )
        for row in rows
    ]


async def batch_of_store(connection: Database, store: KnownStore, question: Question) -> StoreBatch:
    """One store as the kernel takes it, with the polls that matter to a question.

    Raises:
        ZoneUnknown: the tz database lacks its zone
    """
    return await batch_of(connection, [store], question)


async def batch_of(
    connection: Database, stores: Sequence[KnownStore], question: Question
) -> StoreBatch:
    """Different stores as the kernel takes them, with the polls that matter to a question.

    Raises:
        ZoneUnknown: the tz database lacks the zone of one of them
    """
    for store in stores:
        if store.timezone is not None and store.timezone not in zone_names():
            raise ZoneUnknown([StoresInZone(store.timezone, 1, store.store_id)])
    number = np.array([store.number for store in stores], dtype=np.int64)
    polls = await read_polls(connection, number.tolist(), question.day_ranges)
    excluded = await exclusions_between(connection, *question.stretch)
    ids = [store.store_id.encode() for store in stores]
    id_size = np.array([len(store_id) for store_id in ids], dtype=np.int64)
    names = tuple(sorted({store.timezone for store in stores if store.timezone is not None}))
    return StoreBatch(
        store_ids=b"".join(ids),
        id_size=id_size,
        hours=_joined([store.business_hours for store in stores], HOURS),
        zone=np.array(
            [-1 if store.timezone is None else names.index(store.timezone) for store in stores],
            dtype=np.int64,
        ),
        zone_names=names,
        polls=polls.packed,
        poll_store=indexes_of(number, polls.store),
        poll_day=polls.day,
        poll_size=polls.size,
        dated_weeks=_joined([store.dated_weeks for store in stores], DATED_WEEKS),
        special_hours=_joined([store.special_hours for store in stores], SPECIAL_HOURS),
        exclusions=await excluded.covering(connection, number, b"".join(ids), id_size),
    )


def _joined(packed: Sequence[bytes], row: "np.dtype[np.void]") -> PackedRows:
    """Packed rows of some stores; none, if none has any."""
    if not any(packed):
        return NO_ROWS
    rows = np.array([len(each) // row.itemsize for each in packed], dtype=np.int64)
    return PackedRows(b"".join(packed), rows)


class ListedStore(msgspec.Struct, frozen=True):
    """A store among others.

    Attributes:
        store_id: its id
        timezone: IANA name; None: none given
        name: what it is called; None: nothing
        tags: key → value
        target: its own, as `compute.targets` has it; None: none
        state: at the last look, index into `compute.timeline.STATES`; None: nobody has looked yet
        since: of the state, milliseconds since 1970-01-01 UTC; None: not known
        newest_poll: at the last look, a `poll` (see `compute.polls`); None: none is known
    """

    store_id: str
    timezone: str | None
    name: str | None
    tags: dict[str, str]
    target: int | None
    state: int | None
    since: int | None
    newest_poll: int | None


async def unknown_stores(connection: Database, store_ids: Sequence[str]) -> list[str]:
    """Those ids that no feed has named, in the order given."""
    rows = await connection.fetch(
        """
        select named.store_id
        from unnest($1::text[]) with ordinality as named (store_id, ordinal)
        where not exists (select from store where store.store_id = named.store_id)
        order by ordinal
        """,
        store_ids,
    )
    return [row["store_id"] for row in rows]


#: The last code point: no store id is greater than enough of them.
_LAST = "\U0010ffff"


async def list_stores(
    connection: Database, size: int, after: str = "", prefix: str = "", timezone: str | None = None
) -> list[ListedStore]:
    """Stores in byte order of their ids, by an index that has them in it.

    Args:
        connection: where to ask
        size: how many at most
        after: only those whose ids come after it
        prefix: only those whose ids begin with it
        timezone: only those in it, which for the default one includes stores that have none
    """
    bounds = (after, prefix, _end_of_prefix(prefix), size)
    if timezone is None:
        rows = await connection.fetch(
            """
            select store_id, (select name from timezone where id = store.timezone) as timezone,
                   name, tags::text, target, state, since, newest_poll
            from store left join store_state on store_state.store = store.id
            where store_id > $1 and store_id >= $2 and store_id < $3
            order by store_id limit $4
            """,
            *bounds,
        )
    else:
        rows = await connection.fetch(
            # `timezone is null` does not tell the planner that the index then is in the order of
            # ids, so the second part orders by the time zone too.
            """
            select store_id, found.timezone, name, tags, target, state, since, newest_poll
            from ((
                select id, store_id, $5::text as timezone, name, tags::text, target from store
                where timezone = (select id from timezone where name = $5)
                    and store_id > $1 and store_id >= $2 and store_id < $3
                order by store_id limit $4
            ) union all (
                select id, store_id, null, name, tags::text, target from store
                where timezone is null and $6
                    and store_id > $1 and store_id >= $2 and store_id < $3
                order by timezone, store_id limit $4
            )) as found left join store_state on store_state.store = found.id
            order by store_id limit $4
            """,
            *bounds,
            timezone,
            timezone == DEFAULT_TIMEZONE,
        )
    return list(map(_listed, rows))


async def find_stores(
    connection: Database,
    size: int,
    after: str = "",
    prefix: str = "",
    timezone: str | None = None,
    *,
    search: str = "",
    wanted: Selection,
    state: int | None = None,
) -> list[ListedStore]:
    """As `list_stores`, of some stores: those that have tags, or are in a state, by an index.

    Args:
        connection: where to ask
        size: as `list_stores`
        after: as `list_stores`
        prefix: as `list_stores`
        timezone: as `list_stores`
        search: only those whose ids begin with it, or whose names have it in them, in any case
        wanted: only these, by their tags
        state: only those that were in it at the last look, index into `compute.timeline.STATES`
    """
    _, tags, without = wanted.arguments
    arguments = (
        *(after, prefix, _end_of_prefix(prefix), size, timezone, DEFAULT_TIMEZONE),
        *(search, without),
    )
    if tags:
        # By itself, so that it is not guessed to be faster to look at all stores in their order.
        rows = await connection.fetch(
            """
            with tagged as materialized (
                select id, store_id, timezone, name, tags, target from store
                where tags @> $9::jsonb
            )
            select store_id, zone.name as timezone, tagged.name, tags::text, target, state, since,
                   newest_poll
            from tagged
            left join timezone as zone on zone.id = tagged.timezone
            left join store_state on store_state.store = tagged.id
            where store_id > $1 and store_id >= $2 and store_id < $3
                and ($5::text is null or coalesce(zone.name, $6) = $5)
                and (starts_with(store_id, $7) or position(lower($7) in lower(tagged.name)) > 0)
                and not tags ?| $8::text[]
                and ($10::smallint is null or state = $10)
            order by store_id limit $4
            """,
            *arguments,
            tags,
            state,
        )
    elif state is not None:
        rows = await connection.fetch(
            """
            select store_id, zone.name as timezone, store.name, tags::text, target, state, since,
                   newest_poll
            from store_state
            join store on store.id = store_state.store
            left join timezone as zone on zone.id = store.timezone
            where state = $9 and store_id > $1 and store_id >= $2 and store_id < $3
                and ($5::text is null or coalesce(zone.name, $6) = $5)
                and (starts_with(store_id, $7) or position(lower($7) in lower(store.name)) > 0)
                and (tags is null or not tags ?| $8::text[])
            order by store_id limit $4
            """,
            *arguments,
            state,
        )
    else:
        rows = await connection.fetch(
            """
            select store_id, zone.name as timezone, store.name, tags::text, target, state, since,
                   newest_poll
            from store
            left join timezone as zone on zone.id = store.timezone
            left join store_state on store_state.store = store.id
            where store_id > $1 and store_id >= $2 and store_id < $3
                and ($5::text is null or coalesce(zone.name, $6) = $5)
                and (starts_with(store_id, $7) or position(lower($7) in lower(store.name)) > 0)
                and (tags is null or not tags ?| $8::text[])
            order by store_id limit $4
            """,
            *arguments,
        )
    return list(map(_listed, rows))


def _listed(row: asyncpg.Record) -> ListedStore:
    tags = msgspec.json.decode(row["tags"] or "{}", type=dict[str, str])
    return ListedStore(
        *(row["store_id"], row["timezone"], row["name"], tags, row["target"]),
        *(row["state"], row["since"], row["newest_poll"]),
    )


def _end_of_prefix(prefix: str) -> str:
    """The first text, in order of code points, after all that begin with the prefix."""
    stem = prefix.rstrip(_LAST)
    if not stem:
        return _LAST * (LONGEST_STORE_ID + 1)
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)
