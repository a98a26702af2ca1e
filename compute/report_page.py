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
from compute.targets import NO_TARGET, met

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
    """Which stores are wanted; all of it must hold.

    Attributes:
        search: those whose id or name holds this; A to Z are a to z; None: all
        timezone: those computed in this zone; None: in any
        condition: those that meet it, of the default report alone; None: all
        below: those whose availability in `window` is less; None: all
        missed: only those that have a target and did not meet it in `window`
        window: by its number; -1: the last
        tags: those that have all of these, key → value
        without: those that have no tag of any of these keys
    """

    search: bytes | None = None
    timezone: str | None = None
    condition: Condition | None = None
    below: float | None = None
    missed: bool = False
    window: int = -1
    tags: tuple[tuple[str, str], ...] = ()
    without: tuple[str, ...] = ()


def wanted_stores(stores: StoreTotals, wanted: Filter) -> Ints:
    """Places of the stores that a filter lets pass, ascending."""
    passing = np.ones(len(stores), dtype=bool)
    if wanted.timezone is not None:
        names = stores.zone_names
        zone = names.index(wanted.timezone) if wanted.timezone in names else -1
        passing &= stores.zone == zone
    for key, value in wanted.tags:
        passing &= stores.tagged(key, value)
    for key in wanted.without:
        passing &= stores.tagged(key, None)
    if wanted.condition is not None:
        windows = [stores.window(number) for number in range(stores.windows)]
        up, down = [one.up for one in windows], [one.down for one in windows]
        passing &= meeting(wanted.condition, up, down)
    if wanted.below is not None:
        window = stores.window(wanted.window)
        passing &= availability(window.up, window.down) < wanted.below  # NaN is not
    if wanted.missed:
        window = stores.window(wanted.window)
        known = (window.up > 0) | (window.down > 0)
        passing &= known & (stores.target != NO_TARGET)
        passing &= ~met(window.up, window.down, stores.target)
    if wanted.search:
        passing &= stores.holding(wanted.search)
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
        window = stores.window(order.window)
        keys = availability(window.up[indexes], window.down[indexes])
        keys[np.isnan(keys)] = -np.inf if order.descending else np.inf
    else:
        window = stores.window(order.window)
        parts = {
            "uptime": window.up,
            "downtime": window.down,
            "unknown": window.unknown,
            "excluded": window.excluded,
        }
        part = parts[order.measure]
        keys = (part if len(indexes) == len(stores) else part[indexes]).astype(np.float64)
    return np.negative(keys, out=keys) if order.descending else keys


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
    ids = [store_id.encode() for store_id in stores.ids_of(indexes)]
    return csv_rows(
        b"".join(ids),
        np.fromiter(map(len, ids), np.int64, len(ids)),
        stores.totals(indexes),
        include_unknown,
        include_excluded=include_excluded,
        unit=unit,
        escape_formulas=escape_formulas,
    )
