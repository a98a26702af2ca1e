"""Special hours of a store over HTTP: all of them, or those of one date."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, TypeAlias

import asyncpg
from litestar import Request, Response, delete, get, put
from litestar.params import Body, Parameter

from compute.feed_values import date_of
from service.api.stores import (
    EncodedId,
    SpecialDate,
    SpecialHours,
    StoreDetails,
    change,
    decoded_id,
    details,
    known_store,
    new_id,
    tagged,
    to_date,
)
from service.feeds.forgetting import forget, forget_date
from service.feeds.special_hours import MOST_DATES
from service.web.conditions import ETAG, NOT_MODIFIED, IfChanged, IfMatch, IfNoneMatch
from service.web.problems import Problem, documented, refused
from service.web.strict import check_body

GivenDate: TypeAlias = Annotated[
    str,
    Parameter(
        description="A date of the store's local time, such as 2024-12-25.",
        schema_extra={"format": "date"},
    ),
]


@get(
    "/stores/{store_id:str}/special-hours",
    operation_id="getStoreSpecialHours",
    summary="A store's special hours",
    tags=["stores"],
    opt={"scope": "read"},
    responses=NOT_MODIFIED | documented(404, 422),
    response_headers=[ETAG],
)
async def get_special_hours(
    pool: asyncpg.Pool, store_id: EncodedId, if_none_match: IfChanged = None
) -> Response[list[SpecialDate]]:
    """Give all special dates of a store, in their order, as `PUT` takes them."""
    store = details(await known_store(pool, decoded_id(store_id)))
    return tagged(store.special_hours, if_none_match)


@put(
    "/stores/{store_id:str}/special-hours",
    operation_id="putStoreSpecialHours",
    summary="Set a store's special hours",
    tags=["stores"],
    opt={"scope": "write"},
    responses=documented(408, 412, 413, 422),
    response_headers=[ETAG],
)
async def put_special_hours(
    request: Request[Any, Any, Any],
    work_pool: asyncpg.Pool,
    store_id: EncodedId,
    data: Annotated[
        list[SpecialDate], Body(max_items=MOST_DATES, description="All special dates.")
    ],
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response[StoreDetails]:
    """Replace all special hours of a store; an empty list removes them.

    A store that does not exist yet is created. With `If-Match`, the request overwrites nobody
    else's change.
    """
    await check_body(request, list[SpecialDate])
    known_id = new_id(store_id)
    dates = [day.date for day in data]
    if len(set(dates)) < len(dates):
        raise refused("date", "is there twice: give all hours of a date together", "body")
    return await change(
        work_pool,
        "special_hours",
        known_id,
        _columns(known_id, [(day.date.isoformat(), day) for day in data]) if data else None,
        lambda store: store.special_hours,
        if_match,
        if_none_match,
        partial(forget, "special_hours"),
    )


@delete(
    "/stores/{store_id:str}/special-hours",
    operation_id="deleteStoreSpecialHours",
    summary="Remove a store's special hours",
    tags=["stores"],
    status_code=200,
    opt={"scope": "write"},
    responses=documented(404, 412, 422),
    response_headers=[ETAG],
)
async def delete_special_hours(
    work_pool: asyncpg.Pool, store_id: EncodedId, if_match: IfMatch = None
) -> Response[StoreDetails]:
    """Remove all special hours of a store; doing it twice changes nothing more."""
    return await change(
        work_pool,
        "special_hours",
        decoded_id(store_id),
        None,
        lambda store: store.special_hours,
        if_match,
        None,
        partial(forget, "special_hours"),
        known=True,
    )


@get(
    "/stores/{store_id:str}/special-hours/{day:str}",
    operation_id="getStoreSpecialDate",
    summary="A store's special hours of one date",
    tags=["stores"],
    opt={"scope": "read"},
    responses=NOT_MODIFIED | documented(404, 422),
    response_headers=[ETAG],
)
async def get_special_date(
    pool: asyncpg.Pool, store_id: EncodedId, day: GivenDate, if_none_match: IfChanged = None
) -> Response[SpecialDate]:
    """Give the special hours of a store on a date."""
    to_date(day, "day", "path")
    found = _on(day, details(await known_store(pool, decoded_id(store_id))))
    if not found:
        text = "The store has no special hours on this date."
        raise Problem(404, text, slug="special-date-not-found")
    return tagged(found[0], if_none_match, None)


@put(
    "/stores/{store_id:str}/special-hours/{day:str}",
    operation_id="putStoreSpecialDate",
    summary="Set a store's special hours of one date",
    tags=["stores"],
    opt={"scope": "write"},
    responses=documented(408, 412, 413, 422),
    response_headers=[ETAG],
)
async def put_special_date(
    request: Request[Any, Any, Any],
    work_pool: asyncpg.Pool,
    store_id: EncodedId,
    day: GivenDate,
    data: SpecialHours,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response[StoreDetails]:
    """Replace the special hours of a store on a date, and no others.

    A store that does not exist yet is created. With `If-Match`, the request overwrites nobody
    else's change.
    """
    to_date(day, "day", "path")
    await check_body(request, SpecialHours)
    known_id = new_id(store_id)
    return await change(
        work_pool,
        "special_hours",
        known_id,
        _columns(known_id, [(day, data)]),
        partial(_part, day),
        if_match,
        if_none_match,
    )


@delete(
    "/stores/{store_id:str}/special-hours/{day:str}",
    operation_id="deleteStoreSpecialDate",
    summary="Remove a store's special hours of one date",
    tags=["stores"],
    status_code=200,
    opt={"scope": "write"},
    responses=documented(404, 412, 422),
    response_headers=[ETAG],
)
async def delete_special_date(
    work_pool: asyncpg.Pool, store_id: EncodedId, day: GivenDate, if_match: IfMatch = None
) -> Response[StoreDetails]:
    """Remove the special hours of a store on a date, on which its week counts again.

    What is not there is as good as removed: doing it twice changes nothing more.
    """
    to_date(day, "day", "path")
    return await change(
        work_pool,
        "special_hours",
        decoded_id(store_id),
        None,
        partial(_part, day),
        if_match,
        None,
        partial(forget_date, date_of(day)),
        known=True,
    )


ROUTES = [
    get_special_hours,
    put_special_hours,
    delete_special_hours,
    get_special_date,
    put_special_date,
    delete_special_date,
]


def _on(day: str, store: StoreDetails) -> list[SpecialDate]:
    return [known for known in store.special_hours if known.date.isoformat() == day]


def _part(day: str, store: StoreDetails) -> object:
    """What a PUT of the date replaces, as a GET shows it, for its tag."""
    found = _on(day, store)
    return found[0] if found else None


def _columns(store_id: str, dates: Sequence[tuple[str, SpecialHours]]) -> list[list[str]]:
    """Dates of a store as the columns of a feed of special hours."""
    rows = [
        [store_id, day, hours.start_time_local, hours.end_time_local, "", special.reason]
        for day, special in dates
        for hours in special.hours
    ]
    rows += [
        [store_id, day, "", "", "true", special.reason] for day, special in dates if special.closed
    ]
    return [list(column) for column in zip(*rows, strict=True)]
