"""Store ids that a spreadsheet would take for formulas: escaped when that is asked for."""

import csv

import numpy as np
import pytest

from compute.csv_rows import csv_rows
from compute.uptime import Totals

ORDINARY = ["1335287424306973374", "a=1", "a-b", "'=1", "ü+", "x,y", 'q"q']


def rows(ids: list[str], escape_formulas: bool) -> bytes:
    nothing = np.zeros((len(ids), 3), dtype=np.int64)
    encoded = [store_id.encode() for store_id in ids]
    return csv_rows(
        b"".join(encoded),
        np.array([len(store_id) for store_id in encoded], dtype=np.int64),
        Totals(nothing, nothing, nothing, nothing),
        False,
        escape_formulas=escape_formulas,
    )


def read(ids: list[str], escape_formulas: bool) -> list[str]:
    """The ids as a reader of CSV gets them."""
    text = rows(ids, escape_formulas).decode()
    return [row[0] for row in csv.reader(text.splitlines(keepends=True))]


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_an_id_that_begins_like_a_formula_gets_an_apostrophe(first: str) -> None:
    ids = [f"{first}1+1", "between", first, f'{first}cmd|"/c calc",A1', f"{first}ü"]
    assert read(ids, True) == [f"'{one}" if one != "between" else one for one in ids]
    assert read(ids, False) == ids


def test_what_is_escaped_is_quoted_where_it_must_be() -> None:
    assert rows(['=HYPERLINK("x","y")'], True).startswith(b'"\'=HYPERLINK(""x"",""y"")",0.00')
    assert rows(["\rA1"], True).startswith(b'"\'\rA1",0.00')
    assert rows(["=A1"], True).startswith(b"'=A1,0.00")


def test_other_ids_are_the_same_bytes_with_and_without() -> None:
    assert rows(ORDINARY, True) == rows(ORDINARY, False)
    assert rows([], True) == b""
