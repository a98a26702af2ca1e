"""The application: settings in, routes and everything they need out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide

from compute.workers import Workers
from service.api import feeds, operations, problems, reports, stores
from service.database import open_pool
from service.reports import ReportRunner
from service.settings import Settings

# A running report reads on three connections; the rest is for requests.
_CONNECTIONS_PER_REPORT, _CONNECTIONS_FOR_REQUESTS = 3, 8


def create_app(settings: Settings) -> Litestar:
    """The service. The database, the workers and running reports live as long as it does."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        connections = (
            _CONNECTIONS_PER_REPORT * settings.concurrent_reports + _CONNECTIONS_FOR_REQUESTS
        )
        workers = Workers(settings.workers)
        try:
            async with open_pool(
                settings.database_url, settings.home, own=True, max_size=connections
            ) as pool:
                runner = ReportRunner(
                    pool, workers, settings.reports_folder, settings.concurrent_reports
                )
                app.state.update({"pool": pool, "workers": workers, "runner": runner})
                async with runner.running():
                    yield
        finally:
            workers.close()

    async def pool(state: State) -> asyncpg.Pool:
        return state.pool

    async def workers(state: State) -> Workers:
        given: Workers = state.workers
        return given

    async def runner(state: State) -> ReportRunner:
        given: ReportRunner = state.runner
        return given

    async def given_settings() -> Settings:
        return settings

    app = Litestar(
        route_handlers=[
            reports.trigger_report,
            reports.get_report,
            operations.live,
            operations.ready,
            *stores.ROUTES,
            *feeds.ROUTES,
        ],
        lifespan=[lifespan],
        dependencies={
            "pool": Provide(pool),
            "workers": Provide(workers),
            "runner": Provide(runner),
            "settings": Provide(given_settings),
        },
        exception_handlers={Exception: problems.answer},
    )
    app.asgi_handler = stores.keep_ids_encoded(app.asgi_handler)
    return app
