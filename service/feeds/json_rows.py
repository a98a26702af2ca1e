"""Rows of a feed as JSON, of an array or one on each line (NDJSON) → numbers.

What is wrong with a value is said by `compute.feed_rows`, for JSON as for CSV.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from compute.feed_faults import FAULTS_SHOWN, Fault
from compute.feed_header import COLUMNS, Feed
from compute.feed_rows import FeedRows, parse_columns, store_text
from compute.feed_values import (
    LONGEST_NAME,
    LONGEST_REASON,
    LONGEST_STORE_ID,
    MOST_TAGS,
    name_problem,
    store_id_problem,
    tag_key_problem,
    tag_value_problem,
)
from compute.targets import NO_TARGET, target_of
from service.decoding import problem_and_path, with_members
from service.feeds.exclusions import Whom

#: Most rows of an array.
MOST_JSON_ROWS = 10_000
#: Stores that one exclusion may name.
MOST_EXCLUDED_IDS = 1000

# What these types say of values is for readers and generated clients. `parse_columns` does the
# checking, for JSON as for CSV, and says what is wrong with each row.
GivenStoreId: TypeAlias = Annotated[
    str,
    Meta(
        description="The store's id: any text.",
        extra_json_schema={"minLength": 1, "maxLength": LONGEST_STORE_ID},
    ),
]
_NewStoreId: TypeAlias = Annotated[
    GivenStoreId,
    Meta(description="Any text without white space at its ends, but not `.`, `..` or `*`."),
]
_TIME_OF_DAY = "([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?"
StartTime: TypeAlias = Annotated[
    str,
    Meta(
        description="Local time such as 09:00 or 09:00:00.",
        examples=["09:00:00"],
        extra_json_schema={"pattern": f"^{_TIME_OF_DAY}$"},
    ),
]
EndTime: TypeAlias = Annotated[
    str,
    Meta(
        description="Local time, at most 24:00:00.",
        examples=["17:30:00"],
        extra_json_schema={"pattern": f"^({_TIME_OF_DAY}|24:00(:00)?)$"},
    ),
]
PollStatus = Literal["active", "inactive"]
StoreName: TypeAlias = Annotated[
    str | None,
    Meta(
        description="What it is called; null or empty: nothing.",
        extra_json_schema={"maxLength": LONGEST_NAME},
    ),
]
GivenTarget: TypeAlias = Annotated[
    str | None,
    Meta(
        description="Which share of the known time it shall be up, such as 0.995 or 99.5%; null or "
        "empty: none of its own, and that of a report counts.",
        examples=["0.995"],
    ),
]
GivenTags: TypeAlias = Annotated[
    dict[str, str | None],
    Meta(
        description="Tags that are set, key → value; null or an empty text removes one. Those that "
        f"are not named stay. A store has at most {MOST_TAGS}.",
        examples=[{"region": "west"}],
        extra_json_schema={"maxProperties": MOST_TAGS},
    ),
]


class PollRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A poll: what a store answered when it was asked."""

    store_id: _NewStoreId
    status: Annotated[
        str,
        Meta(
            description="What it answered.", extra_json_schema={"enum": list(get_args(PollStatus))}
        ),
    ]
    timestamp_utc: Annotated[
        str,
        Meta(
            description="When it was asked: RFC 3339, or as feeds write it, 2023-01-22 "
            "12:09:39.388884 UTC. UTC if it has no offset. At most a day after the service's "
            "clock.",
            extra_json_schema={"format": "date-time"},
        ),
    ]


class BusinessHoursRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Business hours of a store on one day of every week, in its local time.

    An end at or before the start lies on the next day; 23:59 or later means midnight.
    """

    store_id: _NewStoreId
    day: Annotated[
        int | UnsetType,
        Meta(
            description="0 is Monday, 6 is Sunday. Left out together with `start_time_local` and "
            "`end_time_local`: the store is closed on every day of the week.",
            extra_json_schema={"minimum": 0, "maximum": 6},
        ),
    ] = UNSET
    start_time_local: StartTime | UnsetType = UNSET
    end_time_local: EndTime | UnsetType = UNSET
    valid_from: Annotated[
        str | UnsetType | None,
        Meta(
            description="The first local date on which the week is in force; null, or left out: it "
            "has been from the beginning of time. If any row has this member, only the weeks of "
            "these stores and dates are replaced, else all weeks of the stores.",
            examples=["2024-03-11"],
            extra_json_schema={"format": "date"},
        ),
    ] = UNSET

    def __post_init__(self) -> None:
        given = [self.day, self.start_time_local, self.end_time_local]
        if 0 < given.count(UNSET) < len(given):
            raise ValueError(
                "A row has `day`, `start_time_local` and `end_time_local`, or none of them: closed "
                "on every day of the week"
            )
        if self.valid_from == "":
            raise ValueError("`valid_from` is empty: give a date, or null")


class TimezoneRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time zone of a store: either `timezone` or `timezone_str`, its former name."""

    store_id: _NewStoreId
    timezone: Annotated[
        str | UnsetType, Meta(description="Its IANA name.", examples=["America/Chicago"])
    ] = UNSET
    timezone_str: Annotated[
        str | UnsetType,
        Meta(description="The former name of `timezone`.", extra_json_schema={"deprecated": True}),
    ] = UNSET

    def __post_init__(self) -> None:
        if (self.timezone is UNSET) is (self.timezone_str is UNSET):
            raise ValueError("A row must have either `timezone` or `timezone_str`, its former name")


Date: TypeAlias = Annotated[
    str,
    Meta(
        description="A date of the store's local time.",
        examples=["2024-12-25"],
        extra_json_schema={"format": "date"},
    ),
]
Reason: TypeAlias = Annotated[
    str,
    Meta(
        description="Why, for people; it is never computed with.",
        extra_json_schema={"maxLength": LONGEST_REASON},
    ),
]


class SpecialHoursRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hours of a store on one date, instead of its week's: from a start to an end, or `closed`.

    An end at or before the start lies on the next day; 23:59 or later means midnight.
    """

    store_id: _NewStoreId
    date: Date
    start_time_local: StartTime | UnsetType = UNSET
    end_time_local: EndTime | UnsetType = UNSET
    closed: Annotated[bool, Meta(description="Whether no business hours begin on this date.")] = (
        False
    )
    reason: Reason = ""


class ExclusionRow(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"begin": "from", "end": "to"}
):
    """A stretch of time that counts neither for nor against some stores, or all of them."""

    begin: Annotated[
        str,
        Meta(
            description="Its first instant: RFC 3339; UTC if it has no offset.",
            extra_json_schema={"format": "date-time"},
        ),
    ]
    end: Annotated[
        str,
        Meta(
            description="Its end, not included; after `from`.",
            extra_json_schema={"format": "date-time"},
        ),
    ]
    store_ids: Annotated[
        list[str] | UnsetType,
        Meta(
            description="The stores that it covers, by their ids. Unknown ones have no effect "
            "until their store exists.",
            extra_json_schema={"minItems": 1, "maxItems": MOST_EXCLUDED_IDS},
        ),
    ] = UNSET
    tags: Annotated[
        dict[str, str] | UnsetType,
        Meta(
            description="The stores that it covers: those that have all of these tags.",
            extra_json_schema={"minProperties": 1, "maxProperties": MOST_TAGS},
        ),
    ] = UNSET
    all_stores: Annotated[bool, Meta(description="Whether it covers all stores.")] = False
    reason: Reason = ""

    def __post_init__(self) -> None:
        by_ids, by_tags = self.store_ids is not UNSET, self.tags is not UNSET
        if by_ids + by_tags + self.all_stores != 1:
            raise ValueError("A row has either `store_ids`, or `tags`, or `all_stores`: true")
        if self.store_ids is not UNSET:
            _check_ids(self.store_ids)
        if self.tags is not UNSET:
            if not 0 < len(self.tags) <= MOST_TAGS:
                raise ValueError(f"`tags` has from 1 to {MOST_TAGS} members")
            check_tags(self.tags)
            if not all(self.tags.values()):
                raise ValueError("No store has a tag of an empty value")

    @property
    def whom(self) -> Whom:
        """The stores that it covers."""
        ids = None if self.store_ids is UNSET else sorted(set(self.store_ids))
        return Whom(ids, None if self.tags is UNSET else self.tags)


class StoreRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a store is called, its tags and its target; what is left out stays as it is."""

    store_id: _NewStoreId
    name: StoreName | UnsetType = UNSET
    tags: GivenTags | UnsetType = UNSET
    target: GivenTarget | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_store(self.name, self.tags, self.target)


