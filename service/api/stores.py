"""Stores over HTTP: what is known of each, and its availability over any window.

A store's id is any text, so in a path it is percent-encoded as a whole, slashes too (`%2F`).
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import unquote

import asyncpg
import msgspec
import numpy as np
from litestar import Request, Response, get, put
from litestar.datastructures import ResponseHeader
from litestar.params import Body, Parameter
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Meta

from compute.axis import PER_MS, Ints
from compute.business_hours import DEFAULT_TIMEZONE, unpack_hours
from compute.feed_rows import (
    LONGEST_STORE_ID,
    Feed,
    FeedRefused,
    parse_columns,
    store_id_problem,
    zone_names,
)
from compute.polls import PollDays, unpack_polls
from compute.report_rows import Question, StoreBatch, batch_totals
from compute.timeline import STATES, State, Timeline, timeline
from compute.uptime import Interpolation
from service.api.feeds import END_CLOCK, START_CLOCK
from service.api.pages import PAGE_SIZE, Cursor, Limit, from_cursor, next_link, to_cursor
from service.api.problems import Problem, ProblemError, documented
from service.feeds import forget, ingest_rows
from service.pipeline import NoPolls, parse_max_gap
from service.store import (
    EPOCH,
    KnownStore,
    list_stores,
    newest_poll,
    read_batch,
    read_store,
)

#: The longest window of one request: a leap year.
LONGEST_WINDOW = timedelta(days=366)
#: Polls of one timeline.
MOST_POLLS = 50_000
#: Rows of hours that one request may give a store.
MOST_HOURS = 1000
#: What requests about one store call a feed's columns.
_FIELD_OF_COLUMN = {
    "start_time_local": "start",
    "end_time_local": "end",
    "timezone_str": "timezone",
}
_DEFAULT_WINDOW = timedelta(days=7)
_MILLISECOND = timedelta(milliseconds=1)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)

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


Seconds: TypeAlias = Annotated[float, Meta(ge=0, description="Exact seconds.")]
_Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Share: TypeAlias = Annotated[
    _Fraction | None, Meta(description="Share of business time; null where there is none.")
]


class StoreAvailability(msgspec.Struct, frozen=True):
    """How long a store was up and down within its business hours.

    `uptime` + `downtime` + `unknown` = `business_time`.
    """

    store_id: StoreId
    window_start: datetime = msgspec.field(name="from")
    window_end: datetime = msgspec.field(name="to")
    interpolation: Interpolation
    max_gap: Seconds
    business_time: Seconds
    uptime: Seconds
    downtime: Seconds
    unknown: Seconds
    uptime_share: Share
    downtime_share: Share
    unknown_share: Share
    availability: Annotated[
        _Fraction | None,
        Meta(description="uptime / (uptime + downtime); null where both are 0."),
    ]


class Segment(msgspec.Struct, frozen=True):
    """A part of a window in which nothing changes; half open."""

    start: datetime
    end: datetime
    state: Annotated[
        State,
        Meta(description="`unknown` is business time that no observation speaks for."),
    ]


class StoreTimeline(msgspec.Struct, frozen=True):
    """The segments that a window's sums are made of, without a hole, and its polls."""

    store_id: StoreId
    window_start: datetime = msgspec.field(name="from")
    window_end: datetime = msgspec.field(name="to")
    interpolation: Interpolation
    max_gap: Seconds
    segments: list[Segment]
    polls: Annotated[
        list[Poll],
        Meta(description="All polls from `from` to `to`, both included, also while it was closed."),
    ]


EncodedId: TypeAlias = Annotated[
    str,
    Parameter(
        description="The store's id, percent-encoded as a whole: a slash in it is `%2F`.",
        # Of the id itself; what handlers get is longer.
        schema_extra={"min_length": 1, "max_length": LONGEST_STORE_ID},
    ),
]
# Text, for of any other type Litestar takes `null` to be left out.
From: TypeAlias = Annotated[
    str | None,
    Parameter(
        query="from",
        schema_extra={"format": "date-time"},
        description="Begin of the window; without an offset it is UTC. Default: 7 days before its "
        "end.",
    ),
]
To: TypeAlias = Annotated[
    str | None,
    Parameter(
        query="to",
        schema_extra={"format": "date-time"},
        description="End of the window, and what a report calls `as_of`: later polls do not exist "
        "for it. Default: the newest poll over all stores.",
    ),
]
InterpolationChoice: TypeAlias = Annotated[
    Interpolation,
    Parameter(
        description="The status between two observations: that of the nearest, or the previous."
    ),
]
MaxGap: TypeAlias = Annotated[
    str,
    Parameter(
        description="For how long an observation speaks to either side, 1m to 31d.",
        pattern=r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$",
        min_length=2,
        max_length=20,
    ),
]


