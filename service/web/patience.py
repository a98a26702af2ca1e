"""How long the service waits for a slow client, and what it tells of those it did not wait for."""

import logging
import time
from collections import Counter
from dataclasses import dataclass

log = logging.getLogger("storewatch.clients")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """What a client may take.

    A body, and a response, must go on by `step_bytes` within its seconds, or by the rest of it: a
    rate and a longest silence in one. 64 KiB is what the server holds of a connection anyway.

    Attributes:
        head_seconds: from the connection, or the last response, to a request's whole head
        body_seconds: for a step of a body, while the service waits for it
        write_seconds: for a step of a response; the client's system takes some in, so it may read
            more slowly than that for a while
        crowded_seconds: the same for both, while others find no place
        line_seconds: in line for a place for a body; then the client is told to come back
        step_bytes: 64 KiB in 20 s is what the slowest modem did
    """

    head_seconds: float = 10.0
    body_seconds: float = 20.0
    write_seconds: float = 30.0
    crowded_seconds: float = 5.0
    line_seconds: float = 10.0
    step_bytes: int = 64 << 10


class Crowd:
    """Whether clients find no place now, and what became of them.

    Args:
        patience: somebody who found no place counts for as long as one waits in line
    """

    def __init__(self, patience: Patience) -> None:
        self._seconds = patience.line_seconds
        self._without_place = float("-inf")
        self._told: Counter[str] = Counter()

    @property
    def crowded(self) -> bool:
        """Whether somebody found no place, or had to wait for one, a moment ago."""
        return time.monotonic() - self._without_place < self._seconds

    def no_place(self) -> None:
        """Note that somebody found none."""
        self._without_place = time.monotonic()

    def note(self, what: str) -> None:
        """Count something for the log."""
        self._told[what] += 1

    def tell(self) -> None:
        """Log what was counted, in one line: a client must not be able to fill the log."""
        if self._told:
            log.warning("%s", "; ".join(f"{count} {what}" for what, count in self._told.items()))
            self._told.clear()
