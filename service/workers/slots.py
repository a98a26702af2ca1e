"""Slots for batches in flight: a slow reader, worker or writer holds up the steps before it."""

import asyncio
import time
from collections import deque

from service.workers.in_flight import InFlightLimit


class Slots:
    """As many slots as batches may be in flight, a number that follows the measured throughput.

    A caller takes a slot for a batch first (`take_slot`), and gives it back when the result of the
    batch is written (`give_back_slot`). So the slots bound the memory.

    Args:
        most: batches in flight
        start: the same, to begin with
        adapt: whether the number changes
    """

    def __init__(self, most: int, start: int, *, adapt: bool = True) -> None:
        self._limit = InFlightLimit(start, most, time.monotonic())
        self._adapt = adapt
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        """Batches that may be in flight now."""
        return self._limit.limit

    @property
    def in_flight(self) -> int:
        """Batches that are in flight now."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    async def take_slot(self) -> None:
        """Wait until one more batch may be in flight; first come, first served."""
        if self._taken < self.limit and not self._waiting:
            self._taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back_slot()
            raise

    def give_back_slot(self, work: float = 0) -> None:
        """Give a slot back.

        Args:
            work: how much was done, to measure throughput by; 0: do not measure
        """
        if work and self._adapt:
            self._limit.finished(work, time.monotonic(), busy=bool(self._waiting))
        self._taken -= 1
        while self._waiting and self._taken < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._taken += 1
