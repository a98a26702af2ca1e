"""The groups of a report: pages of them as JSON, all of them as CSV or as a spreadsheet."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Annotated, Any, TypeAlias, get_args
from uuid import UUID

import asyncpg
import msgspec
from litestar import Request, get
from litestar.params import Parameter, QueryParameter
from litestar.response import Response
from msgspec import Meta

from compute.groups import Group, StoreDown
from service.api.report_answers import ReportAnswer, TableOperation, window_number
from service.api.report_csv import finished, gone
from service.api.report_details import ReportId, known_report
from service.api.stores import StoreId
from service.reports.group_tables import (
    GroupSheet,
    SheetsNotInstalled,
    can_be_made,
    csv_header,
    csv_rows,
    group_met,
    has_targets,
)
from service.reports.groups import (
    GroupMeasure,
    GroupsGone,
    count_groups,
    ordered_places,
    read_all_groups,
    read_groups,
)
from service.reports.queue import Report
from service.reports.summary import (
    Budget,
    Seconds,
    StoresMet,
    StoresMissed,
    StoresUnknown,
    WindowTotals,
    budget_of,
    exact_seconds,
    times_of,
)
from service.reports.windows import csv_names, window_names
from service.storage import Folder
from service.web.downloads import Downloads
from service.web.files import accepted_types
from service.web.pages import (
    NEXT_LINK,
    PAGE_SIZE,
    Cursor,
    Limit,
    next_link,
    place_of,
    to_cursor,
)
from service.web.problems import Problem, documented, refused

_JSON, _CSV = "application/json", "text/csv"
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_MEASURES: tuple[GroupMeasure, ...] = get_args(GroupMeasure)
_SORT = "(place|-?(availability|downtime)_[0-9A-Za-z_]+)"
#: Windows of a report.
_MOST_WINDOWS = 100
_READ_BYTES = 1 << 18
#: Spreadsheets that are made at the same time: one of a million rows takes minutes of a core.
_SHEETS = Downloads(2, "spreadsheets are being made as this instance makes")

Told: TypeAlias = Sequence[tuple[int, str]]


class GroupStore(msgspec.Struct, frozen=True, kw_only=True):
    """A store of a group with downtime in a window."""

    store_id: StoreId
    uptime: Seconds
    downtime: Seconds


class GroupWindow(WindowTotals, frozen=True, kw_only=True):
    """What the stores of a group have together in one window."""

    stores_met: StoresMet
    stores_missed: StoresMissed
    stores_unknown: StoresUnknown
    target_met: Annotated[
        bool | None,
        Meta(
            description="Whether the downtime of its stores that have a target is at most what "
            "their targets allow together; null: none has one, or nothing is known of them."
        ),
    ]
    budget: Budget
    worst: Annotated[
        list[GroupStore],
        Meta(description="Up to three stores with the most downtime, worst first."),
    ]


class ReportGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Stores of a report that share the values of some tags."""

    values: Annotated[
        dict[str, str],
        Meta(
            description="What they share, by the keys of `group_by`; empty: they have no such tag."
        ),
    ]
    stores: Annotated[int, Meta(ge=1, description="How many they are.")]
    windows: Annotated[
        list[GroupWindow], Meta(description="The windows of the report, or those asked for.")
    ]


class ReportGroupPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some groups of a report, in the order that was asked for."""

    report_id: Annotated[UUID, Meta(description="The report's id.")]
    as_of: Annotated[datetime | None, Meta(description="The end of every window.")]
    group_by: Annotated[
        list[str], Meta(description="Keys of the tags that the stores of a group share.")
    ]
    total: Annotated[int, Meta(ge=0, description="Groups of the report.")]
    next_cursor: Annotated[
        str | None, Meta(description="`cursor` of the next page; null on the last.")
    ]
    items: Annotated[list[ReportGroup], Meta(description="The groups of this page.")]


class _GroupsOperation(TableOperation):
    """What Litestar cannot know: the same groups are also a spreadsheet."""

    def to_schema(self) -> dict[str, Any]:
        schema = super().to_schema()
        sheet = {"schema": {"type": "string", "format": "binary"}}
        schema["responses"]["200"]["content"][_XLSX] = sheet
        return schema


@get(
    "/reports/{report_id:uuid}/groups",
    operation_id="listReportGroups",
    summary="The groups of a report",
    tags=["reports"],
    opt={"scope": "read"},
    operation_class=_GroupsOperation,
    responses=documented(404, 406, 409, 410),
    response_headers=[NEXT_LINK],
)
async def get_report_groups(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    aside: Folder,
    report_id: ReportId,
    sort: Annotated[
        str,
        Parameter(
            pattern=f"^{_SORT}$",
            description="By what: `place`, the byte order of the values, or `availability_` or "
            "`downtime_` of `last_hour`, `last_day` or `last_week`, or of a window that the report "
            "names; with `-` before it the largest first. Equal ones are in the order of their "
            "values, those without availability last.",
        ),
    ] = "place",
    window: Annotated[
        list[str] | None,
        QueryParameter(
            name="window",
            max_items=_MOST_WINDOWS,
            description="Only this window, by the name that answers have for it (`hour`, "
            "`2026_10`); may be repeated.",
        ),
    ] = None,
    limit: Limit = PAGE_SIZE,
    cursor: Cursor = None,
) -> Response[ReportGroupPage]:
    """Tell the groups of a completed report that was asked for with `group_by`: exact sums.

    With `Accept: text/csv` it is all groups as CSV, one row for each group and window, and with
    that of XLSX the same as a spreadsheet. Takes `If-None-Match` and `Accept-Encoding: gzip`.
    """
    start = place_of(cursor, request)
    media_type = _media_type(request)
    report = await known_report(pool, report_id)
    finished(report)
    if report.group_by is None:
        raise Problem(
            404,
            "The report has no groups: ask for one with `group_by`, such as "
            '{"group_by": ["brand"]}.',
            slug="report-groups-not-found",
        )
    order = _order(sort, report)
    told = _told(window, report)
    answer = ReportAnswer(request, report, media_type, vary="Accept, Accept-Encoding")
    if answer.is_known:
        return answer.not_modified()
    total = await count_groups(pool, report.id)
    if not total and report.stores_done:
        raise gone()
    if media_type != _JSON:
        places: Sequence[int] = range(total)
        if order is not None:
            measure, of_window, descending = order
            places = await ordered_places(
                pool, report.id, measure, of_window, descending=descending
            )
        groups = read_all_groups(pool, report.id, places, len(csv_names(report.asked_windows)))
        if media_type == _CSV:
            return answer.stream(_csv(groups, report, told), f"{report.id}.groups.csv")
        sheet = await _sheet(groups, report, told, aside)
        return answer.stream(_pieces(sheet), f"{report.id}.groups.xlsx")

    if order is None:
        places = range(min(start, total), min(start + limit, total))
    else:
        measure, of_window, descending = order
        places = await ordered_places(
            pool, report.id, measure, of_window, descending=descending, limit=limit, offset=start
        )
    page = await read_groups(pool, report.id, places)
    if len(page) < len(places):
        raise gone()
    end = start + len(page)
    next_cursor = to_cursor(str(end), request) if page and end < total else None
    keys = report.group_by
    items = await asyncio.to_thread(lambda: [_shown(group, keys, told) for group in page])
    shown = ReportGroupPage(
        report_id=report.id,
        as_of=report.as_of,
        group_by=keys,
        total=total,
        next_cursor=next_cursor,
        items=items,
    )
    return await answer.of(shown, next_link(request, next_cursor))


ROUTES = [get_report_groups]


def _media_type(request: Request[Any, Any, Any]) -> str:
    """What is preferred of what there is; where nothing is said, JSON.

    Raises:
        Problem: a spreadsheet and nothing else is accepted, and none can be made here (406)
    """
    accepted = accepted_types(request)
    offered = [_JSON, _CSV, *([_XLSX] if can_be_made() else [])]
    best = accepted.best_match(offered)
    if best is None and accepted.quality(_XLSX):
        text = str(SheetsNotInstalled())
        raise Problem(406, f"{text[0].upper()}{text[1:]}. JSON and CSV are there.")
    return best or _JSON


def _order(sort: str, report: Report) -> tuple[GroupMeasure, int, bool] | None:
    """Measure, place of the window, whether the largest come first; None: by their places."""
    if sort == "place":
        return None
    named, _, window = sort.removeprefix("-").partition("_")
    (measure,) = (one for one in _MEASURES if one == named)
    return measure, window_number(window, "sort", report), sort.startswith("-")


def _told(wanted: Sequence[str] | None, report: Report) -> Told:
    """The windows that are told: their place among the report's, and their names."""
    names = window_names(report.asked_windows)
    for name in wanted or ():
        if name not in names:
            problem = f"the report has no window {name[:100]!r}; it has {', '.join(names)}"
            raise refused("window", problem)
    return [(at, name) for at, name in enumerate(names) if not wanted or name in wanted]


