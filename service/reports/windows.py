"""A report's windows, as answers tell them."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from compute.batch import default_windows
from compute.csv_rows import WINDOW_NAMES
from compute.instants import date_on, instant_of
from compute.windows import Window, placed

#: Stands for all zones where the zone does not matter.
_ANY_ZONE = ("UTC",)

WindowName = Annotated[
    str,
    Meta(
        description="Which window: `hour`, `day` or `week`, or one that the report was asked for, "
        "by its name in the CSV: `last_30d`, `2026_10`, `range_1`."
    ),
]


class ReportWindow(msgspec.Struct, frozen=True, kw_only=True):
    """Where a window lies: at two instants or, in each store's own zone, on some dates."""

    window: WindowName
    text: Annotated[
        str, Meta(description="The text that asks for it without `this-` and `previous-`: 2026-10.")
    ]
    start: Annotated[
        datetime | None, Meta(description="Where it begins; null: it is told by dates.")
    ] = msgspec.field(name="from")
    end: Annotated[
        datetime | None,
        Meta(description="Where it ends, not later than `as_of`; null: it is told by dates."),
    ] = msgspec.field(name="to")
    first_date: Annotated[
        date | None,
        Meta(description="The local date that it begins with; null: it is told by instants."),
    ]
    last_date: Annotated[
        date | None,
        Meta(
            description="The last local date of it, of which no more counts than lies before "
            "`as_of`; null: it is told by instants."
        ),
    ]


def window_names(windows: Sequence[Window]) -> list[str]:
    """What answers call the windows of a report; none: it is the default one."""
    return [window.name for window in windows] or list(WINDOW_NAMES)


def csv_names(windows: Sequence[Window]) -> list[str]:
    """What the CSV calls them."""
    return [window.name for window in windows or default_windows(0)]


def told_windows(windows: Sequence[Window], as_of: int) -> list[ReportWindow]:
    """Where the windows of a report lie.

    Args:
        windows: those that it names; none: it is the default one
        as_of: milliseconds since 1970-01-01 UTC
    """
    told = []
    asked = tuple(windows) or default_windows(as_of)
    for name, window in zip(window_names(windows), asked, strict=True):
        start = end = first = last = None
        if window.dates is None:
            start, end = map(instant_of, placed([window], _ANY_ZONE, as_of)[0, 0].tolist())
        else:
            first, last = map(date_on, window.dates)
        told.append(
            ReportWindow(
                window=name,
                text=window.text,
                start=start,
                end=end,
                first_date=first,
                last_date=last,
            )
        )
    return told
