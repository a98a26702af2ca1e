"""The application: settings in, routes and everything they need out."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ASGIApp

from service.api import (
    availability,
    dashboard,
    delete_polls,
    document,
    exclusions,
    feeds,
    keys,
    operations,
    report_csv,
    report_days,
    report_events,
    report_stores,
    report_summary,
    report_trend,
    reports,
    special_hours,
    store_polls,
    stores,
)
from service.api.quick_polls import QUICK_POLLS, QuickPolls
from service.api.readiness import Readiness
from service.database.pool import (
    FEEDS_AT_ONCE,
    READING,
    REQUESTS,
    WORK,
    pool_of,
    prepared_database,
)
from service.feeds.history import Refusals
from service.feeds.poll_line import PollLine
from service.feeds.spool import spool_folder
from service.keys import KeyRefused, KeyRing, adopt_key, any_key, create_first_key
from service.logs import RequestLog, Successes
from service.reports.events import ReportEvents
from service.reports.files import ReportFiles, open_report_files
from service.reports.runner import ReportRunner
from service.reports.totals import ReportTotals
from service.settings import Settings
from service.storage import Folder
from service.web import access, problem_pages, problems, strict
from service.web.cors import Cors
from service.web.head import HeadAsGet
from service.web.links import PathPrefix
from service.web.options import options
from service.web.stopping import CutShort
from service.workers.pool import Workers

log = logging.getLogger("storewatch")

# Those who wait differently long for an answer have connections of their own, so that each notices
# in its time that one is dead. A running report reads on three and renews its lease on a fourth.
# Besides, one stores live polls, one listens, and the queue is checked and tidied.
_READING_PER_REPORT = 3
_FOR_FEEDS = 2 * FEEDS_AT_ONCE
_OWN_PER_REPORT, _OWN = 1, 5
_FOR_REQUESTS = 12


def create_app(
    settings: Settings, *, streams: int, local: bool = True, insecure: bool = False
) -> Litestar:
    """The service. The database, the workers and running reports live as long as it does.

    Args:
        settings: from the environment
        streams: most event streams that are open at once
        local: whether it listens on a loopback address only
        insecure: whether it serves everybody until an API key is made

    Raises (when it starts):
        DatabaseUnavailable: the database cannot be reached or used
        KeyRefused: the key file cannot be read, or has no valid key
        StorageFailed: a folder that it needs cannot be created
    """

    quick_polls = Successes(*QUICK_POLLS)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        for_reports = _READING_PER_REPORT * settings.concurrent_reports
        own = _OWN_PER_REPORT * settings.concurrent_reports + _OWN
        workers = Workers(settings.workers)
        try:
            async with (
                prepared_database(
                    settings.database_url,
                    settings.home,
                    own=True,
                    connections=_FOR_REQUESTS + own + for_reports + _FOR_FEEDS,
                ) as url,
                pool_of(url, REQUESTS, _FOR_REQUESTS) as pool,
                pool_of(url, REQUESTS, own) as own_pool,
                pool_of(url, READING, for_reports) as reading_pool,
                pool_of(url, WORK, _FOR_FEEDS) as work_pool,
            ):
                await _prepare_keys(pool, settings, local=local, insecure=insecure)
                files = open_report_files(settings.reports_location, settings.home)
                aside = spool_folder(settings.home)
                poll_line = PollLine(own_pool)
                runner = ReportRunner(
                    own_pool,
                    reading_pool,
                    workers,
                    files,
                    settings.concurrent_reports,
                    settings.report_ttl,
                    settings.report_history,
                )
                events = ReportEvents(own_pool, runner.wake, runner.cancelled, streams)
                app.state.update(
                    {
                        "access": access.Access(
                            KeyRing(pool),
                            local=local,
                            insecure=insecure,
                            origins=settings.cors_origins,
                            hosts=settings.allowed_hosts,
                        ),
                        "pool": pool,
                        "work_pool": work_pool,
                        "workers": workers,
                        "files": files,
                        "report_totals": ReportTotals(files),
                        "aside": aside,
                        "poll_line": poll_line,
                        "refusals": Refusals(pool),
                        "events": events,
                        "runner": runner,
                        "readiness": Readiness(pool, workers, files),
                    }
                )
                async with events.listening(), poll_line.running(), runner.running():
                    yield
        finally:
            quick_polls.tell()
            workers.close()

    async def pool(state: State) -> asyncpg.Pool:
        return state.pool

    async def work_pool(state: State) -> asyncpg.Pool:
        return state.work_pool

    async def workers(state: State) -> Workers:
        given: Workers = state.workers
        return given

    async def runner(state: State) -> ReportRunner:
        given: ReportRunner = state.runner
        return given

    async def files(state: State) -> ReportFiles:
        given: ReportFiles = state.files
        return given

    async def report_totals(state: State) -> ReportTotals:
        given: ReportTotals = state.report_totals
        return given

    async def aside(state: State) -> Folder:
        given: Folder = state.aside
        return given

    async def poll_line(state: State) -> PollLine:
        given: PollLine = state.poll_line
        return given

    async def refusals(state: State) -> Refusals:
        given: Refusals = state.refusals
        return given

    async def events(state: State) -> ReportEvents:
        given: ReportEvents = state.events
        return given

    async def readiness(state: State) -> Readiness:
        given: Readiness = state.readiness
        return given

    async def given_settings() -> Settings:
        return settings

    handlers = [
        *reports.ROUTES,
        *report_events.ROUTES,
        *report_csv.ROUTES,
        *report_summary.ROUTES,
        *report_stores.ROUTES,
        *report_days.ROUTES,
        *report_trend.ROUTES,
        *stores.ROUTES,
        *availability.ROUTES,
        *feeds.ROUTES,
        *delete_polls.ROUTES,
        *special_hours.ROUTES,
        *exclusions.ROUTES,
        *store_polls.ROUTES,
        *keys.ROUTES,
        *operations.ROUTES,
        *problem_pages.ROUTES,
        *dashboard.ROUTES,
    ]
    app = Litestar(
        route_handlers=[*options(handlers), *handlers],
        lifespan=[lifespan],
        dependencies={
            "pool": Provide(pool),
            "work_pool": Provide(work_pool),
            "workers": Provide(workers),
            "files": Provide(files),
            "report_totals": Provide(report_totals),
            "aside": Provide(aside),
            "poll_line": Provide(poll_line),
            "refusals": Provide(refusals),
            "events": Provide(events),
            "runner": Provide(runner),
            "readiness": Provide(readiness),
            "settings": Provide(given_settings),
        },
        guards=[access.guard, strict.check_query],
        exception_handlers={Exception: problems.answer},
        openapi_config=document.openapi_config(),
        logging_config=None,  # Litestar's own would replace ours
    )
    app.asgi_handler = _around(app, settings, quick_polls)
    return app


def _around(app: Litestar, settings: Settings, quick_polls: Successes) -> ASGIApp:
    """What every request passes on its way to the routes, and every answer on its way back."""
    inner = HeadAsGet(
        CutShort(stores.keep_ids_encoded(app.asgi_handler)),
        (handler for route in app.routes for handler in getattr(route, "route_handlers", ())),
    )
    first_segments = {route.path.split("/")[1] for route in app.routes}
    prefixed = PathPrefix(inner, settings.root_path, settings.trusted_proxies, first_segments)
    return QuickPolls(RequestLog(Cors(prefixed, settings.cors_origins)), app.state, quick_polls)


async def _prepare_keys(
    pool: asyncpg.Pool, settings: Settings, *, local: bool, insecure: bool
) -> None:
    """Make the keys that the settings ask for, and log who is served without a key."""
    if settings.key_file is not None:
        await adopt_key(pool, await asyncio.to_thread(_read_key, settings.key_file))
    if await any_key(pool):
        return
    if settings.require_key or not (local or insecure):
        if key := await create_first_key(pool):
            # Not in the log, which is kept and passed on, and must not contain keys.
            print(f"The first API key, shown only now: {key}", flush=True)  # noqa: T201
            log.info("made a first API key, and showed it on standard output")
    elif insecure:
        log.warning("there is no API key, and --insecure is set: every program is served")
    else:
        log.info(
            "there is no API key, so only this machine itself is served; "
            "`storewatch keys create NAME` makes one"
        )


def _read_key(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyRefused(f"STOREWATCH_KEY_FILE={file} cannot be read: {error}") from None
