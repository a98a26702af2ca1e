"""How a store is at an instant, and its outages, over HTTP.

They are resources of their own, not part of what `GET /stores/{store_id}` shows: that has a tag,
which `If-Match` names to change what is known of a store, and a state changes by itself.
"""

import asyncio
import time
from datetime import datetime
from typing import Annotated, NamedTuple, TypeAlias

import asyncpg
import msgspec
import numpy as np
from litestar import get
from litestar.params import Parameter, QueryParameter
from msgspec import Meta

from compute.axis import DAY_MS, PER_MS
from compute.batch import Question
from compute.instants import instant_of
from compute.outages import (
    LOOK_BACK_MS,
    NEAR_MS,
    NO_INSTANT,
    Together,
    question_about,
    together,
    touching,
)
from compute.states import states
from compute.timeline import STATES, State
from service.api.outage_details import LOOK_BACK_DAYS, Outage, instant_or_none, shown_outages
from service.api.stores import EncodedId, Poll, StoreId, decoded_id, known_store, poll_of
from service.outages.kept import names_of
from service.outages.one_store import MOST_POLLS, TooManyPolls, outages_of
from service.reports.max_gap import DEFAULT_MAX_GAP, MAX_GAP_BOUNDS, parse_max_gap
from service.reports.summary import Seconds, exact_seconds
from service.spans import SPAN_PATTERN, format_span, parse_span
from service.stores.known import KnownStore, batch_of_store
from service.stores.polls import count_polls
from service.web.instants import to_milliseconds
from service.web.problems import documented, refused

#: Outages of one answer.
MOST_OUTAGES = 10_000
_DEFAULT_WINDOW = 7 * DAY_MS

StateAsOf: TypeAlias = Annotated[
    datetime, Meta(description="The instant that is told of; later polls are ignored.")
]
GivenMaxGap: TypeAlias = Annotated[
    str, Meta(description="For how long an observation speaks, such as 24h.")
]


class StoreState(msgspec.Struct, frozen=True):
    """How a store is at an instant, by its last observation before."""

    store_id: StoreId
    as_of: StateAsOf
    max_gap: GivenMaxGap
    state: Annotated[State, Meta(description="What it is.")]
    since: Annotated[
        datetime | None,
        Meta(
            description="Since when. Closed and excluded time between does not end `up` or "
            f"`down`. Null: for longer than the {LOOK_BACK_DAYS} days that are looked at, or "
            "always."
        ),
    ]
    newest_poll: Annotated[
        Poll | None,
        Meta(
            description="Its newest poll by then, even while it was closed; null: it had none "
            f"in {LOOK_BACK_DAYS} days."
        ),
    ]
    newest_poll_age: Annotated[
        Seconds | None, Meta(description="For how long there was no newer one, seconds.")
    ]


Longest: TypeAlias = Annotated[
    Seconds | None, Meta(description="The longest `duration`, seconds; null: there is none.")
]
MeanTimeToRestore: TypeAlias = Annotated[
    Seconds | None,
    Meta(
        description="Mean `duration`, seconds, of those that were restored and whose start is "
        "known; null: there is none."
    ),
]


class StoreOutages(msgspec.Struct, frozen=True):
    """The outages of a store that reach into a window, each told as a whole."""

    store_id: StoreId
    window_start: Annotated[datetime, Meta(description="Start of the window.")] = msgspec.field(
        name="from"
    )
    window_end: Annotated[datetime, Meta(description="End of the window.")] = msgspec.field(
        name="to"
    )
    as_of: StateAsOf
    max_gap: GivenMaxGap
    count: Annotated[int, Meta(ge=0, description="How many there are.")]
    longest: Longest
    mean_time_to_restore: MeanTimeToRestore
    items: Annotated[list[Outage], Meta(description="The outages, in order.")]


