"""A store's availability over any window, and the timeline that it is made of, over HTTP."""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, NamedTuple, TypeAlias

import asyncpg
import msgspec
import numpy as np
from litestar import get
from litestar.di import NamedDependency, Provide
from litestar.params import Parameter, QueryParameter, SkipValidation
from msgspec import Meta

from compute.axis import DAY_MS, PER_MS, Ints
from compute.batch import Question, StoreBatch, batch_totals
from compute.instants import EPOCH, instant_of
from compute.polls import PollDays, unpack_polls
from compute.targets import allowed, met, target_of, target_text
from compute.timeline import STATES, State, Timeline, timeline
from compute.uptime import Interpolation
from compute.windows import Window, WindowRefused, instants_of, resolve_windows
from compute.zones import DEFAULT_TIMEZONE, offsets
from service.api.stores import (
    EncodedId,
    Poll,
    StoreId,
    decoded_id,
    known_store,
    poll_of,
)
from service.reports.max_gap import DEFAULT_MAX_GAP, MAX_GAP_BOUNDS, parse_max_gap
from service.reports.pipeline import NoPolls
from service.reports.summary import (
    Availability,
    ErrorBudget,
    Fraction,
    PollsKeptSince,
    Seconds,
    budget_of,
    exact_seconds,
    share_of,
    times_of,
)
from service.spans import SPAN_PATTERN, format_span
from service.stores.known import KnownStore, batch_of_store
from service.stores.polls import newest_and_kept
from service.web.instants import to_milliseconds
from service.web.problems import Problem, documented, refused

#: The longest window of one request: a leap year.
LONGEST_WINDOW = timedelta(days=366)
#: Polls of one timeline.
MOST_POLLS = 50_000
_DEFAULT_WINDOW = timedelta(days=7)
_MILLISECOND = timedelta(milliseconds=1)
#: Beyond a window, so that offsets cover the local days that it touches; none is longer than two.
_SPARE_DAYS = 2

Share: TypeAlias = Annotated[
    Fraction | None, Meta(description="Share of business time; null if there is none.")
]
WindowStart: TypeAlias = Annotated[datetime, Meta(description="Start of the window.")]
WindowEnd: TypeAlias = Annotated[
    datetime, Meta(description="End of the window, not later than `as_of`.")
]
AsOf: TypeAlias = Annotated[datetime, Meta(description="Later polls are ignored.")]
GivenInterpolation: TypeAlias = Annotated[
    Interpolation, Meta(description="The status between two observations.")
]
GivenMaxGap: TypeAlias = Annotated[
    str, Meta(description="For how long an observation speaks to either side, such as 24h.")
]


class StoreAvailability(msgspec.Struct, frozen=True):
    """How long a store was up and down within its business hours.

    `uptime` + `downtime` + `unknown` + `excluded` = `business_time`.
    """

    store_id: StoreId
    window_start: WindowStart = msgspec.field(name="from")
    window_end: WindowEnd = msgspec.field(name="to")
    as_of: AsOf
    interpolation: GivenInterpolation
    max_gap: GivenMaxGap
    polls_kept_since: PollsKeptSince
    business_time: Seconds
    uptime: Seconds
    downtime: Seconds
    unknown: Seconds
    excluded: Seconds
    uptime_share: Share
    downtime_share: Share
    unknown_share: Share
    availability: Availability
    target: Annotated[
        str | None,
        Meta(description="The share that was asked for, else the store's own; null: it has none."),
    ]
    target_met: Annotated[
        bool | None,
        Meta(
            description="Whether `uptime` >= `target` x (`uptime` + `downtime`); null: no target, "
            "or both are 0."
        ),
    ]
    budget: Annotated[
        ErrorBudget | None, Meta(description="Its error budget; null: it has no target.")
    ]


class Segment(msgspec.Struct, frozen=True):
    """A part of a window in which nothing changes, up to but not including its end."""

    start: Annotated[datetime, Meta(description="Its first instant.")]
    end: Annotated[datetime, Meta(description="The first instant after it.")]
    state: Annotated[State, Meta(description="State of the store throughout the segment.")]


class LocalOffset(msgspec.Struct, frozen=True):
    """How the store's clocks are set, from an instant on."""

    start: Annotated[
        datetime, Meta(description="From when; of the first, where what is told begins.")
    ] = msgspec.field(name="from")
    seconds: Annotated[int, Meta(description="Seconds ahead of UTC; west of it below 0.")]
    abbreviation: Annotated[
        str,
        Meta(
            description="What the tz database calls it: EST, or +0530 where a zone has no letters."
        ),
    ]


