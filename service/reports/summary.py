"""A report's summary: what it says of all its stores together, kept beside the report.

Every version reads what older ones kept, and leaves aside what newer ones keep more.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, TypeAlias, TypedDict
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Meta

from compute.axis import PER_MS
from compute.conditions import CONDITIONS, Condition
from compute.down_by_hour import HOURS
from compute.instants import milliseconds_of
from compute.roll_up import RANGES, RollUp
from compute.targets import ALLOWED, ALLOWED_REST, MET, MISSED, SCALE, UNKNOWN, USED
from compute.windows import Window, resolve_windows
from service.reports.windows import WindowName, window_names

Seconds = Annotated[float, Meta(ge=0, description="Exact seconds.")]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Availability = Annotated[
    Fraction | None,
    Meta(description="uptime / (uptime + downtime); null if both are 0."),
]


class ErrorBudget(msgspec.Struct, frozen=True, kw_only=True):
    """How much downtime targets leave to the stores that have one: `left` = `allowed` - `used`."""

    allowed: Annotated[
        float,
        Meta(ge=0, description="(1 - target) x (uptime + downtime), of each store; seconds."),
    ]
    used: Annotated[float, Meta(ge=0, description="Their downtime, seconds.")]
    left: Annotated[float, Meta(description="Seconds; below 0 if more was used.")]


class WindowTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What a window holds, of a store or of several together.

    `uptime` + `downtime` + `unknown` + `excluded` = `business_time`.
    """

    window: WindowName
    business_time: Seconds
    uptime: Seconds
    downtime: Seconds
    unknown: Seconds
    excluded: Seconds
    availability: Availability


StoresMet: TypeAlias = Annotated[
    Annotated[int, Meta(ge=0)] | None,
    Meta(description="Stores that met their target; null: no store has one."),
]
StoresMissed: TypeAlias = Annotated[
    Annotated[int, Meta(ge=0)] | None,
    Meta(description="Stores that missed their target; null: no store has one."),
]
StoresUnknown: TypeAlias = Annotated[
    Annotated[int, Meta(ge=0)] | None,
    Meta(
        description="Stores that have a target but of which nothing is known; null: no store has "
        "one."
    ),
]
Budget: TypeAlias = Annotated[
    ErrorBudget | None,
    Meta(description="The error budget of the stores that have a target; null: no store has one."),
]


class WindowSummary(WindowTotals, frozen=True, kw_only=True):
    """What all stores of a report have together in one window."""

    stores_down: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Stores with any downtime in it; null: made by an older version."),
    ]
    stores_met: StoresMet
    stores_missed: StoresMissed
    stores_unknown: StoresUnknown
    budget: Budget


class ConditionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The stores that meet a condition."""

    condition: Annotated[Condition, Meta(description="Which condition.")]
    stores: Annotated[int, Meta(ge=0, description="How many stores meet it.")]
    downtime: Annotated[float, Meta(ge=0, description="Their downtime in the last week, seconds.")]


class StoreDowntime(msgspec.Struct, frozen=True, kw_only=True):
    """A store's last window, which is the last week unless the report names its windows."""

    store_id: Annotated[str, Meta(description="The id that feeds give the store.")]
    uptime: Seconds
    downtime: Seconds
    unknown: Seconds
    excluded: Seconds
    availability: Availability


PollsKeptSince: TypeAlias = Annotated[
    datetime | None,
    Meta(
        description="Polls from before it are kept no longer, and some would have mattered: what "
        "they said is unknown. Null: all that matters was there."
    ),
]


class ReportSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Totals over all stores of a report; shares are computed from total seconds."""

    as_of: Annotated[datetime, Meta(description="The end of every window.")]
    polls_kept_since: PollsKeptSince
    stores: Annotated[int, Meta(ge=0, description="Stores in the report.")]
    windows: Annotated[
        list[WindowSummary],
        Meta(description="The last hour, day and week before `as_of`, or those that it names."),
    ]
    stores_by_availability: Annotated[
        list[Annotated[int, Meta(ge=0)]],
        Meta(
            description=f"Stores by availability in the last window: {RANGES} ranges of "
            f"{100 // RANGES} %, each including its start but not its end, and finally the stores "
            "at exactly 100 %."
        ),
    ]
    stores_without_availability: Annotated[
        int, Meta(ge=0, description="Stores for which nothing is known of the last window.")
    ]
    most_downtime: Annotated[
        list[StoreDowntime],
        Meta(description="The stores with the most downtime in the last window, worst first."),
    ]
    conditions: Annotated[
        list[ConditionSummary] | None,
        Meta(
            description="Stores to look at first; one may meet several conditions. Null: made by "
            "an older version, or over windows of its own."
        ),
    ]
    down_by_hour: Annotated[
        Annotated[list[Annotated[float, Meta(ge=0)]], Meta(min_length=HOURS, max_length=HOURS)]
        | None,
        Meta(
            description="Downtime of all stores in the last week, seconds, by the hour of the week "
            "in the local time of each: the first is Monday 00:00 to 01:00. Null: made by an older "
            "version, or over windows of its own."
        ),
    ]


class _Kept(msgspec.Struct, frozen=True):
    """A roll-up as the table `report` keeps it, in half-milliseconds; None: by an older version."""

    stores: int
    sums: list[tuple[int, int, int]]
    by_availability: list[int]
    without: int
    most_downtime: list[tuple[str, int, int, int]]
    down: list[int] | None = None
    conditions: dict[str, tuple[int, int]] | None = None
    down_by_hour: list[int] | None = None
    excluded: list[int] | None = None
    most_excluded: list[int] | None = None
    targets: list[list[int]] | None = None


def to_kept(roll_up: RollUp) -> str:
    """What the column `summary` holds for a roll-up."""
    kept = _Kept(
        roll_up.stores,
        roll_up.sums[:, :3].tolist(),
        roll_up.by_availability.tolist(),
        roll_up.without,
        [(one.store_id.decode(), one.up, one.down, one.unknown) for one in roll_up.most_downtime],
        roll_up.down.tolist(),
        None
        if roll_up.conditions is None
        else dict(zip(CONDITIONS, roll_up.conditions.tolist(), strict=True)),
        None if roll_up.down_by_hour is None else roll_up.down_by_hour.tolist(),
        roll_up.sums[:, 3].tolist(),
        [one.excluded for one in roll_up.most_downtime],
        None if roll_up.targets is None else roll_up.targets.tolist(),
    )
    return msgspec.json.encode(kept).decode()


async def read_summary(pool: asyncpg.Pool, report_id: UUID) -> ReportSummary | None:
    """The summary of a report; None: it has none, or there is no such report."""
    row = await pool.fetchrow(
        """
        select as_of, summary, windows, calendar, polls_kept_since from report
        where id = $1 and summary is not null
        """,
        report_id,
    )
    if row is None:
        return None
    as_of = milliseconds_of(row["as_of"])
    windows = resolve_windows(row["windows"] or (), as_of, row["calendar"])
    return summary_of(row["as_of"], row["summary"], windows, row["polls_kept_since"])


def summary_of(
    as_of: datetime,
    summary: str,
    windows: Sequence[Window] = (),
    polls_kept_since: datetime | None = None,
) -> ReportSummary:
    """What the column `summary` of a report says.

    Args:
        as_of: of the report
        summary: the column
        windows: that the report names; none: it is the default one
        polls_kept_since: of the report
    """
    kept = msgspec.json.decode(summary, type=_Kept)
    names = window_names(windows)
    stores_down: Sequence[int | None] = kept.down or [None] * len(names)
    excluded_of = kept.excluded or [0] * len(names)
    most_excluded = kept.most_excluded or [0] * len(kept.most_downtime)
    targets: Sequence[Sequence[int] | None] = kept.targets or [None] * len(names)
    return ReportSummary(
        as_of=as_of,
        polls_kept_since=polls_kept_since,
        stores=kept.stores,
        windows=[
            WindowSummary(
                window=name,
                business_time=exact_seconds(up + down + unknown + excluded),
                **times_of(up, down, unknown, excluded),
                stores_down=with_downtime,
                stores_met=None if judged is None else judged[MET],
                stores_missed=None if judged is None else judged[MISSED],
                stores_unknown=None if judged is None else judged[UNKNOWN],
                budget=None
                if judged is None
                else budget_of(judged[ALLOWED] * SCALE + judged[ALLOWED_REST], judged[USED]),
            )
            for name, (up, down, unknown), excluded, with_downtime, judged in zip(
                names, kept.sums, excluded_of, stores_down, targets, strict=True
            )
        ],
        stores_by_availability=kept.by_availability,
        stores_without_availability=kept.without,
        most_downtime=[
            StoreDowntime(
                store_id=store_id,
                **times_of(up, down, unknown, excluded),
            )
            for (store_id, up, down, unknown), excluded in zip(
                kept.most_downtime, most_excluded, strict=True
            )
        ],
        conditions=None
        if kept.conditions is None
        else [
            ConditionSummary(condition=condition, stores=stores, downtime=exact_seconds(down))
            for condition in CONDITIONS
            if condition in kept.conditions
            for stores, down in (kept.conditions[condition],)
        ],
        down_by_hour=None
        if kept.down_by_hour is None
        else [exact_seconds(down) for down in kept.down_by_hour],
    )


def exact_seconds(half_milliseconds: int) -> float:
    """Seconds of the kernel's half-milliseconds."""
    return half_milliseconds / (1000 * PER_MS)


class Times(TypedDict):
    """What most answers tell of time: seconds, and the availability that they come to."""

    uptime: float
    downtime: float
    unknown: float
    excluded: float
    availability: float | None


def times_of(up: int, down: int, unknown: int, excluded: int) -> Times:
    """The parts of business time as answers tell them, of half-milliseconds."""
    return Times(
        uptime=exact_seconds(up),
        downtime=exact_seconds(down),
        unknown=exact_seconds(unknown),
        excluded=exact_seconds(excluded),
        availability=availability_of(up, down),
    )


def budget_of(allowed: int, used: int) -> ErrorBudget:
    """An error budget.

    Args:
        allowed: hundred-millionths of half-milliseconds, as `compute.targets` has it
        used: half-milliseconds
    """
    second = 1000 * PER_MS * SCALE
    return ErrorBudget(
        allowed=allowed / second,
        used=exact_seconds(used),
        left=(allowed - used * SCALE) / second,
    )


def share_of(part: int, whole: int) -> float | None:
    """A part of a whole; None where there is no whole."""
    return part / whole if whole else None


def availability_of(up: int, down: int) -> float | None:
    """Uptime of the time of which something is known; None where nothing is."""
    return share_of(up, up + down)
