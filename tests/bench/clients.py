"""Clients that send single polls, or read single stores, each over a connection that is kept open.

Each sends its next request when its last is answered. They are a process of their own.
"""

import asyncio
import gc
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop

#: After the end of a phase, answers are waited for this long, seconds.
_LATEST = 30.0
#: A client whose connection was refused or ended tries again after this, seconds.
_AGAIN = 0.02
_ACTIVE = 0.9


class Load(msgspec.Struct, frozen=True):
    """What clients do.

    Attributes:
        base_url: of the service
        ids: a file of store ids, a line each
        kind: send polls of stores at random, or ask for the availability of such a store
        clients: how many, with a connection each
        seconds: how long
        first: the first poll's instant, ms since 1970 UTC
        step: milliseconds from a poll to the next
        pause: before each request, seconds on average
        anew: whether each request has a connection of its own, the time to connect included
    """

    base_url: str
    ids: str
    kind: Literal["polls", "reads"]
    clients: int
    seconds: float
    first: int = 0
    step: int = 1
    pause: float = 0
    anew: bool = False


class Answers(msgspec.Struct):
    """What became of the requests of a phase.

    Attributes:
        seconds: how long it was
        sent: requests that were sent
        in_time: those that were answered with 200 before it ended
        statuses: all answers by status, those after its end too
        broken: requests whose connection ended without an answer, and connections refused
        late: requests that were not answered half a minute after its end either
        latency: seconds that each answer of `statuses` took
        processor: seconds of processor time of the clients
    """

    seconds: float = 0
    sent: int = 0
    in_time: int = 0
    statuses: dict[int, int] = msgspec.field(default_factory=Counter)
    broken: int = 0
    late: int = 0
    latency: list[float] = msgspec.field(default_factory=list)
    processor: float = 0

    @property
    def acknowledged(self) -> int:
        """Requests that were answered with 200."""
        return self.statuses.get(200, 0)

    @property
    def a_second(self) -> float:
        """Acknowledged requests a second."""
        return self.in_time / self.seconds

    def percentile(self, percent: float) -> float:
        """Seconds within which so many of the answers came; not a number: there were none."""
        if not self.latency:
            return float("nan")
        place = int(len(self.latency) * percent / 100)
        return sorted(self.latency)[min(place, len(self.latency) - 1)]


def together(parts: Iterable[Answers]) -> Answers:
    """Phases that followed each other, as one."""
    every = Answers()
    for part in parts:
        every.seconds += part.seconds
        every.sent += part.sent
        every.in_time += part.in_time
        for status, count in part.statuses.items():
            every.statuses[status] = every.statuses.get(status, 0) + count
        every.broken += part.broken
        every.late += part.late
        every.latency += part.latency
        every.processor += part.processor
    return every


def start(load: Load) -> Callable[[], Answers]:
    """Start clients in a process of their own. Returns what waits for what became of theirs."""
    command = [sys.executable, "-m", "tests.bench.clients", msgspec.json.encode(load).decode()]
    popen = subprocess.Popen(command, stdout=subprocess.PIPE)

    def answers() -> Answers:
        told, _ = popen.communicate()
        if popen.returncode:
            raise RuntimeError("the clients failed; why stands above")
        return msgspec.json.decode(told, type=Answers)

    return answers


class _Client(asyncio.Protocol):
    """One client.

    Args:
        request: makes its next one
        load: what it does
        answers: where it counts
    """

    def __init__(self, request: Callable[[], bytes], load: Load, answers: Answers) -> None:
        self._request, self._load, self._answers = request, load, answers
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._loop = asyncio.get_running_loop()
        self._began = 0.0
        self._connecting = 0.0  # since when, for the next request
        self._end = float("inf")
        #: Set while no answer is waited for, once nothing more is to be sent.
        self.done = asyncio.Event()

    def begin(self, end: float) -> None:
        """Send requests until a time of `perf_counter`."""
        self._end = end
        self._next()

    async def connect(self) -> None:
        """Connect, again and again until it succeeds or the time is over."""
        host, port = urlsplit(self._load.base_url).netloc.split(":")
        while time.perf_counter() < self._end:
            try:
                await self._loop.create_connection(lambda: self, host, int(port))
            except OSError:
                self._answers.broken += 1
                await asyncio.sleep(_AGAIN)
            else:
                return
        self.done.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._began:
            self._answers.broken += 1
            self._began = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._reconnecting = self._loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        if self._load.anew:
            self._connecting = time.perf_counter()
        else:
            await asyncio.sleep(_AGAIN)
        await self.connect()
        self._next()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Count an answer; httptools calls it."""
        now = time.perf_counter()
        status = self._parser.get_status_code()
        self._answers.statuses[status] = self._answers.statuses.get(status, 0) + 1
        self._answers.latency.append(now - self._began)
        if status == 200 and now < self._end:
            self._answers.in_time += 1
        self._began = 0.0
        if self._load.pause:
            self._loop.call_later(random.uniform(0, 2 * self._load.pause), self._next)
        elif self._parser.should_keep_alive():
            self._next()

    def _next(self) -> None:
        if time.perf_counter() >= self._end:
            self.done.set()
        elif self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._request())
            self._answers.sent += 1
            self._began = self._connecting or time.perf_counter()
            self._connecting = 0.0


async def _run(load: Load) -> Answers:
    answers = Answers(seconds=load.seconds)
    ids = Path(load.ids).read_text().split()
    request = _polls(ids, load) if load.kind == "polls" else _reads(ids)
    clients = [_Client(request, load, answers) for _ in range(load.clients)]
    await asyncio.gather(*(client.connect() for client in clients))
    end = time.perf_counter() + load.seconds
    for client in clients:
        client.begin(end)
    waits = [asyncio.create_task(client.done.wait()) for client in clients]
    _, left = await asyncio.wait(waits, timeout=load.seconds + _LATEST)
    answers.late = len(left)
    for wait in left:
        wait.cancel()
    return answers


def _polls(ids: list[str], load: Load) -> Callable[[], bytes]:
    """What makes requests of a poll each, of a store at random, each a step later."""
    instant = load.first - load.step
    connection = "Connection: close\r\n" * load.anew

    def request() -> bytes:
        nonlocal instant
        instant += load.step
        at = datetime.fromtimestamp(instant // 1000, UTC)
        status = "active" if random.random() < _ACTIVE else "inactive"
        body = (
            f'[{{"store_id":"{random.choice(ids)}","status":"{status}",'
            f'"timestamp_utc":"{at:%Y-%m-%dT%H:%M:%S}.{instant % 1000:03}Z"}}]'
        )
        return (
            "POST /polls HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"{connection}Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    return request


def _reads(ids: list[str]) -> Callable[[], bytes]:
    """What makes requests for the availability of a store at random."""

    def request() -> bytes:
        path = f"/stores/{random.choice(ids)}/availability"
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()

    return request


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _main() -> None:
    load = msgspec.json.decode(sys.argv[1], type=Load)
    gc.disable()  # its pauses would be taken for the service's
    before = _processor_seconds()  # not its start
    answers = uvloop.run(_run(load))
    answers.processor = _processor_seconds() - before
    # Under PYTHONUNBUFFERED `sys.stdout.buffer` is none, and may write a part only.
    with open(sys.stdout.fileno(), "wb", closefd=False) as whole:
        whole.write(msgspec.json.encode(answers))


if __name__ == "__main__":
    _main()
