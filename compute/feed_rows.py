"""The rows of a feed, as text → one number each, and what is wrong with those that have none.

Every feed says one thing about one store per row, and all become the same two columns: the store's
id and a number, or a few, the row's value. It is, for

- polls: a `poll` (see `compute.polls`), milliseconds since 1970-01-01 UTC << 1 | active
- business hours: start, milliseconds since Monday 00:00 << 32 | end, milliseconds since the start's
  midnight; `EMPTY`: the store's week has no hours. With the column `valid_from` two numbers: the
  date, days since 1970-01-01 or `NO_DATE`, and those hours
- time zones: an index into the names that come with the rows
- special hours, three numbers: the date, days since 1970-01-01; start << 32 | end, milliseconds
  since its midnight, or `EMPTY`: closed; the reason, an index into the names
- exclusions, three numbers: from and to, milliseconds since 1970-01-01 UTC; the reason, an index
  into the names. The store's id may be *, all stores
- stores, one number in a row: an index into the names, which are texts as `store_text` makes them

Text is CSV as in RFC 4180: lines end with LF or CRLF, and a field that holds a quote is in quotes.
What a row means does not depend on the rows around it.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from compute.axis import DAY_MS, Ints
from compute.feed_faults import FAULTS_SHOWN, Fault
from compute.feed_header import COLUMNS, Feed, Header, quote_problem
from compute.feed_values import (
    are_store_ids,
    closed_of,
    date_of,
    end_of,
    name_problem,
    reason_problem,
    start_of,
    status_of,
    store_id_problem,
    tag_value_problem,
    weekday_of,
    whom_problem,
    zone_problem,
)
from compute.instants import LATEST_MS, instant_of, parse_instant
from compute.packed_rows import EMPTY, NO_DATE
from compute.plain_polls import plain_instants, plain_polls
from compute.targets import NO_TARGET, target_of

Column = Sequence[str]
#: For so few instants, arrays take longer to set up than to fill one by one.
_FEW = 64
#: Rows of a bad block that are looked at one by one: each takes about a thousand bytes then.
_ROWS_AT_ONCE = 10_000


@dataclass
class FeedRows:
    """Rows of a feed.

    Attributes:
        store_ids: the distinct ids
        store: int64[rows], index of each row's id in `store_ids`
        value: int64[rows] or int64[rows, numbers], what each row says, as the module describes
        names: what values, or the last numbers of them, are indexes into; of some feeds
        faults: the first `FAULTS_SHOWN` faults; if there is one, the arrays mean nothing
        fault_count: how many faults there are
    """

    store_ids: list[str] = field(default_factory=list)
    store: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    value: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    names: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    fault_count: int = 0


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
    return (feed == "polls" and plain_rows(header, block, latest)) or odd_rows(
        feed, header, block, first_line, latest
    )


def plain_rows(header: Header, block: bytes, latest: int = LATEST_MS) -> FeedRows | None:
    """As `parse_csv`, of polls that are good and plain; None: some are not.

    It is fast, and most of the time it leaves Python's lock to other threads.
    """
    polls = plain_polls(block, header.width, header.indexes, latest)
    return FeedRows(*polls) if polls and are_store_ids(polls[0]) else None


def odd_rows(
    feed: Feed, header: Header, block: bytes, first_line: int, latest: int = LATEST_MS
) -> FeedRows:
    """As `parse_csv`, of rows of any feed; plain polls take several times as long here."""
    try:
        text = block.decode()
    except UnicodeDecodeError as error:
        line = first_line + block.count(b"\n", 0, error.start)
        value = block[error.start : error.end].hex(" ")
        fault = Fault(line, "", "", f"bytes {value} are not UTF-8", header.source)
        return FeedRows(faults=[fault], fault_count=1)
    columns = _plain_columns(text, header.width) or _quoted_columns(text, header.width, block)
    if columns is not None:
        wanted = [columns[index] for index in header.indexes]
        parsed, bad = _parse(feed, header.columns, wanted, latest)
        if not bad.count:
            return parsed
    return _refused(feed, header, text, first_line, latest)


def parse_columns(feed: Feed, columns: Sequence[Column], latest: int = LATEST_MS) -> FeedRows:
    """Rows that come as columns, in the order of `COLUMNS`; the line of a fault is its row, from 1.

    Args:
        feed: which feed
        columns: texts, all columns of one length; the last ones may be left out if files need not
            have them
        latest: the latest instant that a poll may have, milliseconds since 1970-01-01 UTC
    """
    names = tuple(COLUMNS[feed])[: len(columns)]
    parsed, bad = _parse(feed, names, columns, latest)
    if not bad.count:
        return parsed
    faults = [
        Fault(row + 1, names[column], columns[column][row][:80], problem)
        for (row, column), problem in sorted(bad.first.items())
    ]
    return FeedRows(faults=faults[:FAULTS_SHOWN], fault_count=bad.count)


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
    if quote_problem(block):
        return None
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="\n")) if row]
    except csv.Error:
        return None
    if any(len(row) != width for row in rows):
        return None
    return list(zip(*rows, strict=True)) or [()] * width


# What may be next to a quote. One next to another is a quote that is doubled.


def _refused(feed: Feed, header: Header, text: str, first_line: int, latest: int) -> FeedRows:
    """What is wrong with text that is known to be wrong, in the order of its lines."""
    faults: list[Fault] = []
    count = 0
    misplaced = quote_problem(text.encode()) is not None
    rows = _rows(text, first_line)
    while piece := list(islice(rows, _ROWS_AT_ONCE)):
        found, more = _faults(feed, header, piece, misplaced, latest)
        faults += found[: FAULTS_SHOWN - len(faults)]
        count += more
    return FeedRows(faults=faults, fault_count=count)


def _faults(
    feed: Feed,
    header: Header,
    given: Sequence[tuple[int, list[str] | None, str]],
    misplaced: bool,
    latest: int,
) -> tuple[list[Fault], int]:
    """The first that is wrong with rows, at least, and how much there is.

    Args:
        feed: which feed
        header: the columns of its file
        given: from `_rows`
        misplaced: whether a quote may be where none can be
        latest: the latest instant that a poll may have
    """
    faults: list[Fault] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    for line, row, written in given:
        problem = quote_problem(written.encode()) if misplaced else None
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
    count = len(faults)
    columns = list(zip(*rows, strict=True)) or [()] * header.width
    _, bad = _parse(feed, header.columns, [columns[index] for index in header.indexes], latest)
    for (row_, column), problem in bad.first.items():
        value = columns[header.indexes[column]][row_][:80]
        faults.append(Fault(lines[row_], header.names[column], value, problem, header.source))
    return sorted(faults, key=lambda fault: fault.line), count + bad.count


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


class _Bad:
    """What is wrong with values: the first of each column, and how much there is.

    Attributes:
        first: (row, column) → what is wrong; the first `FAULTS_SHOWN` of each column
        count: of all columns
    """

    def __init__(self) -> None:
        self.first: dict[tuple[int, int], str] = {}
        self.count = 0

    def add(self, column: int, problems: Iterable[tuple[int, str]]) -> None:
        """Add what is wrong with a column: rows in order, and what is wrong with each."""
        problems = iter(problems)
        for row, problem in islice(problems, FAULTS_SHOWN):
            self.first[row, column] = problem
            self.count += 1
        self.count += sum(1 for _ in problems)


def _parse(
    feed: Feed, names: Sequence[str], columns: Sequence[Column], latest: int
) -> tuple[FeedRows, _Bad]:
    """Rows as numbers, and what is wrong with those that have none.

    Args:
        feed: which feed
        names: of the columns, as `COLUMNS` has them; in rows of stores also tags
        columns: texts
        latest: the latest instant that a poll may have
    """
    bad = _Bad()
    problem_of = whom_problem if feed == "exclusions" else store_id_problem
    store_ids, store = _distinct(columns[0], 0, bad, problem_of)
    texts: list[str] = []
    if feed == "polls":
        active = np.fromiter(map("active".__eq__, columns[1]), dtype=bool, count=len(store))
        if np.count_nonzero(active) + columns[1].count("inactive") != len(store):
            _each(columns[1], 1, bad, status_of)
        value = _instants(columns[2], 2, bad, latest) << 1 | active
    elif feed == "business_hours":
        value = _hours(columns, bad)
    elif feed == "special_hours":
        texts, value = _special_hours(names, columns, bad)
    elif feed == "exclusions":
        texts, value = _exclusions(columns, bad)
    elif feed == "stores":
        texts = _store_texts(names, columns, bad)
        value = np.arange(len(store))[:, None]
    else:
        texts, value = _distinct(columns[1], 1, bad, zone_problem)
    return FeedRows(store_ids, store, value, texts), bad


def _hours(columns: Sequence[Column], bad: _Bad) -> Ints:
    """The values of rows of business hours."""
    _, days, starts, ends, *valid_from = columns
    empty = np.zeros(len(days), dtype=bool)
    if "" in days:
        empty[:] = [not any(row) for row in zip(days, starts, ends, strict=True)]
        days, starts, ends = (_but(column, empty, "0:00") for column in (days, starts, ends))
        days = _but(days, empty, "0")
    day = _each(days, 1, bad, weekday_of)
    start = _each(starts, 2, bad, start_of)
    hours = (day * DAY_MS + start) << 32 | _each(ends, 3, bad, end_of)
    hours = np.where(empty, EMPTY, hours)
    if not valid_from:
        return hours
    return np.column_stack([_each(valid_from[0], 4, bad, _date_or_none), hours])


def _date_or_none(text: str) -> int:
    return date_of(text) if text else NO_DATE


def _but(column: Column, rows: "np.ndarray[tuple[int], np.dtype[np.bool_]]", text: str) -> Column:
    """A column with another text in some rows."""
    return [text if other else given for given, other in zip(column, rows, strict=True)]


def _special_hours(
    names: Sequence[str], columns: Sequence[Column], bad: _Bad
) -> tuple[list[str], Ints]:
    """The reasons and the values of rows of special hours."""
    _, dates, starts, ends = columns[:4]
    at = {name: index for index, name in enumerate(names)}
    is_closed = np.zeros(len(dates), dtype=bool)
    if "closed" in at:
        is_closed = _each(columns[at["closed"]], at["closed"], bad, closed_of).astype(bool)
        told = "a date that is closed has neither a start nor an end: leave them empty"
        for index, column in ((2, starts), (3, ends)):
            rows = np.flatnonzero(is_closed).tolist()
            bad.add(index, [(row, told) for row in rows if column[row]])
        starts, ends = (_but(column, is_closed, "0:00") for column in (starts, ends))
    start = _each(starts, 2, bad, start_of)
    hours = np.where(is_closed, EMPTY, start << 32 | _each(ends, 3, bad, end_of))
    texts, reason = _reasons(len(dates), at.get("reason"), columns, bad)
    return texts, np.column_stack([_each(dates, 1, bad, date_of), hours, reason])


def _exclusions(columns: Sequence[Column], bad: _Bad) -> tuple[list[str], Ints]:
    """The reasons and the values of exclusions."""
    start = _each(columns[1], 1, bad, parse_instant, wrong=-1)
    end = _each(columns[2], 2, bad, parse_instant, wrong=-1)
    early = np.flatnonzero((end <= start) & (end >= 0))
    bad.add(2, ((int(row), "is not after `from`") for row in early))
    texts, reason = _reasons(len(start), 3 if len(columns) > 3 else None, columns, bad)
    return texts, np.column_stack([start, end, reason])


def _reasons(
    rows: int, index: int | None, columns: Sequence[Column], bad: _Bad
) -> tuple[list[str], Ints]:
    """The reasons, and the number of each row's among them; None as the index: there are none."""
    if index is None:
        return [""], np.zeros(rows, dtype=np.int64)
    return _distinct(columns[index], index, bad, reason_problem)


