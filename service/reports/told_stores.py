"""The stores of a finished report in full, as JSON tells them: with names, tags, targets, windows.

NDJSON has the same, a store on each line.
"""

from collections.abc import Iterator, Sequence
from math import isnan
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from compute.axis import Ints
from compute.packed_totals import StoreTotals
from compute.targets import NO_TARGET, target_text
from compute.window_columns import window_columns
from service.reports.summary import ErrorBudget, WindowTotals

#: Windows of stores that are told at a time: some megabytes of text.
_AT_ONCE = 10_000


class StoreWindow(WindowTotals, frozen=True, kw_only=True):
    """What a window holds of a store, and whether its target was met."""

    met: Annotated[
        bool | None,
        Meta(
            description="Whether uptime is at least its target's share of uptime + downtime; null: "
            "it has no target, or both are 0."
        ),
    ]
    budget: Annotated[
        ErrorBudget | None, Meta(description="Its error budget; null: it has no target.")
    ]


class ReportStore(msgspec.Struct, frozen=True, kw_only=True):
    """A store of a report."""

    store_id: Annotated[str, Meta(description="The id that feeds give the store.")]
    name: Annotated[
        str | None,
        Meta(
            description="What it was called; null: it had no name, or an older version made the "
            "report."
        ),
    ]
    timezone: Annotated[str, Meta(description="The zone that it was computed in (IANA name).")]
    tags: Annotated[dict[str, str], Meta(description="Its tags, key → value, by their keys.")]
    target: Annotated[
        str | None,
        Meta(
            description="Which share of the known time it shall be up, such as 0.995: its own "
            "target, else the report's; null: it has none."
        ),
    ]
    windows: Annotated[
        list[StoreWindow],
        Meta(description="The last hour, day and week before `as_of`, or those that it names."),
    ]


def told_stores(stores: StoreTotals, indexes: Ints, names: Sequence[str]) -> list[ReportStore]:
    """Some stores of a report in full; it reads the report's file.

    Args:
        stores: all of them
        indexes: int64[n], of those that are told, in the order given
        names: of the windows, as answers tell them
    """
    called, tags = stores.names_and_tags(indexes)
    zones = stores.zone[indexes].tolist()
    targets = stores.target[indexes].tolist()
    texts = {target: target_text(target) for target in set(targets) if target != NO_TARGET}
    windows = _told_windows(stores, indexes, names)
    return [
        ReportStore(
            store_id=store_id,
            name=name or None,
            timezone=stores.zone_names[zone],
            tags=of_store,
            target=texts.get(target),
            windows=told,
        )
        for store_id, name, zone, of_store, target, told in zip(
            stores.ids_of(indexes), called, zones, tags, targets, windows, strict=True
        )
    ]


def ndjson(stores: StoreTotals, names: Sequence[str]) -> Iterator[bytes]:
    """All stores of a report, each on a line, some megabytes at a time; each step reads the file.

    Args:
        stores: all of them
        names: of the windows, as answers tell them
    """
    encoder = msgspec.json.Encoder()
    for some in ranges(stores, _AT_ONCE):
        yield encoder.encode_lines(told_stores(stores, some, names))


def ranges(stores: StoreTotals, cells: int) -> Iterator[Ints]:
    """Indexes of all stores, one after the other, as many at a time as have so many windows."""
    at_once = max(1, cells // max(1, stores.windows))
    for start in range(0, len(stores), at_once):
        yield np.arange(start, min(start + at_once, len(stores)))


def _told_windows(
    stores: StoreTotals, indexes: Ints, names: Sequence[str]
) -> Iterator[list[StoreWindow]]:
    """The windows of each store."""
    found = window_columns(stores.totals(indexes), stores.target[indexes])
    rows = zip(
        found.business_time.tolist(),
        found.uptime.tolist(),
        found.downtime.tolist(),
        found.unknown.tolist(),
        found.excluded.tolist(),
        found.availability.tolist(),
        found.held.tolist(),
        found.judged.tolist(),
        found.met.tolist(),
        found.allowed.tolist(),
        found.left.tolist(),
        strict=True,
    )
    for _ in range(len(indexes)):
        told = []
        for name in names:
            business_time, up, down, unknown, excluded, share, held, judged, met, *budget = next(
                rows
            )
            told.append(
                StoreWindow(
                    window=name,
                    business_time=business_time,
                    uptime=up,
                    downtime=down,
                    unknown=unknown,
                    excluded=excluded,
                    availability=None if isnan(share) else share,
                    met=met if judged else None,
                    budget=ErrorBudget(allowed=budget[0], used=down, left=budget[1])
                    if held
                    else None,
                )
            )
        yield told
