"""`storewatch` in real processes: the service on a free port, the commands, and their database."""

import asyncio
import csv
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg
import httpx
import psutil

from service.database.migrations import migrate
from service.feeds.made_up import FeedFiles
from tests.unit.reference import EPOCH, HOUR, MILLISECOND, MINUTE, Store, reference_csv_row

COMMAND = (sys.executable, "-m", "service")
#: How long to wait for what must happen, before a test fails; seconds.
PATIENCE = 60


def eventually(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)


class Service:
    """A running `storewatch serve`.

    Attributes:
        base_url: where it answers
        reports: the folder of its reports
    """

    def __init__(self, popen: "subprocess.Popen[bytes]", base_url: str, log: Path, home: Path):
        self._popen, self.base_url, self._log = popen, base_url, log
        self.reports = home / "reports"

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def log(self) -> str:
        """What it said so far."""
        return self._log.read_text()

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Any request; `more` as httpx takes it."""
        return httpx.request(method, self.base_url + path, timeout=PATIENCE, **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("GET", path, **more)

    def trigger_report(self) -> str:
        """Ask for a report; its id."""
        report_id: str = self.get("/trigger_report").json()["report_id"]
        return report_id

    def status(self, report_id: str) -> str:
        status: str = self.get(f"/get_report/{report_id}").json()["status"]
        return status

    def wait_for(self, report_id: str) -> str:
        """Wait until a report is no longer `Started`; what it is then."""
        eventually(lambda: self.status(report_id) != "Started")
        return self.status(report_id)

    def report(self) -> bytes:
        """The CSV of a new report, which must succeed."""
        report_id = self.trigger_report()
        assert self.wait_for(report_id) == "Completed", self.log
        return self.csv(report_id).read_bytes()

    def csv(self, report_id: str) -> Path:
        """The file of a report; of one that has none, where its first run would put it."""
        return next(self.reports.glob(f"{report_id}.*.csv"), self.reports / f"{report_id}.1.csv")

    def files_of(self, report_id: str, run: int = 1) -> list[str]:
        """The names of all files of a report that is completed."""
        return [f"{report_id}.{run}.{kind}" for kind in ("csv", "totals")]

    def files(self) -> list[str]:
        """The names of all files in the folder of reports, hidden ones too."""
        return sorted(path.name for path in self.reports.iterdir())

    def processes(self) -> list[psutil.Process]:
        """All processes that it started, and those that these did."""
        found: list[psutil.Process] = psutil.Process(self.pid).children(recursive=True)
        return found

    def workers(self) -> list[psutil.Process]:
        """Its live worker processes: the children of its fork server."""
        found: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children():
                with suppress(psutil.NoSuchProcess):
                    if "multiprocessing.forkserver" in " ".join(child.cmdline()):
                        found += child.children()
        return [worker for worker in found if is_alive(worker)]

    def send(self, sent: signal.Signals) -> None:
        self._popen.send_signal(sent)

    def wait(self, within: float = PATIENCE) -> None:
        """Wait until it has ended."""
        self._popen.wait(within)

    @property
    def status_of_its_end(self) -> int | None:
        """Its exit status, or the negative number of the signal that it ended by."""
        return self._popen.returncode

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> None:
        """Tell it to end, and wait until it did."""
        self.send(sent)
        self.wait()

    def kill(self) -> None:
        """End it without a chance to clean up."""
        self.stop(signal.SIGKILL)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs; a zombie does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def running_service(
    database_url: str | None,
    home: Path,
    *arguments: str,
    command: Sequence[str] = COMMAND,
    **environment: str,
) -> Iterator[Service]:
    """Start `storewatch serve`; it answers when the block begins, and is gone when it ends.

    Args:
        database_url: its PostgreSQL; None: the embedded one
        home: its folder
        arguments: to `serve`
        command: what runs instead of `storewatch`
        environment: variables to add
    """
    home.mkdir(exist_ok=True)
    log = home / f"serve-{time.monotonic_ns()}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [*command, "serve", "--port", "0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=home,
            env=command_environment(database_url, home, environment),
        )
    left: list[psutil.Process] = []
    try:
        service = Service(popen, _base_url(popen, log), log, home)
        eventually(lambda: service.get("/health/live").status_code == 200)
        yield service
    finally:
        if popen.poll() is None:
            left = psutil.Process(popen.pid).children(recursive=True)
            popen.kill()
            popen.wait()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.resume()  # a stopped one would not see that its parent is gone
        eventually(lambda: not any(map(is_alive, left)))


def _base_url(popen: "subprocess.Popen[bytes]", log: Path) -> str:
    """Where it listens: it tells in its log, once it does."""
    address = re.compile(r"running on http://[\d.]+:(\d+)")
    eventually(lambda: popen.poll() is not None or bool(address.search(log.read_text())))
    found = address.search(log.read_text())
    assert found, log.read_text()
    return f"http://127.0.0.1:{found[1]}"


def storewatch(
    *arguments: str | Path,
    database_url: str | None,
    home: Path,
    stdin: bytes = b"",
    **environment: str,
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        cwd=home,
        env=command_environment(database_url, home, environment),
        timeout=2 * PATIENCE,
    )


def command_environment(
    database_url: str | None, home: Path, more: dict[str, str]
) -> dict[str, str]:
    """The environment of a command: ours, without settings of our own, and what is to be added."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name != "DATABASE_URL" and not name.startswith("STOREWATCH_")
    }
    url = {} if database_url is None else {"DATABASE_URL": database_url}
    return clean | url | {"STOREWATCH_HOME": str(home)} | more


