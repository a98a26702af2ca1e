"""The application: settings in, routes and everything they need out."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide

from compute.workers import Workers
from service.api import (
    access,
    availability,
    dashboard,
    delete_polls,
    document,
    feeds,
    operations,
    problems,
    report_csv,
    report_events,
    report_summary,
    reports,
    stores,
)
from service.api.options import options
from service.database import open_pool
from service.keys import KeyRing
from service.logs import RequestLog
from service.report_events import ReportEvents
from service.report_files import ReportFiles, open_report_files
from service.report_runner import ReportRunner
from service.settings import Settings
from service.spool import spool_folder
from service.storage import Folder

log = logging.getLogger("storewatch")

# A running report reads on three connections and renews its lease on another.
_CONNECTIONS_PER_REPORT, _CONNECTIONS_FOR_REQUESTS, _CONNECTIONS_TO_LISTEN = 4, 8, 1


class KeyNeeded(Exception):  # noqa: N818 - read by a person as a sentence
    """Others than this machine would be served, and no key is made."""

    def __str__(self) -> str:
        return (
            "No API key is made, so only a loopback address such as 127.0.0.1 can be listened on. "
            "Make one first: storewatch keys create NAME. With --insecure, everybody who reaches "
            "the address may read and write as long as there is no key."
        )


def create_app(settings: Settings, *, local: bool = True, insecure: bool = False) -> Litestar:
    """The service. The database, the workers and running reports live as long as it does.

    Args:
        settings: from the environment
        local: whether it listens on a loopback address only
        insecure: whether it serves everybody as long as there is no key

    Raises (when it starts):
        DatabaseUnavailable: the database cannot be reached or used
        StorageFailed: a folder that it needs cannot be created
        KeyNeeded: it is neither local nor insecure, and there is no key
    """

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        connections = (
            _CONNECTIONS_PER_REPORT * settings.concurrent_reports
            + _CONNECTIONS_FOR_REQUESTS
            + _CONNECTIONS_TO_LISTEN
        )
        workers = Workers(settings.workers)
        try:
            async with open_pool(
                settings.database_url, settings.home, own=True, max_size=connections
            ) as pool:
                keys = KeyRing(pool)
                await _say_who_is_served(keys, local=local, insecure=insecure)
                files = open_report_files(settings.reports_place, settings.home)
                aside = spool_folder(settings.home)
                runner = ReportRunner(
                    pool, workers, files, settings.concurrent_reports, settings.report_ttl
                )
                events = ReportEvents(pool, runner.wake, runner.cancelled)
                app.state.update(
                    {
                        "access": access.Access(keys, local=local, insecure=insecure),
                        "pool": pool,
                        "workers": workers,
                        "files": files,
                        "aside": aside,
                        "events": events,
                        "runner": runner,
                    }
                )
                async with events.listening(), runner.running():
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

    async def files(state: State) -> ReportFiles:
        given: ReportFiles = state.files
        return given

    async def aside(state: State) -> Folder:
        given: Folder = state.aside
        return given

    async def events(state: State) -> ReportEvents:
        given: ReportEvents = state.events
        return given

    async def given_settings() -> Settings:
        return settings

    handlers = [
        *reports.ROUTES,
        *report_events.ROUTES,
        *report_csv.ROUTES,
        *report_summary.ROUTES,
        *stores.ROUTES,
        *availability.ROUTES,
        *feeds.ROUTES,
        *delete_polls.ROUTES,
        *operations.ROUTES,
        *dashboard.ROUTES,
    ]
    app = Litestar(
        route_handlers=[*options(handlers), *handlers],
        lifespan=[lifespan],
        dependencies={
            "pool": Provide(pool),
            "workers": Provide(workers),
            "files": Provide(files),
            "aside": Provide(aside),
            "events": Provide(events),
            "runner": Provide(runner),
            "settings": Provide(given_settings),
        },
        guards=[access.guard],
        exception_handlers={Exception: problems.answer},
        openapi_config=document.openapi_config(),
        logging_config=None,  # Litestar's own would take the place of ours
    )
    app.asgi_handler = RequestLog(stores.keep_ids_encoded(app.asgi_handler))
    return app


async def _say_who_is_served(keys: KeyRing, *, local: bool, insecure: bool) -> None:
    if await keys.any_made():
        return
    if local and not insecure:
        log.info(
            "no API key is made, so only this machine itself is served; "
            "`storewatch keys create NAME` makes one"
        )
    elif insecure:
        log.warning("no API key is made, and --insecure: everybody who asks is served")
    else:
        raise KeyNeeded
