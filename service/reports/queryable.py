"""The stores of a report in tables, where SQL can ask for them: the view `report_store_result`.

They are copied from the file of totals, in the transaction that completes the report, so they are
there if and only if the report is. Many stores share a row, as `migrations/0015_reports_by_sql.sql`
has it: a row for each would take many times the room and the time.
"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import msgspec
import numpy as np

from compute.axis import Ints
from compute.packed_totals import StoreTotals
from compute.targets import NO_TARGET
from service.reports.files import LocalFile
from service.stores.packed import (
    COPY_BEGIN,
    COPY_END,
    copied_row,
    int2_array,
    int4_array,
    int8_array,
    text_array,
)

#: Most rows of a report in the view. So many are copied in some ten seconds, and deleted in one.
MOST_ROWS = 10_000_000
#: Rows of the view that are copied by one statement: the stores of a row, times the windows.
_COPIED_ROWS = 50_000


class TooManyRows(Exception):  # noqa: N818
    """The stores of a report, times its windows, are more than `MOST_ROWS`."""

    def __init__(self, stores: int, windows: int) -> None:
        super().__init__(stores, windows)
        self._stores, self._windows = stores, windows

    def __str__(self) -> str:
        return (
            f"its {self._stores:,} stores in {self._windows} windows would be "
            f"{self._stores * self._windows:,} rows to query, and {MOST_ROWS:,} is the most: ask "
            "for fewer windows or stores, or without queryable"
        )


def check_rows(stores: int, windows: int) -> None:
    """Refuse a report that would be too large.

    Raises:
        TooManyRows: it would be
    """
    if stores * windows > MOST_ROWS:
        raise TooManyRows(stores, windows)


async def copy_stores(connection: asyncpg.Connection, report_id: UUID, file: LocalFile) -> None:
    """Copy the stores of a report into the tables, many at a time.

    Args:
        connection: in the transaction that completes the report
        report_id: of the report
        file: its totals
    """
    totals = await asyncio.to_thread(StoreTotals, file.read, file.size)
    at_once = max(1, _COPIED_ROWS // max(1, totals.windows))
    for batch, first in enumerate(range(0, len(totals), at_once)):
        key = (report_id.bytes, batch.to_bytes(4))
        some = np.arange(first, min(first + at_once, len(totals)))
        for table, of_table in (
            ("report_store_batch", _stores_row),
            ("report_store_totals", _window_rows),
        ):
            rows = await asyncio.to_thread(of_table, key, totals, some)
            # Bytes by themselves are the name of a file to asyncpg.
            source = memoryview(COPY_BEGIN + rows + COPY_END)
            await connection.copy_to_table(table, source=source, format="binary")


def _stores_row(key: tuple[bytes, bytes], totals: StoreTotals, some: Ints) -> bytes:
    """The row of some stores, which follow on each other, without their numbers."""
    names, tags = totals.names_and_tags(some)
    return copied_row(
        *key,
        _texts([store_id.encode() for store_id in totals.ids_of(some)]),
        _texts([name.encode() for name in names]) if any(names) else None,
        _texts([msgspec.json.encode(of_store) for of_store in tags]) if any(tags) else None,
        int2_array(totals.zone[some] + 1),
        _texts([name.encode() for name in totals.zone_names]),
        int4_array(totals.target[some]) if (totals.target[some] != NO_TARGET).any() else None,
    )


def _window_rows(key: tuple[bytes, bytes], totals: StoreTotals, some: Ints) -> bytes:
    """The rows of their numbers, one for each window."""
    found = totals.totals(some)
    parts = (found.up, found.down, found.unknown, found.excluded)
    return b"".join(
        copied_row(*key, (window + 1).to_bytes(4), *(int8_array(part[:, window]) for part in parts))
        for window in range(totals.windows)
    )


def _texts(texts: Sequence[bytes]) -> bytes:
    """A `text[]` of texts in UTF-8."""
    return text_array(b"".join(texts), np.fromiter(map(len, texts), np.int64, len(texts)))
