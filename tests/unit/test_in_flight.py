"""The limit of batches in flight against machines whose throughput is known."""

from collections.abc import Callable

import pytest

from service.workers.in_flight import InFlightLimit

MOST = 60
Rate = Callable[[int], float]


def _levels_off(at: int) -> Rate:
    """More in flight is faster in proportion, up to a number, and as fast beyond."""
    return lambda limit: min(limit, at)


def _falls_beyond(at: int) -> Rate:
    """As above, and every one too many costs a hundredth."""
    return lambda limit: min(limit, at) / (1 + max(0, limit - at) / 100)


def _run(rate: Rate, start: int, warm_up: int, batches: int = 10_000) -> tuple[int, float]:
    """The limit at the end, and the throughput after so many batches to begin with."""
    now = begin = 0.0
    limit = InFlightLimit(start, MOST, now)
    for batch in range(warm_up + batches):
        if batch == warm_up:
            begin = now
        now += 1 / rate(limit.limit)
        limit.finished(1, now, busy=True)
    return limit.limit, batches / (now - begin)


@pytest.mark.parametrize("start", [1, 8, 60])
@pytest.mark.parametrize("best", [1, 2, 5, 16, 40, 60])
@pytest.mark.parametrize("curve", [_levels_off, _falls_beyond])
def test_from_any_start_throughput_comes_near_to_the_best(
    curve: Callable[[int], Rate], best: int, start: int
) -> None:
    rate = curve(best)
    _, reached = _run(rate, start, 1000)
    assert reached > 0.95 * rate(best)


@pytest.mark.parametrize("best", [2, 5, 16])
def test_more_in_flight_than_pays_is_given_up(best: int) -> None:
    limit, _ = _run(_levels_off(best), 60, 1000)
    assert limit <= 2 * best


def test_no_measure_is_taken_while_the_limit_does_not_limit() -> None:
    limit = InFlightLimit(4, MOST, 0)
    for batch in range(1000):
        limit.finished(1, float(batch), busy=False)
    assert limit.limit == 4


@pytest.mark.parametrize(("start", "begins_at"), [(0, 1), (7, 7), (100, MOST)])
def test_it_begins_within_its_bounds(start: int, begins_at: int) -> None:
    assert InFlightLimit(start, MOST, 0).limit == begins_at
