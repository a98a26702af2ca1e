"""Stores over HTTP: what is known of each, and setting the hours and the time zone of one.

A store's id is any text, so in a path the whole id is percent-encoded, slashes too (`%2F`).
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, cast
from urllib.parse import unquote

import asyncpg
import msgspec
from litestar import Request, Response, get, put
from litestar.params import Body, Parameter
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Meta

from compute.axis import DAY_MS
from compute.business_hours import counted_ends, unpack_hours
from compute.feed_faults import FeedRefused
from compute.feed_rows import parse_columns
from compute.feed_values import LONGEST_STORE_ID, NUL_IN_STORE_ID, store_id_problem, zone_problem
from compute.instants import instant_of
from compute.zones import DEFAULT_TIMEZONE
from service.feeds.ingest import set_of_store
from service.feeds.json_rows import EndTime, PollStatus, StartTime
from service.stores.known import KnownStore, list_stores, read_store
from service.web.conditions import (
    ETAG,
    NOT_MODIFIED,
    IfChanged,
    IfMatch,
    IfNoneMatch,
    check_preconditions,
    is_known,
    tag_of,
)
from service.web.pages import NEXT_LINK, PAGE_SIZE, Cursor, Limit, from_cursor, next_link, to_cursor
from service.web.problems import Problem, ProblemError, documented, refused
from service.web.strict import check_body

#: How many rows of business hours one PUT may have. Feeds may give a store more.
MOST_HOURS = 1000
Shown = TypeVar("Shown")
StoreId: TypeAlias = Annotated[str, Meta(description="The id that feeds give the store.")]
Timezone: TypeAlias = Annotated[
    str | None, Meta(description="IANA name of its own time zone; null: it has none.")
]
EffectiveTimezone: TypeAlias = Annotated[
    str,
    Meta(description=f"The time zone it is computed in: its own, otherwise {DEFAULT_TIMEZONE}."),
]


class StoreSummary(msgspec.Struct, frozen=True):
    """A store in a list."""

    store_id: StoreId
    timezone: Timezone
    effective_timezone: EffectiveTimezone


class StorePage(msgspec.Struct, frozen=True):
    """Some stores, in byte order of their ids."""

    items: Annotated[list[StoreSummary], Meta(description="The stores of this page.")]
    next_cursor: Annotated[
        str | None, Meta(description="`cursor` of the next page; null on the last page.")
    ]


class HoursRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Business hours on one day of every week, in the store's local time.

    An end at or before the start lies on the next day; 23:59 or later means midnight.
    """

    day: Annotated[int, Meta(ge=0, le=6, description="0 is Monday, 6 is Sunday.")]
    start_time_local: StartTime
    end_time_local: EndTime


class Poll(msgspec.Struct, frozen=True):
    """What a store answered when it was asked."""

    timestamp_utc: Annotated[datetime, Meta(description="When it was asked.")]
    status: Annotated[PollStatus, Meta(description="What it answered.")]


class CountedHours(msgspec.Struct, frozen=True, kw_only=True):
    """Business hours on one day of every week as they count, in the store's local time."""

    day: Annotated[int, Meta(ge=0, le=6, description="0 is Monday, 6 is Sunday.")]
    start_time_local: Annotated[str, Meta(description="When they start.")]
    end_time_local: Annotated[str, Meta(description="When they end; midnight is `24:00:00`.")]
    ends_on_next_day: Annotated[bool, Meta(description="Whether they end on the day after.")]


class StoreDetails(msgspec.Struct, frozen=True):
    """What is known of a store."""

    store_id: StoreId
    timezone: Timezone
    effective_timezone: EffectiveTimezone
    business_hours: Annotated[
        list[HoursRow], Meta(description="Its week; if it has no rows, it is always open.")
    ]
    counted_hours: Annotated[
        list[CountedHours], Meta(description="The same rows, each as it counts.")
    ]
    newest_poll: Annotated[
        Poll | None, Meta(description="Its newest poll; null: it was never polled.")
    ]