StateAsOfChoice: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="as_of",
        schema_extra={"format": "date-time"},
        description="The instant to tell of; UTC if it has no offset. Default: now.",
    ),
]
MaxGap: TypeAlias = Annotated[
    str,
    Parameter(
        description=f"For how long an observation speaks, {MAX_GAP_BOUNDS}: that long after its "
        "last one the state is unknown.",
        pattern=SPAN_PATTERN,
        min_length=2,
        max_length=20,
    ),
]
OnlyOpen: TypeAlias = Annotated[
    bool, Parameter(description="Whether to tell only those that are open.")
]
MinDuration: TypeAlias = Annotated[
    str | None,
    Parameter(
        description="Only those whose `duration` is at least this, such as `15m`.",
        pattern=SPAN_PATTERN,
        min_length=2,
        max_length=20,
    ),
]


WindowEnd: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="to",
        schema_extra={"format": "date-time"},
        description="End of the window; UTC if it has no offset. Default: `as_of`.",
    ),
]
OutagesAsOf: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="as_of",
        schema_extra={"format": "date-time"},
        description="Later polls are ignored, and an outage that goes on then is open. "
        "Default: `to` or, without it, now.",
    ),
]


class Bounds(NamedTuple):
    """Window and `as_of` of outages, milliseconds since 1970-01-01 UTC."""

    first: int
    last: int
    as_of: int


def bounds_of(window_start: str | None, window_end: str | None, as_of: str | None) -> Bounds:
    """The window and `as_of` that are asked for, or what stands in their place."""
    last, first = to_milliseconds(window_end, "to"), to_milliseconds(window_start, "from")
    until = to_milliseconds(as_of, "as_of")
    until = or_now(last) if until is None else until
    last = until if last is None else min(last, until)
    return Bounds(max(0, last - _DEFAULT_WINDOW) if first is None else first, last, until)


def window_problem(bounds: Bounds, most_days: int | None = None) -> str | None:
    """What is wrong with a window, if anything; continues a sentence about its begin.

    Args:
        bounds: of it
        most_days: how long it may be; None: as far as is looked back
    """
    if bounds.first >= bounds.last:
        return "is not before the end of the window"
    if most_days is not None and bounds.last - bounds.first > most_days * DAY_MS:
        return (
            f"is more than {most_days} days before the end of the window: ask for one part after "
            "another"
        )
    if bounds.as_of - bounds.first > LOOK_BACK_MS:
        return f"is more than {LOOK_BACK_DAYS} days before `as_of`"
    return None


@get(
    "/stores/{store_id:str}/state",
    operation_id="getStoreState",
    summary="A store's state at an instant",
    tags=["stores"],
    opt={"scope": "read"},
    responses=documented(404, 422),
)
async def get_state(
    pool: asyncpg.Pool,
    store_id: EncodedId,
    as_of: StateAsOfChoice = None,
    max_gap: MaxGap = DEFAULT_MAX_GAP,
) -> StoreState:
    """Say how a store is now, or was at an instant, and since when.

    It is closed, excluded, up, down or unknown; the status is that of its last observation, so it
    may differ from what a report by `nearest` says of the same time. Of a store with more than
    2,000,000 polls in 400 days, only the last eight are looked at.
    """
    gap = max_gap_of(max_gap)
    instant = or_now(to_milliseconds(as_of, "as_of"))
    store = await known_store(pool, decoded_id(store_id))
    for look_back in (NEAR_MS, LOOK_BACK_MS):
        question = question_about(instant, gap, look_back)
        if look_back > NEAR_MS and await _polls(pool, store, question) > MOST_POLLS:
            break
        batch = await batch_of_store(pool, store, question)
        found = await asyncio.to_thread(states, batch, question)
        since, poll = int(found.since[0]), int(found.newest_poll[0])
        if since != NO_INSTANT and poll != NO_INSTANT:
            break
    return StoreState(
        store_id=store.store_id,
        as_of=instant_of(instant),
        max_gap=format_span(gap),
        state=STATES[found.state[0]],
        since=instant_or_none(since),
        newest_poll=None if poll == NO_INSTANT else poll_of(poll),
        newest_poll_age=None if poll == NO_INSTANT else (instant - (poll >> 1)) / 1000,
    )


