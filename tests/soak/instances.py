"""One `storewatch serve` that can be ended and started again, and what it holds over time."""

import asyncio
import signal
import subprocess
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil

from tests.bench.measure import held_by
from tests.harness.processes import is_alive
from tests.harness.service import Service, running_service
from tests.soak.findings import Findings, Invariant
from tests.soak.proxy import Proxy

#: How long an instance may take to end when it is told to, and its processes after it, seconds.
END_SECONDS = 5.0
_LOOK_SECONDS = 5.0


class Sample(NamedTuple):
    """What an instance held at one time."""

    main_mebibytes: float  # its main process
    largest_mebibytes: float  # of its other processes, that which held the most
    descriptors: int  # of its main process
    processes: int


class Instance:
    """A service behind a proxy of its own.

    Attributes:
        number: from 1
        proxy: its way to PostgreSQL
        home: its folder, with its logs
        base_url: where it answers, or answered last
        samples: what it held, every few seconds
    """

    def __init__(
        self, number: int, home: Path, proxy: Proxy, environment: dict[str, str], findings: Findings
    ) -> None:
        self.number, self.home, self.proxy = number, home, proxy
        self._environment, self._findings = environment, findings
        self.base_url = ""
        self.samples: list[Sample] = []
        self._running: tuple[Service, AbstractContextManager[Service]] | None = None

    def __str__(self) -> str:
        return f"instance {self.number}"

    @property
    def service(self) -> Service:
        """The running one."""
        assert self._running
        return self._running[0]

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        context = running_service(self.proxy.url, self.home, **self._environment)
        service = await asyncio.to_thread(context.__enter__)
        self.base_url = service.base_url
        self._running = service, context

    async def end(self, sent: signal.Signals) -> None:
        """End it by a signal; notes how long it takes, and what it leaves."""
        if self._running is None:
            return
        service, context = self._running
        family = service.processes()
        begun = time.monotonic()
        try:
            service.send(sent)
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(service.wait, 30)
        finally:
            self._running = None
            await asyncio.to_thread(context.__exit__, None, None, None)
        seconds = time.monotonic() - begun
        if seconds > END_SECONDS:
            what = (
                f"{self} took {seconds:.0f} s to end after {sent.name}, at most {END_SECONDS:.0f}"
            )
            self._findings.add(Invariant.ENDING, what)
        deadline = time.monotonic() + END_SECONDS
        while any(map(is_alive, family)) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        for process in filter(is_alive, family):
            what = f"{self} left a process after {sent.name}: {' '.join(process.cmdline())[:100]}"
            self._findings.add(Invariant.ENDING, what)
            process.kill()

    async def is_ready(self) -> bool:
        """Whether it says that it can work."""
        async with httpx.AsyncClient(timeout=5) as client:
            try:
                return (await client.get(f"{self.base_url}/health/ready")).status_code == 200
            except httpx.TransportError:
                return False

    async def watch(self) -> None:
        """Take samples, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._running is not None:
                sample = await asyncio.to_thread(_sample, self.service.pid)
                if sample is not None:
                    self.samples.append(sample)


def _sample(pid: int) -> Sample | None:
    """None: it ended just now."""
    try:
        main = psutil.Process(pid)
        others = main.children(recursive=True)
        largest = max((held_by([other]) for other in others), default=0.0)
        return Sample(held_by([main]), largest, main.num_fds(), 1 + len(others))
    except psutil.NoSuchProcess:
        return None