class StoreTimezone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time zone of a store."""

    timezone: Annotated[
        str | None,
        Meta(
            description=f"IANA name; null: it has none, and is in {DEFAULT_TIMEZONE}.",
            examples=["America/New_York"],
        ),
    ]


EncodedId: TypeAlias = Annotated[
    str,
    Parameter(
        description="The store's id, all of it percent-encoded: a slash in it is `%2F`.",
        # These are bounds of the id itself. The encoded text that handlers get may be longer.
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
        str,
        Parameter(
            max_length=LONGEST_STORE_ID, description="Only stores whose id begins with this."
        ),
    ] = "",
    timezone: Annotated[
        str | None,
        Parameter(
            description="Only stores that are computed in this time zone (IANA name); stores "
            f"without a time zone are in {DEFAULT_TIMEZONE}."
        ),
    ] = None,
) -> Response[StorePage]:
    """List stores, in byte order of their ids."""
    if "\0" in prefix:
        raise refused("prefix", NUL_IN_STORE_ID)
    if timezone is not None and (problem := zone_problem(timezone)):
        raise refused("timezone", problem)
    after = from_cursor(cursor, request) or ""
    found = await list_stores(pool, limit + 1, after, prefix, timezone)
    page = [
        StoreSummary(store.store_id, store.timezone, store.timezone or DEFAULT_TIMEZONE)
        for store in found[:limit]
    ]
    next_cursor = to_cursor(page[-1].store_id, request) if len(found) > limit else None
    return Response(StorePage(page, next_cursor), headers=next_link(request, next_cursor))


@get(
    "/stores/{store_id:str}",
    operation_id="getStore",
    summary="What is known of a store",
    tags=["stores"],
    opt={"scope": "read"},
    responses=NOT_MODIFIED | documented(404, 422),
    response_headers=[ETAG],
)
async def get_store(
    pool: asyncpg.Pool, store_id: EncodedId, if_none_match: IfChanged = None
) -> Response[StoreDetails]:
    """Give a store's time zone, its week of business hours and its newest poll."""
    return _tagged(_details(await known_store(pool, decoded_id(store_id))), if_none_match)


@get(
    "/stores/{store_id:str}/business-hours",
    operation_id="getStoreBusinessHours",
    summary="A store's business hours",
    tags=["stores"],
    opt={"scope": "read"},
    responses=NOT_MODIFIED | documented(404, 422),
    response_headers=[ETAG],
)
async def get_business_hours(
    pool: asyncpg.Pool, store_id: EncodedId, if_none_match: IfChanged = None
) -> Response[list[HoursRow]]:
    """Give a store's week of business hours, as `PUT` takes it; without rows it is always open."""
    store = await known_store(pool, decoded_id(store_id))
    return _tagged(_details(store).business_hours, if_none_match)


@get(
    "/stores/{store_id:str}/timezone",
    operation_id="getStoreTimezone",
    summary="A store's time zone",
    tags=["stores"],
    opt={"scope": "read"},
    responses=NOT_MODIFIED | documented(404, 422),
    response_headers=[ETAG],
)
async def get_timezone(
    pool: asyncpg.Pool, store_id: EncodedId, if_none_match: IfChanged = None
) -> Response[StoreTimezone]:
    """Give a store's own time zone, as `PUT` takes it."""
    store = await known_store(pool, decoded_id(store_id))
    return _tagged(StoreTimezone(store.timezone), if_none_match)


