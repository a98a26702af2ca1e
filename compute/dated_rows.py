"""Business hours with dates and special hours, as rows of a feed → packed, one value a store.

Both are rows of a store and a date: a week's hours are in force from its date on, special hours
instead of the week on their date. Rows of one store and date replace all that were known of these
two. Packed, they are as `compute.packed_rows` describes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compute.axis import Ints
from compute.business_hours import HOURS
from compute.packed_rows import DATED_WEEKS, EMPTY, NO_DATE


@dataclass(frozen=True)
class DatedRows:
    """Rows of hours of some stores.

    Attributes:
        store: int64[n], the store's number
        date: int64[n], days since 1970-01-01 or NO_DATE
        hours: int64[n], start << 32 | end, or EMPTY; rows ascend by (store, date, hours), and no
            two are the same
    """

    store: Ints
    date: Ints
    hours: Ints

    @classmethod
    def of(cls, store: Ints, date: Ints, hours: Ints) -> "DatedRows":
        """Rows in any order, in theirs; equal ones are one."""
        order = np.lexsort((hours, date, store))
        store, date, hours = store[order], date[order], hours[order]
        other = (np.diff(store) != 0) | (np.diff(date) != 0) | (np.diff(hours) != 0)
        distinct = np.append(True, other)[: len(store)]
        return cls(store[distinct], date[distinct], hours[distinct])

    @classmethod
    def unpacked(cls, packed: list[bytes | None]) -> "DatedRows":
        """The rows that are packed, of stores 0, 1, …; None: a store has none."""
        return _unpacked(packed, DATED_WEEKS)

    @classmethod
    def of_weeks(cls, packed: list[bytes | None]) -> "DatedRows":
        """The rows of weeks without dates, packed as `pack_hours` does, of stores 0, 1, …."""
        return _unpacked(packed, HOURS)

    def and_others(self, others: "DatedRows") -> "DatedRows":
        """These rows, and those others whose store and date none of these has."""
        kept = others.only(~np.isin(others._key, self._key))
        return DatedRows.of(
            *(
                np.concatenate(pair)
                for pair in (
                    (self.store, kept.store),
                    (self.date, kept.date),
                    (self.hours, kept.hours),
                )
            )
        )

    def only(self, wanted: npt.NDArray[np.bool_]) -> "DatedRows":
        """Some of the rows."""
        return DatedRows(self.store[wanted], self.date[wanted], self.hours[wanted])

    def packed(self, stores: int) -> list[bytes | None]:
        """The packed rows with dates of stores 0, 1, … up to a number; None: a store has none."""
        dated = self.only(self.date != NO_DATE)
        columns = (dated.date, dated.hours >> 32, dated.hours & 0xFFFF_FFFF)
        return _packed(dated.store, np.column_stack(columns), stores)

    def packed_weeks(self, stores: int) -> list[bytes | None]:
        """The same of the rows without dates, packed as `pack_hours` does."""
        week = self.only(self.date == NO_DATE)
        columns = (week.hours >> 32, week.hours & 0xFFFF_FFFF)
        return _packed(week.store, np.column_stack(columns), stores)

    def dates_of(self, stores: int) -> Ints:
        """How many different dates each store has, NO_DATE not counted: int64[stores]."""
        key = np.unique(self._key[self.date != NO_DATE])
        return np.bincount(key >> 32, minlength=stores)

    def beside_empty(self) -> tuple[int, int] | None:
        """The first store and date that has an empty row and another one; None: there is none."""
        if not (empty := self.hours == EMPTY).any():
            return None
        key, count = np.unique(self._key, return_counts=True)
        wrong = np.isin(key, self._key[empty]) & (count > 1)
        if not wrong.any():
            return None
        row = int(np.searchsorted(self._key, key[wrong][0]))
        return int(self.store[row]), int(self.date[row])

    @property
    def _key(self) -> Ints:
        """Store and date in one number, ascending with the rows."""
        return (self.store << 32) + (self.date - NO_DATE)


def _unpacked(packed: list[bytes | None], row: "np.dtype[np.void]") -> DatedRows:
    """Rows of stores; without a date where they have none."""
    size = np.array([len(each or b"") for each in packed], dtype=np.int64)
    rows = np.frombuffer(b"".join(each or b"" for each in packed), dtype=row).astype(np.int64)
    store = np.repeat(np.arange(len(packed)), size // row.itemsize)
    start, end = rows[:, -2], rows[:, -1]
    date = rows[:, 0] if rows.shape[1] == 3 else np.full(len(rows), NO_DATE)
    return DatedRows(store, date, np.where(start < 0, EMPTY, start << 32 | end))


def _packed(store: Ints, rows: Ints, stores: int) -> list[bytes | None]:
    """Rows of each store, packed; None: it has none."""
    packed = rows.astype("<i4").tobytes()
    width = rows.shape[1] * 4
    end = np.cumsum(np.bincount(store, minlength=stores)) * width
    start = np.concatenate([[0], end[:-1]])
    return [
        packed[begin:until] or None
        for begin, until in zip(start.tolist(), end.tolist(), strict=True)
    ]
