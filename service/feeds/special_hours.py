"""Special hours of a feed, merged with those that are known of its stores, date by date."""

import asyncio
from typing import TypeAlias

import asyncpg
import msgspec
import numpy as np

from compute.axis import Ints
from compute.dated_rows import DatedRows
from service.feeds.hours import refuse_contradictions, refuse_too_many
from service.feeds.spool import Spool
from service.feeds.store_rows import hold_stores

#: Dates that are special, of a store. Reports read all of them.
MOST_DATES = 4000
#: Packed hours, and JSON of the reasons by date; None: none.
_Known: TypeAlias = "tuple[bytes | None, str | None]"


async def write_special_hours(
    connection: asyncpg.Connection, store_ids: list[str], rank: Ints, names: list[str], spool: Spool
) -> Ints:
    """The rows of a store and date in a feed replace all that was known of these two.

    Returns:
        int64[4]: stores that had none, others and the same; 0

    Raises:
        FeedRefused: a date is closed and is not, or a store would have too many
    """
    await hold_stores(connection, store_ids)
    counts = np.zeros(4, dtype=np.int64)
    parts = spool.parts(rank)
    while (part := await asyncio.to_thread(next, parts, None)) is not None:
        first, last, rank_of_row, value = part
        ids, store = store_ids[first:last], rank_of_row - first  # every store has a row
        date, hours, reference = value.T
        given = await asyncio.to_thread(DatedRows.of, store, date, hours)
        refuse_contradictions(given, ids, "date")
        reasons = await asyncio.to_thread(_reasons, spool, store, date, reference)
        counts[:3] += await _put_dates(connection, ids, given, reasons)
    return counts


def _reasons(spool: Spool, store: Ints, date: Ints, reference: Ints) -> dict[int, dict[str, str]]:
    """Store → date → the reason of its last row that has one, empty if none has."""
    references, number = np.unique(reference, return_inverse=True)
    texts = spool.texts_of(references)
    reasons: dict[int, dict[str, str]] = {}
    for each, day, text in zip(store.tolist(), date.tolist(), number.tolist(), strict=True):
        of_store = reasons.setdefault(each, {})
        of_store[str(day)] = texts[text] or of_store.get(str(day), "")
    return reasons


async def _put_dates(
    connection: asyncpg.Connection,
    store_ids: list[str],
    given: DatedRows,
    reasons: dict[int, dict[str, str]],
) -> list[int]:
    """Put dates in the place of the same ones of the same stores, which must be locked."""
    known = await connection.fetch(
        """
        select special_hours, special_reasons::text
        from unnest($1::text[]) with ordinality as named (store_id, ordinal)
        join store using (store_id) order by ordinal
        """,
        store_ids,
    )
    before: list[_Known] = [(row[0], row[1]) for row in known]

    def merged() -> list[_Known]:
        rows = given.and_others(DatedRows.unpacked([packed for packed, _ in before]))
        refuse_too_many(rows.dates_of(len(store_ids)), MOST_DATES, store_ids, "special dates")
        return [
            (packed, _merged_reasons(before[store][1], reasons.get(store, {})))
            for store, packed in enumerate(rows.packed(len(store_ids)))
        ]

    after = await asyncio.to_thread(merged)
    other = [index for index, row in enumerate(after) if row != before[index]]
    await set_dates(
        connection,
        [store_ids[index] for index in other],
        [after[index] for index in other],
    )
    new = sum(packed is None for packed, _ in before)
    return [new, len(other) - new, len(store_ids) - len(other)]


def _merged_reasons(known: str | None, given: dict[str, str]) -> str | None:
    """Reasons by date, as JSON; what is known as it is, if nothing changes."""
    before: dict[str, str] = msgspec.json.decode(known) if known else {}
    after = {day: reason for day, reason in {**before, **given}.items() if reason}
    if after == before:
        return known
    return msgspec.json.encode(after).decode() if after else None


async def set_dates(
    connection: asyncpg.Connection, store_ids: list[str], dates: list[_Known]
) -> None:
    """Set all special hours of stores that are there, and locked."""
    await connection.execute(
        """
        update store set special_hours = given.hours, special_reasons = given.reasons::jsonb
        from unnest($1::text[], $2::bytea[], $3::text[]) as given (store_id, hours, reasons)
        where store.store_id = given.store_id
        """,
        store_ids,
        [packed for packed, _ in dates],
        [reasons for _, reasons in dates],
    )
