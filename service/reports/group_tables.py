"""Groups of a report as a table, one row for each group and window: as CSV, and as a spreadsheet.

Times are exact seconds. Cells that say nothing are empty.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.util import find_spec
from typing import BinaryIO

from compute.csv_rows import text_cell
from compute.groups import MOST_WORST, TIMEZONE, Group
from compute.targets import SCALE
from service.reports.summary import availability_of, budget_of, exact_seconds

Cell = str | int | float | bool | None

#: What a package is installed for: `pip install 'storewatch[xlsx]'`.
EXTRA = "xlsx"
#: Columns after the values of the tags, up to the worst stores.
_COLUMNS = (
    *("window", "stores", "uptime_seconds", "downtime_seconds", "unknown_seconds"),
    *("excluded_seconds", "availability", "stores_met", "stores_missed", "stores_unknown"),
    *("target_met", "budget_allowed_seconds", "budget_used_seconds", "budget_left_seconds"),
)
#: Characters of a column of text, and of others.
_WIDE, _NARROW = 24, 14


class SheetsNotInstalled(Exception):  # noqa: N818 - read by a person as a sentence
    """Spreadsheets need a package that is not installed."""

    def __str__(self) -> str:
        return (
            "spreadsheets (XLSX) need a package that is not installed here: "
            f"pip install 'storewatch[{EXTRA}]'"
        )


def header(keys: Sequence[str]) -> list[str]:
    """The names of the columns; `keys`: by which the report is grouped."""
    shared = [key if key == TIMEZONE else f"tag_{key}" for key in keys]
    worst = [
        f"worst_{rank}{of}" for rank in range(1, MOST_WORST + 1) for of in ("", "_downtime_seconds")
    ]
    return [*shared, *_COLUMNS, *worst]


def rows(group: Group, windows: Sequence[tuple[int, str]]) -> Iterator[list[Cell]]:
    """The rows of a group.

    Args:
        group: which
        windows: those that are told: their place among the report's, and their names
    """
    for at, name in windows:
        up, down = group.up[at], group.down[at]
        row: list[Cell] = [
            *group.values,
            name,
            group.stores,
            *(exact_seconds(part[at]) for part in (group.up, group.down)),
            *(exact_seconds(part[at]) for part in (group.unknown, group.excluded)),
            availability_of(up, down),
        ]
        if has_targets(group, at):
            budget = budget_of(group.allowed[at], group.used[at])
            row += [group.met[at], group.missed[at], group.without[at]]
            row += [group_met(group, at), budget.allowed, budget.used, budget.left]
        else:
            row += [None] * 7
        for worst in group.worst[at]:
            row += [worst.store_id, exact_seconds(worst.down)]
        yield row + [None] * (2 * (MOST_WORST - len(group.worst[at])))


def has_targets(group: Group, window: int) -> bool:
    """Whether any store of a group has a target."""
    return group.met[window] + group.missed[window] + group.without[window] > 0


def group_met(group: Group, window: int) -> bool | None:
    """Whether a group has used no more than its stores' targets allow; None: nothing is known."""
    if not group.met[window] + group.missed[window]:
        return None
    return group.used[window] * SCALE <= group.allowed[window]


def csv_header(keys: Sequence[str]) -> bytes:
    """The first line of the CSV."""
    return _line(header(keys), escape_formulas=False)


def csv_rows(
    groups: Sequence[Group], windows: Sequence[tuple[int, str]], *, escape_formulas: bool
) -> bytes:
    """Groups as lines of CSV.

    Args:
        groups: which
        windows: as `rows` takes them
        escape_formulas: whether texts that a spreadsheet takes for formulas are escaped
    """
    return b"".join(
        _line(row, escape_formulas=escape_formulas)
        for group in groups
        for row in rows(group, windows)
    )


def _line(row: Sequence[Cell], *, escape_formulas: bool) -> bytes:
    return ",".join(_csv_cell(cell, escape_formulas) for cell in row).encode() + b"\n"


def _csv_cell(cell: Cell, escape_formulas: bool) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, str):
        return text_cell(cell, escape_formulas=escape_formulas)
    return repr(cell).removesuffix(".0")


class GroupSheet:
    """A spreadsheet (XLSX) of groups, which is written row by row: memory stays the same.

    Texts are texts in it, whatever they begin with.

    Args:
        file: gets it, when it is closed
        folder: of files that it needs until then
        keys: by which the report is grouped
        windows: as `rows` takes them
        made_at: when the report was made; None: not told

    Raises:
        SheetsNotInstalled: it cannot be made here
    """

    def __init__(
        self,
        file: BinaryIO,
        folder: str,
        keys: Sequence[str],
        windows: Sequence[tuple[int, str]],
        made_at: datetime | None = None,
    ) -> None:
        if not can_be_made():
            raise SheetsNotInstalled
        from xlsxwriter import Workbook

        self._windows = windows
        self._book = Workbook(file, {"constant_memory": True, "tmpdir": folder})
        if made_at is not None:
            self._book.set_properties({"created": made_at.replace(tzinfo=None)})
        self._sheet = self._book.add_worksheet("groups")
        self._percent = self._book.add_format({"num_format": "0.00%"})
        self._row = 1
        names = header(keys)
        self._share = names.index("availability")
        for column, name in enumerate(names):
            text = column <= len(keys) or name[-1].isdecimal()
            self._sheet.set_column(column, column, _WIDE if text else _NARROW)
            self._sheet.write_string(0, column, name, self._book.add_format({"bold": True}))
        self._sheet.freeze_panes(1, len(keys) + 1)

    def add(self, groups: Sequence[Group]) -> None:
        """Add the rows of groups."""
        sheet = self._sheet
        for group in groups:
            for row in rows(group, self._windows):
                for column, cell in enumerate(row):
                    if isinstance(cell, str):
                        sheet.write_string(self._row, column, cell)
                    elif isinstance(cell, bool):
                        sheet.write_boolean(self._row, column, cell)
                    elif cell is not None:
                        share = self._percent if column == self._share else None
                        sheet.write_number(self._row, column, cell, share)
                self._row += 1

    def close(self) -> None:
        """Write the file."""
        self._book.close()


def can_be_made() -> bool:
    """Whether the package that makes spreadsheets is installed."""
    return find_spec("xlsxwriter") is not None
