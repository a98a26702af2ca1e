"""The rows of a feed, as text → one number each, and what is wrong with those that have none.

Every feed says one thing about one store per row, and all three become the same two columns: the
store's id and a number, the row's value. It is, for

- polls: a `poll` (see `compute.polls`), milliseconds since 1970-01-01 UTC << 1 | active
- business hours: start, milliseconds since Monday 00:00 << 32 | end, milliseconds since the start's
  midnight
- time zones: an index into the names that come with the rows

Text is CSV as in RFC 4180: lines end with LF or CRLF, and a field that holds a quote is in quotes.
What a row means does not depend on the rows around it.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from compute.axis import DAY_MS, Ints
from compute.instants import LATEST_MS, instant_of, parse_instant
from compute.plain_polls import plain_instants, plain_polls
from compute.zones import zone_names

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

#: How many faults are listed; the rest are only counted.
FAULTS_SHOWN = 20
#: Characters.
LONGEST_STORE_ID = 255
#: Characters of a header that are told.
_SHOWN_HEADER = 200
#: PostgreSQL cannot store it in a text, so no store's id can have it.
NUL_IN_STORE_ID = "a store id cannot contain a NUL character"

_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d)(?:\.(\d+))?)?", re.ASCII)
_WEEKDAYS = {str(day): day for day in range(7)}

# By default the csv module refuses fields of more than 128 KiB. The ways that do without it have no
# such limit, and a row must mean the same to all of them.
csv.field_size_limit((1 << 31) - 1)


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a feed.

    Attributes:
        line: on which the row begins, from 1
        column: as the file's header names it; empty: the fault is in the row as a whole
        value: of that column
        problem: what is wrong with it
        source: the file, for messages; empty: there is only one
    """

    line: int
    column: str
    value: str
    problem: str
    source: str = ""

    def __str__(self) -> str:
        source = f"{self.source}: " if self.source else ""
        where = f", column {self.column}, value {self.value!r}" if self.column else ""
        return f"{source}line {self.line}{where}: {self.problem}"


class FeedRefused(Exception):  # noqa: N818 - it is the feed that is wrong, not the program
    """A feed that cannot be loaded.

    Attributes:
        faults: the first `FAULTS_SHOWN`
        count: how many there are in all
    """

    def __init__(self, faults: Sequence[Fault], count: int) -> None:
        super().__init__(faults, count)
        self.faults, self.count = list(faults), count

    @property
    def summary(self) -> str:
        """How many faults there are, and what that led to."""
        faults = "1 fault" if self.count == 1 else f"{self.count} faults"
        shown = f", the first {len(self.faults)} shown" if self.count > len(self.faults) else ""
        return f"{faults}{shown}; nothing of the feed was stored"

    def __str__(self) -> str:
        return "\n".join([*map(str, self.faults), self.summary])


@dataclass(frozen=True)
class Header:
    """Where a file has the feed's columns.

    Attributes:
        names: the feed's columns, as the file's header names them, in the order of `COLUMNS`
        indexes: the index of each in a row
        width: fields in a row
        source: the file, as faults name it
    """

    names: tuple[str, ...]
    indexes: tuple[int, ...]
    width: int
    source: str


@dataclass
class FeedRows:
    """Rows of a feed.

    Attributes:
        store_ids: the distinct ids
        store: int64[rows], index of each row's id in `store_ids`
        value: int64[rows], what each row says, as the module describes
        names: the distinct names that values are indexes into; for time zones only
        faults: the first `FAULTS_SHOWN` faults; if there is one, the arrays mean nothing
        fault_count: how many faults there are
    """

    store_ids: list[str] = field(default_factory=list)
    store: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    value: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    names: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    fault_count: int = 0


def refused_rows(faults: Sequence[Fault]) -> FeedRows:
    """Rows with faults, of which only the first are listed."""
    return FeedRows(faults=list(faults[:FAULTS_SHOWN]), fault_count=len(faults))


class FeedUnknown(FeedRefused):
    """A file whose header is none of a feed's, or several feeds'.

    Attributes:
        first_line: that was found, cut
        feeds: those whose columns are all there; none or several
    """

    def __init__(self, faults: Sequence[Fault], first_line: str, feeds: Sequence[Feed]) -> None:
        super().__init__(faults, len(faults))
        self.first_line, self.feeds = first_line, list(feeds)


