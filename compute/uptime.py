"""The kernel: polls and counted time → uptime, downtime and unknown per store and window.

Observations of the same status with no silence between them form a run. A run speaks for one
stretch of time, and adds the counted time in that stretch to a window. So only the ends of runs
are looked up, however many polls and windows there are.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from compute.axis import PER_MS, Axis, Ints
from compute.intervals import Intervals

Interpolation = Literal["nearest", "previous"]


@dataclass(frozen=True)
class Runs:
    """Stretches of time for which observations of one status speak.

    Attributes:
        start: int64[runs], positions, ascending
        end: int64[runs], positions; stretches do not overlap
        active: int64[runs], 1 active, 0 inactive
    """

    start: Ints
    end: Ints
    active: Ints


def observe(polls: Ints, counted: Intervals) -> Ints:
    """The polls that lie inside counted time.

    Args:
        polls: int64[n], ascending `position | active`
        counted: counted time on the same axis
    """
    # There are few interval edges and many polls, so search for the edges among the polls. The
    # status bit does no harm, because edges and positions are even.
    first = np.searchsorted(polls, counted.start)
    last = np.searchsorted(polls, counted.end)
    some = first < last
    first, last = first[some], last[some]
    step = np.zeros(len(polls) + 1, dtype=np.int8)
    step[first] += 1
    step[last] -= 1
    inside: Ints = polls[np.cumsum(step[:-1], dtype=np.int8).view(bool)]
    return inside


def runs(observations: Ints, axis: Axis, interpolation: Interpolation) -> Runs:
    """The stretches of time that the observations speak for.

    `nearest`: each instant has the status of the nearest observation, if it is at most `reach`
    away. `previous`: that of the last observation at or before it, if at most `reach` ago.

    Args:
        observations: int64[n], ascending `position | active`
        axis: gives the reach (`max_gap`)
        interpolation: how to estimate between observations
    """
    if not len(observations):
        none = np.empty(0, dtype=np.int64)
        return Runs(none, none, none)
    reach = PER_MS * axis.reach
    distance = np.diff(observations)
    # Positions are even: an odd distance is a change of status, an even one the true distance.
    silence = distance > (2 * reach if interpolation == "nearest" else reach)
    breaks = np.flatnonzero(silence | (distance & 1 == 1))
    first = observations[np.concatenate([[0], breaks + 1])]
    last = observations[np.concatenate([breaks, [len(observations) - 1]])]
    active = first & 1
    first, last = first - active, last - (last & 1)
    end = last + reach
    if interpolation == "nearest":
        start = first - reach
        middle = (last[:-1] + first[1:]) // 2
        start[1:] = np.maximum(start[1:], middle)
        end[:-1] = np.minimum(end[:-1], middle)
    else:
        start = first
        end[:-1] = np.minimum(end[:-1], first[1:])
    return Runs(start, end, active)


@dataclass(frozen=True)
class Totals:
    """The parts of business time, per store and window.

    Attributes:
        up: int64[stores, windows], half-milliseconds
        down: int64[stores, windows], half-milliseconds
        unknown: int64[stores, windows], half-milliseconds
        excluded: int64[stores, windows], half-milliseconds
    """

    up: Ints
    down: Ints
    unknown: Ints
    excluded: Ints


def totals(
    observed: Runs, business: Intervals, counted: Intervals, axis: Axis, bounds: Ints
) -> Totals:
    """The parts of each store in each window; they add up to its business time there.

    Args:
        observed: the runs of all stores
        business: business time of all stores
        counted: counted time of all stores; the same object, if nothing is excluded
        axis: the axis of all of them
        bounds: int64[windows, stores, 2], from and to, half open, milliseconds since 1970-01-01
            UTC, each within the axis
    """
    stores = bounds.shape[1]
    edge = axis.position(np.arange(stores)[:, None], bounds)
    counted_before = counted.until(edge)
    begun = np.searchsorted(observed.start, edge, side="right")
    run_start, run_end = counted.until(observed.start), counted.until(observed.end)

    def spoken(status: int) -> Ints:
        """int64[stores, windows]: counted time that runs of a status speak for."""
        of_status = observed.active == status
        total = np.cumsum(np.where(of_status, run_end - run_start, 0))
        # Of the run that an edge lies in, take away what comes after the edge.
        end = np.where(of_status, run_end, 0)
        rest = np.maximum(np.append(0, end)[begun] - counted_before, 0)
        before = np.append(0, total)[begun] - rest
        within: Ints = (before[..., 1] - before[..., 0]).T
        return within

    counting = (counted_before[..., 1] - counted_before[..., 0]).T
    up, down = spoken(1), spoken(0)
    if counted is business:
        excluded = np.zeros_like(counting)
    else:
        open_before = business.until(edge)
        excluded = (open_before[..., 1] - open_before[..., 0]).T - counting
    return Totals(up=up, down=down, unknown=counting - up - down, excluded=excluded)
