"""The first line of a feed's file: which columns it has, and so which feed it may be."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from compute.feed_faults import Fault, FeedRefused
from compute.feed_values import MOST_TAGS, tag_key_problem

Feed = Literal["polls", "business_hours", "timezones", "special_hours", "exclusions", "stores"]


# By default the csv module refuses fields of more than 128 KiB. The ways that do without it have no
# such limit, and a row must mean the same to all of them.
csv.field_size_limit((1 << 31) - 1)

#: The columns of each feed, and every name a header may give them. In a file of stores, every
#: further column is a tag.
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
        "valid_from": ("valid_from",),
    },
    "timezones": {
        "store_id": ("store_id",),
        "timezone": ("timezone", "timezone_str"),
    },
    "special_hours": {
        "store_id": ("store_id",),
        "date": ("date",),
        "start_time_local": ("start_time_local",),
        "end_time_local": ("end_time_local",),
        "closed": ("closed",),
        "reason": ("reason",),
    },
    "exclusions": {
        "store_id": ("store_id",),
        "from": ("from",),
        "to": ("to",),
        "reason": ("reason",),
    },
    "stores": {
        "store_id": ("store_id",),
        "name": ("name",),
        "target": ("target",),
    },
}

#: Those columns that a file need not have.
OPTIONAL: Mapping[Feed, frozenset[str]] = {
    "polls": frozenset(),
    "business_hours": frozenset({"valid_from"}),
    "timezones": frozenset(),
    "special_hours": frozenset({"closed", "reason"}),
    "exclusions": frozenset({"reason"}),
    "stores": frozenset({"name", "target"}),
}

#: Characters of a header that are told.
_SHOWN_HEADER = 200


@dataclass(frozen=True)
class Header:
    """Where a file has the feed's columns.

    Attributes:
        columns: those of the feed that it has, in the order of `COLUMNS`; of stores, then the tags
        names: the same, as the file's header names them
        indexes: the index of each in a row
        width: fields in a row
        source: the file, as faults name it
    """

    columns: tuple[str, ...]
    names: tuple[str, ...]
    indexes: tuple[int, ...]
    width: int
    source: str


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
    """The first line of a file of a feed, with all names that its columns may have.

    Columns that it need not have are in brackets.
    """
    needed = ",".join(" or ".join(COLUMNS[feed][column]) for column in needed_columns(feed))
    more = "".join(f"[,{column}]" for column in COLUMNS[feed] if column in OPTIONAL[feed])
    return f"{needed}{more}[,a column for each tag]" if feed == "stores" else f"{needed}{more}"


def needed_columns(feed: Feed) -> list[str]:
    """The columns that every file of a feed has."""
    return [column for column in COLUMNS[feed] if column not in OPTIONAL[feed]]


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
    found = {
        column: names.index(name)
        for column, accepted in COLUMNS[feed].items()
        for name in accepted
        if name in names
    }
    if feed == "stores":
        found |= {name: index for index, name in enumerate(names) if name not in found}
    indexes = tuple(found.values())
    return Header(tuple(found), tuple(names[i] for i in indexes), indexes, len(names), source)


def recognise(source: str, line: bytes) -> Feed:
    """Tell which feed a file is of, by the rules of `read_header`.

    As any column may be a tag of stores, a file is one of stores only if it has names, and if it
    can be no other.

    Args:
        source: the file, as faults name it
        line: the first of the file

    Raises:
        FeedRefused: the line is no text
        FeedUnknown: it has the columns of no feed, or of several
    """
    names = _names(source, line)
    problems = {feed: _header_problems(feed, names) for feed in COLUMNS}
    if "name" not in names:
        problems["stores"] = ["the header has no column name", *problems["stores"]]
    fitting = [feed for feed, found in problems.items() if not found]
    if len(fitting) > 1 and "stores" in fitting:
        fitting.remove("stores")
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
    if problem := quote_problem(line):
        raise refused(problem)
    try:
        return [name.strip() for name in next(csv.reader([line.decode()]), [])]
    except UnicodeDecodeError as error:
        raise refused(f"the header is not UTF-8 text: {error}") from None


def _header_problems(feed: Feed, names: Sequence[str]) -> list[str]:
    """What keeps a header from being a feed's, column by column."""
    problems = []
    for column, accepted in COLUMNS[feed].items():
        found = sum(map(names.count, accepted))
        if found > 1 or (not found and column not in OPTIONAL[feed]):
            told = "names the column {} twice" if found else "has no column {}"
            problems.append(f"the header {told.format(' or '.join(accepted))}")
    return problems or (_tag_problems(names) if feed == "stores" else [])


def _tag_problems(names: Sequence[str]) -> list[str]:
    """What keeps the further columns of a file of stores from being tags."""
    tags = [name for name in names if name not in COLUMNS["stores"]]
    if len(tags) > MOST_TAGS:
        return [f"the header has {len(tags)} columns of tags; at most {MOST_TAGS} are allowed"]
    problems = [
        f"the tag {_shown([tag])!r} {problem}" for tag in tags if (problem := tag_key_problem(tag))
    ]
    problems += [
        f"the header names the column {_shown([tag])} twice"
        for tag in dict.fromkeys(tags)
        if tags.count(tag) > 1
    ]
    return problems


def _shown(names: Sequence[str]) -> str:
    """A header as messages repeat it."""
    return ",".join(names)[:_SHOWN_HEADER]


_BEFORE_FIELD = np.frombuffer(b',\n"', dtype=np.uint8)
_AFTER_FIELD = np.frombuffer(b',\n"\r', dtype=np.uint8)


def quote_problem(text: bytes) -> str | None:
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
