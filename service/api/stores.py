"""Stores over HTTP: what is known of each, and what is set for one.

A store's id is any text, so in a path it is percent-encoded as a whole, slashes too (`%2F`).
"""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import unquote

import asyncpg
import msgspec
from litestar import Request, Response, get, put
from litestar.params import Body, Parameter
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Meta

from compute.business_hours import unpack_hours
from compute.feed_rows import (
    LONGEST_STORE_ID,
    Feed,
    FeedRefused,
    parse_columns,
    store_id_problem,
    zone_names,
)
from compute.zones import DEFAULT_TIMEZONE
from service.api.feeds import END_CLOCK, START_CLOCK
from service.api.pages import NEXT_LINK, PAGE_SIZE, Cursor, Limit, from_cursor, next_link, to_cursor
from service.api.problems import Problem, ProblemError, documented, refused
from service.api.strict import check_body
from service.feeds import forget, ingest_rows
from service.store import (
    EPOCH,
    KnownStore,
    list_stores,
    read_store,
)

#: The longest window of one request: a leap year.
MOST_HOURS = 1000
#: What requests about one store call a feed's columns.
_FIELD_OF_COLUMN = {
    "start_time_local": "start",
    "end_time_local": "end",
    "timezone_str": "timezone",
}
StoreId: TypeAlias = Annotated[str, Meta(description="The id that feeds give the store.")]
Timezone: TypeAlias = Annotated[
    str | None, Meta(description="IANA name of its time zone; null: none was given.")
]
EffectiveTimezone: TypeAlias = Annotated[
    str, Meta(description=f"The zone that it is computed in: its own, else {DEFAULT_TIMEZONE}.")
]


class StoreSummary(msgspec.Struct, frozen=True):
    """A store in a list."""

    store_id: StoreId
    timezone: Timezone
    effective_timezone: EffectiveTimezone


class StorePage(msgspec.Struct, frozen=True):
    """Some stores, in byte order of their ids."""

    items: list[StoreSummary]
    next_cursor: Annotated[
        str | None, Meta(description="`cursor` of the next page; null on the last.")
    ]


class HoursRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Business hours on one day of every week, in the store's local time.

    `end` at or before `start` lies on the next day; 23:59 or later means midnight.
    """

    weekday: Annotated[int, Meta(ge=0, le=6, description="0 is Monday, 6 is Sunday.")]
    start: Annotated[
        str,
        Meta(
            description="Local time such as 09:00 or 09:00:00.",
            examples=["09:00:00"],
            extra_json_schema=START_CLOCK,
        ),
    ]
    end: Annotated[
        str,
        Meta(
            description="Local time, 24:00:00 at the most.",
            examples=["17:30:00"],
            extra_json_schema=END_CLOCK,
        ),
    ]


class Poll(msgspec.Struct, frozen=True):
    """What a store answered when it was asked."""

    instant: datetime
    status: Literal["active", "inactive"]


class StoreDetails(msgspec.Struct, frozen=True):
    """What is known of a store."""

    store_id: StoreId
    timezone: Timezone
    effective_timezone: EffectiveTimezone
    business_hours: Annotated[
        list[HoursRow], Meta(description="Its week; without a row it is always open.")
    ]
    newest_poll: Poll | None


class TimezoneChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time zone to give a store."""

    timezone: Annotated[
        str | None,
        Meta(
            description="IANA name; null takes the one that was given away.",
            examples=["America/New_York"],
        ),
    ]


EncodedId: TypeAlias = Annotated[
    str,
    Parameter(
        description="The store's id, percent-encoded as a whole: a slash in it is `%2F`.",
        # Of the id itself; what handlers get is longer.
        schema_extra={"min_length": 1, "max_length": LONGEST_STORE_ID},
    ),
]


@get(
    "/stores",
    operation_id="listStores",
    summary="List stores",
    tags=["stores"],
    opt={"scope": "read"},
    responses=documented(422),
    response_headers=[NEXT_LINK],
)
async def get_stores(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    limit: Limit = PAGE_SIZE,
    cursor: Cursor = None,
    prefix: Annotated[
        str, Parameter(max_length=255, description="Only stores whose id begins with this.")
    ] = "",
    timezone: Annotated[
        str | None,
        Parameter(
            description="Only stores that are computed in this time zone (IANA name); those "
            f"without one of their own are in {DEFAULT_TIMEZONE}."
        ),
    ] = None,
) -> Response[StorePage]:
    """List stores, in byte order of their ids."""
    if "\0" in prefix:
        raise refused("prefix", "no store id holds a NUL character")
    if timezone is not None and timezone not in zone_names():
        raise refused("timezone", "is not a name of the tz database, such as America/Chicago")
    after = from_cursor(cursor) or ""
    found = await list_stores(pool, limit + 1, after, prefix, timezone)
    page = [
        StoreSummary(store.store_id, store.timezone, store.timezone or DEFAULT_TIMEZONE)
        for store in found[:limit]
    ]
    next_cursor = to_cursor(page[-1].store_id) if len(found) > limit else None
    return Response(StorePage(page, next_cursor), headers=next_link(request, next_cursor))


