"""What a report asks, with its defaults."""

import msgspec

from compute.csv_rows import DEFAULT_UNIT, Unit
from compute.uptime import Interpolation
from service.reports.max_gap import DEFAULT_MAX_GAP, parse_max_gap


class ReportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a report asks.

    Attributes:
        as_of: what no window reaches beyond, milliseconds since 1970-01-01 UTC; None: the newest
            poll
        interpolation: how to estimate the status between observations
        max_gap: for how long an observation speaks to either side, milliseconds
        include_unknown: whether the CSV has columns of unknown time
        include_excluded: whether the CSV has columns of excluded time
        windows: their texts, as `compute.windows` has them; None: the last hour, day and week
        calendar: IANA name of the zone of calendar periods; None: each store's own
        unit: of the CSV, for windows
        tags: what the stores to report on have, as `service.stores.selection` takes it; None: all
        escape_formulas: whether ids that a spreadsheet takes for formulas are escaped in the CSV
        stores: ids of the stores to report on, each once; None: all
        group_by: what the stores of a group have in common, as `compute.groups` takes it; None: the
            report has no groups
        target: of the stores that have none of their own, as `compute.targets` has it; None: none
        queryable: whether its stores can be queried by SQL, in the view `report_store_result`
    """

    as_of: int | None = None
    interpolation: Interpolation = "nearest"
    max_gap: int = parse_max_gap(DEFAULT_MAX_GAP)
    include_unknown: bool = False
    escape_formulas: bool = False
    stores: tuple[str, ...] | None = None
    include_excluded: bool = False
    windows: tuple[str, ...] | None = None
    calendar: str | None = None
    unit: Unit = DEFAULT_UNIT
    tags: tuple[str, ...] | None = None
    group_by: tuple[str, ...] | None = None
    target: int | None = None
    queryable: bool = False

    def asked(self) -> dict[str, object]:
        """What it asks, without what an older version cannot ask and nobody asked for."""
        return {
            name: value
            for name, value in msgspec.structs.asdict(self).items()
            if name not in _LATER or value != _LATER[name]
        }


#: Options that version 0.2 lacks, as they are when they are left out.
_LATER = {
    "include_excluded": False,
    "windows": None,
    "calendar": None,
    "unit": DEFAULT_UNIT,
    "tags": None,
    "group_by": None,
    "target": None,
    "queryable": False,
}
