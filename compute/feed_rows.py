"""The rows of a feed, as text → one number each, and what is wrong with those that have none.

Every feed says one thing of a store per row, and all three become the same columns: the store's id
and a number. Polls: milliseconds since 1970-01-01 UTC << 1 | active. Business hours: milliseconds
since Monday 00:00 << 32 | milliseconds since the start's midnight. Time zones: place in
`zone_names()`.
"""

import contextlib
import csv
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Literal
from zoneinfo import available_timezones

import numpy as np

from compute.axis import DAY_MS, Ints
from compute.plain_polls import plain_polls

if TYPE_CHECKING:
    from _csv import Reader as _Reader

Feed = Literal["polls", "business_hours", "timezones"]
Column = Sequence[str]

#: The columns of each feed, and every name a header may give them.
COLUMNS: Mapping[Feed, Mapping[str, tuple[str, ...]]] = {
    "polls": {
        "store_id": ("store_id",),
        "status": ("status",),
        "timestamp_utc": ("timestamp_utc",),
    },
    "business_hours": {
        "store_id": ("store_id",),
        "day": ("day", "dayOfWeek"),
        "start_time_local": ("start_time_local",),
        "end_time_local": ("end_time_local",),
    },
    "timezones": {
        "store_id": ("store_id",),
        "timezone": ("timezone", "timezone_str"),
    },
}

