"""Business hours of a feed, merged with the weeks that are known of its stores.

Without dates, a store's week in the feed is in force for all time, in place of all that was known
of its hours. With them, it replaces the week of the same store and date alone.
"""

import asyncio

import asyncpg
import numpy as np

from compute.axis import Ints
from compute.business_hours import pack_weeks
from compute.dated_rows import DatedRows
from compute.feed_faults import Fault, FeedRefused
from compute.feed_values import date_text
from compute.packed_rows import EMPTY, NO_DATE
from service.feeds.spool import Spool
from service.feeds.store_rows import add_or_set, hold_stores, lock_stores

#: Weeks with a date that a store may have. Reports read all of them.
MOST_WEEKS = 1000


async def write_hours(
    connection: asyncpg.Connection, store_ids: list[str], rank: Ints, names: list[str], spool: Spool
) -> Ints:
    """Write the weeks in a feed.

    Returns:
        int64[4]: stores that had none, others and the same; weeks with a date that were taken away

    Raises:
        FeedRefused: a week is empty and is not, or a store would have too many
    """
    counts = np.zeros(4, dtype=np.int64)
    held = False
    await lock_stores(connection, store_ids)
    parts = spool.parts(rank)
    while (part := await asyncio.to_thread(next, parts, None)) is not None:
        first, last, rank_of_row, value = part
        ids, store = store_ids[first:last], rank_of_row - first  # every store has a row
        if value.ndim == 1:
            if (value == EMPTY).any():
                undated = np.full(len(store), NO_DATE)
                refuse_contradictions(await _rows(store, undated, value), ids, "week")
            _, weeks = await asyncio.to_thread(pack_weeks, store, value)
            counts += await _set_week(connection, ids, weeks)
            continue
        if not held:  # all of them before the first part, in the order in which stores are locked
            await hold_stores(connection, store_ids)
            held = True
        given = await _rows(store, value[:, 0], value[:, 1])
        refuse_contradictions(given, ids, "week")
        counts[:3] += await _put_weeks(connection, ids, given)
    return counts


async def _rows(store: Ints, date: Ints, hours: Ints) -> DatedRows:
    return await asyncio.to_thread(DatedRows.of, store, date, hours)


def refuse_contradictions(rows: DatedRows, store_ids: list[str], what: str) -> None:
    """Refuse rows that say of a store's week, or date, that it is empty, and that it is not.

    Raises:
        FeedRefused: there are such rows
    """
    if (found := rows.beside_empty()) is None:
        return
    store, date = found
    which = f"the {what} without a date" if date == NO_DATE else f"the {what} of {date_text(date)}"
    problem = (
        f"store {store_ids[store]!r}: {which} has a row that says it is closed beside rows with "
        "hours: leave out either"
    )
    raise FeedRefused([Fault(0, "", "", problem)], 1)


def refuse_too_many(dates: Ints, most: int, store_ids: list[str], what: str) -> None:
    """Refuse rows after which a store would have too many dates.

    Args:
        dates: int64[stores], how many each would have
        most: that are allowed
        store_ids: their ids
        what: of which there are so many

    Raises:
        FeedRefused: a store would have more
    """
    if (dates > most).any():
        store = int(np.argmax(dates))
        problem = f"store {store_ids[store]!r} would have {dates[store]} {what}; at most {most} are"
        raise FeedRefused([Fault(0, "", "", f"{problem} allowed")], 1)


async def _set_week(
    connection: asyncpg.Connection, store_ids: list[str], weeks: list[bytes]
) -> list[int]:
    """Set the week of stores for all time; those that there are must be locked."""
    return await add_or_set(
        connection,
        """
        with given as (
            select named.*, store.id, business_hours as known, dated_weeks
            from unnest($1::text[], $2::bytea[])
                with ordinality as named (store_id, value, ordinal)
            left join store on store.store_id = named.store_id
        ), added as (
            insert into store (store_id, business_hours)
            select store_id, value from given where id is null order by ordinal
        ), written as (
            update store set business_hours = given.value, dated_weeks = null from given
            where store.id = given.id
                and (given.known is distinct from given.value or given.dated_weeks is not null)
        )
        select array[
            count(*) filter (where known is null and dated_weeks is null),
            count(*) filter (
                where known <> value or dated_weeks is not null
            ),
            count(*) filter (where known = value and dated_weeks is null),
            coalesce(sum(
                (
                    select count(distinct packed_int4(dated_weeks, 3 * i))
                    from generate_series(0, length(dated_weeks) / 12 - 1) as i
                )
            ) filter (where dated_weeks is not null), 0)::bigint
        ]
        from given
        """,
        store_ids,
        weeks,
    )


async def _put_weeks(
    connection: asyncpg.Connection, store_ids: list[str], given: DatedRows
) -> list[int]:
    """Put weeks in the place of those of the same stores and dates; the stores must be locked."""
    known = await connection.fetch(
        """
        select business_hours, dated_weeks
        from unnest($1::text[]) with ordinality as named (store_id, ordinal)
        join store using (store_id) order by ordinal
        """,
        store_ids,
    )
    before = [tuple(row) for row in known]

    def merged() -> list[tuple[bytes | None, bytes | None]]:
        rows = DatedRows.of_weeks([week for week, _ in before]).and_others(
            DatedRows.unpacked([dated for _, dated in before])
        )
        rows = given.and_others(rows)
        refuse_too_many(rows.dates_of(len(store_ids)), MOST_WEEKS, store_ids, "weeks with a date")
        weeks, dated = rows.packed_weeks(len(store_ids)), rows.packed(len(store_ids))
        return list(zip(weeks, dated, strict=True))

    after = await asyncio.to_thread(merged)
    other = [index for index, row in enumerate(after) if row != before[index]]
    await set_weeks(
        connection,
        [store_ids[index] for index in other],
        [after[index][0] for index in other],
        [after[index][1] for index in other],
    )
    new = before.count((None, None))
    return [new, len(other) - new, len(store_ids) - len(other)]


async def set_weeks(
    connection: asyncpg.Connection,
    store_ids: list[str],
    weeks: list[bytes | None],
    dated_weeks: list[bytes | None],
) -> None:
    """Set all weeks of stores that are there, and locked: packed; None: none."""
    await connection.execute(
        """
        update store set business_hours = given.week, dated_weeks = given.dated
        from unnest($1::text[], $2::bytea[], $3::bytea[]) as given (store_id, week, dated)
        where store.store_id = given.store_id
        """,
        store_ids,
        weeks,
        dated_weeks,
    )
