"""Feeds over HTTP: CSV of any size, streamed into the store, or a small batch as JSON.

A feed's own path takes both, and the path below it CSV alone. In the OpenAPI document each has one
media type: generated clients choose the type of a body badly where there is a choice.
openapi-python-client 0.29 then makes a module that cannot be imported (its issue 1451),
@hey-api/openapi-ts a function whose types know JSON alone.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeAlias

import asyncpg
import msgspec
from litestar import Request, post
from litestar.exceptions import InternalServerException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Operation
from msgspec import Meta

from compute.feed_rows import (
    COLUMNS,
    FAULTS_SHOWN,
    LONGEST_STORE_ID,
    Fault,
    Feed,
    FeedRows,
    parse_columns,
)
from compute.workers import Workers
from service.api.problems import Problem, documented
from service.feeds import Ingested, ingest, ingest_rows, unpacked
from service.settings import Settings
from service.storage import Folder

_CSV, _JSON = "text/csv", "application/json"
#: Rows, and bytes, of a body of JSON.
MOST_JSON_ROWS = 10_000
MOST_JSON_BYTES = 10_000_000

# What these say of values is for readers and generated clients; it is `parse_columns` that checks,
# for JSON as for CSV, and tells of every row what is wrong.
StoreId: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"minLength": 1, "maxLength": LONGEST_STORE_ID})
]
_TIME_OF_DAY = "([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?"
START_CLOCK = {"pattern": f"^{_TIME_OF_DAY}$"}
END_CLOCK = {"pattern": f"^({_TIME_OF_DAY}|24:00(:00)?)$"}


class PollRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A poll: what a store answered when it was asked."""

    store_id: StoreId
    status: Annotated[str, Meta(extra_json_schema={"enum": ["active", "inactive"]})]
    timestamp_utc: Annotated[
        str,
        Meta(
            description="RFC 3339, or as feeds write it: 2023-01-22 12:09:39.388884 UTC. Without "
            "an offset it is UTC.",
            extra_json_schema={"format": "date-time"},
        ),
    ]


class BusinessHoursRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Business hours of a store on one day of every week, in its local time.

    An end at or before the start lies on the next day; 23:59 or later means midnight.
    """

    store_id: StoreId
    day: Annotated[
        int,
        Meta(
            description="0 is Monday, 6 is Sunday.",
            extra_json_schema={"minimum": 0, "maximum": 6},
        ),
    ]
    start_time_local: Annotated[str, Meta(extra_json_schema=START_CLOCK, examples=["09:00:00"])]
    end_time_local: Annotated[str, Meta(extra_json_schema=END_CLOCK, examples=["17:30:00"])]


class TimezoneRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time zone of a store."""

    store_id: StoreId
    timezone_str: Annotated[str, Meta(description="Its IANA name.", examples=["America/Chicago"])]


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


def _operation(feed: Feed, media_type: str) -> type[Operation]:
    """What OpenAPI says of a feed's body, which Litestar does not see: the handler streams it."""

    class FeedOperation(Operation):
        def to_schema(self) -> dict[str, Any]:
            row = _ROWS[feed]
            if media_type == _JSON:
                items = {"$ref": f"#/components/schemas/{row.__name__}"}
                schema = {"type": "array", "maxItems": MOST_JSON_ROWS, "items": items}
                content: dict[str, Any] = {_JSON: {"schema": schema}}
            else:
                header = ",".join(row.__struct_fields__)
                text = f"CSV in UTF-8, plain or gzip, with a header: {header}."
                schema = {"type": "string", "format": "binary", "description": text}
                content = {_CSV: {"schema": schema, "example": f"{header}\n{_CSV_ROWS[feed]}\n"}}
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
        responses=documented(413, 415, 422),
    )
    async def post_feed(
        request: Request[Any, Any, Any],
        pool: asyncpg.Pool,
        workers: Workers,
        settings: Settings,
        aside: Folder,
    ) -> Ingested:
        return await _load(feed, request, pool, workers, settings, aside, taken)

    return post_feed


def _csv_route(feed: Feed, path: str, operation_id: str, noun: str) -> HTTPRouteHandler:
    description = (
        f"Load {noun}: CSV, plain or gzip, of any number of rows. All are stored, or none; see "
        f"`{path.removesuffix('/csv')}` for what they replace."
    )
    return _route(feed, path, operation_id, f"Load {noun} of CSV", description, (_CSV,))


