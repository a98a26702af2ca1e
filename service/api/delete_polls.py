"""Deleting the polls of a stretch of time over HTTP."""

from typing import Annotated

import asyncpg
from litestar import delete
from litestar.params import QueryParameter

from service.feeds.poll_removal import RemovedPolls, delete_polls
from service.web.instants import to_milliseconds
from service.web.problems import documented, refused


@delete(
    "/polls",
    operation_id="deletePolls",
    summary="Delete the polls of a stretch of time",
    tags=["feeds"],
    status_code=200,
    opt={"scope": "write"},
    responses=documented(422),
)
async def delete_polls_between(
    work_pool: asyncpg.Pool,
    first: Annotated[
        str,
        QueryParameter(
            name="from",
            schema_extra={"format": "date-time"},
            description="The first instant whose polls are deleted; UTC if it has no offset.",
        ),
    ],
    end: Annotated[
        str,
        QueryParameter(
            name="to",
            schema_extra={"format": "date-time"},
            description="The end, not included: polls from this instant on are kept.",
        ),
    ],
) -> RemovedPolls:
    """Permanently delete the polls of all stores from one instant up to another, not included.

    Use it when a poller's clock was wrong: polls dated in the future move the default `as_of` of
    reports into the future. Doing it twice deletes nothing more. Completed reports do not change.
    """
    begin, until = to_milliseconds(first, "from"), to_milliseconds(end, "to")
    if begin >= until:
        raise refused("to", "is not after `from`")
    return await delete_polls(work_pool, begin, until)


ROUTES = [delete_polls_between]
