"""Stores over HTTP: what is known of each, and setting the name, hours and time zone of one.

A store's id is any text, so in a path the whole id is percent-encoded, slashes too (`%2F`).
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from functools import partial
from typing import Annotated, Any, TypeAlias, TypeVar, cast
from urllib.parse import unquote

import asyncpg
import msgspec
from litestar import Request, Response, delete, get, patch, put
from litestar.params import Body, Parameter, QueryParameter
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import UNSET, Meta, UnsetType

from compute.axis import DAY_MS
from compute.business_hours import counted_ends, unpack_hours
from compute.dated_rows import DatedRows
from compute.feed_faults import FeedRefused
from compute.feed_header import Feed
from compute.feed_rows import FeedRows, parse_columns
from compute.feed_values import (
    LONGEST_NAME,
    LONGEST_STORE_ID,
    MOST_TAGS,
    NUL_IN_STORE_ID,
    date_of,
    store_id_problem,
    zone_problem,
)
from compute.instants import date_on, day_of, instant_of
from compute.packed_rows import EMPTY, NO_DATE
from compute.targets import target_text
from compute.timeline import STATES
from compute.timeline import State as TimelineState
from compute.zones import DEFAULT_TIMEZONE
from service.database.pool import Database
from service.feeds.forgetting import forget, forget_week
from service.feeds.json_rows import (
    EndTime,
    GivenTags,
    GivenTarget,
    PollStatus,
    Reason,
    StartTime,
    StoreName,
    StoreRow,
    check_store,
    stores_rows,
)
from service.feeds.one_store import set_of_store
from service.reports.summary import Seconds
from service.states.told import last_look
from service.stores.known import KnownStore, find_stores, list_stores, read_store
from service.stores.selection import Selection, TagRefused, with_tags
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
#: How many intervals a special date may have that is set by a PUT.
MOST_HOURS_OF_DATE = 100
Shown = TypeVar("Shown")
StoreId: TypeAlias = Annotated[str, Meta(description="The id that feeds give the store.")]
Tag: TypeAlias = Annotated[
    list[str] | None,
    QueryParameter(
        name="tag",
        max_items=MOST_TAGS,
        description="Only stores with this tag, `key:value`; without a value, stores without a tag "
        "of this key. May be repeated: then all must hold.",
    ),
]
Timezone: TypeAlias = Annotated[
    str | None, Meta(description="IANA name of its own time zone; null: it has none.")
]
EffectiveTimezone: TypeAlias = Annotated[
    str,
    Meta(description=f"The time zone it is computed in: its own, otherwise {DEFAULT_TIMEZONE}."),
]


Name: TypeAlias = Annotated[str | None, Meta(description="What it is called; null: nothing.")]
Tags: TypeAlias = Annotated[dict[str, str], Meta(description="Its tags, key → value.")]

Target: TypeAlias = Annotated[
    str | None,
    Meta(
        description="Which share of the known time it shall be up, by a target of its own, such as "
        "0.995; null: it has none.",
        examples=["0.995"],
    ),
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


class StoreSummary(msgspec.Struct, frozen=True):
    """A store in a list."""

    store_id: StoreId
    timezone: Timezone
    effective_timezone: EffectiveTimezone
    name: Name
    tags: Tags
    target: Target
    state: Annotated[
        TimelineState | None,
        Meta(description="What it was at the last look; null: it has not been looked at yet."),
    ]
    since: Annotated[
        datetime | None,
        Meta(description="Since when, as `/stores/{store_id}/state` has it; null: not known."),
    ]
    newest_poll: Annotated[
        Poll | None, Meta(description="Its newest poll at the last look; null: none is known.")
    ]
    newest_poll_age: Annotated[
        Seconds | None, Meta(description="How old that was at `state_as_of`, seconds.")
    ]


class StorePage(msgspec.Struct, frozen=True):
    """Some stores, in byte order of their ids."""

    items: Annotated[list[StoreSummary], Meta(description="The stores of this page.")]
    next_cursor: Annotated[
        str | None, Meta(description="`cursor` of the next page; null on the last page.")
    ]
    state_as_of: Annotated[
        datetime | None,
        Meta(description="The instant of the last look at the stores; null: there was none."),
    ]


class CountedHours(msgspec.Struct, frozen=True, kw_only=True):
    """Business hours on one day of every week as they count, in the store's local time."""

    day: Annotated[int, Meta(ge=0, le=6, description="0 is Monday, 6 is Sunday.")]
    start_time_local: Annotated[str, Meta(description="When they start.")]
    end_time_local: Annotated[str, Meta(description="When they end; midnight is `24:00:00`.")]
    ends_on_next_day: Annotated[bool, Meta(description="Whether they end on the day after.")]


