"""Deleting polls of a stretch of time over HTTP, of all stores or of one; or a whole store."""

from typing import Annotated, TypeAlias

import asyncpg
from litestar import delete
from litestar.params import QueryParameter

from service.api.stores import EncodedId, decoded_id, not_known
from service.feeds.poll_removal import (
    RemovedPolls,
    RemovedStore,
    delete_polls,
    delete_polls_of,
    delete_store,
)
from service.web.instants import to_milliseconds
from service.web.problems import documented, refused

First: TypeAlias = Annotated[
    str,
    QueryParameter(
        name="from",
        schema_extra={"format": "date-time"},
        description="The first instant whose polls are deleted; UTC if it has no offset.",
    ),
]
End: TypeAlias = Annotated[
    str,
    QueryParameter(
        name="to",
        schema_extra={"format": "date-time"},
        description="The end, not included: polls from this instant on are kept.",
    ),
]


@delete(
    "/polls",
    operation_id="deletePolls",
    summary="Delete the polls of a stretch of time",
    tags=["feeds"],
    status_code=200,
    opt={"scope": "write"},
    responses=documented(422),
)
async def delete_polls_between(work_pool: asyncpg.Pool, first: First, end: End) -> RemovedPolls:
    """Permanently delete the polls of all stores from one instant up to another, not included.

    Use it when a poller's clock was wrong: polls dated in the future move the default `as_of` of
    reports into the future. Doing it twice deletes nothing more. Completed reports do not change.
    """
    return await delete_polls(work_pool, *_bounds(first, end))


@delete(
    "/stores/{store_id:str}/polls",
    operation_id="deleteStorePolls",
    summary="Delete a store's polls of a stretch of time",
    tags=["stores"],
    status_code=200,
    opt={"scope": "write"},
    responses=documented(404, 422),
)
async def delete_polls_of_store(
    work_pool: asyncpg.Pool, store_id: EncodedId, first: First, end: End
) -> RemovedPolls:
    """Permanently delete the polls of a store from one instant up to another, not included.

    Doing it twice deletes nothing more. Completed reports do not change.
    """
    removed = await delete_polls_of(work_pool, decoded_id(store_id), *_bounds(first, end))
    if removed is None:
        raise not_known()
    return removed


@delete(
    "/stores/{store_id:str}",
    operation_id="deleteStore",
    summary="Delete a store",
    tags=["stores"],
    status_code=200,
    opt={"scope": "write"},
    responses=documented(404, 422),
)
async def delete_whole_store(work_pool: asyncpg.Pool, store_id: EncodedId) -> RemovedStore:
    """Permanently delete a store with its polls, hours, zone, name and tags.

    Exclusions that name it alone are deleted too; those of several stores stay. Completed reports
    do not change. The store is there again as soon as a feed names it.
    """
    removed = await delete_store(work_pool, decoded_id(store_id))
    if removed is None:
        raise not_known()
    return removed


ROUTES = [delete_polls_between, delete_polls_of_store, delete_whole_store]


def _bounds(first: str, end: str) -> tuple[int, int]:
    begin, until = to_milliseconds(first, "from"), to_milliseconds(end, "to")
    if begin >= until:
        raise refused("to", "is not after `from`")
    return begin, until