def make_key(database_url: str | None, home: Path, *arguments: str) -> str:
    """Run `storewatch keys create`; the key."""
    made = storewatch("keys", "create", *arguments, database_url=database_url, home=home)
    assert made.returncode == 0, made.stderr.decode()
    return made.stdout.decode().strip()


def problem(answer: httpx.Response) -> dict[str, Any]:
    """The problem document of a response, which must be one, and must not tell internals.

    Without `instance`, which must be the request's id; what is refused before it is one has none.
    """
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["status"] == answer.status_code
    assert {"type", "title", "detail"} <= set(told)
    prefix, _, asked = told.pop("instance", "").rpartition(":")
    request_id = answer.headers.get("x-request-id", "")
    assert (prefix, unquote(asked)) == ("urn:storewatch:request" if request_id else "", request_id)
    for internal in ("Traceback", "asyncpg", "select ", "insert ", ".py", "/tmp"):  # noqa: S108
        assert internal not in answer.text
    return told


def ask(database_url: str, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """Run one statement."""

    async def run() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(database_url)
        try:
            return [tuple(row) for row in await connection.fetch(sql, *arguments)]
        finally:
            await connection.close()

    return asyncio.run(run())


@contextmanager
def polls_locked(database_url: str) -> Iterator[None]:
    """Hold up every report, as soon as it reads polls, until the block ends."""
    with table_locked(database_url, "poll_day"):
        yield


@contextmanager
def table_locked(database_url: str, table: str) -> Iterator[None]:
    """Hold up whoever needs a table, until the block ends."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database_url))
        try:
            runner.run(connection.execute(f"begin; lock table {table} in access exclusive mode"))
            yield
        finally:
            runner.run(connection.close())


@contextmanager
def database_away(database_url: str, server: str) -> Iterator[None]:
    """Cut off everybody's connections to a database, and let nobody in until the block ends."""
    name = urlsplit(database_url).path.removeprefix("/")
    ask(server, f"alter database {name} allow_connections false")
    ask(server, "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name)
    try:
        yield
    finally:
        ask(server, f"alter database {name} allow_connections true")


DAY = 19_000  # 2022-01-08
NOON_MS = 43_200_000


def add_many_stores(database_url: str, stores: int) -> bytes:
    """Make a report long: many stores, always open, polled at noon, every second one inactive.

    Returns:
        the CSV of their report
    """

    async def run() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await migrate(connection)
            await connection.execute(
                """
                insert into store (store_id)
                select 'store-' || to_char(n, 'FM000000') from generate_series(1, $1::integer) as n
                order by n
                """,
                stores,
            )
            await connection.execute(
                """
                insert into poll_day (store, day, polls)
                select id, $1, case when right(store_id, 1) ~ '[13579]' then $2::bytea else $3 end
                from store
                """,
                DAY,
                (NOON_MS << 1 | 1).to_bytes(4, "little"),
                (NOON_MS << 1).to_bytes(4, "little"),
            )
            await connection.execute(
                "insert into newest_poll (instant) values (to_timestamp($1))",
                DAY * 86_400 + NOON_MS / 1000,
            )
        finally:
            await connection.close()

    asyncio.run(run())
    return many_stores_report(range(1, stores + 1))


def many_stores_report(numbers: Sequence[int]) -> bytes:
    """The report of `add_many_stores`: one poll at the end speaks for 24 hours before it."""
    spans, none = "60.00,24.00,24.00", "0.00,0.00,0.00"
    rows = [
        f"store-{number:06},{spans},{none}" if number % 2 else f"store-{number:06},{none},{spans}"
        for number in numbers
    ]
    return "\n".join([HEADER, *rows, ""]).encode()


HEADER = (
    "store_id,uptime_last_hour,uptime_last_day,uptime_last_week,"
    "downtime_last_hour,downtime_last_day,downtime_last_week"
)


def freeze_workers(service: Service, most: int) -> tuple[str, list[psutil.Process]]:
    """Trigger a report and stop all of its workers in the middle of it.

    Args:
        service: runs no other report, on `add_many_stores`
        most: its STOREWATCH_WORKERS

    Returns:
        the report's id; the stopped workers, which wait with a batch each
    """
    report_id = service.trigger_report()
    stopped: set[psutil.Process] = set()
    while len(stopped) < most:
        assert service.status(report_id) == "Started", "it was faster: give it more stores"
        for worker in service.workers():
            worker.suspend()
            stopped.add(worker)
    # A batch for which there is no idle worker starts one: as many batches wait as workers.
    assert service.status(report_id) == "Started"
    return report_id, list(stopped)


def ingest(feed: FeedFiles, *, database_url: str | None, home: Path) -> None:
    """Load a whole feed, which must succeed."""
    files = ("--polls", feed.polls, "--business-hours", feed.business_hours)
    done = storewatch(
        "ingest", *files, "--timezones", feed.timezones, database_url=database_url, home=home
    )
    assert done.returncode == 0, done.stderr.decode()


def read_stores(feed: FeedFiles) -> list[Store]:
    """What a feed says, read by other means than the service's, in the order of reports."""
    polls: dict[str, list[tuple[int, bool]]] = {}
    hours: dict[str, list[tuple[int, int, int]]] = {}
    zones: dict[str, str] = {}
    for row in _rows(feed.polls):
        text = row["timestamp_utc"].removesuffix(" UTC")
        instant = datetime.fromisoformat(text if "." in text else text + ".0")
        poll = ((instant - EPOCH) // MILLISECOND, row["status"] == "active")
        polls.setdefault(row["store_id"], []).append(poll)
    for row in _rows(feed.business_hours):
        start, end = _clock(row["start_time_local"]), _clock(row["end_time_local"])
        hours.setdefault(row["store_id"], []).append((int(row["day"]), start, end))
    for row in _rows(feed.timezones):
        zones[row["store_id"]] = row["timezone_str"]
    return [
        Store(
            store_id,
            polls=tuple(polls.get(store_id, ())),
            hours=tuple(hours.get(store_id, ())),
            timezone=zones.get(store_id),
        )
        for store_id in sorted({*polls, *hours, *zones}, key=str.encode)
    ]


def reference_report(stores: Sequence[Store]) -> bytes:
    """The report that the slow reference makes, with the defaults of a report."""
    as_of = max(instant for store in stores for instant, _ in store.polls)
    rows = [reference_csv_row(store, as_of, "nearest", 24 * HOUR, False) for store in stores]
    return "\n".join([HEADER, *rows, ""]).encode()


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def _clock(text: str) -> int:
    hours, minutes, seconds = map(int, text.split(":"))
    return hours * HOUR + minutes * MINUTE + seconds * 1000
