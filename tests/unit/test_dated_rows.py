"""Rows of hours with dates: packed, unpacked, and in place of what was known of their date."""

import numpy as np
import pytest

from compute.dated_rows import DatedRows
from compute.packed_rows import EMPTY, NO_DATE

NINE_TO_FIVE = 9 * 3_600_000 << 32 | 17 * 3_600_000
TEN_TO_FOUR = 10 * 3_600_000 << 32 | 16 * 3_600_000

Row = tuple[int, int, int]


def rows_of(*rows: Row) -> DatedRows:
    store, date, hours = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return DatedRows.of(store, date, hours)


def listed(rows: DatedRows) -> list[Row]:
    return list(zip(rows.store.tolist(), rows.date.tolist(), rows.hours.tolist(), strict=True))


def test_what_is_packed_comes_back() -> None:
    rows = rows_of(
        (2, 7, EMPTY), (0, 19_000, NINE_TO_FIVE), (0, NO_DATE, TEN_TO_FOUR), (0, 7, TEN_TO_FOUR),
        (3, NO_DATE, EMPTY), (0, 7, TEN_TO_FOUR),
    )  # fmt: skip
    dated, weeks = rows.packed(5), rows.packed_weeks(5)
    assert [len(each or b"") for each in dated] == [24, 0, 12, 0, 0]
    assert [len(each or b"") for each in weeks] == [8, 0, 0, 8, 0]
    back = DatedRows.unpacked(dated).and_others(DatedRows.of_weeks(weeks))
    assert listed(back) == listed(rows)
    assert weeks[3] == b"\xff" * 8
    assert rows.dates_of(5).tolist() == [2, 0, 1, 0, 0]


def test_rows_of_a_store_and_date_take_the_place_of_what_was_known_of_these_two() -> None:
    known = rows_of((0, 7, NINE_TO_FIVE), (0, 7, TEN_TO_FOUR), (0, 8, EMPTY), (1, 7, NINE_TO_FIVE))
    now = rows_of((0, 7, EMPTY), (1, NO_DATE, TEN_TO_FOUR)).and_others(known)
    assert listed(now) == [
        (0, 7, EMPTY), (0, 8, EMPTY), (1, NO_DATE, TEN_TO_FOUR), (1, 7, NINE_TO_FIVE),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([(0, 7, EMPTY), (0, 8, NINE_TO_FIVE), (1, 7, NINE_TO_FIVE)], None),
        ([(0, 7, EMPTY), (0, 7, EMPTY)], None),
        ([(0, 7, NINE_TO_FIVE), (3, 9, NINE_TO_FIVE), (3, 9, EMPTY)], (3, 9)),
        ([(1, NO_DATE, EMPTY), (1, NO_DATE, NINE_TO_FIVE)], (1, NO_DATE)),
        ([], None),
    ],
    ids=["apart", "twice", "beside", "undated", "none"],
)
def test_an_empty_row_beside_another_of_its_date_is_found(
    rows: list[Row], found: tuple[int, int] | None
) -> None:
    assert rows_of(*rows).beside_empty() == found
