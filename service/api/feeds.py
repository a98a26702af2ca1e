"""Feeds over HTTP: CSV of any size, streamed into the database, or some rows as JSON; their state.

A feed's own path takes both, and the path below it CSV alone. In the OpenAPI document each has one
media type: generated clients choose the type of a body badly where there is a choice.
openapi-python-client 0.29 then makes a module that cannot be imported (its issue 1451),
@hey-api/openapi-ts a function whose types know JSON alone.

`POST /feeds` takes a file of any feed, which its header tells.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias, get_args

import asyncpg
import msgspec
from litestar import Request, get, post
from litestar.exceptions import InternalServerException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Operation
from msgspec import UNSET, Meta, UnsetType

from compute.feed_faults import FAULTS_SHOWN, Fault, FeedRefused
from compute.feed_header import COLUMNS, Feed
from compute.feed_rows import FeedRows, parse_columns
from compute.feed_values import LONGEST_STORE_ID
from compute.zones import DEFAULT_TIMEZONE
from service.decoding import problem_and_path
from service.feeds.history import (
    FeedLoad,
    FeedRefusal,
    Ingested,
    Refusals,
    Sender,
    read_known,
    read_loads,
    read_refusals,
)
from service.feeds.ingest import (
    FeedFile,
    ingest_rows,
    ingest_texts,
    latest_poll,
    recognised,
    text_of,
)
from service.feeds.text import TooLarge, Unreadable, unpacked
from service.settings import Settings
from service.storage import Folder
from service.web.access import caller_of
from service.web.links import link
from service.web.problems import Problem, documented, with_members
from service.workers.pool import Workers

_CSV, _JSON = "text/csv", "application/json"
#: Bounds of a JSON body.
MOST_JSON_ROWS = 10_000
MOST_JSON_BYTES = 10_000_000
#: Only one JSON body is parsed at a time: a bad one of 10 MB may take 360 MB of memory, as five
#: million values, and because of the interpreter's lock two at once would not be faster.
_PARSING = asyncio.Lock()

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
        int,
        Meta(
            description="0 is Monday, 6 is Sunday.",
            extra_json_schema={"minimum": 0, "maximum": 6},
        ),
    ]
    start_time_local: StartTime
    end_time_local: EndTime


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


_PATHS: dict[Feed, str] = {
    "polls": "/polls",
    "business_hours": "/business-hours",
    "timezones": "/timezones",
}

_ROWS: dict[Feed, type[msgspec.Struct]] = {
    "polls": PollRow,
    "business_hours": BusinessHoursRow,
    "timezones": TimezoneRow,
}

_CSV_ROWS: dict[Feed, str] = {
    "polls": "8419537941919820732,active,2023-01-22 12:09:39.388884 UTC",
    "business_hours": "8419537941919820732,0,09:00:00,17:30:00",
    "timezones": "8419537941919820732,America/Chicago",
}

#: Names of the rows' schemas, which are components of the OpenAPI document.
ROW_SCHEMAS = tuple(row.__name__ for row in _ROWS.values())
_WHOLE_WEEKS = "all rows of a store in one request"


def _operation(feed: Feed | None, media_type: str) -> type[Operation]:
    """OpenAPI's description of a feed's body, which Litestar cannot see: handlers stream it."""

    class FeedOperation(Operation):
        def to_schema(self) -> dict[str, Any]:
            if media_type == _JSON and feed is not None:
                items = {"$ref": f"#/components/schemas/{_ROWS[feed].__name__}"}
                schema = {"type": "array", "maxItems": MOST_JSON_ROWS, "items": items}
                content: dict[str, Any] = {_JSON: {"schema": schema}}
            else:
                header = ",".join(COLUMNS[feed or "polls"])
                text = "CSV in UTF-8, plain, gzip or zstd, with a header" + (
                    f": {header}." if feed else " that tells which feed it is."
                )
                schema = {"type": "string", "format": "binary", "description": text}
                content = {
                    _CSV: {"schema": schema, "example": f"{header}\n{_CSV_ROWS[feed or 'polls']}\n"}
                }
            return super().to_schema() | {"requestBody": {"required": True, "content": content}}

    return FeedOperation


def _route(
    feed: Feed,
    path: str,
    operation_id: str,
    summary: str,
    description: str,
    taken: Sequence[str] = (_CSV, _JSON),
) -> HTTPRouteHandler:
    @post(
        path,
        operation_id=operation_id,
        summary=summary,
        description=description,
        tags=["feeds"],
        status_code=200,
        opt={"scope": "write"},
        request_max_body_size=None,
        operation_class=_operation(feed, taken[-1]),
        responses=documented(408, 413, 415, 422),
    )
    async def post_feed(
        request: Request[Any, Any, Any],
        work_pool: asyncpg.Pool,
        workers: Workers,
        settings: Settings,
        aside: Folder,
        refusals: Refusals,
    ) -> Ingested:
        if _media_type(request, taken) == _CSV:
            into = (work_pool, workers, aside, refusals)
            return (await _load_csv(feed, request, settings.feed_bytes, *into))[1]
        return await _load_json(feed, request, work_pool)

    return post_feed


def _csv_route(feed: Feed, operation_id: str, noun: str) -> HTTPRouteHandler:
    path = _PATHS[feed]
    description = (
        f"Load {noun} as CSV, plain, gzip or zstd, of any number of rows. All rows are stored, or "
        f"none; see `{path}` for what they replace."
    )
    if feed == "business_hours":
        description += f" Send {_WHOLE_WEEKS}."
    summary = f"Load {noun} as CSV"
    return _route(feed, f"{path}/csv", operation_id, summary, description, (_CSV,))


class LoadedFeed(Ingested, frozen=True, kw_only=True):
    """What became of a feed that was recognised."""

    feed: Annotated[Feed, Meta(description="Which feed the first line told.")]


@post(
    "/feeds",
    operation_id="postFeed",
    summary="Load a file of any feed",
    tags=["feeds"],
    status_code=200,
    opt={"scope": "write"},
    request_max_body_size=None,
    operation_class=_operation(None, _CSV),
    responses=documented(408, 413, 415, 422),
)
async def post_any_feed(
    request: Request[Any, Any, Any],
    work_pool: asyncpg.Pool,
    workers: Workers,
    settings: Settings,
    aside: Folder,
    refusals: Refusals,
) -> LoadedFeed:
    """Load CSV, plain, gzip or zstd, of the feed whose columns its first line names.

    The columns may stand in any order, and others beside them; `GET /feeds` lists those of each
    feed. All rows are stored, or none, as by the feed's own path. A first line that has the columns
    of no feed, or of several, is told by 422 of the type `/problems/feed-not-recognised`.
    """
    _media_type(request, (_CSV,))
    into = (work_pool, workers, aside, refusals)
    feed, done = await _load_csv(None, request, settings.feed_bytes, *into)
    return LoadedFeed(feed=feed, **msgspec.structs.asdict(done))


class FeedColumn(msgspec.Struct, frozen=True):
    """A column of a feed."""

    name: Annotated[str, Meta(description="What the header calls it.")]
    other_names: Annotated[list[str], Meta(description="What it may be called instead.")]


class FeedColumns(msgspec.Struct, frozen=True):
    """What a file of a feed has in its first line."""

    feed: Annotated[Feed, Meta(description="Which feed.")]
    path: Annotated[str, Meta(description="Where it is sent; `/feeds` takes each.")]
    columns: Annotated[
        list[FeedColumn],
        Meta(description="Its columns, which stand in any order, also beside others."),
    ]


class FeedsState(msgspec.Struct, frozen=True):
    """What the service knows of feeds."""

    feeds: Annotated[list[FeedColumns], Meta(description="Each feed.")]
    stores: Annotated[int, Meta(description="Stores that feeds have named.")]
    stores_without_business_hours: Annotated[
        int, Meta(description="Of those, stores without business hours: always open.")
    ]
    stores_without_timezone: Annotated[
        int,
        Meta(description="Of those, stores without a zone of their own: in `default_timezone`."),
    ]
    default_timezone: Annotated[
        str, Meta(description="The zone of stores without one of their own (IANA name).")
    ]
    polls: Annotated[int, Meta(description="Polls of all stores; see `polls_exact`.")]
    polls_exact: Annotated[
        bool,
        Meta(
            description="Whether the polls were counted; else they are many, and `polls` is an "
            "estimate of two digits."
        ),
    ]
    newest_poll: Annotated[
        datetime | None,
        Meta(description="The instant of the newest poll of all stores; null: there is none."),
    ]
    newest_poll_age: Annotated[
        int | None,
        Meta(
            description="Whole seconds since then; below 0 where it is dated in the future. Null: "
            "there is no poll."
        ),
    ]
    loads: Annotated[
        list[FeedLoad],
        Meta(
            description="Files that were loaded, the newest first, the last 20 of each feed. What "
            "was sent as JSON is not among them."
        ),
    ]
    refusals: Annotated[
        list[FeedRefusal],
        Meta(description="Files that were refused, the newest first, the last 20 of each feed."),
    ]


@get(
    "/feeds",
    operation_id="getFeeds",
    summary="What is known of the feeds",
    tags=["feeds"],
    opt={"scope": "read"},
    responses=documented(),
)
async def get_feeds(pool: asyncpg.Pool, refusals: Refusals) -> FeedsState:
    """Tell how much there is, how new it is, and what became of the files that were sent last."""
    await refusals.settle()
    known = await read_known(pool)
    newest = known.newest_poll
    return FeedsState(
        feeds=[
            FeedColumns(
                feed,
                link(_PATHS[feed]),
                [FeedColumn(name, [*accepted[1:]]) for name, accepted in columns.items()],
            )
            for feed, columns in COLUMNS.items()
        ],
        stores=known.stores,
        stores_without_business_hours=known.without_hours,
        stores_without_timezone=known.without_zone,
        default_timezone=DEFAULT_TIMEZONE,
        polls=known.polls,
        polls_exact=known.polls_exact,
        newest_poll=newest,
        newest_poll_age=None if newest is None else (known.now - newest) // timedelta(seconds=1),
        loads=await read_loads(pool),
        refusals=await read_refusals(pool),
    )


ROUTES = [
    _route(
        "polls",
        _PATHS["polls"],
        "postPolls",
        "Load polls",
        "Load up to 10,000 polls as JSON. The same path takes CSV, as `/polls/csv` does.\n\n"
        "All rows are stored, or none. A poll replaces an earlier one of the same store and "
        "millisecond, so sending the same polls again changes nothing.",
    ),
    _route(
        "business_hours",
        _PATHS["business_hours"],
        "postBusinessHours",
        "Load business hours",
        "Load up to 10,000 rows as JSON. The same path takes CSV, as `/business-hours/csv` does."
        "\n\nAll rows are stored, or none. The rows of a store replace all hours that it had: send "
        f"{_WHOLE_WEEKS}. `new`, `replaced` and `unchanged` count stores.",
    ),
    _route(
        "timezones",
        _PATHS["timezones"],
        "postTimezones",
        "Load time zones",
        "Load up to 10,000 rows as JSON. The same path takes CSV, as `/timezones/csv` does.\n\n"
        "All rows are stored, or none. `new`, `replaced` and `unchanged` count stores.",
    ),
    _csv_route("polls", "postPollsCsv", "polls"),
    _csv_route("business_hours", "postBusinessHoursCsv", "business hours"),
    _csv_route("timezones", "postTimezonesCsv", "time zones"),
    post_any_feed,
    get_feeds,
]


def _media_type(request: Request[Any, Any, Any], taken: Sequence[str]) -> str:
    """The type of the body, one of those that are taken."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if media_type not in taken:
        raise Problem(
            415,
            f"The body must be {' or '.join(taken)}, and Content-Type must say so.",
            headers={"Accept-Post": ", ".join(taken)},
        )
    if encoding not in ("gzip", "zstd", "identity"):
        raise Problem(
            415,
            "A feed must be plain, gzip or zstd, but Content-Encoding says something else.",
            headers={"Accept-Encoding": "gzip, zstd"},
        )
    return media_type


