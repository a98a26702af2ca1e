"""The packed forms of dated weeks, special hours and exclusions."""

import struct

import numpy as np

from compute.business_hours import EMPTY_WEEK, unpack_hours
from compute.packed_rows import (
    NEVER,
    NO_ROWS,
    PackedRows,
    pack_dated_weeks,
    pack_exclusions,
    pack_special_hours,
    unpack_dated_weeks,
    unpack_exclusions,
    unpack_special_hours,
)

HOUR = 3_600_000


def test_dated_weeks_are_three_numbers_a_row_ascending_and_each_once() -> None:
    columns = np.array([[19_793, 9 * HOUR, 17 * HOUR], [19_700, NEVER, NEVER]])[[0, 1, 0]].T
    packed = pack_dated_weeks(*columns)
    assert packed == struct.pack("<6i", 19_700, -1, -1, 19_793, 9 * HOUR, 17 * HOUR)
    assert [column.tolist() for column in unpack_dated_weeks(packed)] == [
        [19_700, 19_793],
        [-1, 9 * HOUR],
        [-1, 17 * HOUR],
    ]


def test_special_hours_are_three_numbers_a_row() -> None:
    columns = np.array([[19_716, NEVER, NEVER], [19_715, 10 * HOUR, 14 * HOUR]]).T
    packed = pack_special_hours(*columns)
    assert packed == struct.pack("<6i", 19_715, 10 * HOUR, 14 * HOUR, 19_716, -1, -1)
    assert [column.tolist() for column in unpack_special_hours(packed)] == [
        [19_715, 19_716],
        [10 * HOUR, -1],
        [14 * HOUR, -1],
    ]


def test_exclusions_are_two_numbers_of_eight_bytes_a_row() -> None:
    packed = pack_exclusions(np.array([1_674_475_200_000]), np.array([1_674_478_800_000]))
    assert packed == struct.pack("<2q", 1_674_475_200_000, 1_674_478_800_000)
    assert [column.tolist() for column in unpack_exclusions(packed)] == [
        [1_674_475_200_000],
        [1_674_478_800_000],
    ]


def test_an_empty_week_without_a_date_is_one_row_and_shows_none() -> None:
    assert struct.pack("<2i", -1, -1) == EMPTY_WEEK
    assert [column.tolist() for column in unpack_hours(EMPTY_WEEK)] == [[], [], []]


def test_each_row_has_the_index_of_its_store() -> None:
    assert PackedRows(b"", np.array([2, 0, 1])).store.tolist() == [0, 0, 2]
    assert NO_ROWS.store.tolist() == []
