"""For those who run the service: is it alive, can it work, what is it doing."""

import asyncio
from typing import Annotated, Literal, get_args

import asyncpg
import msgspec
from litestar import MediaType, Response, get
from msgspec import Meta
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from compute.zones import TZ_VERSION
from service import metrics
from service.api.readiness import Readiness
from service.database.pool import DATABASE_FAILED
from service.reports.queue import State
from service.web.problems import Problem, documented
from service.workers.pool import Workers

TAGS = ["operations"]

#: `/metrics` leaves out the reports if the database takes longer than this, seconds.
_PATIENCE = 3.0
#: `Retry-After` while the service is not ready: `Readiness` looks again after a second.
_RETRY_SECONDS = 1

HealthStatus = Literal["ok"]


class Live(msgspec.Struct, frozen=True):
    """The process answers."""

    status: Annotated[HealthStatus, Meta(description="Always `ok`.")]


class Ready(msgspec.Struct, frozen=True):
    """Reports can be made and read."""

    status: Annotated[HealthStatus, Meta(description="`ok`: all parts are well.")]
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
    """Answer, which shows that the process is alive. Nothing else is checked."""
    return Live("ok")


@get(
    "/health/ready",
    operation_id="getReadiness",
    summary="Whether reports can be made and read",
    tags=TAGS,
    opt={"scope": "none"},
    responses=documented(public=True, but=(400,)),
)
async def ready(readiness: Readiness) -> Ready:
    """Say whether the database, the worker processes and the storage of reports work.

    If one of them does not, the answer is 503 and says which."""
    parts = await readiness.parts()
    if parts.ready:
        return Ready("ok", "ok", "ok", "ok", TZ_VERSION)
    told = msgspec.structs.asdict(parts)
    problems = "; ".join(f"{part}: {state}" for part, state in told.items() if state != "ok")
    raise Problem(
        503,
        f"Not ready. {problems}.",
        slug="not-ready",
        headers={"Retry-After": str(_RETRY_SECONDS)},
        **told,
    )


@get(
    "/metrics",
    operation_id="getMetrics",
    summary="Metrics for Prometheus",
    tags=TAGS,
    media_type=MediaType.TEXT,
    responses=documented(),
)
async def get_metrics(pool: asyncpg.Pool, workers: Workers) -> Response[str]:
    """Give the metrics of this instance in the text format of Prometheus."""
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
    """Count reports by state, over all instances on the database; without it, show no counts."""
    counts: dict[str, int] = dict.fromkeys(get_args(State), 0)
    try:
        async with asyncio.timeout(_PATIENCE):
            rows = await pool.fetch("select state, count(*) from report group by state")
    except DATABASE_FAILED:
        metrics.REPORTS.clear()
        return
    for state, count in {**counts, **dict(rows)}.items():
        metrics.REPORTS.labels(state).set(count)


ROUTES = [live, ready, get_metrics]