@contextmanager
def _at_most(most: int, feed: Feed | None, request: Request[Any, Any, Any]) -> Iterator[None]:
    """Refuse a body that is larger, at once where it is announced."""
    announced = request.headers.get("content-length", "")
    try:
        if announced.isdecimal() and int(announced) > most:
            raise TooLarge
        yield
    except TooLarge:
        problem = f"The body is larger than {most} bytes, decompressed: send it {_in_parts(feed)}."
        raise Problem(413, problem) from None


async def _load_csv(
    feed: Feed | None,
    request: Request[Any, Any, Any],
    most: int,
    work_pool: asyncpg.Pool,
    workers: Workers,
    aside: Folder,
    refusals: Refusals,
) -> tuple[Feed, Ingested]:
    """Load a file of a feed, or of the one that its header tells."""
    caller = caller_of(request)
    sender = Sender(caller.name if caller else None)
    with _at_most(most, feed, request):
        try:
            # Its first bytes tell how it is packed, not Content-Encoding: files are sent as they
            # are.
            text = text_of(FeedFile("", _body(request)), most)
            if feed is None:
                feed, text = await recognised(text)
            into = (work_pool, workers, feed, [text])
            return feed, await ingest_texts(*into, aside=aside, sender=sender)
        except FeedRefused as refused:
            refusals.note(feed, sender, refused)
            raise