@put(
    "/stores/{store_id:str}/business-hours",
    operation_id="putStoreBusinessHours",
    summary="Set a store's business hours",
    tags=["stores"],
    opt={"scope": "write"},
    responses=documented(408, 412, 413, 422),
    response_headers=[ETAG],
)
async def put_business_hours(
    request: Request[Any, Any, Any],
    work_pool: asyncpg.Pool,
    store_id: EncodedId,
    data: Annotated[
        list[HoursRow], Body(max_items=MOST_HOURS, description="The whole week of the store.")
    ],
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response[StoreDetails]:
    """Replace a store's week of business hours.

    An empty list removes its hours: the store is then always open. A store that does not exist yet
    is created. With `If-Match`, the request overwrites nobody else's change.
    """
    await check_body(request, list[HoursRow])
    known_id = _new_id(store_id)
    columns = [
        [known_id] * len(data),
        [str(row.day) for row in data],
        [row.start_time_local for row in data],
        [row.end_time_local for row in data],
    ]
    return await _change(
        work_pool,
        "business_hours",
        known_id,
        columns if data else None,
        lambda store: _details(store).business_hours,
        if_match,
        if_none_match,
    )


@put(
    "/stores/{store_id:str}/timezone",
    operation_id="putStoreTimezone",
    summary="Set a store's time zone",
    tags=["stores"],
    opt={"scope": "write"},
    responses=documented(408, 412, 413, 422),
    response_headers=[ETAG],
)
async def put_timezone(
    request: Request[Any, Any, Any],
    work_pool: asyncpg.Pool,
    store_id: EncodedId,
    data: StoreTimezone,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response[StoreDetails]:
    """Replace a store's time zone; null removes it.

    A store that does not exist yet is created. With `If-Match`, the request overwrites nobody
    else's change.
    """
    await check_body(request, StoreTimezone)
    known_id = _new_id(store_id)
    columns = None if data.timezone is None else [[known_id], [data.timezone]]
    return await _change(
        work_pool,
        "timezones",
        known_id,
        columns,
        lambda store: StoreTimezone(store.timezone),
        if_match,
        if_none_match,
    )


ROUTES = [
    get_stores,
    get_store,
    get_business_hours,
    get_timezone,
    put_business_hours,
    put_timezone,
]


def keep_ids_encoded(app: ASGIApp) -> ASGIApp:
    """A layer around Litestar: paths of stores reach it as they were sent.

    Litestar finds the route by the decoded path, in which a slash of an id looks like a separator.
    With the path still encoded the route is found, and handlers decode the id themselves.
    """

    async def keep(scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path", b"")
        if scope["path"].startswith("/stores/") and raw.isascii():
            scope["path"] = raw.decode("ascii")
        await app(scope, receive, send)

    return keep


def decoded_id(encoded: str) -> str:
    """The store's id in a path. It may be one that no new store can have: old stores may."""
    try:
        store_id = unquote(encoded, errors="strict")
    except UnicodeDecodeError:
        raise refused("store_id", "is not percent-encoded UTF-8", source="path") from None
    if "\0" in store_id:
        raise refused("store_id", NUL_IN_STORE_ID, source="path")
    return store_id


def _new_id(encoded: str) -> str:
    """The id in a path, if a new store can have it."""
    store_id = decoded_id(encoded)
    if problem := store_id_problem(store_id):
        raise refused("store_id", problem, source="path")
    return store_id


async def known_store(pool: asyncpg.Pool, store_id: str) -> KnownStore:
    """The store with an id.

    Raises:
        Problem: no feed has named it (404)
    """
    store = await read_store(pool, store_id)
    if store is None:
        raise Problem(404, "No feed has named this store.", slug="store-not-found")
    return store


def _tagged(shown: Shown, if_none_match: str | None) -> Response[Shown]:
    """What is shown, with its tag; or 304, if the client has it already."""
    tag = tag_of(shown)
    headers = {"ETag": f'"{tag}"'}
    if is_known(if_none_match, tag):
        return Response(cast(Shown, None), status_code=304, headers=headers)
    return Response(shown, headers=headers)


async def _change(
    pool: asyncpg.Pool,
    feed: Literal["business_hours", "timezones"],
    store_id: str,
    columns: list[list[str]] | None,
    part: Callable[[KnownStore], object],
    if_match: str | None,
    if_none_match: str | None,
) -> Response[StoreDetails]:
    """Set the hours or the zone of one store, as a feed would; None as `columns` removes them.

    `part` picks what is set out of all that is known of the store. `If-Match` may name its tag, or
    that of the whole store.
    """

    def check(store: KnownStore | None) -> None:
        if store is None:
            check_preconditions(if_match, if_none_match, None)
        else:
            also = tag_of(_details(store))
            check_preconditions(if_match, if_none_match, tag_of(part(store)), also)

    rows = None if columns is None else parse_columns(feed, columns)
    try:
        written = await set_of_store(pool, feed, store_id, rows, check)
    except FeedRefused as refused:
        errors = [
            ProblemError(
                problem=fault.problem,
                source="body",
                field=fault.column,
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
    return Response(_details(written), headers={"ETag": f'"{tag_of(part(written))}"'})


def _details(store: KnownStore) -> StoreDetails:
    day, start, end = unpack_hours(store.business_hours)
    counted = counted_ends(start, end)
    rows = zip(day.tolist(), start.tolist(), end.tolist(), counted.tolist(), strict=True)
    given, as_counted = [], []
    for weekday, opens, closes, ends in rows:
        given.append(HoursRow(weekday, _clock(opens), _clock(closes)))
        on_next_day = ends > DAY_MS
        as_counted.append(
            CountedHours(
                day=weekday,
                start_time_local=_clock(opens),
                end_time_local=_clock(ends - DAY_MS if on_next_day else ends),
                ends_on_next_day=on_next_day,
            )
        )
    return StoreDetails(
        store_id=store.store_id,
        timezone=store.timezone,
        effective_timezone=store.timezone or DEFAULT_TIMEZONE,
        business_hours=given,
        counted_hours=as_counted,
        newest_poll=None if store.newest_poll is None else poll_of(store.newest_poll),
    )


def _clock(milliseconds: int) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{clock}.{fraction:03}" if fraction else clock


def poll_of(poll: int) -> Poll:
    """A `poll` (see `compute.polls`) as the API shows it."""
    return Poll(instant_of(poll >> 1), "active" if poll & 1 else "inactive")
