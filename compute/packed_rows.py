"""What is known of stores beside their polls and plain weeks, packed as the database keeps it.

All numbers are little-endian; the rows of a store ascend, and no two are the same.

- A dated week: three int4 a row: the local date from which it is in force in days since
  1970-01-01; the start in milliseconds since Monday 00:00 local time; the end in milliseconds since
  00:00 of the start's day. The single row (date, -1, -1) is an empty week: closed on every day.
- Special hours: three int4 a row: the local date in days since 1970-01-01; start and end in
  milliseconds since its 00:00. The single row (date, -1, -1) closes that date.
- Exclusions: two int8 a row, from and to, half open, in milliseconds since 1970-01-01 UTC. These
  may overlap, and be in any order.

Ends are as feeds give them. The format of a plain week, which has no date, is described in
`compute.business_hours`.
"""

from dataclasses import dataclass

import numpy as np

from compute.axis import Ints

#: Rows of the three formats.
DATED_WEEKS = np.dtype(("<i4", 3))
SPECIAL_HOURS = np.dtype(("<i4", 3))
EXCLUSIONS = np.dtype(("<i8", 2))
#: Start and end of the row that stands for no interval at all.
NEVER = -1
#: Hours of a row of a feed, start << 32 | end, that says there are none: start and end are -1.
EMPTY = NEVER
#: The date of a week that is in force from the beginning of time.
NO_DATE = int(np.iinfo(np.int32).min)


@dataclass(frozen=True)
class PackedRows:
    """Rows of some stores.

    Attributes:
        packed: the rows of all stores, joined
        rows: int64[stores], how many each store has; also int64[0], where none has any
    """

    packed: bytes
    rows: Ints

    @property
    def store(self) -> Ints:
        """int64[rows]: index of each row's store."""
        return np.repeat(np.arange(len(self.rows)), self.rows)


NO_ROWS = PackedRows(b"", np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class PackedTexts:
    """A text of each of some stores.

    Attributes:
        packed: the texts of all stores in UTF-8, joined
        size: int64[stores], bytes of each; 0: the store has none; also int64[0], where none has any
    """

    packed: bytes
    size: Ints

    def each(self, stores: int) -> list[bytes]:
        """The text of each of so many stores."""
        if not len(self.size):
            return [b""] * stores
        end = np.cumsum(self.size)
        bounds = zip((end - self.size).tolist(), end.tolist(), strict=True)
        return [self.packed[begin:until] for begin, until in bounds]


NO_TEXTS = PackedTexts(b"", np.empty(0, dtype=np.int64))


def pack_dated_weeks(valid_from: Ints, start: Ints, end: Ints) -> bytes:
    """The packed form of one store's dated weeks.

    Args:
        valid_from: int64[n], days since 1970-01-01
        start: int64[n], milliseconds since Monday 00:00, or `NEVER`
        end: int64[n], milliseconds since 00:00 of the start's day, or `NEVER`
    """
    return _packed(DATED_WEEKS, valid_from, start, end)


def unpack_dated_weeks(packed: bytes) -> tuple[Ints, Ints, Ints]:
    """Dates, starts and ends (int64[n] each, as `pack_dated_weeks` takes them)."""
    valid_from, start, end = _columns(DATED_WEEKS, packed)
    return valid_from, start, end


def pack_special_hours(date: Ints, start: Ints, end: Ints) -> bytes:
    """The packed form of one store's special hours.

    Args:
        date: int64[n], days since 1970-01-01
        start: int64[n], milliseconds since 00:00 of the date, or `NEVER`
        end: int64[n], the same
    """
    return _packed(SPECIAL_HOURS, date, start, end)


def unpack_special_hours(packed: bytes) -> tuple[Ints, Ints, Ints]:
    """Dates, starts and ends (int64[n] each, as `pack_special_hours` takes them)."""
    date, start, end = _columns(SPECIAL_HOURS, packed)
    return date, start, end


def pack_exclusions(from_ms: Ints, to_ms: Ints) -> bytes:
    """The packed form of one store's exclusions.

    Args:
        from_ms: int64[n], milliseconds since 1970-01-01 UTC
        to_ms: int64[n], the same, not included
    """
    return _packed(EXCLUSIONS, from_ms, to_ms)


def unpack_exclusions(packed: bytes) -> tuple[Ints, Ints]:
    """From and to (int64[n] each, as `pack_exclusions` takes them)."""
    from_ms, to_ms = _columns(EXCLUSIONS, packed)
    return from_ms, to_ms


def _packed(form: np.dtype[np.void], *columns: Ints) -> bytes:
    return np.unique(np.column_stack(columns), axis=0).astype(form.base).tobytes()


def _columns(form: np.dtype[np.void], packed: bytes) -> Ints:
    """int64[columns, rows]."""
    return np.frombuffer(packed, dtype=form).astype(np.int64).T