ROUTES = [
    _route(
        "polls",
        "/polls",
        "postPolls",
        "Load polls",
        "Load up to 10,000 polls of JSON. The same path takes CSV, as `/polls/csv` does.\n\n"
        "All rows are stored, or none. A poll of a store and a millisecond that are known replaces "
        "the one that was, so sending the same again changes nothing.",
    ),
    _route(
        "business_hours",
        "/business-hours",
        "postBusinessHours",
        "Load business hours",
        "Load up to 10,000 rows of JSON. The same path takes CSV, as `/business-hours/csv` does."
        "\n\nAll rows are stored, or none. A store that they name gets these hours instead of all "
        "that it had. `new`, `replaced` and `unchanged` count stores.",
    ),
    _route(
        "timezones",
        "/timezones",
        "postTimezones",
        "Load time zones",
        "Load up to 10,000 rows of JSON. The same path takes CSV, as `/timezones/csv` does.\n\n"
        "All rows are stored, or none. `new`, `replaced` and `unchanged` count stores.",
    ),
    _csv_route("polls", "/polls/csv", "postPollsCsv", "polls"),
    _csv_route("business_hours", "/business-hours/csv", "postBusinessHoursCsv", "business hours"),
    _csv_route("timezones", "/timezones/csv", "postTimezonesCsv", "time zones"),
]


async def _load(
    feed: Feed,
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    workers: Workers,
    settings: Settings,
    aside: Folder,
    taken: Sequence[str],
) -> Ingested:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if media_type not in taken:
        raise Problem(
            415,
            f"This takes {' or '.join(taken)}: say so in Content-Type.",
            headers={"Accept-Post": ", ".join(taken)},
        )
    if encoding not in ("gzip", "identity"):
        raise Problem(
            415,
            "A feed is plain or gzip: Content-Encoding says something else.",
            headers={"Accept-Encoding": "gzip"},
        )
    most = settings.feed_bytes if media_type == _CSV else MOST_JSON_BYTES
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(most)
    # Told by its first bytes, not by Content-Encoding: files that are gzip are sent as they are.
    text = _up_to(most, unpacked(_up_to(most, _body(request))))
    if media_type == _CSV:
        return await ingest(pool, workers, feed, "the body", text, aside=aside)
    rows = await asyncio.to_thread(_rows, feed, b"".join([piece async for piece in text]))
    return await ingest_rows(pool, feed, "the body", rows)


async def _body(request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
    """The body in pieces, as they come.

    Raises:
        Problem: the client went away, so there is nobody to tell
    """
    try:
        async for piece in request.stream():
            yield piece
    except InternalServerException:  # what Litestar raises then
        raise Problem(400, "The body ends before its end.") from None


async def _up_to(most: int, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > most:
            raise _too_large(most)
        yield piece


def _too_large(most: int) -> Problem:
    return Problem(413, f"The body is larger than {most} bytes, unpacked: send it in parts.")


def _rows(feed: Feed, body: bytes) -> FeedRows:
    """Rows of a body of JSON; the line of a fault is the row's place in the array, from 1."""
    try:
        given = msgspec.json.decode(body, type=list[msgspec.Raw])
    except msgspec.ValidationError:
        raise Problem(422, "The body is not a JSON array of rows.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f"The body is not JSON: {error}.") from None
    if len(given) > MOST_JSON_ROWS:
        raise Problem(
            413, f"An array has {MOST_JSON_ROWS} rows at the most: send it in parts, or as CSV."
        )
    row_type = _ROWS[feed]
    read: list[tuple[Any, ...]] = []
    place: list[int] = []
    faults: list[Fault] = []
    for number, raw in enumerate(given, 1):
        try:
            read.append(msgspec.structs.astuple(msgspec.json.decode(raw, type=row_type)))
            place.append(number)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            problem, _, column = str(error).partition(" - at `$")
            faults.append(Fault(number, column.strip(".`"), "", problem))
    columns = [[str(row[column]) for row in read] for column in range(len(COLUMNS[feed]))]
    rows = parse_columns(feed, columns)
    faults += [replace(fault, line=place[fault.line - 1]) for fault in rows.faults]
    if not faults:
        return rows
    faults.sort(key=lambda fault: fault.line)
    count = len(faults) - len(rows.faults) + rows.fault_count
    return FeedRows(faults=faults[:FAULTS_SHOWN], fault_count=count)