def check_store(
    name: str | UnsetType | None,
    tags: Mapping[str, str | None] | UnsetType,
    target: str | UnsetType | None,
) -> None:
    """Check what a store is to be called, tagged with and held to.

    Raises:
        ValueError: it cannot be; the message says why
    """
    if name and (problem := name_problem(name)):
        raise ValueError(f"The name {problem}")
    if target:
        try:
            target_of(target)
        except ValueError as error:
            raise ValueError(f"The target {error}") from None
    if tags is not UNSET:
        if len(tags) > MOST_TAGS:
            raise ValueError(f"`tags` has at most {MOST_TAGS} members")
        check_tags(tags)


def check_tags(tags: Mapping[str, str | None]) -> None:
    """Check keys and values of tags.

    Raises:
        ValueError: one cannot be a tag's
    """
    for key, value in tags.items():
        if problem := tag_key_problem(key):
            raise ValueError(f"The tag {key[:80]!r} {problem}")
        if problem := tag_value_problem(value or ""):
            raise ValueError(f"The value of the tag {key[:80]!r} {problem}")


def _check_ids(store_ids: Sequence[str]) -> None:
    if not 0 < len(store_ids) <= MOST_EXCLUDED_IDS:
        raise ValueError(f"`store_ids` has from 1 to {MOST_EXCLUDED_IDS} ids")
    for store_id in store_ids:
        if problem := store_id_problem(store_id):
            raise ValueError(f"`store_ids` has {store_id[:80]!r}: {problem}")


ROWS: dict[Feed, type[msgspec.Struct]] = {
    "polls": PollRow,
    "business_hours": BusinessHoursRow,
    "timezones": TimezoneRow,
    "special_hours": SpecialHoursRow,
    "exclusions": ExclusionRow,
    "stores": StoreRow,
}


class PollOnALine(PollRow, frozen=True, forbid_unknown_fields=False, gc=False):
    """A poll on a line of its own. Programs that collect lines add members, which are ignored."""


class NotJson(Exception):  # noqa: N818 - read by a person as a sentence
    """A body is not JSON; the message says why."""


class NotAnArray(Exception):  # noqa: N818 - read by a person as a sentence
    """A body is JSON, but not an array."""


class TooManyRows(Exception):  # noqa: N818 - read by a person as a sentence
    """An array has more rows than are taken."""


def array_rows(feed: Feed, body: bytes, latest: int) -> FeedRows:
    """Rows of an array of JSON; the line of a fault is the row's position in it, from 1.

    Args:
        feed: which feed
        body: UTF-8
        latest: the latest instant that a poll may have, milliseconds since 1970-01-01 UTC

    Raises:
        NotJson, NotAnArray, TooManyRows: it has no rows that could be looked at
    """
    if feed == "polls" and (rows := _good_array(body, latest)) is not None:
        return rows
    try:
        given = msgspec.json.decode(body, type=list[msgspec.Raw])
    except msgspec.ValidationError:
        raise NotAnArray from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(str(error)) from None
    if len(given) > MOST_JSON_ROWS:
        raise TooManyRows
    row_type = ROWS[feed]
    return _rows(feed, row_type, msgspec.json.Decoder(row_type).decode, enumerate(given, 1), latest)


def _good_array(body: bytes, latest: int) -> FeedRows | None:
    """Polls of an array in which all is good; None: they have to be read one by one."""
    try:
        polls = _ARRAY_DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if len(polls) > MOST_JSON_ROWS:
        return None
    rows = _poll_rows(polls, latest)
    return None if rows.fault_count else rows


