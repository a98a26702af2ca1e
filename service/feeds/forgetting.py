"""Removing what feeds said of one store: its hours, its zone, or those of one date."""

from typing import Literal

import asyncpg

from compute.dated_rows import DatedRows
from compute.packed_rows import NO_DATE
from service.feeds.hours import set_weeks
from service.feeds.special_hours import set_dates

#: What can be removed.
Said = Literal["business_hours", "timezones", "special_hours"]


async def forget(said: Said, connection: asyncpg.Connection, store_id: str) -> None:
    """Remove all of it; the store is there, and locked."""
    forgetting = {
        "business_hours": """
            update store set business_hours = null, dated_weeks = null where store_id = $1
        """,
        "timezones": "update store set timezone = null where store_id = $1",
        "special_hours": """
            update store set special_hours = null, special_reasons = null where store_id = $1
        """,
    }
    await connection.execute(forgetting[said], store_id)


async def forget_week(date: int, connection: asyncpg.Connection, store_id: str) -> None:
    """Remove the week of a date, or of NO_DATE; the store is there, and locked."""
    row = await connection.fetchrow(
        "select business_hours, dated_weeks from store where store_id = $1", store_id
    )
    week = None if date == NO_DATE else row["business_hours"]
    rows = DatedRows.unpacked([row["dated_weeks"]])
    await set_weeks(connection, [store_id], [week], rows.only(rows.date != date).packed(1))


async def forget_date(date: int, connection: asyncpg.Connection, store_id: str) -> None:
    """Remove the special hours of a date; the store is there, and locked."""
    row = await connection.fetchrow(
        """
        select special_hours, (special_reasons - $2)::text as reasons from store
        where store_id = $1
        """,
        store_id,
        str(date),
    )
    rows = DatedRows.unpacked([row["special_hours"]])
    (packed,) = rows.only(rows.date != date).packed(1)
    reasons = None if row["reasons"] == "{}" else row["reasons"]
    await set_dates(connection, [store_id], [(packed, reasons)])
