"""All stores together: sums per window, how stores spread over availability, which were down most.

Seconds are added first and divided once. Roll-ups of parts add up to that of the whole, so each
batch makes its own and the report adds them. Conditions and downtime by hour are about the windows
of the default report, so only that has them.
"""

from dataclasses import dataclass

import numpy as np

from compute.axis import Ints
from compute.conditions import CONDITIONS, meeting
from compute.csv_rows import WINDOWS_MS
from compute.down_by_hour import HOURS
from compute.uptime import Totals

#: Ranges of availability, each as wide as the others; exactly 1 has a range of its own after them.
RANGES = 50
MOST_DOWNTIME = 10


@dataclass(frozen=True)
class StoreSum:
    """A store's last window, half-milliseconds."""

    store_id: bytes
    up: int
    down: int
    unknown: int
    excluded: int


@dataclass(frozen=True)
class RollUp:
    """Many stores together.

    Attributes:
        stores: how many
        sums: int64[windows, 4], up, down, unknown and excluded of all, half-milliseconds
        by_availability: int64[RANGES + 1], stores by availability in the last window
        without: stores without an availability there, because nothing is known
        most_downtime: those with the most downtime in the last window, worst first
        down: int64[windows], stores with any downtime in each
        conditions: int64[CONDITIONS, 2], of each the stores that meet it, and their downtime in the
            last window, half-milliseconds; None: not the default report
        down_by_hour: int64[HOURS], downtime in the last window by local hour of the week,
            half-milliseconds; None: not the default report
        targets: int64[windows, 6], what `compute.targets.judged` has, of all together; None: no
            store has a target
    """

    stores: int
    sums: Ints
    by_availability: Ints
    without: int
    most_downtime: tuple[StoreSum, ...]
    down: Ints
    conditions: Ints | None
    down_by_hour: Ints | None
    targets: Ints | None = None

    def __add__(self, other: "RollUp") -> "RollUp":
        return RollUp(
            self.stores + other.stores,
            self.sums + other.sums,
            self.by_availability + other.by_availability,
            self.without + other.without,
            _first(self.most_downtime + other.most_downtime),
            self.down + other.down,
            _sum(self.conditions, other.conditions),
            _sum(self.down_by_hour, other.down_by_hour),
            _sum_of_some(self.targets, other.targets),
        )


def no_stores(windows: int = 0) -> RollUp:
    """The roll-up to which others are added; `windows`: how many; 0: it is the default report."""

    def nothing(*shape: int) -> Ints:
        return np.zeros(shape, dtype=np.int64)

    default = not windows
    windows = windows or len(WINDOWS_MS)
    return RollUp(
        stores=0,
        sums=nothing(windows, 4),
        by_availability=nothing(RANGES + 1),
        without=0,
        most_downtime=(),
        down=nothing(windows),
        conditions=nothing(len(CONDITIONS), 2) if default else None,
        down_by_hour=nothing(HOURS) if default else None,
    )


def roll_up(
    store_ids: bytes,
    id_size: Ints,
    totals: Totals,
    down_by_hour: Ints | None,
    judged: Ints | None = None,
) -> RollUp:
    """A batch of stores together.

    Args:
        store_ids: UTF-8 ids, joined
        id_size: int64[stores], bytes of each id
        totals: of the same stores
        down_by_hour: of the same stores together; None: `totals` are not of the default report
        judged: of the same stores, from `compute.targets.judged`; None: none has a target
    """
    parts = (totals.up, totals.down, totals.unknown, totals.excluded)
    up, down, unknown, excluded = (part[:, -1] for part in parts)
    known = up + down
    some = known > 0
    ranges = up[some] * RANGES // known[some]
    id_end = np.cumsum(id_size)
    return RollUp(
        stores=len(id_size),
        sums=np.stack([part.sum(axis=0) for part in parts], axis=1),
        by_availability=np.bincount(ranges, minlength=RANGES + 1),
        without=int(np.count_nonzero(~some)),
        most_downtime=_first(
            tuple(
                StoreSum(
                    store_ids[id_end[store] - id_size[store] : id_end[store]],
                    *map(int, (up[store], down[store], unknown[store], excluded[store])),
                )
                for store in _most(down).tolist()
            )
        ),
        down=np.count_nonzero(totals.down, axis=0),
        conditions=None if down_by_hour is None else _conditions(totals),
        down_by_hour=down_by_hour,
        targets=None if judged is None else judged.sum(axis=2).T,
    )


def _conditions(totals: Totals) -> Ints:
    """int64[CONDITIONS, 2]: stores that meet each, and their downtime in the last window."""
    up, down = totals.up.T, totals.down.T
    met = np.stack([meeting(condition, up, down) for condition in CONDITIONS])
    return np.stack([np.count_nonzero(met, axis=1), met @ down[-1]], axis=1)


def _sum(one: Ints | None, other: Ints | None) -> Ints | None:
    return None if one is None or other is None else one + other


def _sum_of_some(one: Ints | None, other: Ints | None) -> Ints | None:
    """The sum where None is nothing to add."""
    return one if other is None else other if one is None else one + other


def _most(down: Ints) -> Ints:
    """Indexes of the stores with the most downtime; of equal ones those that come first."""
    order = np.argsort(-down, kind="stable")[:MOST_DOWNTIME]
    most: Ints = order[down[order] > 0]
    return most


def _first(stores: tuple[StoreSum, ...]) -> tuple[StoreSum, ...]:
    return tuple(sorted(stores, key=lambda one: (-one.down, one.store_id))[:MOST_DOWNTIME])