class Week(msgspec.Struct, frozen=True):
    """A week of business hours, and since when it is in force."""

    valid_from: Annotated[
        date | None,
        Meta(
            description="The first local date on which it is in force, until the next week is; "
            "null: it has been from the beginning of time."
        ),
    ]
    rows: Annotated[
        list[HoursRow], Meta(description="Its hours; without any it is closed on every day.")
    ]


class Hours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An interval of hours on a date, in the store's local time.

    An end at or before the start lies on the next day; 23:59 or later means midnight.
    """

    start_time_local: StartTime
    end_time_local: EndTime


LocalDate: TypeAlias = Annotated[date, Meta(description="A date of the store's local time.")]


class SpecialHours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hours instead of the week's on a date: either `hours`, or `closed`."""

    closed: Annotated[bool, Meta(description="Whether no hours begin on this date.")] = False
    hours: Annotated[
        list[Hours], Meta(max_length=MOST_HOURS_OF_DATE, description="When it is open.")
    ] = []
    reason: Reason = ""

    def __post_init__(self) -> None:
        if self.closed is bool(self.hours):
            raise ValueError("A special date has either `hours`, or `closed`: true")


class SpecialDate(SpecialHours, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A date on which a store has hours instead of its week's: either `hours`, or `closed`."""

    date: LocalDate


class StoreDetails(msgspec.Struct, frozen=True):
    """What is known of a store."""

    store_id: StoreId
    timezone: Timezone
    effective_timezone: EffectiveTimezone
    business_hours: Annotated[
        list[HoursRow],
        Meta(
            description="The week that has been in force from the beginning of time. If it has no "
            "rows, and `weeks` has no week either, the store is always open."
        ),
    ]
    counted_hours: Annotated[
        list[CountedHours], Meta(description="The same rows, each as it counts.")
    ]
    newest_poll: Annotated[
        Poll | None, Meta(description="Its newest poll; null: it was never polled.")
    ]
    weeks: Annotated[
        list[Week],
        Meta(
            description="All its weeks, in the order in which they are in force. Before the first "
            "the store is closed; without any it is always open."
        ),
    ]
    special_hours: Annotated[
        list[SpecialDate], Meta(description="Its special dates, in their order.")
    ]
    name: Name
    tags: Tags
    target: Target


class StorePatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be changed of a store; what is left out stays as it is."""

    name: StoreName | UnsetType = UNSET
    tags: GivenTags | UnsetType = UNSET
    target: GivenTarget | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_store(self.name, self.tags, self.target)


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


ValidFrom: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="valid_from",
        schema_extra={"format": "date"},
        description="The first local date on which the week is in force, such as 2024-03-11.",
    ),
]


def stores_with(tags: Sequence[str] | None) -> Selection:
    """The stores that parameters `tag` ask for.

    Raises:
        Problem: one of them names no tag
    """
    try:
        return with_tags(tags or ())
    except TagRefused as error:
        raise refused("tag", str(error)) from None


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
    search: Annotated[
        str,
        Parameter(
            max_length=LONGEST_NAME,
            description="Only stores whose id begins with this, or whose name has it in it, in "
            "capitals or not.",
        ),
    ] = "",
    tag: Tag = None,
    wanted: Annotated[
        TimelineState | None,
        QueryParameter(
            name="state", description="Only stores that were in this state at the last look."
        ),
    ] = None,
) -> Response[StorePage]:
    """List stores, in byte order of their ids, and how they were when they were looked at last."""
    for name, text in (("prefix", prefix), ("search", search)):
        if "\0" in text:
            raise refused(name, NUL_IN_STORE_ID)
    if timezone is not None and (problem := zone_problem(timezone)):
        raise refused("timezone", problem)
    after = from_cursor(cursor, request) or ""
    bounds = (limit + 1, after, prefix, timezone)
    if search or tag or wanted:
        state = None if wanted is None else STATES.index(wanted)
        found = await find_stores(
            pool, *bounds, search=search, wanted=stores_with(tag), state=state
        )
    else:
        found = await list_stores(pool, *bounds)
    as_of = await last_look(pool)
    page = [
        StoreSummary(
            store.store_id,
            store.timezone,
            store.timezone or DEFAULT_TIMEZONE,
            store.name,
            store.tags,
            _target(store.target),
            None if store.state is None else STATES[store.state],
            instant_of(store.since),
            None if store.newest_poll is None else poll_of(store.newest_poll),
            _age(store.newest_poll, as_of),
        )
        for store in found[:limit]
    ]
    next_cursor = to_cursor(page[-1].store_id, request) if len(found) > limit else None
    looked_at = instant_of(as_of)
    return Response(
        StorePage(page, next_cursor, looked_at), headers=next_link(request, next_cursor)
    )


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
    """Give what a store is called, its tags, target, time zone, hours and newest poll."""
    return tagged(details(await known_store(pool, decoded_id(store_id))), if_none_match)


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
    pool: asyncpg.Pool,
    store_id: EncodedId,
    valid_from: ValidFrom = None,
    if_none_match: IfChanged = None,
) -> Response[list[HoursRow]]:
    """Give a week of business hours of a store, as `PUT` takes it.

    Without `valid_from` it is the one that has been in force from the beginning of time; `GET
    /stores/{store_id}` tells all weeks of a store.
    """
    first = _date(valid_from)
    store = details(await known_store(pool, decoded_id(store_id)))
    return tagged(_week(store, first), if_none_match, tag_of(_hours_of(store, first)))


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
    return tagged(StoreTimezone(store.timezone), if_none_match)


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
    data: Annotated[list[HoursRow], Body(max_items=MOST_HOURS, description="The whole week.")],
    valid_from: ValidFrom = None,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response[StoreDetails]:
    """Replace a week of business hours of a store, or all its hours.

    Without `valid_from`, the week is in force for all time, in place of all weeks that the store
    had; an empty list removes its hours: the store is then always open. With `valid_from`, only the
    week of that date is replaced; an empty list closes the store from that date on, until the next
    week is in force. A store that does not exist yet is created. With `If-Match`, the request
    overwrites nobody else's change.
    """
    await check_body(request, list[HoursRow])
    known_id, first = new_id(store_id), _date(valid_from)
    columns = [
        [known_id] * len(data),
        [str(row.day) for row in data],
        [row.start_time_local for row in data],
        [row.end_time_local for row in data],
    ]
    if first is not None:
        dates = [first.isoformat()]
        columns = [*columns, dates * len(data)] if data else [[known_id], [""], [""], [""], dates]
    return await change(
        work_pool,
        "business_hours",
        known_id,
        columns if data or first is not None else None,
        lambda store: _hours_of(store, first),
        if_match,
        if_none_match,
        partial(forget, "business_hours") if first is None else None,
    )


@delete(
    "/stores/{store_id:str}/business-hours",
    operation_id="deleteStoreBusinessHours",
    summary="Remove a store's business hours",
    tags=["stores"],
    status_code=200,
    opt={"scope": "write"},
    responses=documented(404, 412, 422),
    response_headers=[ETAG],
)
async def delete_business_hours(
    work_pool: asyncpg.Pool,
    store_id: EncodedId,
    valid_from: ValidFrom = None,
    if_match: IfMatch = None,
) -> Response[StoreDetails]:
    """Remove all weeks of a store, which is then always open, or the week of one date.

    What is not there is as good as removed: doing it twice changes nothing more.
    """
    known_id, first = decoded_id(store_id), _date(valid_from)
    return await change(
        work_pool,
        "business_hours",
        known_id,
        None,
        lambda store: _hours_of(store, first),
        if_match,
        None,
        partial(forget, "business_hours") if first is None else partial(forget_week, day_of(first)),
        known=True,
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
    known_id = new_id(store_id)
    columns = None if data.timezone is None else [[known_id], [data.timezone]]
    return await change(
        work_pool,
        "timezones",
        known_id,
        columns,
        lambda store: StoreTimezone(store.timezone),
        if_match,
        if_none_match,
        None if columns else partial(forget, "timezones"),
    )


@patch(
    "/stores/{store_id:str}",
    operation_id="patchStore",
    summary="Change a store's name, tags and target",
    tags=["stores"],
    opt={"scope": "write"},
    responses=documented(404, 408, 412, 413, 422),
    response_headers=[ETAG],
)
async def patch_store(
    request: Request[Any, Any, Any],
    work_pool: asyncpg.Pool,
    store_id: EncodedId,
    data: StorePatch,
    if_match: IfMatch = None,
) -> Response[StoreDetails]:
    """Set or remove the name, target and single tags of a store, by the rules of JSON Merge Patch.

    What is left out stays as it is, null removes. With `If-Match`, the request overwrites nobody
    else's change.
    """
    await check_body(request, StorePatch)
    known_id = decoded_id(store_id)
    rows = stores_rows([StoreRow(known_id, data.name, data.tags, data.target)])
    return await change(
        work_pool, "stores", known_id, rows, lambda store: store, if_match, None, known=True
    )


ROUTES = [
    get_stores,
    get_store,
    patch_store,
    get_business_hours,
    get_timezone,
    put_business_hours,
    delete_business_hours,
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


def new_id(encoded: str) -> str:
    """The id in a path, if a new store can have it."""
    store_id = decoded_id(encoded)
    if problem := store_id_problem(store_id):
        raise refused("store_id", problem, source="path")
    return store_id


async def known_store(connection: Database, store_id: str) -> KnownStore:
    """The store with an id.

    Raises:
        Problem: no feed has named it (404)
    """
    store = await read_store(connection, store_id)
    if store is None:
        raise not_known()
    return store


def not_known() -> Problem:
    """What to say of a store that is not there."""
    return Problem(404, "No feed has named this store.", slug="store-not-found")


def to_date(text: str, name: str, source: str = "query") -> date:
    """A date in a request.

    Raises:
        Problem: it is none, or before 1970 or after 9998
    """
    try:
        date_of(text)
    except ValueError as error:
        raise refused(name, str(error), source) from None
    return date.fromisoformat(text)


def _date(valid_from: str | None) -> date | None:
    return None if valid_from is None else to_date(valid_from, "valid_from")


def _week(store: StoreDetails, first: date | None) -> list[HoursRow]:
    """The rows of the week that is in force from a date on.

    Raises:
        Problem: no week begins then (404)
    """
    if first is None:
        return store.business_hours
    for week in store.weeks:
        if week.valid_from == first:
            return week.rows
    text = "The store has no week of business hours with this date."
    raise Problem(404, text, slug="week-not-found")


def _hours_of(store: StoreDetails, first: date | None) -> object:
    """What a PUT with this `valid_from` would replace, for its tag."""
    if first is not None:
        return [week for week in store.weeks if week.valid_from == first]
    # Of a store with a single week, its rows alone, as it always was.
    dated = any(week.valid_from or not week.rows for week in store.weeks)
    return store.weeks if dated else store.business_hours


def tagged(shown: Shown, if_none_match: str | None, tag: str | None = None) -> Response[Shown]:
    """What is shown, with its tag; or 304, if the client has it already."""
    tag = tag_of(shown) if tag is None else tag
    headers = {"ETag": f'"{tag}"'}
    if is_known(if_none_match, tag):
        return Response(cast(Shown, None), status_code=304, headers=headers)
    return Response(shown, headers=headers)


async def change(
    pool: asyncpg.Pool,
    feed: Feed,
    store_id: str,
    given: list[list[str]] | FeedRows | None,
    part: Callable[[StoreDetails], object],
    if_match: str | None,
    if_none_match: str | None,
    forget: Callable[[asyncpg.Connection, str], Awaitable[None]] | None = None,
    *,
    known: bool = False,
) -> Response[StoreDetails]:
    """Set something of one store, as a feed would, and remove something before.

    Args:
        pool: the database
        feed: which would
        store_id: of the store
        given: its columns, or rows; None: only remove
        part: picks what is set out of all that is known of the store. `If-Match` may name its tag,
            or that of the whole store
        if_match: the header
        if_none_match: the header
        forget: removes, given the store's id
        known: whether the store must be there; else it is made

    Raises:
        Problem: a row is wrong, a condition does not hold, or the store is not there
    """

    def check(store: KnownStore | None) -> None:
        if store is None:
            if known:
                raise not_known()
            check_preconditions(if_match, if_none_match, None)
        else:
            shown = details(store)
            check_preconditions(if_match, if_none_match, tag_of(part(shown)), tag_of(shown))

    rows = parse_columns(feed, given) if isinstance(given, list) else given
    try:
        written = details(await set_of_store(pool, feed, store_id, rows, check, forget))
    except FeedRefused as refused:
        errors = [
            ProblemError(
                problem=fault.problem,
                source="body",
                field=fault.column or UNSET,
                line=fault.line or UNSET,
                value=fault.value if fault.column else UNSET,
            )
            for fault in refused.faults
        ]
        raise Problem(
            422,
            "; ".join(
                f"row {one.line}, {one.field}: {one.problem}" if one.line else one.problem
                for one in errors[:3]
            ),
            slug="invalid-request",
            errors=errors,
            count=refused.count,
        ) from None
    return Response(written, headers={"ETag": f'"{tag_of(part(written))}"'})


def details(store: KnownStore) -> StoreDetails:
    """What is known of a store, as the API shows it."""
    weeks = _weeks(store)
    always = weeks[0].rows if weeks and weeks[0].valid_from is None else []
    return StoreDetails(
        store_id=store.store_id,
        timezone=store.timezone,
        effective_timezone=store.timezone or DEFAULT_TIMEZONE,
        business_hours=always,
        counted_hours=_as_counted(store.business_hours) if always else [],
        newest_poll=None if store.newest_poll is None else poll_of(store.newest_poll),
        weeks=weeks,
        special_hours=_special_dates(store),
        name=store.name,
        tags=store.tags,
        target=_target(store.target),
    )


def _age(poll: int | None, as_of: int | None) -> float | None:
    """How old a poll was at an instant, seconds."""
    return None if poll is None or as_of is None else (as_of - (poll >> 1)) / 1000


def _target(target: int | None) -> str | None:
    return None if target is None else target_text(target)


def _weeks(store: KnownStore) -> list[Week]:
    always = DatedRows.of_weeks([store.business_hours])
    rows = always.and_others(DatedRows.unpacked([store.dated_weeks]))
    weeks: dict[int, list[HoursRow]] = {}
    for day, hours in zip(rows.date.tolist(), rows.hours.tolist(), strict=True):
        week = weeks.setdefault(day, [])
        if hours != EMPTY:
            weekday, start = divmod(hours >> 32, DAY_MS)
            week.append(HoursRow(weekday, _clock(start), _clock(hours & 0xFFFF_FFFF)))
    return [Week(None if day == NO_DATE else date_on(day), rows) for day, rows in weeks.items()]


def _special_dates(store: KnownStore) -> list[SpecialDate]:
    rows = DatedRows.unpacked([store.special_hours])
    dates: dict[int, list[Hours]] = {}
    for day, hours in zip(rows.date.tolist(), rows.hours.tolist(), strict=True):
        of_date = dates.setdefault(day, [])
        if hours != EMPTY:
            of_date.append(Hours(_clock(hours >> 32), _clock(hours & 0xFFFF_FFFF)))
    return [
        SpecialDate(
            date=date_on(day),
            closed=not hours,
            hours=hours,
            reason=store.special_reasons.get(str(day), ""),
        )
        for day, hours in dates.items()
    ]


def _as_counted(packed: bytes) -> list[CountedHours]:
    day, start, end = unpack_hours(packed)
    counted = counted_ends(start, end)
    as_counted = []
    for weekday, opens, ends in zip(day.tolist(), start.tolist(), counted.tolist(), strict=True):
        on_next_day = ends > DAY_MS
        as_counted.append(
            CountedHours(
                day=weekday,
                start_time_local=_clock(opens),
                end_time_local=_clock(ends - DAY_MS if on_next_day else ends),
                ends_on_next_day=on_next_day,
            )
        )
    return as_counted


def _clock(milliseconds: int) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{clock}.{fraction:03}" if fraction else clock


def poll_of(poll: int) -> Poll:
    """A `poll` (see `compute.polls`) as the API shows it."""
    return Poll(instant_of(poll >> 1), "active" if poll & 1 else "inactive")