#: How many faults are told in full; the rest are counted.
FAULTS_SHOWN = 20
LONGEST_STORE_ID = 255

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_MS = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d)(?:\.(\d+))?)?", re.ASCII)
_WEEKDAYS = {str(day): day for day in range(7)}


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a feed: the line its row begins on, from 1, the column and the value."""

    line: int
    column: str
    value: str
    problem: str


class FeedRefused(Exception):  # noqa: N818 - it is the feed that is wrong, not the program
    """A feed that cannot be loaded.

    Attributes:
        source: the feed's name, for the reader
        faults: the first `FAULTS_SHOWN`
        count: how many there are in all
    """

    def __init__(self, source: str, faults: Sequence[Fault], count: int) -> None:
        super().__init__(source, faults, count)
        self.source, self.faults, self.count = source, list(faults), count

    def __str__(self) -> str:
        lines = [
            f"{self.source}: line {fault.line}"
            + (f", column {fault.column}, value {fault.value!r}" if fault.column else "")
            + f": {fault.problem}"
            for fault in self.faults
        ]
        more = f", the first {len(lines)} shown" if self.count > len(lines) else ""
        lines.append(f"{self.source}: {self.count} bad{more}; nothing of it was stored")
        return "\n".join(lines)


@dataclass(frozen=True)
class Header:
    """Where a feed's columns stand.

    Attributes:
        names: the columns, as the file's header names them, in the order of `COLUMNS`
        places: their places in a row
        width: fields in a row
    """

    names: tuple[str, ...]
    places: tuple[int, ...]
    width: int


@dataclass
class FeedRows:
    """Rows of a feed.

    Attributes:
        store_ids: the distinct ids
        store: int64[rows], place of each row's id in `store_ids`
        value: int64[rows], what each row says, as the module describes
        faults: the first `FAULTS_SHOWN` faults; where there is one the arrays are of no use
        fault_count: how many faults there are
    """

    store_ids: list[str] = field(default_factory=list)
    store: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    value: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    faults: list[Fault] = field(default_factory=list)
    fault_count: int = 0


@lru_cache(maxsize=1)
def zone_names() -> tuple[str, ...]:
    """The names of the tz database, in order."""
    return tuple(sorted(available_timezones()))


def read_header(feed: Feed, line: bytes) -> Header:
    """Find the feed's columns by name.

    Raises:
        FeedRefused: a column is missing or named twice, or the line is no text; source is empty
    """
    try:
        names = [name.strip() for name in next(csv.reader([line.decode()], strict=True), [])]
    except (UnicodeDecodeError, csv.Error) as error:
        raise _refuse_header(f"the header is not a line of CSV in UTF-8: {error}") from error
    places = []
    for column, accepted in COLUMNS[feed].items():
        found = [place for place, name in enumerate(names) if name in accepted]
        if len(found) != 1:
            wanted = ",".join(" or ".join(accepted) for accepted in COLUMNS[feed].values())
            problem = "names it twice" if found else "lacks it"
            got = ",".join(names)[:200]
            raise _refuse_header(
                f"the header {problem}: column {' or '.join(COLUMNS[feed][column])}; "
                f"it reads {got!r}, a file of {feed.replace('_', ' ')} begins with {wanted!r}"
            )
        places += found
    return Header(tuple(names[place] for place in places), tuple(places), len(names))


def _refuse_header(problem: str) -> FeedRefused:
    return FeedRefused("", [Fault(1, "", "", problem)], 1)


def parse_csv(feed: Feed, header: Header, block: bytes, first_line: int) -> FeedRows:
    """Rows of CSV text that begins and ends between rows.

    Args:
        feed: which feed
        header: its columns
        block: UTF-8 text of whole rows
        first_line: the physical line that the block begins on, from 1
    """
    if feed == "polls" and (polls := plain_polls(block, header.width, header.places)):
        return FeedRows(*polls)
    try:
        text = block.decode()
        plain = _plain_columns(text, header.width)
        if plain is not None:
            parsed, bad = _parse(feed, [plain[place] for place in header.places])
            if not bad:
                return parsed
        rows = [row for row in _reader(text) if row]
    except UnicodeDecodeError as error:
        line = first_line + block.count(b"\n", 0, error.start)
        value = block[error.start : error.end].hex(" ")
        return _refused([Fault(line, "", "", f"bytes {value} are not UTF-8")])
    except csv.Error as error:
        line = _last_begin(text, first_line)
        return _refused([Fault(line, "", "", f"in the row that begins here: {error}")])
    if not rows:
        return FeedRows()

    ragged = {len(row) for row in rows} != {header.width}
    if ragged:
        every = rows
        rows = [row for row in every if len(row) == header.width]
    columns = list(zip(*rows, strict=True)) or [()] * header.width
    parsed, bad = _parse(feed, [columns[place] for place in header.places])
    if not bad and not ragged:
        return parsed

    lines = list(_line_numbers(text, first_line))
    faults = []
    if ragged:
        faults = [
            Fault(line, "", "", f"{len(row)} fields, the header has {header.width}")
            for line, row in zip(lines, every, strict=True)
            if len(row) != header.width
        ]
        lines = [line for line, row in zip(lines, every, strict=True) if len(row) == header.width]
    faults += [
        Fault(lines[row], header.names[column], columns[header.places[column]][row][:80], problem)
        for (row, column), problem in bad.items()
    ]
    return _refused(sorted(faults, key=lambda fault: fault.line))


def parse_columns(feed: Feed, columns: Sequence[Column]) -> FeedRows:
    """Rows that are already apart, as columns in the order of `COLUMNS`; a fault's line is its row.

    Args:
        feed: which feed
        columns: texts, all columns of one length
    """
    parsed, bad = _parse(feed, columns)
    names = tuple(COLUMNS[feed])
    return (
        parsed
        if not bad
        else _refused(
            [
                Fault(row + 1, names[column], columns[column][row][:80], problem)
                for (row, column), problem in sorted(bad.items())
            ]
        )
    )


_NO_ENDS = bytes(set(range(256)) - set(b",\n"))


def _plain_columns(text: str, width: int) -> Sequence[Column] | None:
    """The columns of text without quotes, blank lines and rows of another width; None with them.

    Splitting takes a third of what the csv module takes. Whatever is not plain goes that way.
    """
    if '"' in text:
        return None
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    text = text.removesuffix("\n")
    ends = text.encode().translate(None, delete=_NO_ENDS) + b"\n"
    if "\r" in text or ends != (b"," * (width - 1) + b"\n") * (len(ends) // width):
        return None
    fields = text.replace("\n", ",").split(",")
    return [fields[place::width] for place in range(width)]


def _refused(faults: list[Fault]) -> FeedRows:
    return FeedRows(faults=faults[:FAULTS_SHOWN], fault_count=len(faults))


def _reader(text: str) -> "_Reader":
    return csv.reader(io.StringIO(text, newline=""), strict=True)


def _line_numbers(text: str, first_line: int) -> Iterator[int]:
    """The physical line that each row begins on; a quoted field may hold line ends."""
    reader = _reader(text)
    begins = 0
    for row in reader:
        if row:
            yield first_line + begins
        begins = reader.line_num


def _last_begin(text: str, first_line: int) -> int:
    """The physical line on which the row begins that the csv module cannot read."""
    reader = _reader(text)
    begins = 0
    with contextlib.suppress(csv.Error):
        for _ in reader:
            begins = reader.line_num
    return first_line + begins


Bad = dict[tuple[int, int], str]  # (row, column) → what is wrong


def _parse(feed: Feed, columns: Sequence[Column]) -> tuple[FeedRows, Bad]:
    """Rows as numbers, and what is wrong with those that are none."""
    bad: Bad = {}
    store_ids, store = _stores(columns[0], bad)
    if feed == "polls":
        active = np.fromiter(map("active".__eq__, columns[1]), dtype=bool, count=len(store))
        if int(active.sum()) + columns[1].count("inactive") != len(store):
            _each(columns[1], 1, bad, _status)
        value = _instants(columns[2], 2, bad) << 1 | active
    elif feed == "business_hours":
        day = _each(columns[1], 1, bad, _weekday)
        start = _each(columns[2], 2, bad, _start)
        value = (day * DAY_MS + start) << 32 | _each(columns[3], 3, bad, _end)
    else:
        value = _each(columns[1], 1, bad, _zone)
    return FeedRows(store_ids, store, value), bad


def _stores(column: Column, bad: Bad) -> tuple[list[str], Ints]:
    places = {store_id: place for place, store_id in enumerate(dict.fromkeys(column))}
    store = np.fromiter(map(places.__getitem__, column), dtype=np.int64, count=len(column))
    for store_id, place in places.items():
        if problem := store_id_problem(store_id):
            bad.update({(int(row), 0): problem for row in np.flatnonzero(store == place)})
    return list(places), store


def store_id_problem(store_id: str) -> str | None:
    """What is wrong with a store id, if anything."""
    if not store_id:
        return "a store id cannot be empty"
    if len(store_id) > LONGEST_STORE_ID:
        return f"a store id has at most {LONGEST_STORE_ID} characters"
    if "\0" in store_id:
        return "a store id cannot hold a NUL character"
    return None


def _each(column: Column, place: int, bad: Bad, number: Callable[[str], int]) -> Ints:
    """Each text's number; `number` raises ValueError with what is wrong."""
    known: dict[str, int] = {}
    problems: dict[str, str] = {}
    for text in set(column):
        try:
            known[text] = number(text)
        except ValueError as error:
            known[text] = 0
            problems[text] = str(error)
    if problems:
        for row, text in enumerate(column):
            if text in problems:
                bad[row, place] = problems[text]
    return np.fromiter(map(known.__getitem__, column), dtype=np.int64, count=len(column))


