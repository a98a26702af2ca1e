"""How long the service waits for a slow client, and what it logs about those it gave up on."""

import logging
import time
from collections import Counter
from dataclasses import dataclass

log = logging.getLogger("storewatch.clients")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How much time a client may take.

    A body or a response must advance by `step_bytes`, or by what is left of it, within its number
    of seconds. So one bound limits both the rate and the longest silence. The server buffers 64 KiB
    of a connection anyway.

    Attributes:
        head_seconds: from the connection, or the last response, to the end of a request's head
        body_seconds: for a step of a body, while the service waits for it
        write_seconds: for a step of a response. The client's system buffers some of it, so the
            client may read more slowly than this for a while
        crowded_seconds: for a step of either, while others find no room
        line_seconds: in line for room for a body; then the client is told to come back later
        step_bytes: 64 KiB in 20 s is what the slowest modems achieved
    """

    head_seconds: float = 10.0
    body_seconds: float = 20.0
    write_seconds: float = 30.0
    crowded_seconds: float = 5.0
    line_seconds: float = 10.0
    step_bytes: int = 64 << 10


class Crowd:
    """Whether clients find no room now, and what became of them.

    Args:
        patience: a client that found no room counts for as long as one may wait in line
    """

    def __init__(self, patience: Patience) -> None:
        self._seconds = patience.line_seconds
        self._without_room = float("-inf")
        self._told: Counter[str] = Counter()

    @property
    def crowded(self) -> bool:
        """Whether a client found no room, or had to wait for it, a moment ago."""
        return time.monotonic() - self._without_room < self._seconds

    def no_room(self) -> None:
        """Note that a client found none."""
        self._without_room = time.monotonic()

    def note(self, what: str) -> None:
        """Count something for the log."""
        self._told[what] += 1

    def tell(self) -> None:
        """Log all counts in one line, so that no client can fill the log."""
        if self._told:
            log.warning("%s", "; ".join(f"{count} {what}" for what, count in self._told.items()))
            self._told.clear()
