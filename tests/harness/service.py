"""A running `storewatch serve` on a free port, and what it answers."""

import re
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import psutil

from tests.harness.processes import COMMAND, PATIENCE, command_environment, eventually, is_alive

#: Without it each request reads all certificates of the world, which takes longer than its answer.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


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
        return httpx.request(method, self.base_url + path, timeout=PATIENCE, verify=NO_TLS, **more)

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


#: Seconds for the workers of a report to start, each while those before it are stopped.
_STARTED_WITHIN = 10


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
    since = time.monotonic()
    while len(stopped) < most:
        assert service.status(report_id) == "Started", "it was faster: give it more stores"
        for worker in set(service.workers()) - stopped:
            worker.suspend()
            stopped.add(worker)
        if time.monotonic() - since > _STARTED_WITHIN:
            # One was stopped when it had just become idle, and the next batch waits for it.
            for worker in stopped:
                worker.resume()
            stopped.clear()
            since = time.monotonic()
    # A batch for which there is no idle worker starts one: as many batches wait as workers.
    assert service.status(report_id) == "Started"
    return report_id, list(stopped)
