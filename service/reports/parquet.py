"""The stores of a finished report as Parquet: a row of typed columns per store and window.

It needs pyarrow, the extra `parquet`, which is imported when the first such file is written.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from compute.axis import AnyInts, Ints
from compute.batch import default_windows
from compute.instants import instant_of
from compute.packed_totals import StoreTotals
from compute.targets import SCALE
from compute.window_columns import window_columns
from compute.windows import Window, placed
from compute.zones import TZ_VERSION
from service.reports.options import ReportOptions
from service.reports.told_stores import ranges
from service.reports.windows import window_names

if TYPE_CHECKING:
    import pyarrow

#: Rows of a row group, or some more. Readers work through groups side by side and skip whole ones,
#: which costs them more than it saves below some ten thousand; a writer has one in memory.
_GROUP = 30_000
_MICROSECONDS = 1000  # of a millisecond
#: Of the options: `as_of` as an instant, ids as the rows.
_TOLD_ELSEWHERE = ("as_of", "stores")


class NoParquet(Exception):  # noqa: N818
    """The package that writes Parquet is not installed."""

    def __str__(self) -> str:
        return "Parquet needs pyarrow: pip install 'storewatch[parquet]'"


def has_parquet() -> bool:
    """Whether Parquet can be written here."""
    return find_spec("pyarrow") is not None


def parquet(
    stores: StoreTotals,
    asked: Sequence[Window],
    as_of: int,
    about: Mapping[str, str],
    *,
    same_zones: bool = True,
) -> Iterator[bytes]:
    """The file, a row group at a time; each step reads the report's own file.

    Args:
        stores: all of them
        asked: windows that the report names; none: it is the default one
        as_of: milliseconds since 1970-01-01 UTC
        about: what is said of the file, key → value
        same_zones: whether the report was made with the tz database of this process; if not, the
            instants of calendar windows are left out

    Raises:
        NoParquet: with the first piece
    """
    if not has_parquet():
        raise NoParquet
    import pyarrow as pa
    from pyarrow import parquet as pq

    written = _Pieces()
    schema = _schema().with_metadata({f"storewatch.{key}": value for key, value in about.items()})
    windows, names = asked or default_windows(as_of), window_names(asked)
    told = _Windows(windows, names, stores.zone_names, as_of, same_zones=same_zones)
    with pq.ParquetWriter(
        pa.PythonFile(written, mode="w"),
        schema,
        compression="zstd",
        use_dictionary=["timezone", "window", "text", "name", "store_id"],
    ) as writer:
        for some in ranges(stores, _GROUP):
            writer.write_table(_table(stores, some, told, schema), row_group_size=2 * _GROUP)
            yield written.taken()
    yield written.taken()


def about_report(
    options: ReportOptions,
    as_of: int,
    *,
    report_id: str | None = None,
    tz_version: str | None = TZ_VERSION,
    fingerprint: bytes | None = None,
    polls_kept_since: int | None = None,
) -> dict[str, str]:
    """What a file says of the report that it is made of; what is not known is left out.

    Args:
        options: that it was made with; the ids of named stores are left out
        as_of: milliseconds since 1970-01-01 UTC
        report_id: None: the report of a command
        tz_version: release of the tz database that it was made with
        fingerprint: of what it was made of
        polls_kept_since: of the report, the same; None: all polls were there that matter
    """
    asked = {name: told for name, told in options.asked().items() if name not in _TOLD_ELSEWHERE}
    kept_since = instant_of(polls_kept_since)
    about = {
        "report_id": report_id,
        "as_of": instant_of(as_of).isoformat(),
        "tz_version": tz_version,
        "fingerprint": None if fingerprint is None else fingerprint.hex(),
        "polls_kept_since": None if kept_since is None else kept_since.isoformat(),
        "options": msgspec.json.encode(asked).decode(),
    }
    return {name: told for name, told in about.items() if told is not None}


class _Pieces:
    """A file that is handed on as it grows."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: "pyarrow.Buffer") -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def flush(self) -> None:
        """Nothing waits elsewhere."""

    def close(self) -> None:
        """Nothing is to be closed."""

    def taken(self) -> bytes:
        """What came since the last time."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


class _Windows:
    """The windows' columns, which are the same for many stores.

    Attributes:
        names: of the windows
        texts: that ask for them
        bounds: int64[zones, windows, 2], microseconds since 1970-01-01 UTC
        unplaced: bool[windows], those whose instants are not known
        dates: int32[windows, 2], first and last, days since 1970-01-01
        by_instants: bool[windows], those that have no dates
    """

    def __init__(
        self,
        windows: Sequence[Window],
        names: Sequence[str],
        zone_names: Sequence[str],
        as_of: int,
        *,
        same_zones: bool,
    ) -> None:
        self.names = list(names)
        self.texts = [window.text for window in windows]
        self.by_instants = np.array([window.dates is None for window in windows])
        self.unplaced = ~self.by_instants & (not same_zones)
        self.dates = np.array([window.dates or (0, 0) for window in windows], dtype=np.int32)
        # Where dates are not placed any zone does, which this tz database may not even have.
        zones = list(zone_names) if same_zones else ["UTC"] * len(zone_names)
        self.bounds = placed(windows, zones, as_of).transpose(1, 0, 2) * _MICROSECONDS


def _schema() -> "pyarrow.Schema":
    import pyarrow as pa

    instant, seconds = pa.timestamp("us", tz="UTC"), pa.float64()
    must = [
        pa.field("store_id", pa.string(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("timezone", pa.string(), nullable=False),
        pa.field("tags", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("target", pa.float64()),
        pa.field("window", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("from", instant),
        pa.field("to", instant),
        pa.field("first_date", pa.date32()),
        pa.field("last_date", pa.date32()),
    ]
    measures = ("business_time", "uptime", "downtime", "unknown", "excluded")
    exact = [pa.field(name, seconds, nullable=False) for name in measures]
    judged = [
        pa.field("availability", pa.float64()),
        pa.field("met", pa.bool_()),
        pa.field("budget_allowed", seconds),
        pa.field("budget_used", seconds),
        pa.field("budget_left", seconds),
    ]
    return pa.schema([*must, *exact, *judged])


def _table(
    stores: StoreTotals, some: Ints, told: _Windows, schema: "pyarrow.Schema"
) -> "pyarrow.Table":
    """The rows of some stores."""
    import pyarrow as pa

    windows = len(told.names)
    of_store = np.repeat(np.arange(len(some)), windows)
    of_window = np.tile(np.arange(windows), len(some))
    names, tags = stores.names_and_tags(some)
    zone = stores.zone[some]
    target = stores.target[some]
    bounds = told.bounds[zone].reshape(-1, 2)
    dates = told.dates[of_window]
    no_instants, no_dates = told.unplaced[of_window], told.by_instants[of_window]
    found = window_columns(stores.totals(some), target)
    has_none, unjudged = ~found.held, ~found.judged

    def each(values: Sequence[object], index: AnyInts, kind: "pyarrow.DataType") -> "pyarrow.Array":
        return pa.array(values, kind).take(pa.array(index))

    tags_kind = schema.field("tags").type
    columns = [
        each(stores.ids_of(some), of_store, pa.string()),
        each([name or None for name in names], of_store, pa.string()),
        each(stores.zone_names, zone[of_store], pa.string()),
        each([list(one.items()) for one in tags], of_store, tags_kind),
        pa.array((target / SCALE)[of_store], mask=has_none),
        each(told.names, of_window, pa.string()),
        each(told.texts, of_window, pa.string()),
        pa.array(bounds[:, 0], schema.field("from").type, mask=no_instants),
        pa.array(bounds[:, 1], schema.field("to").type, mask=no_instants),
        pa.array(dates[:, 0], pa.int32(), mask=no_dates).cast(pa.date32()),
        pa.array(dates[:, 1], pa.int32(), mask=no_dates).cast(pa.date32()),
        *(
            pa.array(part)
            for part in (
                found.business_time,
                found.uptime,
                found.downtime,
                found.unknown,
                found.excluded,
            )
        ),
        pa.array(found.availability, mask=np.isnan(found.availability)),
        pa.array(found.met, mask=unjudged),
        pa.array(found.allowed, mask=has_none),
        pa.array(found.downtime, mask=has_none),
        pa.array(found.left, mask=has_none),
    ]
    return pa.Table.from_arrays(columns, schema=schema)
