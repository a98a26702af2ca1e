"""The groups of reports, in the table `report_group`: written as a report completes, read in pages.

A group is known by its place, which is its number in byte order of the values, from 0.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Literal
from uuid import UUID

import asyncpg
import numpy as np

from compute.groups import Group, GroupColumns, GroupSums, group_of
from service.database.pool import Database
from service.stores.packed import (
    COPY_BEGIN,
    COPY_END,
    copied_rows,
    int4_fields,
    int8_array_fields,
    text_array_fields,
)

#: By what groups are ordered.
GroupMeasure = Literal["availability", "downtime"]
#: Groups whose windows together have so many rows are read at a time, and at least one.
_ROWS_AT_ONCE = 5_000

_COLUMNS = ("report", "place", "tag_values", "stores", "totals", "worst_ids")


async def write_groups(connection: asyncpg.Connection, report_id: UUID, groups: GroupSums) -> None:
    """Write the groups of a report, in the transaction that completes it."""
    rows = _copied_parts(report_id, groups)
    some = await asyncio.to_thread(next, rows, None)
    while some is not None:
        async with asyncio.TaskGroup() as both:  # the next are made while the server takes these
            following = both.create_task(asyncio.to_thread(next, rows, None))
            # Bytes by themselves are the name of a file to asyncpg.
            source = memoryview(COPY_BEGIN + some + COPY_END)
            await connection.copy_to_table(
                "report_group", columns=_COLUMNS, source=source, format="binary"
            )
        some = following.result()


def _copied_parts(report_id: UUID, groups: GroupSums) -> Iterator[bytes]:
    """All groups as the rows that COPY takes."""
    place = 0
    for part in groups.columns():
        yield _copied(report_id, place, part)
        place += len(part.values)


def _copied(report_id: UUID, place: int, groups: GroupColumns) -> bytes:
    """Groups as the rows that COPY takes, the first at a place."""
    count = len(groups.values)
    values = [value.encode() for of_group in groups.values for value in of_group]
    value_size = np.fromiter(map(len, values), np.int64, len(values)).reshape(count, -1)
    return copied_rows(
        [
            [len(report_id.bytes).to_bytes(4) + report_id.bytes] * count,
            int4_fields(np.arange(place, place + count)),
            text_array_fields(b"".join(values), value_size),
            int4_fields(groups.stores),
            int8_array_fields(groups.totals),
            text_array_fields(groups.worst_ids, groups.worst_id_size),
        ]
    )


async def count_groups(connection: Database, report_id: UUID) -> int:
    """How many groups a report has."""
    count: int = await connection.fetchval(
        "select count(*) from report_group where report = $1", report_id
    )
    return count


async def ordered_places(
    connection: Database,
    report_id: UUID,
    measure: GroupMeasure,
    window: int,
    *,
    descending: bool,
    limit: int | None = None,
    offset: int = 0,
) -> list[int]:
    """The places of a report's groups in the order of a measure.

    Equal ones are in the order of their places, those without availability last.

    Args:
        connection: where to ask
        report_id: of the report
        measure: by what
        window: in which window, from 0
        descending: whether the largest come first
        limit: how many at most; None: all
        offset: how many are passed over
    """
    rows = await connection.fetch(
        """
        with known as (
            select place, totals[$3][1]::numeric as up, totals[$3][2]::numeric as down
            from report_group where report = $1
        ), measured as (
            select place,
                   case when $2 = 'downtime' then down else up / nullif(up + down, 0) end as amount
            from known
        )
        select place from measured
        order by case when $4 then -amount else amount end nulls last, place
        limit $5 offset $6
        """,
        report_id,
        measure,
        window + 1,
        descending,
        limit,
        offset,
    )
    return [row["place"] for row in rows]


async def read_groups(connection: Database, report_id: UUID, places: Sequence[int]) -> list[Group]:
    """Groups of a report at some places, in that order; those that are gone are left out."""
    rows = await connection.fetch(
        """
        select tag_values, stores, totals, worst_ids
        from unnest($2::integer[]) with ordinality as wanted (place, ordinal)
        join report_group using (place)
        where report = $1 order by ordinal
        """,
        report_id,
        places,
    )
    return [group_of(*row) for row in rows]


async def read_all_groups(
    pool: asyncpg.Pool, report_id: UUID, places: Sequence[int], windows: int
) -> AsyncIterator[list[Group]]:
    """Groups of a report at many places, some at a time; `windows`: how many the report has.

    Raises:
        GroupsGone: the report was deleted, or expired, meanwhile
    """
    size = max(1, _ROWS_AT_ONCE // windows)
    for begin in range(0, len(places), size):
        wanted = places[begin : begin + size]
        groups = await read_groups(pool, report_id, wanted)
        if len(groups) < len(wanted):
            raise GroupsGone
        yield groups


class GroupsGone(Exception):  # noqa: N818
    """The report was deleted, or expired, while its groups were read."""
