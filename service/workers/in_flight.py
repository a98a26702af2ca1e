"""How many batches to keep in flight, found by trying: a few more or less, and keep what is faster.

Too few leave a core idle, too many cost memory and make processes wait for each other; where the
best number lies depends on cores, on the database and on what else the machine does, so it is
measured while work is done. This is hill climbing on throughput, as thread pools do it.
"""

#: By how much more work per second a larger limit must give to be kept.
_GAIN = 1.03
#: A measurement spans this many batches per batch in flight, and at least so many.
_ROUNDS, _FEWEST = 3, 12
#: A try changes the limit by this part of it, then by a half of that, and so on down to one.
_LARGEST_STEP = 4
#: When no step helped either way, wait for twice as many measurements as before, up to this many.
_LONGEST_REST = 64


class InFlightLimit:
    """A limit that follows measured throughput.

    Attributes:
        limit: batches that may be in flight now, 1 to `most`
    """

    def __init__(self, start: int, most: int, now: float) -> None:
        self.limit = max(1, min(start, most))
        self._most = most
        self._settled, self._settled_rate = self.limit, 0.0
        self._direction, self._part = 1, _LARGEST_STEP
        self._rest, self._resting = 1, 0
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._since, self._batches, self._work = now, 0, 0.0

    def finished(self, work: float, now: float, busy: bool) -> None:
        """A batch is done.

        Args:
            work: how much it was, in any unit that takes about as long each time
            now: seconds, from a clock that never goes back
            busy: whether more batches wait for a place; without, the limit is not what limits
        """
        if not busy:
            self._begin(now)
            return
        self._batches += 1
        self._work += work
        if self._batches >= max(_ROUNDS * self.limit, _FEWEST) and now > self._since:
            rate = self._work / (now - self._since)
            self._begin(now)
            self._judge(rate)

    def _judge(self, rate: float) -> None:
        if self.limit == self._settled:
            self._settled_rate = rate if not self._settled_rate else (self._settled_rate + rate) / 2
            self._resting -= 1
            if self._resting <= 0:
                self._try_next()
            return
        # One more must pay for its memory; one fewer must only not be slower.
        better = rate >= self._settled_rate * (_GAIN if self.limit > self._settled else 1.0)
        if better:
            self._settled, self._settled_rate = self.limit, rate
            self._part, self._rest = _LARGEST_STEP, 1
            self._try_next()
        else:
            self.limit = self._settled
            self._turn()
            self._resting = self._rest

    def _try_next(self) -> None:
        step = max(1, self._settled // self._part) * self._direction
        self.limit = max(1, min(self._settled + step, self._most))
        if self.limit == self._settled:
            self._turn()

    def _turn(self) -> None:
        """Next time the other way; after both ways, by a smaller step."""
        self._direction = -self._direction
        if self._direction > 0:
            self._part *= 2
            if self._part > self._settled:
                self._part = _LARGEST_STEP
                self._rest = min(2 * self._rest, _LONGEST_REST)
