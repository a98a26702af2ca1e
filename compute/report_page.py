"""Filter, order and cut the stores of a report: what a table of them shows.

A store is its index in `StoreTotals`, which is in byte order of the ids; so a stable order by
anything else leaves equal ones in that order.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from compute.axis import AnyInts, Ints
from compute.conditions import Condition, meeting
from compute.csv_rows import Unit, csv_rows
from compute.packed_totals import StoreTotals
from compute.uptime import Totals

Measure = Literal[
    "store_id", "timezone", "availability", "uptime", "downtime", "unknown", "excluded"
]


@dataclass(frozen=True)
class Order:
    """By what stores are ordered.

    Attributes:
        measure: by what
        window: which window's, of what is measured
        descending: the largest first; stores without availability come last either way
    """

    measure: Measure = "store_id"
    window: int = 0
    descending: bool = False


@dataclass(frozen=True)
class Filter:
    """Which stores are wanted; None: all.

    Attributes:
        search: those whose ids hold this; A to Z are a to z
        timezone: those computed in this zone
        condition: those that meet it; of the default report alone
        below: those whose availability in the last window is less
    """

    search: bytes | None = None
    timezone: str | None = None
    condition: Condition | None = None
    below: float | None = None


def wanted_stores(stores: StoreTotals, wanted: Filter) -> Ints:
    """Places of the stores that a filter lets pass, ascending."""
    passing = np.ones(len(stores), dtype=bool)
    if wanted.timezone is not None:
        names = stores.zone_names
        zone = names.index(wanted.timezone) if wanted.timezone in names else -1
        passing &= stores.zone == zone
    if wanted.condition is not None:
        passing &= meeting(wanted.condition, stores.up, stores.down)
    if wanted.below is not None:
        passing &= availability(stores.up[-1], stores.down[-1]) < wanted.below  # NaN is not
    if wanted.search:
        passing &= _holding(stores, wanted.search)
    return np.flatnonzero(passing)


def ordered(
    stores: StoreTotals, indexes: Ints, order: Order, start: int = 0, end: int | None = None
) -> Ints:
    """Some stores in order, from one rank to before another.

    Args:
        stores: all stores of the report
        indexes: of those that are wanted, ascending
        order: by what
        start: rank of the first
        end: rank after the last; None: to the end
    """
    end = len(indexes) if end is None else min(end, len(indexes))
    if start >= end:
        return indexes[:0]
    if order.measure == "store_id":
        return (indexes[::-1] if order.descending else indexes)[start:end]
    return indexes[_between(_keys(stores, indexes, order), start, end)]


def availability(up: AnyInts, down: AnyInts) -> npt.NDArray[np.float64]:
    """Uptime of the time of which something is known; NaN where nothing is."""
    known = up.astype(np.float64) + down
    share = np.full(len(known), np.nan)
    np.divide(up, known, out=share, where=known > 0)
    return share


def stores_by_zone(stores: StoreTotals) -> dict[str, int]:
    """How many stores are computed in each zone, in the order of the zones' names."""
    counts = np.bincount(stores.zone, minlength=len(stores.zone_names)).tolist()
    named = sorted(zip(stores.zone_names, counts, strict=True))
    return {name: count for name, count in named if count}


def _keys(stores: StoreTotals, indexes: Ints, order: Order) -> npt.NDArray[np.float64]:
    """float64[indexes]: what the stores are ordered by, ascending."""
    if order.measure == "timezone":
        rank = np.argsort(np.argsort(np.array(stores.zone_names)))
        keys = rank[stores.zone[indexes]].astype(np.float64)
    elif order.measure == "availability":
        up, down = stores.up[order.window], stores.down[order.window]
        keys = availability(up[indexes], down[indexes])
    else:
        parts = {
            "uptime": stores.up,
            "downtime": stores.down,
            "unknown": stores.unknown,
            "excluded": stores.excluded,
        }
        keys = parts[order.measure][order.window][indexes].astype(np.float64)
    if order.descending:
        keys = -keys
    return np.where(np.isnan(keys), np.inf, keys)


def _between(keys: npt.NDArray[np.float64], start: int, end: int) -> Ints:
    """What a stable argsort has from one rank to another, without sorting what lies outside."""
    if end - start == len(keys):
        return np.argsort(keys, kind="stable")
    parted = np.partition(keys, [start, end - 1])
    lowest, highest = parted[start], parted[end - 1]
    before = int(np.count_nonzero(keys < lowest))
    if lowest == highest:
        return np.flatnonzero(keys == lowest)[start - before : end - before]
    inner = np.flatnonzero((keys > lowest) & (keys < highest))
    first = np.flatnonzero(keys == lowest)[start - before :]
    last = np.flatnonzero(keys == highest)
    inner = inner[np.argsort(keys[inner], kind="stable")]
    return np.concatenate([first, inner, last])[: end - start]


def _holding(stores: StoreTotals, text: bytes) -> npt.NDArray[np.bool_]:
    """Stores whose ids hold a text, in either case of A to Z."""
    ids = np.frombuffer(stores.ids, dtype=np.uint8)
    if len(text) > len(ids):
        return np.zeros(len(stores), dtype=bool)
    lower, upper = text.lower(), text.upper()

    def has(letters: npt.NDArray[np.uint8], offset: int) -> npt.NDArray[np.bool_]:
        same: npt.NDArray[np.bool_] = letters == lower[offset]
        if upper[offset] != lower[offset]:
            same |= letters == upper[offset]
        return same

    # All positions at once while there are many, and then only those that are left. A text holds no
    # NUL, so that nothing is found across the end of an id.
    positions = len(ids) - len(text) + 1
    found = has(ids[:positions], 0)
    if len(text) > 1:
        found &= has(ids[1 : positions + 1], 1)
    left = np.flatnonzero(found)
    for offset in range(2, len(text)):
        left = left[has(ids[left + offset], offset)]
    if len(left) > len(stores):
        before = np.searchsorted(left, stores.id_start)
        several: npt.NDArray[np.bool_] = before[1:] > before[:-1]
        return several
    holding = np.zeros(len(stores), dtype=bool)
    holding[np.searchsorted(stores.id_start, left, side="right") - 1] = True
    return holding


def rows_of(
    stores: StoreTotals,
    indexes: Ints,
    include_unknown: bool,
    *,
    include_excluded: bool = False,
    unit: Unit | None = None,
    escape_formulas: bool = False,
) -> bytes:
    """The rows of some stores as the report's CSV has them, in the order given.

    Args:
        stores: all stores of the report
        indexes: int64[n], of the wanted ones
        include_unknown: as the report has it
        include_excluded: as the report has it
        unit: as the report has it, if it names its windows; None: it is the default one
        escape_formulas: as the report has it
    """
    start = stores.id_start[indexes]
    size = stores.id_start[indexes + 1] - 1 - start
    letters = np.repeat(start - (np.cumsum(size) - size), size) + np.arange(size.sum())
    ids = np.frombuffer(stores.ids, dtype=np.uint8)[letters].tobytes()
    up, down, unknown, excluded = (
        part[:, indexes].T.astype(np.int64)
        for part in (stores.up, stores.down, stores.unknown, stores.excluded)
    )
    return csv_rows(
        ids,
        size,
        Totals(up=up, down=down, unknown=unknown, excluded=excluded),
        include_unknown,
        include_excluded=include_excluded,
        unit=unit,
        escape_formulas=escape_formulas,
    )