class StoreTimeline(msgspec.Struct, frozen=True):
    """The segments that the sums of a window are made of, without gaps, and its polls."""

    store_id: StoreId
    window_start: WindowStart = msgspec.field(name="from")
    window_end: WindowEnd = msgspec.field(name="to")
    as_of: AsOf
    interpolation: GivenInterpolation
    max_gap: GivenMaxGap
    polls_kept_since: PollsKeptSince
    segments: Annotated[
        list[Segment], Meta(description="In order; each starts where the one before it ends.")
    ]
    polls: Annotated[
        list[Poll],
        Meta(description="All polls from `from` to `to`, both included, even while it was closed."),
    ]
    offsets: Annotated[
        list[LocalOffset],
        Meta(
            description="The offsets of its local time, in order, by the tz database that the "
            f"numbers are made with; from {_SPARE_DAYS} days or a little more before the window to "
            "as long after it."
        ),
    ]


# Text, because for any other type Litestar takes the value `null` as if it were left out.
From: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="from",
        schema_extra={"format": "date-time"},
        description="Start of the window; UTC if it has no offset. Default: 7 days before its end.",
    ),
]
To: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="to",
        schema_extra={"format": "date-time"},
        description="End of the window; UTC if it has no offset. Default: `as_of` or, without it, "
        "the newest poll of all stores.",
    ),
]
WindowText: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="window",
        max_length=100,
        description="The window as reports take it, in the store's own zone: `30d`, `2026-10`, "
        "`previous-week`; in place of `from` and `to`.",
    ),
]
AsOfChoice: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="as_of",
        schema_extra={"format": "date-time"},
        description="Later polls are ignored, and no window reaches beyond it; as that of a "
        "report. So the days of a month add up to the month. Default: `to` or, without it, the "
        "newest poll of all stores.",
    ),
]
InterpolationChoice: TypeAlias = Annotated[
    Interpolation,
    Parameter(
        description="The status between two observations: that of the nearest, or of the previous "
        "one."
    ),
]
MaxGap: TypeAlias = Annotated[
    str,
    Parameter(
        description=f"For how long an observation speaks to either side, {MAX_GAP_BOUNDS}.",
        pattern=SPAN_PATTERN,
        min_length=2,
        max_length=20,
    ),
]


class Asked(NamedTuple):
    """A store, the question that the parameters ask about it, and the data that answers it.

    And since when polls are kept, if the question is also about time before.
    """

    store: KnownStore
    question: Question
    batch: StoreBatch
    polls_kept_since: datetime | None


async def _ask(
    pool: asyncpg.Pool,
    store_id: EncodedId,
    window_start: From = None,
    window_end: To = None,
    window: WindowText = None,
    as_of: AsOfChoice = None,
    interpolation: InterpolationChoice = "nearest",
    max_gap: MaxGap = DEFAULT_MAX_GAP,
) -> Asked:
    """Read the parameters of both resources, and the data that they ask about."""
    try:
        gap = parse_max_gap(max_gap)
    except ValueError as error:
        raise refused("max_gap", str(error)) from None
    last = to_milliseconds(window_end, "to")
    first = to_milliseconds(window_start, "from")
    until = to_milliseconds(as_of, "as_of")
    if window is not None:
        for name, given in (("from", first), ("to", last)):
            if given is not None:
                raise refused(name, "is in the way of `window`: give one of the two")
    if until is None:
        until = last
    # One connection for all: while many requests come, each of them would be waited for.
    async with pool.acquire() as connection:
        store = await known_store(connection, decoded_id(store_id))
        # Before the polls are read: of those that go meanwhile `kept_since` tells already.
        newest, kept_since = await newest_and_kept(connection)
        if until is None:
            until = newest
        if until is None:
            problem = str(NoPolls()).replace("the report an as_of", "an `as_of`")
            raise Problem(409, problem, slug="no-polls")
        asked = _between(first, last, until) if window is None else _named(window, until)
        question = Question(until, interpolation, gap, windows=(asked,))
        batch = await batch_of_store(connection, store, question)
    return Asked(store, question, batch, instant_of(question.lacks_before(kept_since)))


