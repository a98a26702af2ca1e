"""Outages of all stores over HTTP: lists, statistics, and single ones with what people note."""

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import asyncpg
import msgspec
from litestar import Request, Response, get, patch
from litestar.datastructures import ResponseHeader
from litestar.params import HeaderParameter, Parameter, QueryParameter
from msgspec import UNSET, Meta, UnsetType

from compute.feed_values import MOST_TAGS, tag_key_problem
from compute.instants import LATEST_MS, instant_of
from compute.outages import LOOK_BACK_MS, Together
from compute.windows import Window
from service.api.outage_details import (
    LONGEST_AUTHOR,
    LONGEST_CAUSE,
    LONGEST_NOTE,
    LOOK_BACK_DAYS,
    ListedOutage,
    listed_outage,
)
from service.api.outage_lists import OutageLists, TableOperation, place_text, read_place, turn
from service.api.store_states import (
    Bounds,
    GivenMaxGap,
    Longest,
    MaxGap,
    MeanTimeToRestore,
    MinDuration,
    OnlyOpen,
    OutagesAsOf,
    StateAsOf,
    WindowEnd,
    bounds_of,
    longest_of,
    max_gap_of,
    mean_time_to_restore_of,
    or_now,
    shortest_of,
    window_problem,
)
from service.api.stores import stores_with
from service.database.pool import transaction
from service.outages.all_stores import (
    MOST_VALUES,
    Asked,
    Place,
    TooManyValues,
    TooMuchAsked,
    outage_statistics,
)
from service.outages.ids import read_id
from service.outages.kept import Named, names_of, noted_at, take_notes, write_note
from service.outages.one_store import (
    MOST_POLLS,
    Held,
    TooManyPolls,
    looked_at_from,
    outage_of,
)
from service.reports.max_gap import DEFAULT_MAX_GAP
from service.reports.summary import Seconds, exact_seconds
from service.spans import format_span
from service.stores.known import read_store_by_number
from service.web.conditions import check_preconditions, tag_of
from service.web.files import prefers_csv
from service.web.instants import to_milliseconds
from service.web.pages import (
    NEXT_LINK,
    PAGE_SIZE,
    Cursor,
    Limit,
    from_cursor,
    next_link,
    not_ours,
    to_cursor,
)
from service.web.problems import Problem, documented, refused
from service.web.strict import check_body, given_members
from service.workers.pool import Workers

_TAGS = ["stores"]
_MOST_DAYS_OF_WINDOW = 31
#: An instant in a cursor, milliseconds since 1970-01-01 UTC, up to the year 9998.
_NUMBER = re.compile("[0-9]{1,15}")


class OutagePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some outages that reach into a window, each told as a whole."""

    window_start: Annotated[datetime, Meta(description="Start of the window.")] = msgspec.field(
        name="from"
    )
    window_end: Annotated[datetime, Meta(description="End of the window.")] = msgspec.field(
        name="to"
    )
    as_of: StateAsOf
    max_gap: GivenMaxGap
    items: Annotated[
        list[ListedOutage],
        Meta(description="The outages, in byte order of their stores' ids and as they begin."),
    ]
    next_cursor: Annotated[
        str | None,
        Meta(description="`cursor` of the next page, which may be empty; null on the last page."),
    ]


class OutageStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What outages have together."""

    stores: Annotated[int, Meta(ge=0, description="Stores that were looked at.")]
    count: Annotated[int, Meta(ge=0, description="How many outages there are.")]
    open_count: Annotated[int, Meta(ge=0, description="How many of them are open.")]
    total_duration: Annotated[
        Seconds, Meta(description="All `duration` together, seconds, each that of the whole.")
    ]
    longest: Longest
    mean_time_to_restore: MeanTimeToRestore


class OutageGroup(OutageStatistics, frozen=True, kw_only=True):
    """What outages of the stores with a value of a tag have together."""

    value: Annotated[str, Meta(description="Value of the tag; empty: stores without one.")]


class OutageSummary(OutageStatistics, frozen=True, kw_only=True):
    """What the outages that reach into a window have together."""

    window_start: Annotated[datetime, Meta(description="Start of the window.")] = msgspec.field(
        name="from"
    )
    window_end: Annotated[datetime, Meta(description="End of the window.")] = msgspec.field(
        name="to"
    )
    as_of: StateAsOf
    max_gap: GivenMaxGap
    by: Annotated[str | None, Meta(description="Key of the tag of `groups`; null: there are none.")]
    groups: Annotated[
        list[OutageGroup] | None,
        Meta(description="The same by the values of a tag, in byte order; null: not asked for."),
    ]