def header_of(feed: Feed) -> str:
    """The first line of a file of a feed, with all names that its columns may have."""
    return ",".join(" or ".join(accepted) for accepted in COLUMNS[feed].values())


def read_header(feed: Feed, source: str, line: bytes) -> Header:
    """Find the feed's columns by name.

    Args:
        feed: which feed
        source: the file, as faults name it
        line: the first of the file

    Raises:
        FeedRefused: a column is missing or named twice, or the line is not text
    """
    names = _names(source, line)
    if problems := _header_problems(feed, names):
        problem = (
            f"{problems[0]}; it is {_shown(names)!r}, but a file of {feed.replace('_', ' ')} "
            f"starts with {header_of(feed)!r}"
        )
        raise FeedRefused([Fault(1, "", "", problem, source)], 1)
    found = (set(accepted).intersection(names).pop() for accepted in COLUMNS[feed].values())
    indexes = tuple(map(names.index, found))
    return Header(tuple(names[index] for index in indexes), indexes, len(names), source)


def recognise(source: str, line: bytes) -> Feed:
    """Tell which feed a file is of, by the rules of `read_header`.

    Args:
        source: the file, as faults name it
        line: the first of the file

    Raises:
        FeedRefused: the line is no text
        FeedUnknown: it has the columns of no feed, or of several
    """
    names = _names(source, line)
    problems = {feed: _header_problems(feed, names) for feed in COLUMNS}
    fitting = [feed for feed, found in problems.items() if not found]
    if len(fitting) == 1:
        return fitting[0]
    faults = [
        Fault(1, "", "", f"to be {feed.replace('_', ' ')}, {found[0]}", source)
        for feed, found in problems.items()
        if found
    ]
    if fitting:
        several = " and of ".join(feed.replace("_", " ") for feed in fitting)
        faults = [Fault(1, "", "", f"the header has the columns of {several}", source)]
    raise FeedUnknown(faults, _shown(names), fitting)


def _names(source: str, line: bytes) -> list[str]:
    """The names in a header."""

    def refused(problem: str) -> FeedRefused:
        return FeedRefused([Fault(1, "", "", problem, source)], 1)

    line = line.rstrip(b"\r\n")
    if b"\r" in line:
        raise refused("lines end with CR alone: save the file with LF or CRLF line ends")
    if problem := _quote_problem(line):
        raise refused(problem)
    try:
        return [name.strip() for name in next(csv.reader([line.decode()]), [])]
    except UnicodeDecodeError as error:
        raise refused(f"the header is not UTF-8 text: {error}") from None


def _header_problems(feed: Feed, names: Sequence[str]) -> list[str]:
    """What keeps a header from being a feed's, column by column."""
    problems = []
    for accepted in COLUMNS[feed].values():
        found = sum(map(names.count, accepted))
        if found != 1:
            told = "names the column {} twice" if found else "has no column {}"
            problems.append(f"the header {told.format(' or '.join(accepted))}")
    return problems


def _shown(names: Sequence[str]) -> str:
    """A header as messages repeat it."""
    return ",".join(names)[:_SHOWN_HEADER]


def parse_csv(
    feed: Feed, header: Header, block: bytes, first_line: int, latest: int = LATEST_MS
) -> FeedRows:
    """The rows of a block of CSV text.

    Args:
        feed: which feed
        header: the columns of its file
        block: UTF-8 text of whole rows
        first_line: the physical line that the block begins on, from 1
        latest: the latest instant that a poll may have, milliseconds since 1970-01-01 UTC
    """
    if feed == "polls":
        polls = plain_polls(block, header.width, header.indexes, latest)
        if polls and not any(map(store_id_problem, polls[0])):
            return FeedRows(*polls)
    try:
        text = block.decode()
    except UnicodeDecodeError as error:
        line = first_line + block.count(b"\n", 0, error.start)
        value = block[error.start : error.end].hex(" ")
        return refused_rows([Fault(line, "", "", f"bytes {value} are not UTF-8", header.source)])
    columns = _plain_columns(text, header.width) or _quoted_columns(text, header.width, block)
    if columns is not None:
        parsed, bad = _parse(feed, [columns[index] for index in header.indexes], latest)
        if not bad:
            return parsed
    return refused_rows(_faults(feed, header, text, first_line, latest))


