"""Exclusions over HTTP: lists, single ones, and their end. `service.api.feeds` takes new ones."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import msgspec
from litestar import Request, Response, delete, get
from litestar.params import Parameter, QueryParameter
from msgspec import Meta

from compute.feed_values import LONGEST_STORE_ID, NUL_IN_STORE_ID
from service.feeds.exclusions import delete_exclusion
from service.stores.exclusions import KnownExclusion, list_exclusions, read_exclusion
from service.web.instants import to_utc
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

_ExclusionId = Annotated[UUID, Parameter(description="The id of the exclusion.")]


class Exclusion(msgspec.Struct, frozen=True):
    """A stretch of time that counts neither for nor against the stores that it covers."""

    id: Annotated[UUID, Meta(description="Its own id.")]
    begin: Annotated[datetime, Meta(description="Its first instant.")] = msgspec.field(name="from")
    end: Annotated[datetime, Meta(description="Its end, not included.")] = msgspec.field(name="to")
    reason: Annotated[str, Meta(description="Why; it is never computed with.")]
    store_ids: Annotated[
        list[str] | None, Meta(description="The stores that it covers; null: not given by ids.")
    ]
    tags: Annotated[
        dict[str, str] | None,
        Meta(description="It covers the stores that have all of these; null: not given by tags."),
    ]
    all_stores: Annotated[bool, Meta(description="Whether it covers all stores.")]


class ExclusionPage(msgspec.Struct, frozen=True):
    """Some exclusions, in the order in which they begin."""

    items: Annotated[list[Exclusion], Meta(description="The exclusions of this page.")]
    next_cursor: Annotated[
        str | None, Meta(description="`cursor` of the next page; null on the last page.")
    ]


@get(
    "/exclusions",
    operation_id="listExclusions",
    summary="List exclusions",
    tags=["stores"],
    opt={"scope": "read"},
    responses=documented(422),
    response_headers=[NEXT_LINK],
)
async def get_exclusions(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    limit: Limit = PAGE_SIZE,
    cursor: Cursor = None,
    store_id: Annotated[
        str | None,
        QueryParameter(
            name="store_id",
            max_length=LONGEST_STORE_ID,
            description="Only those that cover this store, by its id, by its tags or as all do.",
        ),
    ] = None,
    first: Annotated[
        str | None,
        QueryParameter(
            name="from",
            schema_extra={"format": "date-time"},
            description="Only those that end after this instant; UTC if it has no offset.",
        ),
    ] = None,
    end: Annotated[
        str | None,
        QueryParameter(
            name="to",
            schema_extra={"format": "date-time"},
            description="Only those that begin before this instant.",
        ),
    ] = None,
) -> Response[ExclusionPage]:
    """List exclusions, in the order in which they begin."""
    if store_id is not None and "\0" in store_id:
        raise refused("store_id", NUL_IN_STORE_ID)
    bounds = to_utc(first, "from"), to_utc(end, "to")
    after = _position(from_cursor(cursor, request))
    found = await list_exclusions(pool, limit + 1, after, *bounds, store_id)
    page = [_shown(exclusion) for exclusion in found[:limit]]
    next_cursor = None
    if len(found) > limit:
        last = page[-1]
        next_cursor = to_cursor(f"{last.begin.isoformat()} {last.id}", request)
    return Response(ExclusionPage(page, next_cursor), headers=next_link(request, next_cursor))


@get(
    "/exclusions/{exclusion_id:uuid}",
    operation_id="getExclusion",
    summary="An exclusion",
    tags=["stores"],
    opt={"scope": "read"},
    responses=documented(404),
)
async def get_exclusion(pool: asyncpg.Pool, exclusion_id: _ExclusionId) -> Exclusion:
    """Give one exclusion."""
    exclusion = await read_exclusion(pool, exclusion_id)
    if exclusion is None:
        raise _not_known()
    return _shown(exclusion)


@delete(
    "/exclusions/{exclusion_id:uuid}",
    operation_id="deleteExclusion",
    summary="Delete an exclusion",
    tags=["stores"],
    status_code=200,
    opt={"scope": "write"},
    responses=documented(404),
)
async def remove_exclusion(work_pool: asyncpg.Pool, exclusion_id: _ExclusionId) -> Exclusion:
    """Delete an exclusion, so that its time counts again; the answer is what it was.

    Completed reports do not change.
    """
    exclusion = await delete_exclusion(work_pool, exclusion_id)
    if exclusion is None:
        raise _not_known()
    return _shown(exclusion)


ROUTES = [get_exclusions, get_exclusion, remove_exclusion]


def _not_known() -> Problem:
    return Problem(404, "There is no exclusion with this id.", slug="exclusion-not-found")


def _position(text: str | None) -> tuple[datetime, UUID] | None:
    """Begin and id of the exclusion that a page comes after."""
    if text is None:
        return None
    begin, _, last_id = text.partition(" ")
    try:
        return datetime.fromisoformat(begin), UUID(last_id)
    except ValueError:
        raise not_ours() from None


def _shown(known: KnownExclusion) -> Exclusion:
    return Exclusion(
        id=known.id,
        begin=known.begins,
        end=known.ends,
        reason=known.reason,
        store_ids=known.store_ids,
        tags=known.tags,
        all_stores=known.store_ids is None and known.tags is None,
    )
