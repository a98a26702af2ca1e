"""The states of all stores together, and their changes as server-sent events, over HTTP."""

import logging
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import asyncpg
import msgspec
from litestar import Response, get
from litestar.params import HeaderParameter, Parameter, QueryParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage
from msgspec import Meta

from compute.instants import instant_of
from compute.timeline import STATES, State
from service.api.report_events import (
    KEEP_ALIVE_SECONDS,
    STREAM_HEADERS,
    EventsOperation,
    check_room,
)
from service.api.stores import StoreId, Tag, stores_with
from service.background import happens
from service.database.listening import Streams
from service.database.pool import DATABASE_FAILED
from service.states.changes import Change, StateEvents, kept_changes
from service.states.told import (
    MOST_VALUES,
    Counted,
    TooManyValues,
    count_states,
    count_states_by,
    last_look,
)
from service.stores.selection import Selection
from service.web.problems import documented, refused

log = logging.getLogger("storewatch.states")

#: Digits of the id of a change.
_LONGEST_ID = 19

LookAsOf: TypeAlias = Annotated[
    datetime | None,
    Meta(
        description="The instant of the last look at the stores, by which this is so; null: there "
        "was none."
    ),
]


class StateCounts(msgspec.Struct, frozen=True):
    """How many stores are in which state."""

    stores: Annotated[int, Meta(ge=0, description="How many there are.")]
    up: Annotated[int, Meta(ge=0, description="Those that are up.")]
    down: Annotated[int, Meta(ge=0, description="Those that are down.")]
    unknown: Annotated[int, Meta(ge=0, description="Those of which nothing is known now.")]
    closed: Annotated[int, Meta(ge=0, description="Those outside their business hours.")]
    excluded: Annotated[int, Meta(ge=0, description="Those in time that does not count.")]
    not_looked_at: Annotated[
        int, Meta(ge=0, description="Those that are new, and have not been looked at yet.")
    ]


class StateCountsOfValue(StateCounts, frozen=True, kw_only=True):
    """The same of the stores that share a value of a tag."""

    value: Annotated[str, Meta(description="The value; empty: they lack the tag.")]


class StateSummary(msgspec.Struct, frozen=True):
    """How many stores are in which state, all together and by a tag."""

    as_of: LookAsOf
    counts: Annotated[StateCounts, Meta(description="All stores.")]
    by: Annotated[
        str | None, Meta(description="The key of the tag that `groups` are by; null: none.")
    ]
    groups: Annotated[
        list[StateCountsOfValue] | None,
        Meta(description="The stores by the tag's values, in their order; null: not asked for."),
    ]


class StateChange(msgspec.Struct, frozen=True):
    """A store's state is another one than at the look before."""

    store_id: StoreId
    before: Annotated[State, Meta(description="What it was.")]
    state: Annotated[State, Meta(description="What it is.")]
    since: Annotated[datetime | None, Meta(description="Since when; null: that is not known.")]
    as_of: Annotated[datetime, Meta(description="The instant of the look.")]


@get(
    "/state/summary",
    operation_id="getStateSummary",
    summary="How many stores are up, down, closed",
    tags=["stores"],
    opt={"scope": "read"},
    responses=documented(422),
)
async def get_summary(
    pool: asyncpg.Pool,
    by: Annotated[
        str | None,
        Parameter(
            min_length=1,
            max_length=255,
            description="Also count the stores with each value of this tag; `timezone` counts as "
            f"one. It may have up to {MOST_VALUES:,} values.",
        ),
    ] = None,
) -> StateSummary:
    """Count the stores by their states, as the last look at them has found them.

    All stores are looked at every `STOREWATCH_STATE_EVERY`, and those of polls that come one by one
    at once.
    """
    if by is not None and "\0" in by:
        raise refused("by", "has a character that no tag has, NUL")
    counts = await count_states(pool)
    groups = None
    if by is not None:
        try:
            groups = [
                StateCountsOfValue(value=one.value, **_counts(one))
                for one in await count_states_by(pool, by)
            ]
        except TooManyValues as error:
            raise refused("by", f"{error}: choose a tag with fewer") from None
    as_of = await last_look(pool)
    return StateSummary(
        as_of=instant_of(as_of),
        counts=StateCounts(**_counts(counts)),
        by=by,
        groups=groups,
    )