def _between(first: int | None, last: int | None, as_of: int) -> Window:
    """The window from one instant to another, milliseconds since 1970-01-01 UTC."""
    last = as_of if last is None else min(last, as_of)
    if first is None:
        first = max(0, last - _DEFAULT_WINDOW // _MILLISECOND)
    if first >= last:
        raise refused("from", "is not before the end of the window")
    if last - first > LONGEST_WINDOW // _MILLISECOND:
        raise refused("from", f"is more than {LONGEST_WINDOW.days} days before the end")
    return Window("asked", "asked", instants=(first, last))


def _named(text: str, as_of: int) -> Window:
    """The window that a text names."""
    try:
        windows = resolve_windows([text], as_of, None)
    except WindowRefused as error:
        raise refused("window", str(error)) from None
    if len(windows) > 1:
        raise refused("window", f"{text!r} is {len(windows)} windows: ask for one of them")
    return windows[0]


@get(
    "/stores/{store_id:str}/availability",
    operation_id="getStoreAvailability",
    summary="A store's availability over a window",
    tags=["stores"],
    opt={"scope": "read"},
    dependencies={"asked": Provide(_ask)},
    responses=documented(404, 409, 422),
)
async def get_availability(
    asked: NamedDependency[SkipValidation[Asked]],
    target: Annotated[
        str | None,
        Parameter(
            max_length=20,
            description="Which share of the known time it shall be up, 0.995 or 99.5%. Default: "
            "the store's own target.",
        ),
    ] = None,
) -> StoreAvailability:
    """Say how long a store was up and down within its business hours, over any window.

    The numbers are those of a report with the same `as_of` and window. From `from` to `to` there
    can be at most 366 days, in a `window` 400.
    """
    store, question, batch, kept_since = asked
    try:
        shall = store.target if target is None else target_of(target)
    except ValueError as error:
        raise refused("target", str(error)) from None
    totals = await asyncio.to_thread(batch_totals, batch, question)
    parts = (totals.up, totals.down, totals.unknown, totals.excluded)
    up, down, unknown, excluded = (int(part[0, 0]) for part in parts)
    business = up + down + unknown + excluded
    start, end = _placed(asked)
    budget = reached = None
    if shall is not None:
        one = np.array([[up], [down], [shall]])
        budget = budget_of(int(allowed(*one)[0]), down)
        reached = bool(met(*one)[0]) if up + down else None
    return StoreAvailability(
        store_id=store.store_id,
        window_start=instant_of(start),
        window_end=instant_of(end),
        as_of=instant_of(question.as_of),
        interpolation=question.interpolation,
        max_gap=format_span(question.max_gap),
        polls_kept_since=kept_since,
        business_time=exact_seconds(business),
        **times_of(up, down, unknown, excluded),
        uptime_share=share_of(up, business),
        downtime_share=share_of(down, business),
        unknown_share=share_of(unknown, business),
        target=None if shall is None else target_text(shall),
        target_met=reached,
        budget=budget,
    )


@get(
    "/stores/{store_id:str}/timeline",
    operation_id="getStoreTimeline",
    summary="A store's timeline over a window",
    tags=["stores"],
    opt={"scope": "read"},
    dependencies={"asked": Provide(_ask)},
    responses=documented(404, 409, 422),
)
async def get_timeline(
    asked: NamedDependency[SkipValidation[Asked]],
) -> StoreTimeline:
    """List the segments that a window's availability is made of, and its polls.

    The lengths of the segments in a state add up to what `availability` says of the same window.
    From `from` to `to` there can be at most 366 days, in a `window` 400; and 50,000 polls.
    """
    store, question, batch, kept_since = asked
    start, end = _placed(asked)
    polls = _polls(batch, start, end)
    if len(polls) > MOST_POLLS:
        raise refused("from", f"the window holds {len(polls)} polls, more than {MOST_POLLS}")
    parts = await asyncio.to_thread(timeline, batch, question)
    return await asyncio.to_thread(
        lambda: StoreTimeline(
            store_id=store.store_id,
            window_start=instant_of(start),
            window_end=instant_of(end),
            as_of=instant_of(question.as_of),
            interpolation=question.interpolation,
            max_gap=format_span(question.max_gap),
            polls_kept_since=kept_since,
            segments=_segments(parts),
            polls=[poll_of(poll) for poll in polls.tolist()],
            offsets=_offsets(store.timezone or DEFAULT_TIMEZONE, start, end),
        )
    )


ROUTES = [get_availability, get_timeline]


def _placed(asked: Asked) -> tuple[int, int]:
    """Where the window begins and ends for the store, milliseconds since 1970-01-01 UTC."""
    store, question, _, _ = asked
    zone = store.timezone or DEFAULT_TIMEZONE
    return instants_of(question.windows[0], zone, question.as_of)


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


def _offsets(zone: str, start: int, end: int) -> list[LocalOffset]:
    spare = _SPARE_DAYS * DAY_MS
    # Whole days: what is worked out once then serves all windows of a day.
    first, last = (start - spare) // DAY_MS * DAY_MS, -((-end - spare) // DAY_MS) * DAY_MS
    return [
        LocalOffset(instant_of(offset.start), offset.ahead // 1000, offset.abbreviation)
        for offset in offsets(zone, first, last)
    ]


def _of_half_milliseconds(position: int) -> datetime:
    return EPOCH + timedelta(microseconds=position * (1000 // PER_MS))
