"""A client that does as a good one does: it asks again after what may pass, and waits as told.

Each answer is counted, and judged: by its time, and by whether an error has a fault for its reason.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

from tests.soak.findings import Findings, Invariant
from tests.soak.instances import Instance

#: Every answer comes within this, or is a failure; a client waits longer, to see how long; seconds.
IN_TIME = 35.0
PATIENCE = 90.0
#: How long after a fault errors still count as its consequence, seconds.
GRACE = 10.0
#: A client that asks again and again gives up after so many seconds, which is a failure.
GIVE_UP = 180.0
_LONGEST_PAUSE = 5.0
_PIECE = 16 << 10  # bytes
_MAY_PASS = (429, 503)


@dataclass
class Strike:
    """A fault that happens, or happened.

    Attributes:
        name: what it is
        struck: the instance whose answers it may spoil; None: all
        begun, ended: by the monotonic clock, seconds; not ended: infinite
    """

    name: str
    struck: Instance | None
    begun: float = field(default_factory=time.monotonic)
    ended: float = float("inf")


class Strikes(list[Strike]):
    """All faults so far."""

    @contextmanager
    def strike(self, name: str, struck: Instance | None) -> Iterator[None]:
        """A fault happens while the block runs."""
        strike = Strike(name, struck)
        self.append(strike)
        try:
            yield
        finally:
            strike.ended = time.monotonic()

    def excuse(self, begun: float, ended: float, instance: Instance | None = None) -> bool:
        """Whether a fault explains what went wrong in a stretch of time, with one instance."""
        return any(
            strike.begun <= ended
            and begun <= strike.ended + GRACE
            and strike.struck in (None, instance)
            for strike in self
        )

    def cause(self, begun: float, ended: float) -> str:
        """What may have spoiled a stretch of time, for whoever looks into it."""
        during = [
            strike.name
            for strike in self
            if strike.begun <= ended and begun <= strike.ended + GRACE
        ]
        if during:
            return f"during: {'; '.join(during)}"
        return f"after: {self[-1].name}" if self else "before any fault"


class Answers:
    """Counts and judges answers.

    Attributes:
        counts: by kind of request and status, or name of the error
        slowest: seconds, by kind of request
    """

    def __init__(self, strikes: Strikes, findings: Findings) -> None:
        self._strikes, self._findings = strikes, findings
        self.counts: Counter[tuple[str, str]] = Counter()
        self.slowest: dict[str, float] = {}

    def note(
        self,
        kind: str,
        instance: Instance,
        begun: float,
        answer: httpx.Response | Exception,
        expected: Container[int] = (),
    ) -> None:
        """An attempt is over, with an answer, which may be expected, or an error."""
        ended = time.monotonic()
        response = answer if isinstance(answer, httpx.Response) else None
        status = type(answer).__name__ if response is None else str(response.status_code)
        fails = response is None or (status == "503" and 503 not in expected)
        seconds = ended - begun
        self.counts[kind, status] += 1
        self.slowest[kind] = max(self.slowest.get(kind, 0), seconds)
        cause = self._strikes.cause(begun, ended)
        if seconds > IN_TIME:
            what = f"{kind}: {status} after more than {IN_TIME:.0f} s, {cause}"
            self._findings.add(Invariant.IN_TIME, what)
        elif fails and not self._strikes.excuse(begun, ended, instance):
            what = f"{kind}: {status} of {instance}, {cause}, which is no excuse"
            self._findings.add(Invariant.IN_TIME, what)
        if status in ("429", "503") and response and "retry-after" not in response.headers:
            self._findings.add(Invariant.ANSWERS, f"{kind}: {status} without Retry-After")


class Answer(NamedTuple):
    """What a client got in the end."""

    response: httpx.Response
    attempts: int

    @property
    def at_once(self) -> bool:
        """Whether the first attempt was answered so; else what it did is not known."""
        return self.attempts == 1


class Asking:
    """Sends requests to instances chosen at random, again until one gets through.

    Args:
        rng: chooses
        instances: whom to ask
        answers: counts
        findings: gets what must not be
    """

    def __init__(
        self,
        rng: random.Random,
        instances: Sequence[Instance],
        answers: Answers,
        findings: Findings,
    ) -> None:
        self.rng, self._instances = rng, instances
        self.answers, self.findings = answers, findings
        # Given up before the service does, after 5 s: else the two might cross.
        limits = httpx.Limits(keepalive_expiry=2)
        self.http = httpx.AsyncClient(timeout=PATIENCE, limits=limits)

    def an_instance(self) -> Instance:
        """Whoever a load balancer would choose."""
        return self.rng.choice(self._instances)

    async def ask(
        self,
        kind: str,
        method: str,
        path: str,
        *,
        expected: Container[int] = (200,),
        patient: bool = True,
        streamed: bytes | None = None,
        **request: Any,
    ) -> Answer | None:
        """Ask until there is an answer; None: there was none, so nobody knows what was done.

        Args:
            kind: what the request is counted as
            method: of HTTP
            path: with its query
            expected: statuses that are an answer
            patient: whether to ask again
            streamed: a body to send in pieces, without saying its length first
            request: the rest, as httpx takes it
        """
        begun_first = time.monotonic()
        attempts = 0
        while True:
            attempts += 1
            instance = self.an_instance()
            begun = time.monotonic()
            pause = min(_LONGEST_PAUSE, 0.2 * 2**attempts) * self.rng.uniform(0.5, 1)
            if streamed is not None:
                request["content"] = _pieces(streamed)
            try:
                response = await self.http.request(method, instance.base_url + path, **request)
            except httpx.TransportError as error:
                self.answers.note(kind, instance, begun, error)
            else:
                self.answers.note(kind, instance, begun, response, expected)
                if response.status_code in expected:
                    return Answer(response, attempts)
                if response.status_code not in _MAY_PASS:
                    told = f"{response.status_code} {response.text[:300]}"
                    self.findings.add(Invariant.ANSWERS, f"{kind}: {told}")
                    return None
                pause = float(response.headers.get("retry-after", pause))
            if not patient:
                return None
            if time.monotonic() - begun_first > GIVE_UP:
                what = f"{kind}: never got through within {GIVE_UP:.0f} s, {attempts} attempts"
                self.findings.add(Invariant.IN_TIME, what)
                return None
            await asyncio.sleep(pause)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]