@get(
    "/stores",
    operation_id="listStores",
    summary="List stores",
    tags=["stores"],
    opt={"scope": "read"},
    responses=documented(422),
    response_headers=[
        ResponseHeader(
            name="Link",
            documentation_only=True,
            description='The next page, where there is one: `<…>; rel="next"` (RFC 8288).',
        )
    ],
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
        raise _refused("prefix", "no store id holds a NUL character")
    if timezone is not None and timezone not in zone_names():
        raise _refused("timezone", "is not a name of the tz database, such as America/Chicago")
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
    return _details(await _known(pool, _decoded(store_id)))


@get(
    "/stores/{store_id:str}/availability",
    operation_id="getStoreAvailability",
    summary="A store's availability over a window",
    tags=["stores"],
    opt={"scope": "read"},
    responses=documented(404, 409, 422),
)
async def get_availability(
    pool: asyncpg.Pool,
    store_id: EncodedId,
    window_start: From = None,
    window_end: To = None,
    interpolation: InterpolationChoice = "nearest",
    max_gap: MaxGap = "24h",
) -> StoreAvailability:
    """Tell how long a store was up and down within its business hours, over any window.

    The numbers are those of a report with the same end. A window is 366 days at the most.
    """
    store, question, batch = await _ask(
        pool, store_id, window_start, window_end, interpolation, max_gap
    )
    totals = await asyncio.to_thread(batch_totals, batch, question)
    up, down, unknown = int(totals.up[0, 0]), int(totals.down[0, 0]), int(totals.unknown[0, 0])
    business = up + down + unknown
    return StoreAvailability(
        store_id=store.store_id,
        window_start=_instant(question.as_of - question.windows[0]),
        window_end=_instant(question.as_of),
        interpolation=interpolation,
        max_gap=question.max_gap / 1000,
        business_time=_seconds(business),
        uptime=_seconds(up),
        downtime=_seconds(down),
        unknown=_seconds(unknown),
        uptime_share=_share(up, business),
        downtime_share=_share(down, business),
        unknown_share=_share(unknown, business),
        availability=_share(up, up + down),
    )


@get(
    "/stores/{store_id:str}/timeline",
    operation_id="getStoreTimeline",
    summary="A store's timeline over a window",
    tags=["stores"],
    opt={"scope": "read"},
    responses=documented(404, 409, 422),
)
async def get_timeline(
    pool: asyncpg.Pool,
    store_id: EncodedId,
    window_start: From = None,
    window_end: To = None,
    interpolation: InterpolationChoice = "nearest",
    max_gap: MaxGap = "24h",
) -> StoreTimeline:
    """Tell of which segments a window's availability is made, and its polls.

    The lengths of the segments of one state add up to what `availability` says of the same window.
    A window is 366 days and 50,000 polls at the most.
    """
    store, question, batch = await _ask(
        pool, store_id, window_start, window_end, interpolation, max_gap
    )
    start, end = question.as_of - question.windows[0], question.as_of
    words = _polls(batch, start, end)
    if len(words) > MOST_POLLS:
        raise _refused("from", f"the window holds {len(words)} polls, more than {MOST_POLLS}")
    parts = await asyncio.to_thread(timeline, batch, question)
    return await asyncio.to_thread(
        lambda: StoreTimeline(
            store_id=store.store_id,
            window_start=_instant(start),
            window_end=_instant(end),
            interpolation=interpolation,
            max_gap=question.max_gap / 1000,
            segments=_segments(parts),
            polls=[_poll(word) for word in words.tolist()],
        )
    )


@put(
    "/stores/{store_id:str}/business-hours",
    operation_id="putStoreBusinessHours",
    summary="Set a store's business hours",
    tags=["stores"],
    opt={"scope": "write"},
    responses=documented(413, 422),
)
async def put_business_hours(
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
    known_id = _decoded(store_id)
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
    return _details(await _known(pool, known_id))


@put(
    "/stores/{store_id:str}/timezone",
    operation_id="putStoreTimezone",
    summary="Set a store's time zone",
    tags=["stores"],
    opt={"scope": "write"},
    responses=documented(413, 422),
)
async def put_timezone(
    pool: asyncpg.Pool, store_id: EncodedId, data: TimezoneChange
) -> StoreDetails:
    """Give a store its time zone, instead of the one that it had.

    A store that there is not yet is made.
    """
    known_id = _decoded(store_id)
    if data.timezone is None:
        await forget(pool, "timezones", known_id)
    else:
        await _change(pool, "timezones", [[known_id], [data.timezone]])
    return _details(await _known(pool, known_id))


ROUTES = [
    get_stores,
    get_store,
    get_availability,
    get_timeline,
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


def _decoded(encoded: str) -> str:
    """The store's id in a path."""
    try:
        store_id = unquote(encoded, errors="strict")
        problem = store_id_problem(store_id)
    except UnicodeDecodeError:
        problem = "is not percent-encoded UTF-8"
    if problem:
        raise _refused("store_id", problem, source="path")
    return store_id


async def _known(pool: asyncpg.Pool, store_id: str) -> KnownStore:
    store = await read_store(pool, store_id)
    if store is None:
        raise Problem(404, "No feed has named this store.", slug="store-not-found")
    return store


async def _ask(
    pool: asyncpg.Pool,
    encoded_id: str,
    start: str | None,
    end: str | None,
    interpolation: Interpolation,
    max_gap: str,
) -> tuple[KnownStore, Question, StoreBatch]:
    """The store, the question about it that the parameters are, and what answers it."""
    store_id = _decoded(encoded_id)
    try:
        gap = parse_max_gap(max_gap)
    except ValueError as error:
        raise _refused("max_gap", str(error)) from None
    last = _milliseconds(end, "to")
    first = _milliseconds(start, "from")
    store = await _known(pool, store_id)
    if last is None:
        last = await newest_poll(pool)
        if last is None:
            problem = str(NoPolls()).replace("the report an as_of", "a `to`")
            raise Problem(409, problem, slug="no-polls")
    if first is None:
        first = max(0, last - _DEFAULT_WINDOW // _MILLISECOND)
    if first >= last:
        raise _refused("from", "the window ends at or before its begin")
    if last - first > LONGEST_WINDOW // _MILLISECOND:
        raise _refused("from", f"the window is longer than {LONGEST_WINDOW.days} days")
    question = Question(last, interpolation, gap, windows=(last - first,))
    return store, question, await read_batch(pool, store, question)


def _milliseconds(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    try:
        instant = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise _refused(name, "is not an instant such as 2023-01-22T12:00:00Z") from None
    utc = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant
    if not EPOCH <= utc < _LATEST:
        raise _refused(name, "is before 1970 or after 9998")
    return (utc - EPOCH) // _MILLISECOND


def _refused(name: str, problem: str, source: str = "query") -> Problem:
    return Problem(
        422,
        f"{source} {name}: {problem}",
        slug="invalid-request",
        errors=[ProblemError(problem=problem, source=source, field=name)],
    )


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
        newest_poll=None if store.newest_poll is None else _poll(store.newest_poll),
    )


def _clock(milliseconds: int) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{clock}.{fraction:03}" if fraction else clock


def _poll(word: int) -> Poll:
    """A poll of `milliseconds since 1970-01-01 UTC << 1 | active`."""
    return Poll(_instant(word >> 1), "active" if word & 1 else "inactive")


def _polls(batch: StoreBatch, first: int, last: int) -> Ints:
    """The polls of a batch of one store from one millisecond to another, both included."""
    days = PollDays(batch.poll_store, batch.poll_day, batch.poll_size, batch.polls)
    polls = np.sort(unpack_polls(days)[1])
    inside: Ints = polls[(polls >> 1 >= first) & (polls >> 1 <= last)]
    return inside


def _segments(parts: Timeline) -> list[Segment]:
    columns = (parts.start, parts.end, parts.state)
    return [
        Segment(_of_half_milliseconds(start), _of_half_milliseconds(end), STATES[state])
        for start, end, state in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _of_half_milliseconds(position: int) -> datetime:
    return EPOCH + timedelta(microseconds=position * (1000 // PER_MS))


def _instant(milliseconds: int) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)


def _seconds(half_milliseconds: int) -> float:
    return half_milliseconds / (1000 * PER_MS)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
