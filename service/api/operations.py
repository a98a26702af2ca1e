"""For those who run the service: is it alive, can it work, what is it doing."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated, Literal, get_args

import asyncpg
import msgspec
from litestar import MediaType, Response, get
from msgspec import Meta
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

from compute.zones import TZ_VERSION
from service import metrics
from service.api.availability_metrics import AvailabilityMetrics
from service.api.readiness import Readiness
from service.database.pool import DATABASE_FAILED
from service.deliveries.table import DeliveryState
from service.reports.queue import State
from service.states.told import count_looked_at
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
async def get_metrics(
    pool: asyncpg.Pool, workers: Workers, availability_metrics: AvailabilityMetrics
) -> Response[str]:
    """Give the metrics of this instance in the text format of Prometheus."""
    metrics.BATCHES_LIMIT.set(workers.limit)
    metrics.BATCHES_IN_FLIGHT.set(workers.in_flight)
    metrics.BATCHES_WAITING.set(workers.waiting)
    metrics.WORKERS.set(len(workers.processes()))
    idle = pool.get_idle_size()
    metrics.CONNECTIONS.labels("idle").set(idle)
    metrics.CONNECTIONS.labels("busy").set(pool.get_size() - idle)
    availability, *_ = await asyncio.gather(
        availability_metrics.text(pool),
        _count_reports(pool),
        _count_deliveries(pool),
        _count_stores(pool),
    )
    return Response(generate_latest().decode() + availability, media_type=CONTENT_TYPE_LATEST)


async def _count_reports(pool: asyncpg.Pool) -> None:
    """Count reports by state, over all instances on the database; without it, show no counts."""
    sql = "select state, count(*) from report group by state"
    await _count(pool, metrics.REPORTS, get_args(State), sql)


async def _count_deliveries(pool: asyncpg.Pool) -> None:
    """The same of deliveries."""
    sql = "select state, count(*) from delivery group by state"
    await _count(pool, metrics.DELIVERIES, get_args(DeliveryState), sql)


async def _count(pool: asyncpg.Pool, gauge: Gauge, states: Iterable[str], sql: str) -> None:
    counts: dict[str, int] = dict.fromkeys(states, 0)
    try:
        async with asyncio.timeout(_PATIENCE):
            rows = await pool.fetch(sql)
    except DATABASE_FAILED:
        gauge.clear()
        return
    for state, count in {**counts, **dict(rows)}.items():
        gauge.labels(state).set(count)


async def _count_stores(pool: asyncpg.Pool) -> None:
    """Count stores by the state that the last look has found; without one, show no counts."""
    metrics.STORES.clear()
    with suppress(*DATABASE_FAILED):
        async with asyncio.timeout(_PATIENCE):
            counted = await count_looked_at(pool)
        for state, count in counted.items():
            metrics.STORES.labels(state).set(count)


ROUTES = [live, ready, get_metrics]
