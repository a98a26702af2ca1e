"""Targets: which share of the known time stores shall be up, whether they were, and how much
downtime that leaves them: their error budget.

A target is a whole number of hundred-millionths, and time a whole number of half-milliseconds, so
that nothing here is rounded. The longest window has 400 days: its time in half-milliseconds times
`SCALE` still fits into 64 bits.
"""

import re
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from compute.axis import AnyInts, Ints

#: The target of being up all the time.
SCALE = 100_000_000
#: Stands for a store that has no target.
NO_TARGET = -1
#: What `judged` tells, in this order.
MET, MISSED, UNKNOWN, USED, ALLOWED, ALLOWED_REST = range(6)
_DECIMALS = 8
_TEXT = re.compile(r"(\d{1,3}(?:\.\d{1,12})?)(%?)", re.ASCII)


def target_of(text: str) -> int:
    """A target in hundred-millionths, given as `0.995` or `99.5%`.

    Raises:
        ValueError: says what the text is not
    """
    found = _TEXT.fullmatch(text)
    share = Decimal(0) if found is None else Decimal(found[1]) / (100 if found[2] else 1)
    if not 0 < share <= 1:
        raise ValueError("is no target above 0 and up to 1, such as 0.995 or 99.5%")
    scaled = share * SCALE
    if scaled != int(scaled):
        raise ValueError(f"has more than {_DECIMALS} decimals, or {_DECIMALS - 2} as a percentage")
    return int(scaled)


def target_text(target: int) -> str:
    """A target as a share: 99500000 is `0.995`."""
    return f"{(Decimal(target) / SCALE).normalize():f}"


def in_force(own: Ints, stores: int, of_report: int | None) -> Ints:
    """int64[stores]: the target that each store is held to, or `NO_TARGET`: its own comes first.

    Args:
        own: int64[stores], or `NO_TARGET`; or int64[0]: no store has one of its own
        stores: how many there are
        of_report: for those without one of their own; None: they have none
    """
    otherwise = NO_TARGET if of_report is None else of_report
    if not len(own):
        return np.full(stores, otherwise, dtype=np.int64)
    return np.where(own == NO_TARGET, otherwise, own)


def met(up: AnyInts, down: AnyInts, target: AnyInts) -> npt.NDArray[np.bool_]:
    """Which stores were up as long as they shall be; meant for those with a target and known time.

    Args:
        up: integers[..., stores], half-milliseconds
        down: the same
        target: integers[stores], hundred-millionths
    """
    known = up.astype(np.int64) + down
    enough: npt.NDArray[np.bool_] = up.astype(np.int64) * SCALE >= known * target
    return enough


def allowed(up: AnyInts, down: AnyInts, target: AnyInts) -> Ints:
    """The downtime that a target allows in the time of which something is known.

    What is used of it is the downtime; what is left is the difference, which may be negative.

    Args:
        up: integers[..., stores], half-milliseconds
        down: the same
        target: integers[stores], hundred-millionths

    Returns:
        int64[..., stores], hundred-millionths of half-milliseconds; the sum of many may not fit
    """
    known = up.astype(np.int64) + down
    return (SCALE - target.astype(np.int64)) * known


def judged(up: Ints, down: Ints, target: Ints) -> Ints:
    """What there is to say of each store in each window, so that sums of it stay exact.

    Args:
        up: int64[stores, windows], half-milliseconds
        down: the same
        target: int64[stores], as `in_force` has them

    Returns:
        int64[6, windows, stores], of a store without a target only zeros: 1 if it met it, 1 if it
        missed it, 1 if nothing is known of it; the downtime that it used, half-milliseconds; the
        whole half-milliseconds of downtime that it is allowed, and the hundred-millionths of one
        that are left over
    """
    up, down = np.ascontiguousarray(up.T), np.ascontiguousarray(down.T)
    told = np.zeros((6, *up.shape), dtype=np.int64)
    has = target != NO_TARGET
    if not has.any():
        return told
    known = (up + down > 0) & has
    reached = met(up, down, target) & known
    told[MET] = reached
    told[MISSED] = known & ~reached
    told[UNKNOWN] = has & ~known
    np.copyto(told[USED], down, where=known)
    permitted = allowed(up, down, target)
    permitted[~known] = 0
    np.floor_divide(permitted, SCALE, out=told[ALLOWED])
    np.subtract(permitted, told[ALLOWED] * SCALE, out=told[ALLOWED_REST])
    return told
