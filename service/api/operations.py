"""What those who run the service ask it: does it live, can it work, what does it do now."""

import asyncio
from typing import Annotated, Literal

import asyncpg
import msgspec
from litestar import MediaType, Response, get
from msgspec import Meta
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from compute.zones import TZ_VERSION
from service import metrics
from service.api.readiness import Readiness
from service.database.pool import DATABASE_FAILED
from service.web.problems import Problem, documented
from service.workers.pool import Workers

TAGS = ["operations"]

#: A part of the service that answers no sooner than this is not well, seconds.
_PATIENCE = 3.0
_REPORT_STATES = ("queued", "running", "completed", "failed", "cancelled", "expired")

HealthStatus = Literal["ok"]


class Live(msgspec.Struct, frozen=True):
    """The process answers."""

    status: Annotated[HealthStatus, Meta(description="`ok`: it does.")]


class Ready(msgspec.Struct, frozen=True):
    """Reports can be made and read."""

    status: Annotated[HealthStatus, Meta(description="`ok`: all parts are.")]
    database: Annotated[HealthStatus, Meta(description="`ok`: it answers.")]
    workers: Annotated[HealthStatus, Meta(description="`ok`: they answer.")]
    reports: Annotated[HealthStatus, Meta(description="`ok`: their files can be written.")]
    tz_version: Annotated[
        str, Meta(description="Release of the tz database that reports are made with.")
    ]


@get(
    "/health/live",
    operation_id="getLiveness",
    summary="Whether the process answers",
    tags=TAGS,
    opt={"scope": "none"},
    responses=documented(public=True, but=(400, 503)),
)
async def live() -> Live:
    """Answer, to show that the process does. Nothing else is asked."""
    return Live("ok")


@get(
    "/health/ready",
    operation_id="getReadiness",
    summary="Whether the database and the workers answer",
    tags=TAGS,
    opt={"scope": "none"},
    responses=documented(public=True, but=(400,)),
)
async def ready(readiness: Readiness) -> Ready:
    """Tell whether the database, the worker processes and the place of reports do their work.

    503 says which does not."""
    parts = await readiness.parts()
    if parts.ready:
        return Ready("ok", "ok", "ok", "ok", TZ_VERSION)
    told = msgspec.structs.asdict(parts)
    problems = "; ".join(f"{part}: {state}" for part, state in told.items() if state != "ok")
    raise Problem(
        503,
        f"Not ready. {problems}.",
        slug="not-ready",
        headers={"Retry-After": "1"},
        **told,
    )


@get(
    "/metrics",
    operation_id="getMetrics",
    summary="Measures, for Prometheus",
    tags=TAGS,
    media_type=MediaType.TEXT,
    responses=documented(),
)
async def get_metrics(pool: asyncpg.Pool, workers: Workers) -> Response[str]:
    """Tell what is measured, in the text format of Prometheus."""
    metrics.BATCHES_LIMIT.set(workers.limit)
    metrics.BATCHES_IN_FLIGHT.set(workers.in_flight)
    metrics.BATCHES_WAITING.set(workers.waiting)
    metrics.WORKERS.set(len(workers.processes()))
    idle = pool.get_idle_size()
    metrics.CONNECTIONS.labels("idle").set(idle)
    metrics.CONNECTIONS.labels("busy").set(pool.get_size() - idle)
    await _count_reports(pool)
    return Response(generate_latest().decode(), media_type=CONTENT_TYPE_LATEST)


async def _count_reports(pool: asyncpg.Pool) -> None:
    """All instances on one database tell the same number; without the database, none is told."""
    counts = dict.fromkeys(_REPORT_STATES, 0)
    try:
        async with asyncio.timeout(_PATIENCE):
            rows = await pool.fetch("select state, count(*) from report group by state")
    except DATABASE_FAILED:
        metrics.REPORTS.clear()
        return
    for state, count in {**counts, **dict(rows)}.items():
        metrics.REPORTS.labels(state).set(count)


ROUTES = [live, ready, get_metrics]