def _store_texts(names: Sequence[str], columns: Sequence[Column], bad: _Bad) -> list[str]:
    """What each row of stores says."""
    rows = len(columns[0])
    own: dict[str, Column] = {}
    targets: Sequence[int | None] = [None] * rows
    for index, column in enumerate(columns[1:], 1):
        if names[index] == "target":
            targets = _each(column, index, bad, _target_or_none).tolist()
            continue
        _distinct(column, index, bad, name_problem if names[index] == "name" else tag_value_problem)
        own[names[index]] = column
    called: Sequence[str | None] = own.pop("name", ()) or [None] * rows
    each = zip(*own.values(), strict=True) if own else [()] * rows
    return [
        store_text(name, dict(zip(own, values, strict=True)), target)
        for name, target, values in zip(called, targets, each, strict=True)
    ]


def _target_or_none(text: str) -> int:
    return target_of(text) if text else NO_TARGET


def store_text(name: str | None, tags: Mapping[str, str], target: int | None = None) -> str:
    """A row of stores in one text: JSON of what it says; null is what is to be removed.

    Args:
        name: what the store is called; empty: it has no name any more; None: that stays as it is
        tags: those that are set; an empty value removes
        target: its target, as `compute.targets` has it; `NO_TARGET`: it has none any more; None:
            that stays as it is
    """
    row: dict[str, object] = {} if name is None else {"name": name or None}
    if target is not None:
        row["target"] = None if target == NO_TARGET else target
    row["tags"] = {key: value or None for key, value in tags.items()}
    return json.dumps(row, ensure_ascii=False)


