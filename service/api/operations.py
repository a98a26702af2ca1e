"""What those who run the service ask it: does it live, can it work."""

import asyncpg
import msgspec
from litestar import Response, get

from compute.workers import Workers


class Health(msgspec.Struct, frozen=True):
    """Whether the service is well, part by part."""

    status: str
    database: str = "ok"
    workers: int = 0


@get("/health/live", operation_id="getLiveness", tags=["operations"])
async def live() -> Health:
    """Answer, to show that the process does."""
    return Health("ok")


@get("/health/ready", operation_id="getReadiness", tags=["operations"])
async def ready(pool: asyncpg.Pool, workers: Workers) -> Response[Health]:
    """Tell whether reports can be made: 503 while the database does not answer."""
    try:
        await pool.fetchval("select 1", timeout=2)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        health = Health("unavailable", "does not answer", len(workers.processes()))
        return Response(health, status_code=503)
    return Response(Health("ok", "ok", len(workers.processes())))