def parse_columns(feed: Feed, columns: Sequence[Column], latest: int = LATEST_MS) -> FeedRows:
    """Rows that come as columns, in the order of `COLUMNS`; the line of a fault is its row, from 1.

    Args:
        feed: which feed
        columns: texts, all columns of one length
        latest: the latest instant that a poll may have, milliseconds since 1970-01-01 UTC
    """
    parsed, bad = _parse(feed, columns, latest)
    names = tuple(COLUMNS[feed])
    return (
        parsed
        if not bad
        else refused_rows(
            [
                Fault(row + 1, names[column], columns[column][row][:80], problem)
                for (row, column), problem in sorted(bad.items())
            ]
        )
    )


_NO_ENDS = bytes(set(range(256)) - set(b",\n"))


def _plain_columns(text: str, width: int) -> Sequence[Column] | None:
    """The columns of text by splitting; None if it has quotes, blank lines or rows of other widths.

    Splitting takes about half the time of the csv module, which reads everything else.
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
    return [fields[index::width] for index in range(width)]


def _quoted_columns(text: str, width: int, block: bytes) -> Sequence[Column] | None:
    """The columns of text by the csv module, without blank lines; None if a row is wrong."""
    if _quote_problem(block):
        return None
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="\n")) if row]
    except csv.Error:
        return None
    if any(len(row) != width for row in rows):
        return None
    return list(zip(*rows, strict=True)) or [()] * width


def _quote_problem(text: bytes) -> str | None:
    """What is wrong with the quotes of whole rows, if anything."""
    if b'"' not in text:
        return None
    sign = np.frombuffer(b"\n%b\n" % text, dtype=np.uint8)
    quotes = np.flatnonzero(sign == ord('"'))
    opening, closing = quotes[::2], quotes[1::2]
    before, after = sign[opening - 1], sign[closing + 1]
    if not (np.isin(before, _BEFORE_FIELD).all() and np.isin(after, _AFTER_FIELD).all()):
        return (
            "a quote is inside a field: put the field in quotes, and double each quote in it, as "
            'in "12"" pizza"'
        )
    if len(opening) > len(closing):
        return "a quoted field begins in this row and never ends"
    return None


# What may be next to a quote. One next to another is a quote that is doubled.
_BEFORE_FIELD = np.frombuffer(b',\n"', dtype=np.uint8)
_AFTER_FIELD = np.frombuffer(b',\n"\r', dtype=np.uint8)


def _faults(feed: Feed, header: Header, text: str, first_line: int, latest: int) -> list[Fault]:
    """What is wrong with text that is known to be wrong, in the order of its lines."""
    faults: list[Fault] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    misplaced = _quote_problem(text.encode())
    for line, row, written in _rows(text, first_line):
        problem = _quote_problem(written.encode()) if misplaced else None
        if row is None:
            problem = (
                "a CR stands alone: lines end with LF or CRLF, and a field with a CR needs quotes"
            )
        elif not problem and len(row) != header.width:
            problem = f"it has {len(row)} fields, but the header has {header.width}"
        if problem:
            faults.append(Fault(line, "", "", problem, header.source))
        elif row is not None:
            rows.append(row)
            lines.append(line)
    columns = list(zip(*rows, strict=True)) or [()] * header.width
    _, bad = _parse(feed, [columns[index] for index in header.indexes], latest)
    for (row_, column), problem in bad.items():
        value = columns[header.indexes[column]][row_][:80]
        faults.append(Fault(lines[row_], header.names[column], value, problem, header.source))
    return sorted(faults, key=lambda fault: fault.line)


def _rows(text: str, first_line: int) -> Iterator[tuple[int, list[str] | None, str]]:
    """Each row: the physical line on which it begins, its fields, and its text.

    A quoted field may contain line ends. The fields are None if the csv module cannot read the row.
    """
    lines = io.StringIO(text, newline="\n").readlines()
    reader = csv.reader(lines)
    begin = 0
    while begin < len(lines):
        row: list[str] | None
        try:
            row = next(reader)
        except csv.Error:
            row = None
        if row != []:
            yield first_line + begin, row, "".join(lines[begin : reader.line_num])
        begin = reader.line_num


Bad = dict[tuple[int, int], str]  # (row, column) → what is wrong


def _parse(feed: Feed, columns: Sequence[Column], latest: int) -> tuple[FeedRows, Bad]:
    """Rows as numbers, and what is wrong with those that have none."""
    bad: Bad = {}
    store_ids, store = _distinct(columns[0], 0, bad, store_id_problem)
    if feed == "polls":
        active = np.fromiter(map("active".__eq__, columns[1]), dtype=bool, count=len(store))
        if int(active.sum()) + columns[1].count("inactive") != len(store):
            _each(columns[1], 1, bad, _status)
        value = _instants(columns[2], 2, bad, latest) << 1 | active
    elif feed == "business_hours":
        day = _each(columns[1], 1, bad, _weekday)
        start = _each(columns[2], 2, bad, _start)
        value = (day * DAY_MS + start) << 32 | _each(columns[3], 3, bad, _end)
    else:
        names, value = _distinct(columns[1], 1, bad, zone_problem)
        return FeedRows(store_ids, store, value, names), bad
    return FeedRows(store_ids, store, value), bad


def _distinct(
    column: Column, index: int, bad: Bad, problem_of: Callable[[str], str | None]
) -> tuple[list[str], Ints]:
    """The distinct texts, and the index of each row's among them."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(column))}
    number = np.fromiter(map(numbers.__getitem__, column), dtype=np.int64, count=len(column))
    problems = [problem_of(text) for text in numbers]
    if any(problems):
        wrong = np.array([problem is not None for problem in problems])
        for row in np.flatnonzero(wrong[number]).tolist():
            bad[row, index] = problems[number[row]] or ""
    return list(numbers), number