def _distinct(
    column: Column, index: int, bad: _Bad, problem_of: Callable[[str], str | None]
) -> tuple[list[str], Ints]:
    """The distinct texts, and the index of each row's among them."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(column))}
    number = np.fromiter(map(numbers.__getitem__, column), dtype=np.int64, count=len(column))
    problems = [problem_of(text) for text in numbers]
    if any(problems):
        wrong = np.array([problem is not None for problem in problems])
        rows = np.flatnonzero(wrong[number])
        bad.add(index, ((int(row), problems[number[row]] or "") for row in rows))
    return list(numbers), number


def _each(
    column: Column, index: int, bad: _Bad, number: Callable[[str], int], wrong: int = 0
) -> Ints:
    """The number of each text, by a function that raises ValueError with what is wrong.

    A text with which something is wrong gets the number `wrong`.
    """
    known: dict[str, int] = {}
    problems: dict[str, str] = {}
    for text in set(column):
        try:
            known[text] = number(text)
        except ValueError as error:
            known[text] = wrong
            problems[text] = str(error)
    if problems:
        bad.add(
            index, ((row, problems[text]) for row, text in enumerate(column) if text in problems)
        )
    return np.fromiter(map(known.__getitem__, column), dtype=np.int64, count=len(column))


def _instants(column: Column, index: int, bad: _Bad, latest: int) -> Ints:
    """Milliseconds since 1970-01-01 UTC, cut."""
    if not column:
        return np.empty(0, dtype=np.int64)
    if len(column) > _FEW:
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
