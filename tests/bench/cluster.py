"""The same reports by a cluster on this machine and by an instance's own workers, in turns."""

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import psutil

from service.database.embedded import embedded_postgres
from service.database.pool import open_pool
from service.workers.pool import Workers
from tests.bench import subject
from tests.bench.measure import console, in_turns, show
from tests.harness.cluster import Cluster
from tests.harness.processes import eventually
from tests.harness.service import Service, running_service

_WORKERS = 2
_CONNECTIONS = 150


class _Watched:
    """Reports of a service, with what it and the loopback network did for them.

    Attributes:
        processor: seconds of its main process
        sent: bytes over the loopback network
        reports: how many
    """

    def __init__(self, service: Service) -> None:
        self._service, self._process = service, psutil.Process(service.pid)
        self.processor, self.sent, self.reports = 0.0, 0, 0

    def report(self, client: httpx.Client) -> None:
        before = self._now()
        subject.report(self._service, client)
        after = self._now()
        self.processor += after[0] - before[0]
        self.sent += after[1] - before[1]
        self.reports += 1

    def _now(self) -> tuple[float, int]:
        times = self._process.cpu_times()
        return times.user + times.system, psutil.net_io_counters(pernic=True)["lo"].bytes_sent


def measure(folder: Path, *, stores: int, rounds: int) -> None:
    """Two databases with the same stores, so that no service takes the other's reports."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch, ExitStack() as stack:
        place = Path(scratch)
        place.chmod(0o755)
        url = stack.enter_context(server(place))
        asyncio.run(_load(url, place, folder, stores))
        twin = urlsplit(url)._replace(path="/twin").geturl()
        asyncio.run(_copy(url, "twin"))

        alone = stack.enter_context(running_service(url, place / "alone"))
        many, _ = stack.enter_context(with_a_cluster(twin, place))

        watched = {"own workers": _Watched(alone), "cluster": _Watched(many)}
        reports: dict[str, Callable[[], None]] = {}
        for (name, one), service in zip(watched.items(), (alone, many), strict=True):
            client = stack.enter_context(httpx.Client(base_url=service.base_url, timeout=600))
            one.report(client)
            one.processor, one.sent, one.reports = 0.0, 0, 0
            reports[name] = partial(one.report, client)
        taken = in_turns(reports, rounds)
        show(f"Report of {stores:,} stores, {_WORKERS} workers", taken, against="own workers")
        for name, one in watched.items():
            each = one.processor / one.reports / stores * 1e6
            console.print(
                f"{name}: {each:.2f} s of the service's own process per 1,000,000 stores, "
                f"{one.sent / one.reports / stores:.0f} bytes a store over the network"
            )


@contextmanager
def with_a_cluster(url: str, place: Path) -> Iterator[tuple[Service, Cluster]]:
    """A service whose reports a cluster on this machine makes, which is there."""
    cluster = Cluster(url, place)
    try:
        cluster.start_scheduler()
        for number in range(_WORKERS):
            cluster.start_worker(f"worker-{number}")
        settings = {"STOREWATCH_CLUSTER": cluster.address}
        with running_service(url, place / "many", **settings) as service:
            eventually(lambda: f"has {_WORKERS} workers that fit" in service.log)
            yield service, cluster
    finally:
        cluster.end()


@contextmanager
def server(place: Path) -> Iterator[str]:
    """A PostgreSQL of its own, reached by its socket; its URL."""
    with asyncio.Runner() as runner:
        server = embedded_postgres(place, own=True, connections=_CONNECTIONS)
        yield runner.run(server.__aenter__())
        runner.run(server.__aexit__(None, None, None))


async def _load(url: str, place: Path, folder: Path, stores: int) -> None:
    workers = Workers(os.cpu_count() or 1)
    try:
        async with open_pool(url, place, own=False) as pool:
            await subject.load_many(pool, workers, folder, stores)
    finally:
        workers.close()


async def _copy(url: str, name: str) -> None:
    source = urlsplit(url).path.removeprefix("/")
    connection = await asyncpg.connect(urlsplit(url)._replace(path="/template1").geturl())
    try:
        await connection.execute(f"create database {name} template {source}")
    finally:
        await connection.close()