def store_id_problem(store_id: str) -> str | None:
    """What is wrong with the id of a new store, if anything: this is what a store id may be."""
    if not store_id:
        return "a store id cannot be empty"
    if len(store_id) > LONGEST_STORE_ID:
        return f"a store id can have at most {LONGEST_STORE_ID} characters"
    if "\0" in store_id:
        return NUL_IN_STORE_ID
    if store_id != store_id.strip():
        return "a store id cannot begin or end with white space"
    if store_id in (".", ".."):
        return "a store id cannot be . or .., which browsers remove from URLs"
    if store_id == "*":
        return "a store id cannot be *, which stands for all stores"
    return None


def _each(column: Column, index: int, bad: Bad, number: Callable[[str], int]) -> Ints:
    """The number of each text, by a function that raises ValueError with what is wrong."""
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
                bad[row, index] = problems[text]
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
        raise ValueError("is the end of a day; a start must be from 00:00 to 23:59:59")
    return start


def _end(text: str) -> int:
    clock = _CLOCK.fullmatch(text)
    if clock is None:
        raise ValueError("is not a time of day such as 09:30 or 09:30:00")
    hour, minute, second = (int(part or 0) for part in clock.group(1, 2, 3))
    milliseconds = int(((clock[4] or "") + "000")[:3])
    time = ((hour * 60 + minute) * 60 + second) * 1000 + milliseconds
    if minute > 59 or second > 59 or time > DAY_MS:
        raise ValueError("is not a time of day from 00:00 to 24:00")
    return time


def zone_problem(name: str) -> str | None:
    """What is wrong with the name of a time zone that a feed or a request gives, if anything."""
    if name not in zone_names():
        return "is not a time zone of the tz database, such as America/Chicago"
    return None


def _instants(column: Column, index: int, bad: Bad, latest: int) -> Ints:
    """Milliseconds since 1970-01-01 UTC, cut."""
    if not column:
        return np.empty(0, dtype=np.int64)
    plain = plain_instants(column)
    if plain is not None and plain.max() <= latest:
        return plain

    def number(text: str) -> int:
        instant = parse_instant(text)
        if instant > latest:
            until = f"{instant_of(latest):%Y-%m-%d %H:%M} UTC"
            raise ValueError(f"is in the future: polls are accepted up to {until}")
        return instant

    return _each(column, index, bad, number)