async def _load_json(
    feed: Feed, request: Request[Any, Any, Any], work_pool: asyncpg.Pool
) -> Ingested:
    with _at_most(MOST_JSON_BYTES, feed, request):
        try:
            pieces = unpacked(_body(request), MOST_JSON_BYTES)
            text = b"".join([piece async for piece in pieces])
        except Unreadable as error:
            raise FeedRefused([Fault(1, "", "", str(error))], 1) from None
    async with _PARSING:
        rows = await asyncio.to_thread(_rows, feed, text, latest_poll())
    return await ingest_rows(work_pool, feed, rows)


def _in_parts(feed: Feed | None) -> str:
    if feed is None:
        return f"in parts, of business hours {_WHOLE_WEEKS}"
    return f"in parts, {_WHOLE_WEEKS}" if feed == "business_hours" else "in parts"


async def _body(request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
    """The body in pieces, as they come.

    Raises:
        Problem: the client went away, so nobody will see it
    """
    try:
        async for piece in request.stream():
            yield piece
    except InternalServerException:  # what Litestar raises then
        text = "The request body is incomplete: the connection ended early."
        raise Problem(400, text) from None


def _rows(feed: Feed, body: bytes, latest: int) -> FeedRows:
    """Rows of a body of JSON; the line of a fault is the row's position in the array, from 1."""
    try:
        given = msgspec.json.decode(body, type=list[msgspec.Raw])
    except msgspec.ValidationError:
        text = "The body is not a JSON array of rows."
        raise Problem(422, text, slug="invalid-request") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f"The body is not JSON: {error}.") from None
    if len(given) > MOST_JSON_ROWS:
        problem = f"An array can have at most {MOST_JSON_ROWS} rows: send it as CSV"
        raise Problem(413, f"{problem}, or {_in_parts(feed)}.")
    row_type = _ROWS[feed]
    read: list[list[Any]] = []
    positions: list[int] = []
    faults: list[Fault] = []
    for number, raw in enumerate(given, 1):
        try:
            row = msgspec.json.decode(raw, type=row_type)
            read.append([value for value in msgspec.structs.astuple(row) if value is not UNSET])
            positions.append(number)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            problem, column = problem_and_path(error)
            faults.append(Fault(number, column, "", with_members(problem, row_type)))
    columns = [[str(row[column]) for row in read] for column in range(len(COLUMNS[feed]))]
    rows = parse_columns(feed, columns, latest)
    faults += [replace(fault, line=positions[fault.line - 1]) for fault in rows.faults]
    if not faults:
        return rows
    faults.sort(key=lambda fault: fault.line)
    count = len(faults) - len(rows.faults) + rows.fault_count
    return FeedRows(faults=faults[:FAULTS_SHOWN], fault_count=count)