@get(
    "/stores/{store_id:str}/outages",
    operation_id="listStoreOutages",
    summary="A store's outages",
    tags=["stores"],
    opt={"scope": "read"},
    responses=documented(404, 422),
)
async def get_outages(
    pool: asyncpg.Pool,
    store_id: EncodedId,
    window_start: Annotated[
        str | None,
        QueryParameter(
            name="from",
            schema_extra={"format": "date-time"},
            description="Start of the window; UTC if it has no offset. At most "
            f"{LOOK_BACK_DAYS} days before `as_of`. Default: 7 days before its end.",
        ),
    ] = None,
    window_end: WindowEnd = None,
    as_of: OutagesAsOf = None,
    max_gap: MaxGap = DEFAULT_MAX_GAP,
    open: OnlyOpen = False,  # noqa: A002 - its name in the query
    min_duration: MinDuration = None,
) -> StoreOutages:
    """List the outages of a store that reach into a window, with how many, how long, how soon over.

    An outage is a longest time that the store was down; what was closed or excluded between does
    not end it. It is told as a whole, also what of it lies outside the window. At most 10,000 are
    told. Of a store with more than 2,000,000 polls in 400 days, only the time from 8 days before
    `from` on is looked at.
    """
    gap = max_gap_of(max_gap)
    shortest = shortest_of(min_duration)
    bounds = bounds_of(window_start, window_end, as_of)
    if problem := window_problem(bounds):
        raise refused("from", problem)
    first, last, until = bounds
    store = await known_store(pool, decoded_id(store_id))
    try:
        found = await outages_of(pool, store, until, gap, first)
    except TooManyPolls as error:
        raise refused(
            "from",
            f"there are {error.polls} polls from 8 days before to `as_of`, more than {MOST_POLLS}",
        ) from None
    wanted = touching(found, np.array([[first, last]]), until)
    wanted &= found.length >= PER_MS * shortest
    told = found.only(wanted & found.is_open if open else wanted)
    if len(told.store) > MOST_OUTAGES:
        problem = f"the window holds {len(told.store)} outages, more than {MOST_OUTAGES}"
        raise refused("from", problem)
    named = await names_of(pool, [store.number] * len(told.store), told, until)
    all_told = together(told)
    return StoreOutages(
        store_id=store.store_id,
        window_start=instant_of(first),
        window_end=instant_of(last),
        as_of=instant_of(until),
        max_gap=format_span(gap),
        count=all_told.number,
        longest=longest_of(all_told),
        mean_time_to_restore=mean_time_to_restore_of(all_told),
        items=await asyncio.to_thread(shown_outages, told, named),
    )


ROUTES = [get_state, get_outages]


async def _polls(pool: asyncpg.Pool, store: KnownStore, question: Question) -> int:
    return await count_polls(pool, store.number, question.day_ranges)


def longest_of(some: Together) -> float | None:
    """Seconds of the longest of some outages; None: there is none."""
    return exact_seconds(some.longest) if some.number else None


def mean_time_to_restore_of(some: Together) -> float | None:
    """Mean seconds of those that were restored and have a known start; None: there is none."""
    return exact_seconds(some.restored_length) / some.restored if some.restored else None


def max_gap_of(text: str) -> int:
    """Milliseconds of `max_gap` in a query.

    Raises:
        Problem: it is no span, or out of bounds
    """
    try:
        return parse_max_gap(text)
    except ValueError as error:
        raise refused("max_gap", str(error)) from None


def shortest_of(text: str | None) -> int:
    """Milliseconds of `min_duration` in a query; None: of any length.

    Raises:
        Problem: it is no span
    """
    if text is None:
        return 0
    try:
        return parse_span(text)
    except ValueError as error:
        raise refused("min_duration", str(error)) from None


def or_now(instant: int | None) -> int:
    """An instant, milliseconds since 1970-01-01 UTC; None: now."""
    return time.time_ns() // 1_000_000 if instant is None else instant