def line_rows(source: str, block: bytes, first_line: int, latest: int) -> FeedRows:
    """Polls of whole lines of NDJSON; lines without anything are passed over.

    Args:
        source: the file, as faults name it
        block: UTF-8
        first_line: the line that the block begins on, from 1
        latest: as for `array_rows`
    """
    if (polls := _plain_lines(block)) is not None:
        rows = _poll_rows(polls, latest)
        if not rows.fault_count:
            return rows
    lines = (
        (line, text) for line, text in enumerate(BytesIO(block), first_line) if text.strip(_SPACE)
    )
    rows = _rows("polls", PollOnALine, _poll_on_a_line, lines, latest)
    rows.faults = [replace(fault, source=source) for fault in rows.faults]
    return rows


def _poll_rows(polls: Sequence[PollRow], latest: int) -> FeedRows:
    columns = [
        [poll.store_id for poll in polls],
        [poll.status for poll in polls],
        [poll.timestamp_utc for poll in polls],
    ]
    return parse_columns("polls", columns, latest)


_SPACE = b" \t\r\n"
_ARRAY_DECODER = msgspec.json.Decoder(list[PollRow])
_POLL_DECODER = msgspec.json.Decoder(PollOnALine)
_QUOTED_MEMBERS = tuple(b'"%b"' % name.encode() for name in PollOnALine.__struct_fields__)
#: How a letter that an escape stands for begins. In the name of a member it hides the name.
_ESCAPED_LETTER = b"\\u00"


def _plain_lines(block: bytes) -> list[PollOnALine] | None:
    """The polls of a block that has one on each line; None: it has to be read line by line.

    That takes about three times as long, and gives the same for what is plain.
    """
    lines = (block.replace(b"\r\n", b"\n") if b"\r" in block else block).strip(b"\n")
    try:
        lines.decode()  # msgspec does not look at bytes of members that are ignored
        polls = _POLL_DECODER.decode_lines(lines)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # `decode_lines` takes any white space for the end of a row, and none at all, too. Where } ends
    # a line and { begins the next, it is between rows: within one a comma would be there.
    count = len(polls)
    if not lines.count(b"}\n{") == lines.count(b"\n") == max(count - 1, 0):
        return None
    escaped = b"\\" in lines and _ESCAPED_LETTER in lines  # the first alone is found much faster
    if escaped or any(lines.count(name) != count for name in _QUOTED_MEMBERS):
        return None
    return polls


def _poll_on_a_line(line: bytes | msgspec.Raw) -> PollOnALine:
    """The poll of a line.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: it has none; the message says why
    """
    line = bytes(line)
    poll = _POLL_DECODER.decode(line)
    line.decode()
    if _ESCAPED_LETTER in line or any(line.count(name) != 1 for name in _QUOTED_MEMBERS):
        # msgspec takes the last of several members of one name, and does not tell.
        names = [name for name, _ in json.loads(line, object_pairs_hook=list, parse_int=str)]
        for name in PollOnALine.__struct_fields__:
            if names.count(name) > 1:
                raise msgspec.ValidationError(f"Object has the field `{name}` twice - at `$`")
    return poll


def _rows(
    feed: Feed,
    row_type: type[msgspec.Struct],
    decode: Callable[[bytes | msgspec.Raw], msgspec.Struct],
    given: Iterable[tuple[int, bytes | msgspec.Raw]],
    latest: int,
) -> FeedRows:
    """Rows, each by itself, with the line that is told in its faults."""
    read: list[Any] = []
    line_of: list[int] = []
    faults: list[Fault] = []
    unread = 0
    for line, text in given:
        try:
            row = decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            unread += 1
            if unread <= FAULTS_SHOWN:
                faults.append(_fault(line, text, row_type, error))
        else:
            read.append(row)
            line_of.append(line)
    rows = _PARSERS[feed](read) if feed in _PARSERS else _parsed(feed, read, latest)
    if not unread and not rows.fault_count:
        return rows
    faults += [replace(fault, line=line_of[fault.line - 1]) for fault in rows.faults]
    faults.sort(key=lambda fault: fault.line)
    return FeedRows(faults=faults[:FAULTS_SHOWN], fault_count=unread + rows.fault_count)


