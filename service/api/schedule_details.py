"""A schedule as the API takes and shows it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated, TypeAlias
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.api.report_details import ReportDelivery, told_delivery
from service.api.reports import ReportRequest
from service.deliveries.places import LONGEST_PLACE
from service.deliveries.table import DeliveryFormat
from service.reports.queue import State
from service.schedules.cron import LONGEST_CRON, CronRefused, Plan, ZoneMissing
from service.schedules.table import LONGEST_NAME, AsOf, Run, Schedule, Settings

#: How many of its next runs a schedule tells.
_NEXT_TOLD = 5

Name: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=LONGEST_NAME,
        description="Printable characters; each schedule has its own.",
        examples=["last month, for the board"],
    ),
]
Cron: TypeAlias = Annotated[
    str,
    Meta(
        min_length=9,
        max_length=LONGEST_CRON,
        description="When, as five fields of cron: minute, hour, day of the month, month, day of "
        "the week. `L` is the last day of a month, `5L` its last Friday, `1#2` its second Monday.",
        examples=["0 6 1 * *"],
    ),
]
Timezone: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        description="IANA name of the zone in whose local time `cron` is, and in which periods "
        "such as `previous-month` are looked up if the report names no `calendar`.",
        examples=["America/Chicago"],
    ),
]
GivenAsOf: TypeAlias = Annotated[
    AsOf,
    Meta(
        description="What no window of its reports reaches beyond: the time that the plan tells, "
        "also if the report is made later, or the newest poll when it is made."
    ),
]
Paused: TypeAlias = Annotated[
    bool,
    Meta(description="Whether it waits until it is told to go on. What it misses is not made up."),
]
Asked: TypeAlias = Annotated[
    ReportRequest,
    Meta(description="What to report, as `POST /reports` takes it, without `as_of`."),
]
DeliverTo: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=LONGEST_PLACE,
        examples=["s3://bucket/availability"],
    ),
]
DeliverAs: TypeAlias = Annotated[
    list[DeliveryFormat],
    Meta(
        min_length=1,
        max_length=4,
        description="Formats of those files, each once; `csv` unless it was given.",
    ),
]


class NewSchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schedule to make."""

    name: Name
    cron: Cron
    timezone: Timezone
    as_of: GivenAsOf = "scheduled"
    report: Asked = msgspec.field(default_factory=ReportRequest)
    paused: Paused = False
    deliver_to: Annotated[
        DeliverTo | None,
        Meta(
            description="A folder, or a URL in an object store, where the files of its reports are "
            "put when they are completed; only within what the setting STOREWATCH_DELIVER_TO "
            "allows. Null: nowhere."
        ),
    ] = None
    deliver_as: DeliverAs = msgspec.field(default_factory=lambda: ["csv"])


class SchedulePatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a schedule: what is left out stays as it is."""

    name: Name | UnsetType = UNSET
    cron: Cron | UnsetType = UNSET
    timezone: Timezone | UnsetType = UNSET
    as_of: GivenAsOf | UnsetType = UNSET
    report: Asked | UnsetType = UNSET
    paused: Paused | UnsetType = UNSET
    deliver_to: Annotated[
        DeliverTo | UnsetType | None,
        Meta(description="Where files of reports from now on are put; null: nowhere any more."),
    ] = UNSET
    deliver_as: DeliverAs | UnsetType = UNSET


class ScheduleRun(msgspec.Struct, frozen=True):
    """A report that a schedule asked for."""

    report_id: Annotated[UUID, Meta(description="The report's id.")]
    scheduled_for: Annotated[
        datetime | None, Meta(description="The time of the plan; null: it was run by hand.")
    ]
    created_at: Annotated[datetime, Meta(description="When the report was asked for.")]
    status: Annotated[State, Meta(description="Where the report is.")]
    delivery: Annotated[
        ReportDelivery | None,
        Meta(description="What becomes of its files; null: they are to be delivered nowhere."),
    ]


class ScheduleDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule by which reports are asked for."""

    id: Annotated[UUID, Meta(description="Its id.")]
    name: Annotated[str, Meta(description="Its own name.")]
    cron: Annotated[str, Meta(description="When, as five fields of cron.")]
    timezone: Annotated[str, Meta(description="IANA name of the zone of `cron`.")]
    as_of: Annotated[AsOf, Meta(description="What no window of its reports reaches beyond.")]
    report: Annotated[
        ReportRequest | UnsetType, Meta(description="What it reports. Left out in lists.")
    ] = UNSET
    paused: Annotated[bool, Meta(description="Whether it waits until it is told to go on.")]
    next_run: Annotated[
        datetime | None, Meta(description="When it runs next; null: it is paused, or never does.")
    ]
    next_runs: Annotated[
        list[datetime] | UnsetType, Meta(description="Its next runs. Left out in lists.")
    ] = UNSET
    last_run: Annotated[
        datetime | None,
        Meta(description="The last time of its plan for which a report was asked for; null: none."),
    ]
    last_error: Annotated[
        str | None,
        Meta(
            description="Why no report was asked for at the time that came last; null: there is "
            "nothing wrong. Why a report failed is told by the report."
        ),
    ]
    deliver_to: Annotated[
        str | None, Meta(description="Where its reports' files are put; null: nowhere.")
    ]
    deliver_as: Annotated[list[DeliveryFormat], Meta(description="Formats of those files.")]
    last_delivery_error: Annotated[
        str | None,
        Meta(
            description="Why the delivery that ended last failed, also if its report was deleted; "
            "null: it did not. `runs` tell of those that still wait."
        ),
    ]
    runs: Annotated[
        list[ScheduleRun] | UnsetType,
        Meta(description="Its newest reports that are still known. Left out in lists."),
    ] = UNSET
    created_at: Annotated[datetime, Meta(description="When it was made.")]


class SchedulePage(msgspec.Struct, frozen=True):
    """Some schedules, by their names."""

    items: Annotated[list[ScheduleDetails], Meta(description="The schedules of this page.")]
    next_cursor: Annotated[
        str | None, Meta(description="`cursor` of the next page; null on the last page.")
    ]


_DEFAULTS: Mapping[str, object] = msgspec.to_builtins(ReportRequest())


def kept(asked: ReportRequest) -> bytes:
    """What is asked for, without what is left out: an older version may not know its name."""
    given = msgspec.to_builtins(asked)
    return msgspec.json.encode(
        {name: value for name, value in given.items() if value != _DEFAULTS[name]}
    )


def asked_by(settings: Settings) -> ReportRequest:
    """What is asked for, as far as this version knows of it."""
    given = msgspec.json.decode(settings.report)
    known = {name: value for name, value in given.items() if name in _DEFAULTS}
    return msgspec.convert(known, ReportRequest)


def full_details(schedule: Schedule, runs: Sequence[Run]) -> ScheduleDetails:
    """What the API shows of a single schedule: also what it reports, and its runs."""
    return msgspec.structs.replace(
        listed(schedule),
        report=asked_by(schedule.settings),
        next_runs=_next_runs(schedule),
        runs=[
            ScheduleRun(
                run.report_id,
                run.scheduled_for,
                run.created_at,
                run.state,
                told_delivery(run.delivery),
            )
            for run in runs
        ],
    )


def listed(schedule: Schedule) -> ScheduleDetails:
    """What the API shows of a schedule in a list."""
    settings = schedule.settings
    return ScheduleDetails(
        id=schedule.id,
        name=settings.name,
        cron=settings.cron,
        timezone=settings.timezone,
        as_of=settings.as_of,
        paused=settings.paused,
        next_run=schedule.next_run,
        last_run=schedule.last_run,
        last_error=schedule.last_error,
        deliver_to=settings.deliver_to,
        deliver_as=settings.deliver_as,
        last_delivery_error=schedule.last_delivery_error,
        created_at=schedule.created_at,
    )


def _next_runs(schedule: Schedule) -> list[datetime]:
    if schedule.next_run is None:
        return []
    try:
        plan = Plan(schedule.settings.cron, schedule.settings.timezone)
    except (CronRefused, ZoneMissing):  # `last_error` will tell
        return [schedule.next_run]
    return [schedule.next_run, *islice(plan.after(schedule.next_run), _NEXT_TOLD - 1)]
