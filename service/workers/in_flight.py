"""How many batches to keep in flight, found by hill climbing on throughput, as thread pools do.

With too few batches a core is idle; too many cost memory and make processes wait for each other.
The best number depends on the cores, on the database and on what else the machine does, so it is
measured while work is done: the limit is raised or lowered by a step, and a change that makes the
work faster is kept.
"""

#: A higher limit is kept only if it raises the throughput by this factor: it costs memory.
_GAIN = 1.03
#: A measurement lasts for this many batches per batch in flight, and for no fewer than `_FEWEST`.
_ROUNDS, _FEWEST = 3, 12
#: The first step is the limit divided by this. Each time that steps up and down both fail, the
#: divisor is doubled, until a step is one batch.
_FIRST_DIVISOR = 4
#: When no step helps, the limit rests for twice as many measurements as last time, up to this many.
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
        self._direction, self._divisor = 1, _FIRST_DIVISOR
        self._rest, self._resting = 1, 0
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._since, self._batches, self._work = now, 0, 0.0

    def finished(self, work: float, now: float, busy: bool) -> None:
        """A batch is done.

        Args:
            work: how much it was, in any unit of about constant cost, such as stores
            now: seconds, from a clock that never goes back
            busy: whether more batches wait for a slot; if none does, the limit holds nothing back,
                and the throughput says nothing about it
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
        # A higher limit must pay for its memory; a lower one only must not be slower.
        better = rate >= self._settled_rate * (_GAIN if self.limit > self._settled else 1.0)
        if better:
            self._settled, self._settled_rate = self.limit, rate
            self._divisor, self._rest = _FIRST_DIVISOR, 1
            self._try_next()
        else:
            self.limit = self._settled
            self._turn()
            self._resting = self._rest

    def _try_next(self) -> None:
        step = max(1, self._settled // self._divisor) * self._direction
        self.limit = max(1, min(self._settled + step, self._most))
        if self.limit == self._settled:
            self._turn()

    def _turn(self) -> None:
        """Step the other way next time, and by a smaller step once both ways have failed."""
        self._direction = -self._direction
        if self._direction > 0:
            self._divisor *= 2
            if self._divisor > self._settled:
                self._divisor = _FIRST_DIVISOR
                self._rest = min(2 * self._rest, _LONGEST_REST)