@get(
    "/events",
    operation_id="streamStateEvents",
    summary="Changes of states, as they happen",
    tags=["stores"],
    media_type="text/event-stream",
    operation_class=EventsOperation,
    opt={"scope": "read"},
    responses=documented(422),
)
async def get_events(
    pool: asyncpg.Pool,
    streams: Streams,
    state_events: StateEvents,
    wanted: Annotated[
        list[State] | None,
        QueryParameter(
            name="state",
            max_items=len(STATES),
            description="Only changes to this state. May be repeated: then to any of them.",
        ),
    ] = None,
    tag: Tag = None,
    last_event_id: Annotated[
        str | None,
        HeaderParameter(name="Last-Event-ID", description="`id` of the last event received."),
    ] = None,
) -> Response[Any]:
    """Send an event `state` for each store whose state has changed from one look to the next.

    Its data is `store_id`, `before`, `state`, `since` and `as_of`. With `Last-Event-ID` the stream
    goes on after that event; changes are kept for a day, at most 1,000,000 of them. An event
    `missed` says that some were not kept, or that the id is none of ours: ask for all states anew.
    A store's first state is no change. The stream ends when the service stops, or fails.
    """
    chosen = stores_with(tag)
    check_room(streams, "Ask for `/stores?state=down` or `/state/summary` every minute instead.")
    numbers = tuple(STATES.index(state) for state in wanted or ())
    return ServerSentEvent(
        _events(pool, streams, state_events, numbers, chosen, last_event_id),
        headers=dict(STREAM_HEADERS),
    )


ROUTES = [get_summary, get_events]


async def _events(
    pool: asyncpg.Pool,
    streams: Streams,
    events: StateEvents,
    states: tuple[int, ...],
    wanted: Selection,
    last: str | None,
) -> AsyncIterator[ServerSentEventMessage]:
    with events.changes() as changed:
        try:
            place, missed = await _place(pool, last)
            # The headers are sent with the first piece, and must not wait for something to happen.
            yield ServerSentEventMessage(data=None, comment="changes of states", id=str(place))
            if missed:
                yield ServerSentEventMessage(event="missed", id=str(place), data="{}")
            told = place
            while not streams.closing:
                changed.clear()
                page = await events.read(place, states, wanted)
                if place < page.forgotten:
                    place = told = page.forgotten
                    yield ServerSentEventMessage(event="missed", id=str(place), data="{}")
                    continue
                for change in page.changes:
                    yield _message(change)
                    told = change.id
                place = page.last
                while not (page.full or changed.is_set()):
                    if not await happens(changed, KEEP_ALIVE_SECONDS):
                        # Whoever has to begin anew need not look again at what was not wanted.
                        at = str(place) if place != told else None
                        yield ServerSentEventMessage(data=None, comment="keep-alive", id=at)
                        told = place
        except DATABASE_FAILED as error:  # the client comes back, and is answered 503 then
            log.warning("cannot read changes for a stream of events: %s", error)


async def _place(pool: asyncpg.Pool, last: str | None) -> tuple[int, bool]:
    """After which change a stream begins, and whether its client has missed some."""
    forgotten, newest = await kept_changes(pool)
    if last is None:
        return newest, False
    is_id = last.isascii() and last.isdecimal() and len(last) <= _LONGEST_ID
    if not is_id or int(last) > newest:
        return newest, True  # none of ours, or of a database that was there before
    return max(int(last), forgotten), int(last) < forgotten


def _message(change: Change) -> ServerSentEventMessage:
    told = StateChange(
        store_id=change.store_id,
        before=STATES[change.before],
        state=STATES[change.state],
        since=instant_of(change.since),
        as_of=instant_of(change.as_of),
    )
    data = msgspec.json.encode(told).decode()
    return ServerSentEventMessage(event="state", id=str(change.id), data=data)


def _counts(counted: Counted) -> dict[str, int]:
    seen = sum(counted.by_state.values())
    return {
        **counted.by_state,
        "stores": counted.stores,
        "not_looked_at": counted.stores - seen,
    }
