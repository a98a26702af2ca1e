"""A report's progress as server-sent events, on whichever instance the client is."""

import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import msgspec
from litestar import get
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Operation
from litestar.params import HeaderParameter
from litestar.response import Response, ServerSentEvent, ServerSentEventMessage

from service.api.report_details import ReportId, details_of, known_report
from service.background import happens
from service.database.listening import Streams
from service.database.pool import DATABASE_FAILED
from service.reports.events import ReportEvents
from service.reports.queue import FINAL
from service.web.problems import Problem, documented

log = logging.getLogger("storewatch.reports")

#: Proxies close a connection that is silent for long, often after 30 s or 60 s.
KEEP_ALIVE_SECONDS = 15.0
#: What goes with every stream.
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
#: `Retry-After` when no more streams may be open: they last as long as their reports, so a client
#: had better ask for the report itself, every so many seconds.
_FULL_RETRY_SECONDS = 5


class EventsOperation(Operation):
    """What a stream contains, which Litestar cannot describe."""

    def to_schema(self) -> dict[str, Any]:
        """The operation, with its stream."""
        schema = super().to_schema()
        schema["responses"]["200"] = {
            "description": "Events as they come; lines that begin with `:` keep the connection "
            "alive.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
        return schema


@get(
    "/reports/{report_id:uuid}/events",
    operation_id="streamReportEvents",
    summary="A report's progress, as it happens",
    tags=["reports"],
    media_type="text/event-stream",
    operation_class=EventsOperation,
    responses={
        204: ResponseSpec(None, description="`Last-Event-ID` names the last event there will be."),
        **documented(404),
    },
)
async def get_report_events(
    pool: asyncpg.Pool,
    progress_events: ReportEvents,
    streams: Streams,
    report_id: ReportId,
    last_event_id: Annotated[
        str | None,
        HeaderParameter(name="Last-Event-ID", description="`id` of the last event received."),
    ] = None,
) -> Response[Any]:
    """Send an event `report` whenever something changes; its data is the report as lists show it.

    An event `deleted` means that the report was deleted. The stream ends after the final state. A
    client that reconnects then gets 204, and need not reconnect again.
    """
    report = await known_report(pool, report_id)
    if report.state in FINAL and last_event_id == str(report.version):
        return Response(None, status_code=204)
    check_room(streams, "Ask for the report itself instead, every few seconds.")
    return ServerSentEvent(
        _events(progress_events, streams, report_id, last_event_id), headers=dict(STREAM_HEADERS)
    )


def check_room(streams: Streams, instead: str) -> None:
    """Let a request open a stream; `instead` says what else it could do.

    Raises:
        Problem: as many as may be are open (503)
    """
    if streams.full:
        raise Problem(
            503,
            f"This instance has as many event streams open as it allows. {instead}",
            slug="too-many-streams",
            headers={"Retry-After": str(_FULL_RETRY_SECONDS)},
        )


async def _events(
    events: ReportEvents, streams: Streams, report_id: UUID, told: str | None
) -> AsyncIterator[ServerSentEventMessage]:
    with events.changes(report_id) as changed:
        # The headers are sent with the first piece, and must not wait for something to happen.
        yield ServerSentEventMessage(data=None, comment="progress of a report")
        while True:
            changed.clear()
            try:
                report = await events.read(report_id)
            except DATABASE_FAILED as error:  # the client comes back, and is answered 503 then
                log.warning("cannot read a report for its stream of events: %s", error)
                return
            if report is None:
                yield ServerSentEventMessage(event="deleted", data="{}")
                return
            if str(report.version) != told:
                told = str(report.version)
                data = msgspec.json.encode(details_of(report)).decode()
                yield ServerSentEventMessage(event="report", id=told, data=data)
            if report.state in FINAL:
                return
            while not changed.is_set():
                if not await happens(changed, KEEP_ALIVE_SECONDS):
                    yield ServerSentEventMessage(data=None, comment="keep-alive")
            if streams.closing:
                return


ROUTES = [get_report_events]
