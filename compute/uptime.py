"""The kernel: polls and business time → uptime, downtime and unknown per store and window.

Observations of the same status with no silence between them form a run. A run speaks for one
stretch of time, and adds the business time in that stretch to a window. So only the ends of runs
are looked up, however many polls and windows there are.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from compute.axis import PER_MS, Axis, Ints
from compute.business_hours import BusinessTime

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


def observe(polls: Ints, open_time: BusinessTime) -> Ints:
    """The polls that lie inside business time.

    Args:
        polls: int64[n], ascending `position | active`
        open_time: business time on the same axis
    """
    # There are few interval edges and many polls, so search for the edges among the polls. The
    # status bit does no harm, because edges and positions are even.
    first = np.searchsorted(polls, open_time.start)
    last = np.searchsorted(polls, open_time.end)
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
    """

    up: Ints
    down: Ints
    unknown: Ints


def totals(
    observed: Runs, open_time: BusinessTime, axis: Axis, stores: int, windows: list[tuple[int, int]]
) -> Totals:
    """Uptime, downtime and unknown of each store in each window; they add up to its business time.

    Args:
        observed: the runs of all stores
        open_time: business time of all stores
        axis: the axis of both
        stores: how many stores the batch has
        windows: half-open, milliseconds since 1970-01-01 UTC, each within the axis
    """
    each = np.arange(stores)
    # A run lies on its store's stretch or at most one reach beyond either end of it.
    store = (observed.start + PER_MS * axis.reach) // axis.stride
    slot = 2 * store + observed.active
    run_start, run_end = open_time.until(observed.start), open_time.until(observed.end)
    by_status = np.empty((len(windows), stores, 2), dtype=np.int64)
    business = np.empty((len(windows), stores), dtype=np.int64)
    for window, (from_ms, to_ms) in enumerate(windows):
        opened = open_time.until(axis.position(each, from_ms))
        closed = open_time.until(axis.position(each, to_ms))
        low, high = opened[store], closed[store]
        spoken = np.clip(run_end, low, high) - np.clip(run_start, low, high)
        # Sums of whole numbers below 2**53 are exact in float64, which is what bincount adds in.
        by_status[window] = np.bincount(slot, spoken, 2 * stores).reshape(stores, 2)
        business[window] = closed - opened
    down, up = by_status[:, :, 0].T, by_status[:, :, 1].T
    return Totals(up=up, down=down, unknown=business.T - up - down)
