"""The application: settings in, routes and everything they need out."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

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
    outages,
    report_csv,
    report_days,
    report_events,
    report_formats,
    report_groups,
    report_outages,
    report_stores,
    report_summary,
    report_trend,
    reports,
    schedules,
    special_hours,
    states,
    store_polls,
    store_states,
    stores,
    webhooks,
)
from service.api.availability_metrics import AvailabilityMetrics
from service.api.quick_polls import QUICK_POLLS, QuickPolls
from service.api.readiness import Readiness
from service.database.listening import Hears, Streams, listening
from service.database.pool import (
    FEEDS_AT_ONCE,
    READING,
    REQUESTS,
    WORK,
    pool_of,
    prepared_database,
)
from service.deliveries.courier import Courier
from service.feeds.history import Refusals
from service.feeds.poll_line import PollLine
from service.feeds.poll_months import PollMonths
from service.feeds.spool import spool_folder
from service.keys import KeyRefused, KeyRing, adopt_key, any_key, create_first_key
from service.logs import RequestLog, Successes
from service.outages.all_stores import CONNECTIONS as _FOR_OUTAGES
from service.outages.kept import remember
from service.reports.events import CHANNEL as REPORT_CHANNEL
from service.reports.events import ReportEvents
from service.reports.files import ReportFiles, open_report_files
from service.reports.max_gap import DEFAULT_MAX_GAP, parse_max_gap
from service.reports.runner import ReportRunner
from service.reports.sources import Sources
from service.reports.totals import ReportTotals
from service.schedules.ticker import Ticker
from service.settings import Settings
from service.states.changes import StateEvents
from service.states.evaluator import Evaluator
from service.states.table import CHANNEL as STATE_CHANNEL
from service.storage import Folder
from service.web import access, problem_pages, problems, strict
from service.web.cors import Cors
from service.web.head import HeadAsGet
from service.web.links import PathPrefix
from service.web.options import options
from service.web.stopping import CutShort
from service.webhooks.deliverer import Deliverer
from service.webhooks.sender import Sender
from service.webhooks.store_events import StoreEvents
from service.workers.pool import Workers

if TYPE_CHECKING:
    from service.cluster.client import Cluster

log = logging.getLogger("storewatch")

# Those who wait differently long for an answer have connections of their own, so that each notices
# in its time that one is dead. A running report reads on three and renews its lease on a fourth.
# Lists of outages read on three each, too. Besides, one stores live polls, one listens, the queue
# is checked and tidied, schedules are looked at, one sees to the months of polls, one is for
# deliveries of reports, and those of webhooks share one. Whoever looks at the stores holds one, and
# reads on three of their own.
_READING_PER_REPORT = 3
_FOR_FEEDS = 2 * FEEDS_AT_ONCE
_OWN_PER_REPORT, _OWN = 1, 10
_FOR_STATES = 3
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
                    connections=_FOR_REQUESTS
                    + own
                    + for_reports
                    + _FOR_STATES
                    + _FOR_FEEDS
                    + _FOR_OUTAGES,
                ) as url,
                pool_of(url, REQUESTS, _FOR_REQUESTS, plain=True) as pool,
                pool_of(url, REQUESTS, own) as own_pool,
                pool_of(url, READING, for_reports) as reading_pool,
                pool_of(url, READING, _FOR_STATES) as states_pool,
                pool_of(url, WORK, _FOR_FEEDS) as work_pool,
                pool_of(url, REQUESTS, _FOR_OUTAGES) as outage_pool,
            ):
                await _prepare_keys(pool, settings, local=local, insecure=insecure)
                files = open_report_files(settings.reports_location, settings.home)
                aside = spool_folder(settings.home)
                evaluator = None
                if settings.state_every:
                    evaluator = Evaluator(
                        own_pool,
                        states_pool,
                        workers,
                        every=settings.state_every.total_seconds(),
                        max_gap=parse_max_gap(DEFAULT_MAX_GAP),
                        on_look=(StoreEvents(settings.link_base).tell, remember),
                    )
                poll_line = PollLine(own_pool, evaluator.touch if evaluator else None)
                cluster = _cluster_of(settings, own_pool)
                sources = Sources(reading_pool, settings.database_replicas, for_reports)
                runner = ReportRunner(
                    own_pool,
                    sources,
                    workers,
                    files,
                    settings.concurrent_reports,
                    settings.report_ttl,
                    settings.report_history,
                    cluster,
                )
                ticker = Ticker(own_pool, schedules.options_of, settings.queued_reports)
                deliverer = Deliverer(
                    own_pool, Sender(settings.webhook_networks), settings.link_base
                )
                report_totals = ReportTotals(files)
                courier = Courier(
                    own_pool, files, report_totals, settings.deliver_to, settings.report_history
                )
                open_streams = Streams(streams)
                events = ReportEvents(own_pool, runner.wake, runner.cancelled, open_streams)
                state_events = StateEvents(own_pool, open_streams)
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
                        "outage_pool": outage_pool,
                        "workers": workers,
                        "files": files,
                        "report_totals": report_totals,
                        "aside": aside,
                        "poll_line": poll_line,
                        "refusals": Refusals(pool),
                        "events": events,
                        "streams": open_streams,
                        "state_events": state_events,
                        "runner": runner,
                        "deliverer": deliverer,
                        "readiness": Readiness(pool, workers, files),
                        "availability_metrics": AvailabilityMetrics(settings.metrics_tag),
                    }
                )
                heard: dict[str, Hears] = {REPORT_CHANNEL: events, STATE_CHANNEL: state_events}
                async with (
                    listening(own_pool, heard),
                    poll_line.running(),
                    nullcontext() if cluster is None else cluster.running(),
                    sources.running(),
                    runner.running(),
                    ticker.running(),
                    PollMonths(own_pool, settings.poll_ttl).running(),
                    courier.running(),
                    evaluator.running() if evaluator else nullcontext(),
                    deliverer.running(),
                ):
                    try:
                        yield
                    finally:
                        open_streams.close()
        finally:
            quick_polls.tell()
            workers.close()

    async def pool(state: State) -> asyncpg.Pool:
        return state.pool

    async def work_pool(state: State) -> asyncpg.Pool:
        return state.work_pool

    async def outage_pool(state: State) -> asyncpg.Pool:
        return state.outage_pool

    async def workers(state: State) -> Workers:
        given: Workers = state.workers
        return given

    async def runner(state: State) -> ReportRunner:
        given: ReportRunner = state.runner
        return given

    async def deliverer(state: State) -> Deliverer:
        given: Deliverer = state.deliverer
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

    # Not `events`, which is a member of bodies too: Litestar takes what is wrong with a value of a
    # dependency's name for its own fault.
    async def progress_events(state: State) -> ReportEvents:
        given: ReportEvents = state.events
        return given

    async def open_streams(state: State) -> Streams:
        given: Streams = state.streams
        return given

    async def state_events(state: State) -> StateEvents:
        given: StateEvents = state.state_events
        return given

    async def readiness(state: State) -> Readiness:
        given: Readiness = state.readiness
        return given

    async def availability_metrics(state: State) -> AvailabilityMetrics:
        given: AvailabilityMetrics = state.availability_metrics
        return given

    async def given_settings() -> Settings:
        return settings

    handlers = [
        *reports.ROUTES,
        *schedules.ROUTES,
        *webhooks.ROUTES,
        *report_events.ROUTES,
        *report_csv.ROUTES,
        *report_formats.ROUTES,
        *report_summary.ROUTES,
        *report_stores.ROUTES,
        *report_groups.ROUTES,
        *report_days.ROUTES,
        *report_outages.ROUTES,
        *report_trend.ROUTES,
        *stores.ROUTES,
        *availability.ROUTES,
        *store_states.ROUTES,
        *outages.ROUTES,
        *states.ROUTES,
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
            "outage_pool": Provide(outage_pool),
            "workers": Provide(workers),
            "files": Provide(files),
            "report_totals": Provide(report_totals),
            "aside": Provide(aside),
            "poll_line": Provide(poll_line),
            "refusals": Provide(refusals),
            "progress_events": Provide(progress_events),
            "streams": Provide(open_streams),
            "state_events": Provide(state_events),
            "runner": Provide(runner),
            "deliverer": Provide(deliverer),
            "readiness": Provide(readiness),
            "availability_metrics": Provide(availability_metrics),
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


def _cluster_of(settings: Settings, pool: asyncpg.Pool) -> "Cluster | None":
    if settings.cluster is None:
        return None
    from service.cluster.client import Cluster  # which imports much

    return Cluster(settings.cluster, pool)


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
