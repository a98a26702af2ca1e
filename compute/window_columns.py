"""Totals of stores → what formats with exact values tell of each store and window, as columns."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compute.axis import PER_MS, Ints
from compute.report_page import availability
from compute.targets import NO_TARGET, SCALE, allowed, met
from compute.uptime import Totals

Floats = npt.NDArray[np.float64]
_PER_SECOND = 1000 * PER_MS


@dataclass(frozen=True)
class WindowColumns:
    """All are [stores * windows], the windows of a store one after the other; times in seconds.

    A number of half-milliseconds has at most 37 bits, so seconds are exact to the last of them.

    Attributes:
        business_time: float64
        uptime: float64
        downtime: float64
        unknown: float64
        excluded: float64
        availability: float64, NaN where nothing is known
        held: bool, whether the store has a target; the following mean nothing where it has none
        judged: bool, whether anything is known, too
        met: bool, whether it met it; means nothing where it is not judged
        allowed: float64, the downtime that its target allows
        left: float64, what is left of it, maybe less than 0
    """

    business_time: Floats
    uptime: Floats
    downtime: Floats
    unknown: Floats
    excluded: Floats
    availability: Floats
    held: npt.NDArray[np.bool_]
    judged: npt.NDArray[np.bool_]
    met: npt.NDArray[np.bool_]
    allowed: Floats
    left: Floats


def window_columns(totals: Totals, target: npt.NDArray[np.int32]) -> WindowColumns:
    """What is told of each store and window.

    Args:
        totals: int64[stores, windows] each
        target: int32[stores], hundred-millionths, or -1: none
    """
    up, down, unknown, excluded = (
        part.ravel() for part in (totals.up, totals.down, totals.unknown, totals.excluded)
    )
    target = np.repeat(target, totals.up.shape[1])
    held = target != NO_TARGET
    judged = held & (up + down > 0)
    permitted = np.where(held, allowed(up, down, target), 0)
    left = np.where(held, permitted - down * SCALE, 0)
    return WindowColumns(
        business_time=(up + down + unknown + excluded) / _PER_SECOND,
        uptime=up / _PER_SECOND,
        downtime=down / _PER_SECOND,
        unknown=unknown / _PER_SECOND,
        excluded=excluded / _PER_SECOND,
        availability=availability(up, down),
        held=held,
        judged=judged,
        met=judged & met(up, down, target),
        allowed=_seconds(permitted, held),
        left=_seconds(left, held),
    )


def _seconds(hundred_millionths: Ints, held: npt.NDArray[np.bool_]) -> Floats:
    """Seconds of hundred-millionths of half-milliseconds, rounded once."""
    seconds = np.zeros(len(held))
    # NumPy would round these numbers of more than 53 bits before it divides them.
    given = hundred_millionths[held].tolist()
    seconds[held] = [number / (_PER_SECOND * SCALE) for number in given]
    return seconds