@get(
    "/stores/{store_id:str}",
    operation_id="getStore",
    summary="What is known of a store",
    tags=["stores"],
    opt={"scope": "read"},
    responses=documented(404, 422),
)
async def get_store(pool: asyncpg.Pool, store_id: EncodedId) -> StoreDetails:
    """Tell a store's time zone, its week of business hours and its newest poll."""
    return _details(await known_store(pool, decoded_id(store_id)))


@put(
    "/stores/{store_id:str}/business-hours",
    operation_id="putStoreBusinessHours",
    summary="Set a store's business hours",
    tags=["stores"],
    opt={"scope": "write"},
    responses=documented(408, 413, 422),
)
async def put_business_hours(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    store_id: EncodedId,
    data: Annotated[
        list[HoursRow], Body(max_items=MOST_HOURS, description="The whole week of the store.")
    ],
) -> StoreDetails:
    """Give a store its week of business hours, instead of the one that it had.

    An empty list takes its hours away: it is always open then. A store that there is not yet is
    made.
    """
    await check_body(request, list[HoursRow])
    known_id = decoded_id(store_id)
    if data:
        columns = [
            [known_id] * len(data),
            [str(row.weekday) for row in data],
            [row.start for row in data],
            [row.end for row in data],
        ]
        await _change(pool, "business_hours", columns)
    else:
        await forget(pool, "business_hours", known_id)
    return _details(await known_store(pool, known_id))


@put(
    "/stores/{store_id:str}/timezone",
    operation_id="putStoreTimezone",
    summary="Set a store's time zone",
    tags=["stores"],
    opt={"scope": "write"},
    responses=documented(408, 413, 422),
)
async def put_timezone(
    request: Request[Any, Any, Any], pool: asyncpg.Pool, store_id: EncodedId, data: TimezoneChange
) -> StoreDetails:
    """Give a store its time zone, instead of the one that it had.

    A store that there is not yet is made.
    """
    await check_body(request, TimezoneChange)
    known_id = decoded_id(store_id)
    if data.timezone is None:
        await forget(pool, "timezones", known_id)
    else:
        await _change(pool, "timezones", [[known_id], [data.timezone]])
    return _details(await known_store(pool, known_id))


ROUTES = [
    get_stores,
    get_store,
    put_business_hours,
    put_timezone,
]


def keep_ids_encoded(app: ASGIApp) -> ASGIApp:
    """Around Litestar: paths of stores reach it as they were sent.

    Litestar finds the route by the decoded path, in which the slash of an id looks like one of the
    path. Handlers decode the id themselves.
    """

    async def keep(scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path", b"")
        if scope["path"].startswith("/stores/") and raw.isascii():
            scope["path"] = raw.decode("ascii")
        await app(scope, receive, send)

    return keep


def decoded_id(encoded: str) -> str:
    """The store's id in a path."""
    try:
        store_id = unquote(encoded, errors="strict")
        problem = store_id_problem(store_id)
    except UnicodeDecodeError:
        problem = "is not percent-encoded UTF-8"
    if problem:
        raise refused("store_id", problem, source="path")
    return store_id


async def known_store(pool: asyncpg.Pool, store_id: str) -> KnownStore:
    """The store; Problem 404 where there is none."""
    store = await read_store(pool, store_id)
    if store is None:
        raise Problem(404, "No feed has named this store.", slug="store-not-found")
    return store


async def _change(pool: asyncpg.Pool, feed: Feed, columns: list[list[str]]) -> None:
    """Load what a request says of one store, as a feed would."""
    try:
        await ingest_rows(pool, feed, "the body", parse_columns(feed, columns))
    except FeedRefused as refused:
        errors = [
            ProblemError(
                problem=fault.problem,
                source="body",
                field=_FIELD_OF_COLUMN.get(fault.column, fault.column),
                line=fault.line,
                value=fault.value,
            )
            for fault in refused.faults
        ]
        raise Problem(
            422,
            "; ".join(f"row {one.line}, {one.field}: {one.problem}" for one in errors[:3]),
            slug="invalid-request",
            errors=errors,
            count=refused.count,
        ) from None


def _details(store: KnownStore) -> StoreDetails:
    weekday, start, end = unpack_hours(store.business_hours)
    return StoreDetails(
        store_id=store.store_id,
        timezone=store.timezone,
        effective_timezone=store.timezone or DEFAULT_TIMEZONE,
        business_hours=[
            HoursRow(*row)
            for row in zip(
                weekday.tolist(),
                map(_clock, start.tolist()),
                map(_clock, end.tolist()),
                strict=True,
            )
        ],
        newest_poll=None if store.newest_poll is None else poll_of(store.newest_poll),
    )


def _clock(milliseconds: int) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{clock}.{fraction:03}" if fraction else clock


def poll_of(word: int) -> Poll:
    """A poll of `milliseconds since 1970-01-01 UTC << 1 | active`."""
    return Poll(instant_of(word >> 1), "active" if word & 1 else "inactive")


def instant_of(milliseconds: int) -> datetime:
    """An instant of milliseconds since 1970-01-01 UTC."""
    return EPOCH + timedelta(milliseconds=milliseconds)
