"""Whether the service can do its work, checked once at a time and at most once a second.

No key is needed to ask. So however many ask, the database gets one query a second, and no worker
process is started for it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg
import msgspec

from service.database.pool import DATABASE_FAILED
from service.reports.files import ReportFiles, storage_problem
from service.workers.pool import WorkerDied, Workers

#: A part of the service that takes longer than this to answer is not well, seconds.
_PATIENCE = 3.0
#: For how long a result counts, seconds.
_GOOD_SECONDS = 1.0


class Parts(msgspec.Struct, frozen=True):
    """What the service is made of: "ok", or what is wrong.

    Attributes:
        database: answers a query
        workers: compute, or are idle
        reports: the storage of reports takes a file
    """

    database: str
    workers: str
    reports: str

    @property
    def ready(self) -> bool:
        """Whether all of them are well."""
        return all(state == "ok" for state in msgspec.structs.astuple(self))


class Readiness:
    """Looks at the parts of the service.

    Args:
        pool: the database
        workers: the worker processes
        files: where reports are kept
    """

    def __init__(self, pool: asyncpg.Pool, workers: Workers, files: ReportFiles) -> None:
        self._pool, self._workers, self._files = pool, workers, files
        self._parts: Parts | None = None
        self._looked_at = -float("inf")
        self._looking = asyncio.Lock()

    async def parts(self) -> Parts:
        """How the parts are, or were a second ago."""
        async with self._looking:
            if self._parts is None or time.monotonic() - self._looked_at > _GOOD_SECONDS:
                database, workers, reports = await asyncio.gather(
                    _well(self._asks), _well(self._workers.answer), self._storage()
                )
                self._parts = Parts(
                    database="ok" if database else "does not answer",
                    workers="ok" if workers else "do not answer",
                    reports=reports or "ok",
                )
                self._looked_at = time.monotonic()
            return self._parts

    async def _storage(self) -> str | None:
        try:
            async with asyncio.timeout(_PATIENCE):
                return await storage_problem(self._files)
        except TimeoutError:  # a folder on the network may hang
            return "the storage of reports does not answer"

    async def _asks(self) -> bool:
        await self._pool.fetchval("select 1")
        return True


async def _well(look: Callable[[], Awaitable[bool]]) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE):
            return await look()
    except (*DATABASE_FAILED, WorkerDied):
        return False
