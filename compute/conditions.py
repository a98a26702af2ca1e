"""What a store's totals say of it to whoever has to act: the one place where that is decided.

A store may meet several conditions, or none.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from compute.axis import AnyInts

Condition = Literal["down_now", "newly_down", "recovered", "down_all_week", "nothing_known"]
#: In the order in which they are told.
CONDITIONS: tuple[Condition, ...] = get_args(Condition)

_HOUR, _DAY, _WEEK = range(3)


def meeting(
    condition: Condition, up: Sequence[AnyInts] | AnyInts, down: Sequence[AnyInts] | AnyInts
) -> npt.NDArray[np.bool_]:
    """Which stores meet a condition.

    - `down_now`: downtime and no uptime in the last hour.
    - `newly_down`: downtime in the last day, and none before it in the week.
    - `recovered`: downtime in the last day, and in the last hour uptime and no downtime.
    - `down_all_week`: downtime and no uptime in the last week.
    - `nothing_known`: neither in the last week.

    Args:
        condition: which one
        up: integers[windows, stores], uptime in the last hour, day and week
        down: the same of downtime

    Returns:
        bool[stores]
    """
    found: npt.NDArray[np.bool_]
    match condition:
        case "down_now":
            found = (down[_HOUR] > 0) & (up[_HOUR] == 0)
        case "newly_down":
            found = (down[_DAY] > 0) & (down[_WEEK] == down[_DAY])
        case "recovered":
            found = (down[_DAY] > 0) & (up[_HOUR] > 0) & (down[_HOUR] == 0)
        case "down_all_week":
            found = (down[_WEEK] > 0) & (up[_WEEK] == 0)
        case "nothing_known":
            found = (down[_WEEK] == 0) & (up[_WEEK] == 0)
    return found
