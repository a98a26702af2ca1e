"""Totals → the rows of the report's CSV, all at once.

Two decimals, half away from zero. The default report has minutes for the hour and hours for the day
and the week; one that names its windows has one unit for all. Rows keep the order they come in.
"""

import csv
import io
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from compute.axis import PER_MS, Ints
from compute.uptime import Totals
from compute.windows import Window

#: The windows of the default report by name; each value below is in this order.
WindowName = Literal["hour", "day", "week"]
WINDOW_NAMES: tuple[WindowName, ...] = get_args(WindowName)
#: How far each window reaches back from `as_of`, milliseconds.
WINDOWS_MS = (3_600_000, 24 * 3_600_000, 168 * 3_600_000)
#: What the amounts of a report that names its windows are told in.
Unit = Literal["seconds", "minutes", "hours"]
DEFAULT_UNIT: Unit = "hours"
_UNITS_MS: dict[Unit, int] = {"seconds": 1000, "minutes": 60_000, "hours": 3_600_000}
_DEFAULT_UNITS: tuple[Unit, ...] = ("minutes", "hours", "hours")

_PERIODS = tuple(f"last_{name}" for name in WINDOW_NAMES)
_QUOTED = b'",\r\n'
#: Spreadsheets take a cell that begins with one of these for a formula.
_FORMULA = np.frombuffer(b"=+-@\t\r", dtype=np.uint8)
_FORMULA_TEXTS = tuple(_FORMULA.tobytes().decode())


def header(
    include_unknown: bool, include_excluded: bool = False, windows: Sequence[Window] = ()
) -> bytes:
    """The first line of a report.

    Args:
        include_unknown: whether the columns of unknown time follow
        include_excluded: whether the columns of excluded time follow after those
        windows: those that the report names; none: it is the default one
    """
    measures = ["uptime", "downtime"]
    measures += ["unknown"] * include_unknown + ["excluded"] * include_excluded
    periods = [window.name for window in windows] or _PERIODS
    columns = [f"{measure}_{period}" for measure in measures for period in periods]
    return ",".join(["store_id", *columns]).encode() + b"\n"


def csv_rows(
    store_ids: bytes,
    id_size: Ints,
    totals: Totals,
    include_unknown: bool,
    *,
    include_excluded: bool = False,
    unit: Unit | None = None,
    escape_formulas: bool = False,
) -> bytes:
    """The rows of a batch of stores.

    Args:
        store_ids: UTF-8 ids of all stores, joined
        id_size: int64[stores], bytes of each id
        totals: int64[stores, windows] each
        include_unknown: whether the columns of unknown time follow
        include_excluded: whether the columns of excluded time follow after those
        unit: of all amounts; None: those of the default report, whose windows they then are
        escape_formulas: whether an id that begins with = + - @ TAB or CR gets an apostrophe before
    """
    if escape_formulas:
        store_ids, id_size = _escape(store_ids, id_size)
    measures = [totals.up, totals.down]
    measures += [totals.unknown] * include_unknown + [totals.excluded] * include_excluded
    units = _DEFAULT_UNITS if unit is None else (unit,) * totals.up.shape[1]
    hundredth = np.tile([_UNITS_MS[one] // 100 * PER_MS for one in units], len(measures))
    hundredths = (np.concatenate(measures, axis=1) + hundredth // 2) // hundredth
    if any(character in store_ids for character in _QUOTED):
        store_ids, id_size = _quote(store_ids, id_size)
    return _join(np.frombuffer(store_ids, dtype=np.uint8), id_size, hundredths)


def _join(ids: npt.NDArray[np.uint8], id_size: Ints, hundredths: Ints) -> bytes:
    """Rows as a matrix of characters, as wide as the widest, the unused cells 0 and dropped."""
    stores, columns = hundredths.shape
    width = int(id_size.max(initial=0))
    digits = max(3, len(str(hundredths.max(initial=0))))
    cell = digits + 2  # comma, digits with a point before the last two
    text = np.zeros((stores, width + columns * cell + 1), dtype=np.uint8)
    text[:, :width][np.arange(width) < id_size[:, None]] = ids
    cells = text[:, width:-1].reshape(stores, columns, cell)
    cells[:, :, 0] = ord(",")
    cells[:, :, -3] = ord(".")
    rest = hundredths
    for digit_at in (-1, -2, *range(-4, -4 - (digits - 2), -1)):
        tens = rest // 10  # several times as fast as divmod
        rest, digit = tens, rest - 10 * tens
        shown = (digit > 0) | (rest > 0) | (digit_at >= -4)
        cells[:, :, digit_at] = np.where(shown, digit + ord("0"), 0)
    text[:, -1] = ord("\n")
    return text.tobytes().translate(None, b"\0")


def text_cell(text: str, *, escape_formulas: bool) -> str:
    """Any text as a cell, by the rules of ids."""
    if escape_formulas and text.startswith(_FORMULA_TEXTS):
        text = f"'{text}"
    if any(character in text for character in _QUOTED.decode()):
        return '"{}"'.format(text.replace('"', '""'))
    return text


def _escape(store_ids: bytes, id_size: Ints) -> tuple[bytes, Ints]:
    """Ids that a spreadsheet shows instead of computing; no id is empty."""
    ids = np.frombuffer(store_ids, dtype=np.uint8)
    start = np.cumsum(id_size) - id_size
    formula = np.isin(ids[start], _FORMULA)
    if not formula.any():
        return store_ids, id_size
    return np.insert(ids, start[formula], ord("'")).tobytes(), id_size + formula


def _quote(store_ids: bytes, id_size: Ints) -> tuple[bytes, Ints]:
    """Ids quoted as in RFC 4180, if they contain a comma, a quote or a line end."""
    ends = np.cumsum(id_size).tolist()
    quoted: list[bytes] = []
    for start, end in zip([0, *ends], ends, strict=False):
        field = io.StringIO()
        # The writer quotes a line end only if it is one that it writes itself.
        csv.writer(field, lineterminator="\r\n").writerow([store_ids[start:end].decode()])
        quoted.append(field.getvalue().removesuffix("\r\n").encode())
    return b"".join(quoted), np.array([len(field) for field in quoted], dtype=np.int64)
