"""Schedules over HTTP: reports that come by themselves, at times that a cron expression tells."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec
from litestar import Request, delete, get, patch, post
from litestar.datastructures import ResponseHeader
from litestar.params import HeaderParameter, Parameter
from litestar.response import Response
from msgspec import UnsetType

from compute.feed_values import zone_problem
from compute.instants import milliseconds_of
from compute.windows import by_name
from service.api.report_details import ReportDetails
from service.api.reports import (
    ACCEPTED_HEADERS,
    ReportRequest,
    accepted,
    queue_full,
    report_options,
)
from service.api.schedule_details import (
    NewSchedule,
    ScheduleDetails,
    SchedulePage,
    SchedulePatch,
    asked_by,
    full_details,
    kept,
    listed,
)
from service.database.pool import Database, transaction
from service.deliveries.places import PlaceRefused, checked_place
from service.deliveries.table import DeliveryFormat
from service.reports.options import ReportOptions
from service.reports.parquet import NoParquet, has_parquet
from service.reports.queue import QueueFull, create_report, read_report
from service.reports.runner import ReportRunner
from service.schedules.cron import CronRefused
from service.schedules.table import (
    MOST_SCHEDULES,
    NameTaken,
    Run,
    Schedule,
    TooManySchedules,
    change_schedule,
    create_schedule,
    delete_schedule,
    first_after,
    last_runs,
    list_schedules,
    note_run,
    now_of,
    read_schedule,
    take_schedule,
)
from service.schedules.table import Settings as ScheduleSettings
from service.schedules.ticker import ReportRefused
from service.settings import Settings
from service.web.conditions import check_preconditions, tag_of
from service.web.links import link
from service.web.pages import (
    NEXT_LINK,
    PAGE_SIZE,
    Cursor,
    Limit,
    from_cursor,
    next_link,
    to_cursor,
)
from service.web.problems import Problem, documented, refused
from service.web.strict import check_body, given_members

_TAGS = ["reports"]
#: How many of its last runs a schedule tells.
_LAST_TOLD = 10

_ScheduleId: TypeAlias = Annotated[UUID, Parameter(description="The schedule's id.")]
_IfMatch: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="Write only if the schedule has one of these ETags. Otherwise 412.",
    ),
]
_ETAG = ResponseHeader(
    name="ETag",
    documentation_only=True,
    description="Tag of what was set, for `If-Match`: a run does not change it.",
)


@post(
    "/schedules",
    operation_id="createSchedule",
    summary="Make a schedule",
    tags=_TAGS,
    status_code=201,
    opt={"scope": "write"},
    responses=documented(408, 409, 413),
    response_headers=[
        _ETAG,
        ResponseHeader(
            name="Location", documentation_only=True, description="Where the schedule is."
        ),
    ],
)
async def post_schedule(
    request: Request[Any, Any, Any], pool: asyncpg.Pool, settings: Settings, data: NewSchedule
) -> Response[ScheduleDetails]:
    """Make a schedule, by which a report is asked for each time that its plan tells.

    Each time counts once, however many instances there are. If the service was away, the latest
    time that it missed is made up, once. At most 1,000 schedules are kept. A name that another one
    has is refused, so a request that is sent again makes no second one.
    """
    await check_body(request, NewSchedule)
    _refuse_as_of(data.report)
    asked = _settings(data, _place(data.deliver_to, settings))
    _check_formats(data.deliver_as)
    async with transaction(pool) as connection:
        await _check(connection, asked, data.report, await now_of(connection))
        try:
            made = await create_schedule(connection, asked)
        except NameTaken:
            raise _name_taken() from None
        except TooManySchedules:
            raise Problem(
                409,
                f"There are {MOST_SCHEDULES} schedules already: delete one that nobody needs.",
                slug="too-many-schedules",
            ) from None
    headers = {"Location": link(f"/schedules/{made.id}")}
    return _response(made, [], headers)


@get(
    "/schedules",
    operation_id="listSchedules",
    summary="List schedules",
    tags=_TAGS,
    responses=documented(),
    response_headers=[NEXT_LINK],
)
async def get_schedules(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    limit: Limit = PAGE_SIZE,
    cursor: Cursor = None,
) -> Response[SchedulePage]:
    """List schedules, in byte order of their names."""
    found = await list_schedules(pool, limit + 1, from_cursor(cursor, request) or "")
    page = found[:limit]
    next_cursor = to_cursor(page[-1].settings.name, request) if len(found) > limit else None
    return Response(
        SchedulePage([listed(schedule) for schedule in page], next_cursor),
        headers=next_link(request, next_cursor),
    )


@get(
    "/schedules/{schedule_id:uuid}",
    operation_id="getSchedule",
    summary="A schedule, its next and its last runs",
    tags=_TAGS,
    responses=documented(404),
    response_headers=[_ETAG],
)
async def get_schedule(pool: asyncpg.Pool, schedule_id: _ScheduleId) -> Response[ScheduleDetails]:
    """Give a schedule with its next five and its last ten runs."""
    schedule = await read_schedule(pool, schedule_id)
    if schedule is None:
        raise _not_known()
    return _response(schedule, await last_runs(pool, schedule_id, _LAST_TOLD))


@patch(
    "/schedules/{schedule_id:uuid}",
    operation_id="patchSchedule",
    summary="Change, pause or resume a schedule",
    tags=_TAGS,
    opt={"scope": "write"},
    responses=documented(404, 408, 409, 412, 413),
    response_headers=[_ETAG],
)
async def patch_schedule(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    settings: Settings,
    schedule_id: _ScheduleId,
    data: SchedulePatch,
    if_match: _IfMatch = None,
) -> Response[ScheduleDetails]:
    """Change a schedule. What is left out stays as it is; `report` is replaced as a whole.

    Reports that were asked for before are delivered as it was told then.

    A paused one that is told to go on runs at the next time of its plan: those that it missed
    meanwhile are not made up. Neither are those of a plan that another one replaced.
    """
    await check_body(request, SchedulePatch)
    _refuse_as_of(data.report)
    place = data.deliver_to
    if not isinstance(place, UnsetType):
        place = _place(place, settings)
    if not isinstance(data.deliver_as, UnsetType):
        _check_formats(data.deliver_as)
    async with transaction(pool) as connection:
        known = await _taken(connection, schedule_id, if_match)
        wanted = _changed(known.settings, data, place)
        asked = asked_by(wanted) if isinstance(data.report, UnsetType) else data.report
        only_pauses = wanted == msgspec.structs.replace(known.settings, paused=True)
        if not only_pauses:
            await _check(connection, wanted, asked, known.read_at)
        try:
            changed = await change_schedule(connection, known, wanted)
        except NameTaken:
            raise _name_taken() from None
        runs = await last_runs(connection, schedule_id, _LAST_TOLD)
    return _response(changed, runs)


@delete(
    "/schedules/{schedule_id:uuid}",
    operation_id="deleteSchedule",
    summary="Delete a schedule",
    tags=_TAGS,
    status_code=204,
    opt={"scope": "write"},
    responses=documented(404, 412),
)
async def remove_schedule(
    pool: asyncpg.Pool, schedule_id: _ScheduleId, if_match: _IfMatch = None
) -> None:
    """Delete a schedule. The reports that it asked for stay, also those that wait or run."""
    async with transaction(pool) as connection:
        await _taken(connection, schedule_id, if_match)
        await delete_schedule(connection, schedule_id)


@post(
    "/schedules/{schedule_id:uuid}/run",
    operation_id="runSchedule",
    summary="Run a schedule now",
    tags=_TAGS,
    status_code=202,
    opt={"scope": "write"},
    responses=documented(404, 409, 429),
    response_headers=ACCEPTED_HEADERS,
)
async def post_run(
    pool: asyncpg.Pool, runner: ReportRunner, settings: Settings, schedule_id: _ScheduleId
) -> Response[ReportDetails]:
    """Ask for a report as the schedule does, with now as the time, whether it is paused or not.

    The plan goes on as it was. Each request makes a report: if an answer was lost, the schedule's
    `runs` tell whether there is one.
    """
    async with transaction(pool) as connection:
        schedule = await _taken(connection, schedule_id, None)
        try:
            options = await options_of(connection, schedule.settings, schedule.read_at)
        except ReportRefused as error:
            text = f"What the schedule reports cannot be asked for any more: {error}"
            raise Problem(409, text, slug="schedule-refused") from None
        try:
            report = await create_report(connection, options, most_queued=settings.queued_reports)
        except QueueFull:
            raise queue_full(settings) from None
        await note_run(connection, report.id, schedule, None)
        noted = await read_report(connection, report.id)
    runner.wake()
    return accepted(noted or report, options)


ROUTES = [
    post_schedule,
    get_schedules,
    get_schedule,
    patch_schedule,
    remove_schedule,
    post_run,
]


async def options_of(
    connection: Database, settings: ScheduleSettings, fired: datetime
) -> ReportOptions:
    """The options of the report of a schedule that fires at an instant, as if it were asked for.

    Raises:
        ReportRefused: POST /reports would refuse it
    """
    try:
        asked = msgspec.json.decode(settings.report, type=ReportRequest)
    except msgspec.ValidationError as error:
        text = f"this version of the service cannot read what it asks for: {error}"
        raise ReportRefused(text) from None
    try:
        return await report_options(connection, _at(fired, settings, asked))
    except Problem as problem:
        raise ReportRefused(problem.detail) from None


def _at(fired: datetime, settings: ScheduleSettings, asked: ReportRequest) -> ReportRequest:
    """What is asked for at an instant."""
    if settings.as_of == "newest_poll":
        return asked
    windows = asked.windows
    if windows is not None and asked.calendar is None:
        # By UTC's date, the last month would be another one in the night that a month begins with.
        windows = list(by_name(windows, milliseconds_of(fired), settings.timezone))
    return msgspec.structs.replace(asked, as_of=fired.isoformat(), windows=windows)


def _settings(given: NewSchedule, place: str | None) -> ScheduleSettings:
    return ScheduleSettings(
        name=given.name,
        cron=" ".join(given.cron.split()),
        timezone=given.timezone,
        as_of=given.as_of,
        report=kept(given.report),
        paused=given.paused,
        deliver_to=place,
        deliver_as=given.deliver_as,
    )


def _changed(
    known: ScheduleSettings, data: SchedulePatch, place: str | UnsetType | None
) -> ScheduleSettings:
    given = given_members(data)
    if not isinstance(data.cron, UnsetType):
        given["cron"] = " ".join(data.cron.split())
    if not isinstance(data.report, UnsetType):
        given["report"] = kept(data.report)
    if not isinstance(place, UnsetType):
        given["deliver_to"] = place
    return msgspec.structs.replace(known, **given)


def _refuse_as_of(asked: ReportRequest | UnsetType) -> None:
    if not isinstance(asked, UnsetType) and asked.as_of is not None:
        text = "is told by the schedule's own `as_of`: leave it out"
        raise refused("report.as_of", text, source="body")


def _place(given: str | None, settings: Settings) -> str | None:
    """Where to deliver to, as it is kept.

    Raises:
        Problem: nothing may be delivered there (422)
    """
    try:
        return None if given is None else checked_place(given, settings.deliver_to)
    except PlaceRefused as error:
        raise refused("deliver_to", str(error), source="body") from None


def _check_formats(formats: Sequence[DeliveryFormat]) -> None:
    """Refuse what cannot be delivered as.

    Raises:
        Problem: there is something wrong with it (422)
    """
    if len(set(formats)) < len(formats):
        raise refused("deliver_as", "names a format twice", source="body")
    if "parquet" in formats and not has_parquet():
        raise refused("deliver_as", f"cannot be parquet: {NoParquet()}", source="body")


async def _check(
    connection: Database, settings: ScheduleSettings, asked: ReportRequest, now: datetime
) -> None:
    """Refuse what could never run.

    Raises:
        Problem: something is wrong with it
    """
    if not settings.name.isprintable() or settings.name != settings.name.strip():
        text = "has a character that cannot be printed, or white space at an end"
        raise refused("name", text, source="body")
    if problem := zone_problem(settings.timezone):
        raise refused("timezone", problem, source="body")
    try:
        first = first_after(settings, now)
    except CronRefused as error:
        raise refused("cron", str(error), source="body") from None
    if first is None:
        raise refused("cron", "never fires in the next 50 years", source="body")
    try:
        await report_options(connection, _at(first, settings, asked))
    except Problem as wrong:
        raise _within_report(wrong) from None


def _within_report(problem: Problem) -> Problem:
    """A problem with what to report, told with the place in this body."""
    problem.detail = problem.detail.replace("body ", "body report.", 1)
    if isinstance(told := problem.extra.get("errors"), list):
        problem.extra["errors"] = [
            msgspec.structs.replace(error, field=f"report.{error.field}") for error in told
        ]
    return problem


async def _taken(
    connection: asyncpg.Connection, schedule_id: UUID, if_match: str | None
) -> Schedule:
    """A schedule, locked, if it is the version that If-Match names.

    Raises:
        Problem: there is none (404), or another one (412)
    """
    schedule = await take_schedule(connection, schedule_id)
    if schedule is None:
        raise _not_known()
    check_preconditions(if_match, None, _tag(schedule))
    return schedule


def _not_known() -> Problem:
    return Problem(404, "There is no schedule with this id.", slug="schedule-not-found")


def _name_taken() -> Problem:
    return Problem(
        409,
        "Another schedule has this name. If it was made by this request, whose answer was lost, "
        "there is nothing left to do.",
        slug="schedule-exists",
    )


def _tag(schedule: Schedule) -> str:
    return tag_of(schedule.settings)


def _response(
    schedule: Schedule, runs: Sequence[Run], headers: Mapping[str, str] | None = None
) -> Response[ScheduleDetails]:
    tag = {"ETag": f'"{_tag(schedule)}"'}
    return Response(full_details(schedule, runs), headers={**(headers or {}), **tag})
