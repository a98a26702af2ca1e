"""Feeds over HTTP: CSV of any size, streamed into the database, or some rows as JSON; their state.

A feed's own path takes both, and the path below it CSV alone; polls also come as NDJSON, a JSON
object on each line, of any size like CSV. In the OpenAPI document each path has one media type:
generated clients choose the type of a body badly where there is a choice. openapi-python-client
0.29 then makes a module that cannot be imported (its issue 1451), @hey-api/openapi-ts a function
whose types know JSON alone.

`POST /feeds` takes a file of any feed, which its header tells.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any, cast

import asyncpg
import msgspec
from litestar import Request, get, post
from litestar.exceptions import InternalServerException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Operation
from msgspec import Meta

from compute.feed_faults import Fault, FeedRefused
from compute.feed_header import COLUMNS, OPTIONAL, Feed, needed_columns
from compute.feed_rows import FeedRows
from compute.zones import DEFAULT_TIMEZONE
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
from service.feeds.json_rows import (
    MOST_JSON_ROWS,
    ROWS,
    NotAnArray,
    NotJson,
    TooManyRows,
    array_rows,
)
from service.feeds.poll_line import LineFull, PollLine
from service.feeds.text import Form, TooLarge, Unreadable, unpacked
from service.settings import Settings
from service.storage import Folder
from service.web.access import caller_of
from service.web.links import link
from service.web.problems import Problem, documented
from service.workers.pool import Workers

_CSV, _JSON, _NDJSON = "text/csv", "application/json", "application/x-ndjson"
#: No name is registered. That one is what Vector, Fluentd and Fluent Bit say; others say these.
_ALSO_NDJSON = ("application/jsonl", "application/ndjson")
#: Most bytes of a JSON body.
MOST_JSON_BYTES = 10_000_000
#: Where `service.api.quick_polls` leaves in a request's scope why it could not store its polls.
FAILED = "storewatch_failed"
#: Only one JSON body is parsed at a time: a bad one of 10 MB may take 360 MB of memory, as five
#: million values, and because of the interpreter's lock two at once would not be faster.
_PARSING = asyncio.Lock()

_PATHS: dict[Feed, str] = {
    "polls": "/polls",
    "business_hours": "/business-hours",
    "timezones": "/timezones",
    "special_hours": "/special-hours",
    "exclusions": "/exclusions",
    "stores": "/stores",
}

_CSV_EXAMPLES: dict[Feed, str] = {
    "polls": "store_id,status,timestamp_utc\n"
    "8419537941919820732,active,2023-01-22 12:09:39.388884 UTC\n",
    "business_hours": "store_id,day,start_time_local,end_time_local\n"
    "8419537941919820732,0,09:00:00,17:30:00\n",
    "timezones": "store_id,timezone\n8419537941919820732,America/Chicago\n",
    "special_hours": "store_id,date,start_time_local,end_time_local,closed,reason\n"
    "8419537941919820732,2024-12-24,09:00,14:00,,Christmas Eve\n"
    "8419537941919820732,2024-12-25,,,true,Christmas\n",
    "exclusions": "store_id,from,to,reason\n"
    "*,2024-03-01T10:00:00Z,2024-03-01T10:30:00Z,the poller was down\n",
    "stores": "store_id,name,region\n8419537941919820732,Oak Street,west\n",
}

#: Names of the rows' schemas, which are components of the OpenAPI document.
ROW_SCHEMAS = tuple(row.__name__ for row in ROWS.values())
_NDJSON_ROW = (
    '{"store_id": "8419537941919820732", "status": "active", '
    '"timestamp_utc": "2023-01-22T12:09:39.388Z"}\n'
)
_WHOLE_WEEKS = "all rows of a store in one request"


def _operation(feed: Feed | None, media_type: str) -> type[Operation]:
    """OpenAPI's description of a feed's body, which Litestar cannot see: handlers stream it."""

    class FeedOperation(Operation):
        def to_schema(self) -> dict[str, Any]:
            if media_type == _JSON and feed is not None:
                items = {"$ref": f"#/components/schemas/{ROWS[feed].__name__}"}
                schema = {"type": "array", "maxItems": MOST_JSON_ROWS, "items": items}
                content: dict[str, Any] = {_JSON: {"schema": schema}}
            elif media_type == _NDJSON:
                text = (
                    "On each line a JSON object such as a row of `POST /polls`, in UTF-8, plain, "
                    "gzip or zstd. Further members are ignored, as columns of CSV are, and so are "
                    "empty lines."
                )
                schema = {"type": "string", "format": "binary", "description": text}
                content = {_NDJSON: {"schema": schema, "example": _NDJSON_ROW}}
            else:
                text = "CSV in UTF-8, plain, gzip or zstd, with a header" + (
                    f": {_columns(feed)}." if feed else " that tells which feed it is."
                )
                schema = {"type": "string", "format": "binary", "description": text}
                content = {_CSV: {"schema": schema, "example": _CSV_EXAMPLES[feed or "polls"]}}
            return super().to_schema() | {"requestBody": {"required": True, "content": content}}

    return FeedOperation


def _columns(feed: Feed) -> str:
    """The columns of a feed, in words."""
    more = [column for column in COLUMNS[feed] if column in OPTIONAL[feed]]
    told = ",".join(needed_columns(feed))
    if more:
        told += f"; optionally {', '.join(more)}"
    return f"{told}; each further one is a tag" if feed == "stores" else told


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
        poll_line: PollLine,
    ) -> Ingested:
        failed = cast(BaseException | None, request.scope.get(FAILED))
        if failed is not None:
            with _line_full():
                raise failed
        media_type = _media_type(request, taken)
        if media_type == _JSON:
            return await _load_json(feed, request, work_pool, poll_line)
        form: Form = "csv" if media_type == _CSV else "ndjson"
        into = (work_pool, poll_line, workers, aside, refusals)
        return (await _load_text(feed, form, request, settings.feed_bytes, *into))[1]

    return post_feed


def _csv_route(feed: Feed, operation_id: str, noun: str) -> HTTPRouteHandler:
    path = _PATHS[feed]
    # Below /stores there are stores, one of which may be called csv.
    own_path = "/feeds/stores/csv" if feed == "stores" else f"{path}/csv"
    description = (
        f"Load {noun} as CSV, plain, gzip or zstd, of any number of rows. All rows are stored, or "
        f"none; see `{path}` for what they replace."
    )
    if feed == "business_hours":
        description += f" Send {_WHOLE_WEEKS}."
    if feed == "stores":
        description += " Every column besides `store_id`, `name` and `target` is a tag."
    if feed == "exclusions":
        description += " The `store_id` is that of one store, or `*`: all stores."
    summary = f"Load {noun} as CSV"
    return _route(feed, own_path, operation_id, summary, description, (_CSV,))


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
    poll_line: PollLine,
) -> LoadedFeed:
    """Load CSV, plain, gzip or zstd, of the feed whose columns its first line names.

    The columns may stand in any order, and others beside them; `GET /feeds` lists those of each
    feed. All rows are stored, or none, as by the feed's own path. A first line that has the columns
    of no feed, or of several, is told by 422 of the type `/problems/feed-not-recognised`.
    """
    _media_type(request, (_CSV,))
    into = (work_pool, poll_line, workers, aside, refusals)
    feed, done = await _load_text(None, "csv", request, settings.feed_bytes, *into)
    return LoadedFeed(feed=feed, **msgspec.structs.asdict(done))


class FeedColumn(msgspec.Struct, frozen=True):
    """A column of a feed."""

    name: Annotated[str, Meta(description="What the header calls it.")]
    other_names: Annotated[list[str], Meta(description="What it may be called instead.")]
    optional: Annotated[bool, Meta(description="Whether a file need not have it.")]


class FeedColumns(msgspec.Struct, frozen=True):
    """What a file of a feed has in its first line."""

    feed: Annotated[Feed, Meta(description="Which feed.")]
    path: Annotated[str, Meta(description="Where it is sent; `/feeds` takes each.")]
    columns: Annotated[
        list[FeedColumn],
        Meta(
            description="Its columns, which stand in any order, also beside others. In a file of "
            "stores, each of these others is a tag."
        ),
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
            "was sent as JSON or NDJSON is not among them."
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
                [
                    FeedColumn(name, [*accepted[1:]], name in OPTIONAL[feed])
                    for name, accepted in columns.items()
                ],
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
        "Load up to 10,000 polls as JSON. The same path takes CSV and NDJSON, as `/polls/csv` and "
        "`/polls/ndjson` do.\n\n"
        "All rows are stored, or none. A poll replaces an earlier one of the same store and "
        "millisecond, so sending the same polls again changes nothing. Polls that arrive together "
        "are stored together, each request as if it came alone.",
        (_CSV, _NDJSON, _JSON),
    ),
    _route(
        "business_hours",
        _PATHS["business_hours"],
        "postBusinessHours",
        "Load business hours",
        "Load up to 10,000 rows as JSON. The same path takes CSV, as `/business-hours/csv` does."
        "\n\nAll rows are stored, or none. The rows of a store replace all hours that it had: send "
        f"{_WHOLE_WEEKS}. If they have `valid_from`, they are weeks that are in force from a date "
        "on, and replace only the weeks of the same stores and dates. `new`, `replaced` and "
        "`unchanged` count stores, `removed` weeks with a date.",
    ),
    _route(
        "special_hours",
        _PATHS["special_hours"],
        "postSpecialHours",
        "Load special hours",
        "Load up to 10,000 rows as JSON. The same path takes CSV, as `/special-hours/csv` does."
        "\n\nAll rows are stored, or none. The rows of a store and date replace all special hours "
        "of these two: send all rows of a date in one request. `new`, `replaced` and `unchanged` "
        "count stores.",
    ),
    _route(
        "exclusions",
        _PATHS["exclusions"],
        "postExclusions",
        "Load exclusions",
        "Load up to 10,000 exclusions as JSON: of stores by their ids or tags, or of all. The same "
        "path takes CSV, as `/exclusions/csv` does."
        "\n\nAll rows are stored, or none. One of the same stores, begin and end as another "
        "replaces its reason, so sending the same exclusions again changes nothing. `new`, "
        "`replaced` and `unchanged` count exclusions.",
    ),
    _route(
        "stores",
        _PATHS["stores"],
        "postStores",
        "Load names, tags and targets of stores",
        "Load up to 10,000 rows as JSON. The same path takes CSV, as `/feeds/stores/csv` does."
        "\n\nAll rows are stored, or none. What a row leaves out stays as it is; what is empty or "
        "null is removed, and `removed` counts that. `new`, `replaced` and `unchanged` count "
        "stores.",
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
    _route(
        "polls",
        "/polls/ndjson",
        "postPollsNdjson",
        "Load polls as NDJSON",
        "Load polls as NDJSON, a JSON object on each line, plain, gzip or zstd, of any number, as "
        "programs that collect logs send them. `application/jsonl` and `application/ndjson` are "
        "taken as well. All rows are stored, or none; see `/polls` for what they replace.",
        (_NDJSON,),
    ),
    _csv_route("business_hours", "postBusinessHoursCsv", "business hours"),
    _csv_route("timezones", "postTimezonesCsv", "time zones"),
    _csv_route("special_hours", "postSpecialHoursCsv", "special hours"),
    _csv_route("exclusions", "postExclusionsCsv", "exclusions"),
    _csv_route("stores", "postStoresCsv", "names, tags and targets of stores"),
    post_any_feed,
    get_feeds,
]


def _media_type(request: Request[Any, Any, Any], taken: Sequence[str]) -> str:
    """The type of the body, one of those that are taken."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in _ALSO_NDJSON:
        media_type = _NDJSON
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