def _status(text: str) -> int:
    if text not in ("active", "inactive"):
        raise ValueError("is neither active nor inactive")
    return text == "active"


def _weekday(text: str) -> int:
    if text not in _WEEKDAYS:
        raise ValueError("is not a weekday, 0 (Monday) to 6 (Sunday)")
    return _WEEKDAYS[text]


def _start(text: str) -> int:
    start = _end(text)
    if start == DAY_MS:
        raise ValueError("is the end of a day; a start is 00:00 to 23:59:59")
    return start


def _end(text: str) -> int:
    clock = _CLOCK.fullmatch(text)
    if clock is None:
        raise ValueError("is not a time of day such as 09:30 or 09:30:00")
    hour, minute, second = (int(part or 0) for part in clock.group(1, 2, 3))
    milliseconds = int(((clock[4] or "") + "000")[:3])
    time = ((hour * 60 + minute) * 60 + second) * 1000 + milliseconds
    if minute > 59 or second > 59 or time > DAY_MS:
        raise ValueError("is not a time of day, 00:00 to 24:00")
    return time


def _zone(text: str) -> int:
    place = _zone_places().get(text)
    if place is None:
        raise ValueError("is not a name of the tz database, such as America/Chicago")
    return place


@lru_cache(maxsize=1)
def _zone_places() -> dict[str, int]:
    return {name: place for place, name in enumerate(zone_names())}


def _instants(column: Column, place: int, bad: Bad) -> Ints:
    """Milliseconds since 1970-01-01 UTC, cut."""
    suffix = "Z" if column and column[0].endswith("Z") else " UTC"
    quick = _instants_at_once([text.removesuffix(suffix) for text in column])
    if quick is None:
        return _each(column, place, bad, parse_instant)
    return quick


# Digits of `YYYY-MM-DD hh:mm:ss` are where this has 0; NumPy itself would also take less than that.
_SHAPE = np.frombuffer(b"0000-00-00 00:00:00", dtype=np.uint8)


def _instants_at_once(texts: list[str]) -> Ints | None:
    """The usual instants, without a step per row; None where one is unusual or wrong."""
    try:
        characters = np.array(texts, dtype="S").reshape(-1, 1).view(np.uint8)
        if characters.shape[1] < len(_SHAPE):
            return None
        shape = characters[:, : len(_SHAPE)].copy()
        shape[(shape >= ord("0")) & (shape <= ord("9"))] = ord("0")
        shape[shape == ord("T")] = ord(" ")
        if (shape != _SHAPE).any():
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy warns of an offset, and drops it
            instants = np.array(texts, dtype="datetime64[ms]").astype(np.int64)
    except (ValueError, Warning):
        return None
    if instants.min() < 0 or instants.max() >= _LATEST_MS:
        return None
    return instants


def parse_instant(text: str) -> int:
    """Milliseconds since 1970-01-01 UTC of an instant as feeds write it or of ISO 8601, cut.

    Without an offset it is UTC.

    Raises:
        ValueError: it is neither, or before 1970 or after 9998
    """
    try:
        if len(text) <= len("2023-01-22") or not text.isascii():
            raise ValueError
        instant = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        raise ValueError(
            "is not an instant such as 2023-01-22 12:09:39.388884 UTC or 2023-01-22T12:09:39Z"
        ) from None
    utc = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant
    milliseconds = (utc - _EPOCH) // timedelta(milliseconds=1)
    if not 0 <= milliseconds < _LATEST_MS:
        raise ValueError("is before 1970 or after 9998")
    return milliseconds