def _shown(group: Group, keys: Sequence[str], told: Told) -> ReportGroup:
    return ReportGroup(
        values=dict(zip(keys, group.values, strict=True)),
        stores=group.stores,
        windows=[_window(group, at, name) for at, name in told],
    )


def _window(group: Group, at: int, name: str) -> GroupWindow:
    up, down, unknown, excluded = (
        part[at] for part in (group.up, group.down, group.unknown, group.excluded)
    )
    has = has_targets(group, at)
    return GroupWindow(
        window=name,
        business_time=exact_seconds(up + down + unknown + excluded),
        **times_of(up, down, unknown, excluded),
        stores_met=group.met[at] if has else None,
        stores_missed=group.missed[at] if has else None,
        stores_unknown=group.without[at] if has else None,
        target_met=group_met(group, at),
        budget=budget_of(group.allowed[at], group.used[at]) if has else None,
        worst=_worst(group.worst[at]),
    )


def _worst(stores: Iterable[StoreDown]) -> list[GroupStore]:
    return [
        GroupStore(
            store_id=store.store_id,
            uptime=exact_seconds(store.up),
            downtime=exact_seconds(store.down),
        )
        for store in stores
    ]


async def _csv(
    groups: AsyncIterator[list[Group]], report: Report, told: Told
) -> AsyncIterator[bytes]:
    yield csv_header(report.group_by or ())
    lines = partial(csv_rows, windows=told, escape_formulas=report.escape_formulas)
    async for some in groups:
        yield await asyncio.to_thread(lines, some)


async def _sheet(
    groups: AsyncIterator[list[Group]], report: Report, told: Told, aside: Folder
) -> IO[bytes]:
    """A spreadsheet of groups, in an unnamed file that is open at its begin."""
    _SHEETS.check()
    async with _SHEETS.room:
        with ExitStack() as opened:
            with aside.failing_in_words():
                file = opened.enter_context(TemporaryFile(dir=aside.path))
                folder = TemporaryDirectory(dir=aside.path)
            with folder:
                keys = report.group_by or ()
                sheet = GroupSheet(file, folder.name, keys, told, report.finished_at)
                try:
                    async for some in groups:
                        with aside.failing_in_words():
                            await asyncio.to_thread(sheet.add, some)
                except GroupsGone:
                    raise gone() from None
                finally:
                    with aside.failing_in_words():
                        await asyncio.to_thread(sheet.close)
            file.seek(0)
            opened.pop_all()  # it is closed when it has been sent
            return file


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        while piece := await asyncio.to_thread(file.read, _READ_BYTES):
            yield piece