class OutageDetails(ListedOutage, frozen=True, kw_only=True):
    """An outage, as it is known at an instant."""

    as_of: StateAsOf
    max_gap: GivenMaxGap


_GivenNote: TypeAlias = Annotated[
    str | None,
    Meta(
        description="What people note of it, also in several lines; null or empty: nothing.",
        extra_json_schema={"maxLength": LONGEST_NOTE},
    ),
]
_GivenCause: TypeAlias = Annotated[
    str | None,
    Meta(
        description="Why it was, in a few words of one's own; null or empty: nothing is said.",
        extra_json_schema={"maxLength": LONGEST_CAUSE},
        examples=["power"],
    ),
]
_GivenAuthor: TypeAlias = Annotated[
    str | None,
    Meta(
        description="Who says so; null or empty: nobody is named.",
        extra_json_schema={"maxLength": LONGEST_AUTHOR},
    ),
]


class OutagePatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be noted of an outage; what is left out stays as it is."""

    note: _GivenNote | UnsetType = UNSET
    cause: _GivenCause | UnsetType = UNSET
    author: _GivenAuthor | UnsetType = UNSET

    def __post_init__(self) -> None:
        bounds = {"note": LONGEST_NOTE, "cause": LONGEST_CAUSE, "author": LONGEST_AUTHOR}
        for name, most in bounds.items():
            text = getattr(self, name) or ""
            if len(text) > most:
                raise ValueError(f"The {name} has more than {most} characters")
            control = {one for one in text if unicodedata.category(one) == "Cc"}
            if control - ({"\n"} if name == "note" else set()):
                raise ValueError(f"The {name} contains a control character")


WindowStart: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="from",
        schema_extra={"format": "date-time"},
        description="Start of the window; UTC if it has no offset. At most "
        f"{_MOST_DAYS_OF_WINDOW} days before its end, and {LOOK_BACK_DAYS} before `as_of`. "
        "Default: 7 days before its end.",
    ),
]
Tag: TypeAlias = Annotated[
    list[str] | None,
    QueryParameter(
        name="tag",
        max_items=MOST_TAGS,
        description="Only of stores with this tag, `key:value`; without a value, of stores without "
        "a tag of this key. May be repeated: then all must hold.",
    ),
]
EscapeFormulas: TypeAlias = Annotated[
    bool,
    Parameter(
        description="Whether texts of CSV that a spreadsheet takes for formulas get an apostrophe "
        "before."
    ),
]
_OutageId: TypeAlias = Annotated[str, Parameter(max_length=100, description="The outage's id.")]
_OutageAsOf: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="as_of",
        schema_extra={"format": "date-time"},
        description="Later polls are ignored. Default: now or, of an outage of more than a year "
        "ago, 200 days after it.",
    ),
]
_IfMatch: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="Write only if what is noted has one of these ETags. Otherwise 412.",
    ),
]
_ETAG = ResponseHeader(
    name="ETag",
    documentation_only=True,
    description="Tag of all that is noted, for `If-Match`: edges of the outage do not change it.",
)


@get(
    "/outages",
    operation_id="listOutages",
    summary="Outages of all stores",
    tags=_TAGS,
    opt={"scope": "read"},
    operation_class=TableOperation,
    responses=documented(409),
    response_headers=[NEXT_LINK],
)
async def get_outages(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    outage_pool: asyncpg.Pool,
    workers: Workers,
    window_start: WindowStart = None,
    window_end: WindowEnd = None,
    as_of: OutagesAsOf = None,
    max_gap: MaxGap = DEFAULT_MAX_GAP,
    tag: Tag = None,
    open: OnlyOpen = False,  # noqa: A002 - its name in the query
    min_duration: MinDuration = None,
    limit: Limit = PAGE_SIZE,
    cursor: Cursor = None,
    escape_formulas: EscapeFormulas = False,
) -> Response[OutagePage]:
    """List the outages that reach into a window, of all stores or of those with certain tags.

    They are those that `/stores/{store_id}/outages` tells. A page is given when it is full, or when
    many stores were looked at: it may hold fewer, or none, and yet have a `next_cursor`. With
    `Accept: text/csv` it is all of them, as a file. An instance makes two lists or statistics at a
    time.
    """
    position = from_cursor(cursor, request)
    if position is None:
        bounds, place = _bounds(window_start, window_end, as_of), None
    else:
        bounds, place = _place(position)
    asked = _asked(bounds, max_gap, tag, open, min_duration)
    lists = OutageLists(pool, outage_pool, workers, asked)
    if prefers_csv(request):
        return await lists.csv(escape_formulas=escape_formulas, name="outages.csv")
    items, goes_on = await lists.page(limit, place)
    next_cursor = None if goes_on is None else to_cursor(_position(bounds, goes_on), request)
    page = OutagePage(
        window_start=instant_of(bounds.first),
        window_end=instant_of(bounds.last),
        as_of=instant_of(bounds.as_of),
        max_gap=format_span(asked.max_gap),
        items=items,
        next_cursor=next_cursor,
    )
    return Response(page, headers={"Vary": "Accept", **next_link(request, next_cursor)})


@get(
    "/outages/summary",
    operation_id="getOutageSummary",
    summary="Statistics of outages",
    tags=_TAGS,
    opt={"scope": "read"},
    responses=documented(409),
)
async def get_outage_summary(
    outage_pool: asyncpg.Pool,
    workers: Workers,
    window_start: WindowStart = None,
    window_end: WindowEnd = None,
    as_of: OutagesAsOf = None,
    max_gap: MaxGap = DEFAULT_MAX_GAP,
    tag: Tag = None,
    open: OnlyOpen = False,  # noqa: A002 - its name in the query
    min_duration: MinDuration = None,
    by: Annotated[
        str | None,
        Parameter(
            max_length=255,
            description="Also by the values of the tag with this key, of which there may be "
            f"{MOST_VALUES}.",
        ),
    ] = None,
) -> OutageSummary:
    """Tell what the outages that reach into a window have together, of the same as `GET /outages`.

    Stores times days that are looked at, eight before the window among them, may be 1,000,000.
    """
    if by is not None and (problem := tag_key_problem(by)):
        raise refused("by", problem)
    bounds = _bounds(window_start, window_end, as_of)
    asked = _asked(bounds, max_gap, tag, open, min_duration)
    try:
        async with turn():
            told = await outage_statistics(outage_pool, workers, asked, by)
    except TooMuchAsked as error:
        problem = f"{error}: ask for less time, or for stores with certain tags"
        raise refused("from", problem) from None
    except TooManyValues:
        problem = f"is a tag with more than {MOST_VALUES} values: ask for stores with certain tags"
        raise refused("by", problem) from None
    groups = None
    if by is not None:
        groups = [
            OutageGroup(value=value, **_statistics(stores, together))
            for value, (stores, together) in sorted(
                told.by.items(), key=lambda item: item[0].encode()
            )
        ]
    return OutageSummary(
        window_start=instant_of(bounds.first),
        window_end=instant_of(bounds.last),
        as_of=instant_of(bounds.as_of),
        max_gap=format_span(asked.max_gap),
        by=by,
        groups=groups,
        **_statistics(told.stores, told.together),
    )


@get(
    "/outages/{outage_id:str}",
    operation_id="getOutage",
    summary="An outage",
    tags=_TAGS,
    opt={"scope": "read"},
    responses=documented(404, 409),
    response_headers=[_ETAG],
)
async def get_outage(
    pool: asyncpg.Pool,
    outage_id: _OutageId,
    as_of: _OutageAsOf = None,
    max_gap: MaxGap = DEFAULT_MAX_GAP,
) -> Response[OutageDetails]:
    """Give the outage that an id means, with what is noted of it.

    An id stays when polls that come late move the edges of its outage. If they make one outage of
    two, the ids of both mean it; if they make two of one, it means the part that it was in.
    """
    gap = max_gap_of(max_gap)
    held = await _held(pool, outage_id, as_of, gap)
    (named,) = await names_of(pool, [held.store.number], held.outage, held.as_of)
    return _details(held, named, gap)


@patch(
    "/outages/{outage_id:str}",
    operation_id="patchOutage",
    summary="Note something of an outage",
    tags=_TAGS,
    opt={"scope": "write"},
    responses=documented(404, 408, 409, 412, 413),
    response_headers=[_ETAG],
)
async def patch_outage(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    outage_id: _OutageId,
    data: OutagePatch,
    as_of: _OutageAsOf = None,
    max_gap: MaxGap = DEFAULT_MAX_GAP,
    if_match: _IfMatch = None,
) -> Response[OutageDetails]:
    """Set or remove what is noted of an outage, by the rules of JSON Merge Patch.

    What is left out stays as it is, null removes. The id is kept for good then. If something else
    is noted of the outage, as polls that came late made one of two, each note is changed by its own
    id. With `If-Match`, the request overwrites nobody else's change.
    """
    await check_body(request, OutagePatch)
    gap = max_gap_of(max_gap)
    held = await _held(pool, outage_id, as_of, gap)
    given = {name: value or None for name, value in given_members(data).items()}
    async with transaction(pool) as connection:
        await take_notes(connection)
        asked = [held.store.number], held.outage, held.as_of
        (named,) = await names_of(connection, *asked)
        check_preconditions(if_match, None, _tag(named))
        noted = noted_at(held.asked, named)
        changed = msgspec.structs.replace(noted, **given)
        if changed != noted:
            await write_note(connection, changed)
        (named,) = await names_of(connection, *asked)
    return _details(held, named, gap)


ROUTES = [get_outages, get_outage_summary, get_outage, patch_outage]


def _bounds(window_start: str | None, window_end: str | None, as_of: str | None) -> Bounds:
    """The window, by the rules of `/stores/{store_id}/outages`.

    Raises:
        Problem: it is empty, too long or too far back
    """
    bounds = bounds_of(window_start, window_end, as_of)
    if problem := window_problem(bounds, _MOST_DAYS_OF_WINDOW):
        raise refused("from", problem)
    return bounds


def _asked(
    bounds: Bounds,
    max_gap: str,
    tag: list[str] | None,
    only_open: bool,
    min_duration: str | None,
) -> Asked:
    return Asked(
        window=Window("asked", "asked", instants=(bounds.first, bounds.last)),
        as_of=bounds.as_of,
        max_gap=max_gap_of(max_gap),
        stores=stores_with(tag),
        shortest=shortest_of(min_duration),
        only_open=only_open,
    )


def _position(bounds: Bounds, place: Place) -> str:
    """Where a page ended, and the window, which `now` would move."""
    return " ".join([*map(str, bounds), place_text(place)])


def _place(position: str) -> tuple[Bounds, Place]:
    """The same of a cursor, which may be none of ours although it looks like one.

    Raises:
        Problem: it is none (422)
    """
    *numbers, place = position.split(" ", 3)
    if len(numbers) != 3 or not all(map(_NUMBER.fullmatch, numbers)):
        raise not_ours()
    bounds = Bounds(*map(int, numbers))
    if window_problem(bounds, _MOST_DAYS_OF_WINDOW) or not bounds.last <= bounds.as_of <= LATEST_MS:
        raise not_ours()
    return bounds, read_place(place)


def _statistics(stores: int, together: Together) -> dict[str, Any]:
    return {
        "stores": stores,
        "count": together.number,
        "open_count": together.open,
        "total_duration": exact_seconds(together.length),
        "longest": longest_of(together),
        "mean_time_to_restore": mean_time_to_restore_of(together),
    }


async def _held(pool: asyncpg.Pool, outage_id: str, as_of: str | None, max_gap: int) -> Held:
    """The outage that an id in a path means.

    Raises:
        Problem: none (404), or it cannot be looked at (422)
    """
    asked = read_id(outage_id)
    until = to_milliseconds(as_of, "as_of")
    if asked is None:
        raise _not_known()
    if until is None:
        until = looked_at_from(asked, or_now(None))
    elif until - asked.anchor > LOOK_BACK_MS:
        raise refused("as_of", f"is more than {LOOK_BACK_DAYS} days after the outage")
    store = await read_store_by_number(pool, asked.store)
    if store is None:
        raise _not_known()
    try:
        held = await outage_of(pool, store, asked, until, max_gap)
    except TooManyPolls as error:
        raise refused(
            "as_of",
            f"there are {error.polls} polls from 8 days before the outage until then, more than "
            f"{MOST_POLLS}: give an earlier one",
        ) from None
    if held is None:
        raise _not_known()
    return held


def _not_known() -> Problem:
    return Problem(
        404,
        "No outage has this id: what was one has turned out to be none, its store was deleted, or "
        "the id was never told.",
        slug="outage-not-found",
    )


def _tag(named: Named) -> str:
    return tag_of(named.notes)


def _details(held: Held, named: Named, max_gap: int) -> Response[OutageDetails]:
    listed = listed_outage(held.store.store_id, held.store.name, held.outage, named)
    details = OutageDetails(
        **{field: getattr(listed, field) for field in listed.__struct_fields__},
        as_of=instant_of(held.as_of),
        max_gap=format_span(max_gap),
    )
    return Response(details, headers={"ETag": f'"{_tag(named)}"'})