def _parsed(feed: Feed, given: Sequence[msgspec.Struct], latest: int) -> FeedRows:
    """Rows whose members are the columns of their feed."""
    read = [
        [str(value) for value in msgspec.structs.astuple(row) if value is not UNSET]
        for row in given
    ]
    columns = [[row[column] for row in read] for column in range(len(COLUMNS[feed]))]
    return parse_columns(feed, columns, latest)


def _parsed_hours(given: Sequence[BusinessHoursRow]) -> FeedRows:
    columns = [
        [row.store_id for row in given],
        ["" if row.day is UNSET else str(row.day) for row in given],
        [row.start_time_local or "" for row in given],
        [row.end_time_local or "" for row in given],
    ]
    if any(row.valid_from is not UNSET for row in given):
        columns.append([row.valid_from or "" for row in given])
    return parse_columns("business_hours", columns)


def _parsed_special_hours(given: Sequence[SpecialHoursRow]) -> FeedRows:
    columns = [
        [row.store_id for row in given],
        [row.date for row in given],
        [row.start_time_local or "" for row in given],
        [row.end_time_local or "" for row in given],
        ["true" if row.closed else "" for row in given],
        [row.reason for row in given],
    ]
    return parse_columns("special_hours", columns)


def _parsed_exclusions(given: Sequence[ExclusionRow]) -> FeedRows:
    """Whom they cover was checked with each; what is parsed here has a number for that."""
    whom = [row.whom.text for row in given]
    columns = [
        list(map(str, range(len(given)))),
        [row.begin for row in given],
        [row.end for row in given],
        [row.reason for row in given],
    ]
    rows = parse_columns("exclusions", columns)
    if not rows.fault_count:
        numbers = {text: number for number, text in enumerate(dict.fromkeys(whom))}
        rows.store_ids = list(numbers)
        rows.store = np.array([numbers[text] for text in whom], dtype=np.int64)
    return rows


def stores_rows(given: Sequence[StoreRow]) -> FeedRows:
    """Rows of stores as numbers; what they say was checked with each."""
    rows = parse_columns("stores", [[row.store_id for row in given]])
    if not rows.fault_count:
        rows.names = [
            store_text(
                None if row.name is UNSET else row.name or "",
                {} if row.tags is UNSET else {key: text or "" for key, text in row.tags.items()},
                _target(row.target),
            )
            for row in given
        ]
    return rows


def _target(given: str | UnsetType | None) -> int | None:
    """A target that was checked, as `store_text` takes it."""
    if given is UNSET:
        return None
    return target_of(given) if given else NO_TARGET


_PARSERS: dict[Feed, Callable[[Sequence[Any]], FeedRows]] = {
    "business_hours": _parsed_hours,
    "special_hours": _parsed_special_hours,
    "exclusions": _parsed_exclusions,
    "stores": stores_rows,
}


def _fault(
    line: int, text: bytes | msgspec.Raw, row_type: type[msgspec.Struct], error: Exception
) -> Fault:
    """What is wrong with a row that cannot be decoded."""
    if isinstance(error, UnicodeDecodeError):
        value = error.object[error.start : error.end].hex(" ")
        return Fault(line, "", "", f"bytes {value} are not UTF-8")
    if isinstance(error, RecursionError):
        return Fault(line, "", "", "its JSON is nested too deeply")
    problem, column = problem_and_path(error)
    if not isinstance(error, msgspec.ValidationError):
        return Fault(line, "", "", f"it is not JSON: {problem}")
    value = ""
    if column:
        member = re.split(r"[.\[]", column)[0]  # of a path into it, such as tags[...]
        given = msgspec.json.decode(text, type=dict[str, msgspec.Raw])[member]
        value = bytes(given).decode(errors="replace")[:80]
    return Fault(line, column, value, with_members(problem, row_type.__struct_encode_fields__))