@contextmanager
def _line_full() -> Iterator[None]:
    """Refuse polls for which there is no room in line."""
    try:
        yield
    except LineFull:
        raise Problem(
            503,
            "So many polls wait to be stored that no more are taken now. Send them again soon.",
            slug="no-room",
            headers={"Retry-After": "1"},
        ) from None


async def _load_text(
    feed: Feed | None,
    form: Form,
    request: Request[Any, Any, Any],
    most: int,
    work_pool: asyncpg.Pool,
    poll_line: PollLine,
    workers: Workers,
    aside: Folder,
    refusals: Refusals,
) -> tuple[Feed, Ingested]:
    """Load a file of a feed, or of the one that its header tells.

    NDJSON is not noted, like JSON: programs that collect lines send it every few seconds.
    """
    caller = caller_of(request)
    sender = Sender(caller.name if caller else None) if form == "csv" else None
    with _at_most(most, feed, request):
        try:
            # Its first bytes tell how it is packed, not Content-Encoding: files are sent as they
            # are.
            text = text_of(FeedFile("", _body(request), form), most)
            if feed is None:
                feed, text = await recognised(text)
            with _line_full():
                done = await ingest_texts(
                    work_pool,
                    workers,
                    feed,
                    [text],
                    aside=aside,
                    sender=sender,
                    poll_line=poll_line,
                )
            return feed, done
        except FeedRefused as refused:
            if sender is not None:
                refusals.note(feed, sender, refused)
            raise


async def _load_json(
    feed: Feed, request: Request[Any, Any, Any], work_pool: asyncpg.Pool, poll_line: PollLine
) -> Ingested:
    with _at_most(MOST_JSON_BYTES, feed, request):
        try:
            pieces = unpacked(_body(request), MOST_JSON_BYTES)
            text = b"".join([piece async for piece in pieces])
        except Unreadable as error:
            raise FeedRefused([Fault(1, "", "", str(error))], 1) from None
    async with _PARSING:
        rows = await asyncio.to_thread(json_rows, feed, text)
    with _line_full():
        return await ingest_rows(work_pool, poll_line, feed, rows)


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


def json_rows(feed: Feed, body: bytes) -> FeedRows:
    """Rows of a body of JSON; the line of a fault is the row's position in the array, from 1."""
    try:
        return array_rows(feed, body, latest_poll())
    except NotAnArray:
        text = "The body is not a JSON array of rows."
        raise Problem(422, text, slug="invalid-request") from None
    except NotJson as error:
        raise Problem(400, f"The body is not JSON: {error}.") from None
    except TooManyRows:
        problem = f"An array can have at most {MOST_JSON_ROWS} rows: send it as CSV"
        raise Problem(413, f"{problem}, or {_in_parts(feed)}.") from None
