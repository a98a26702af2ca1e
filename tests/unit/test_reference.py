"""What the slow reference is built from, where a whole report would not show it."""

from fractions import Fraction

import pytest

from tests.harness.reference import (
    DAY,
    HOUR,
    MINUTE,
    Store,
    business_time,
    merged,
    reference_csv_row,
    reference_totals,
    status_at,
    two_decimals,
)

MONDAY_MIDNIGHT = 1_674_432_000_000  # 2023-01-23T00:00Z, a Monday


def test_the_earlier_observation_wins_an_exact_tie() -> None:
    observed = [(10, True), (21, False)]
    half_way = Fraction(31, 2)
    assert status_at(half_way, observed, "nearest", DAY) is True
    assert status_at(half_way + Fraction(1, 4), observed, "nearest", DAY) is False


def test_an_observation_speaks_up_to_max_gap_and_no_further() -> None:
    observed = [(1000, True)]
    for instant in (900, 1100):
        assert status_at(Fraction(instant), observed, "nearest", 100) is True
    for instant in (899, 1101):
        assert status_at(Fraction(instant), observed, "nearest", 100) is None


def test_previous_speaks_from_the_observation_on() -> None:
    observed = [(1000, True), (1050, False)]
    instants = (999, 1000, 1049, 1050, 1150, 1151)
    said = [status_at(Fraction(instant), observed, "previous", 100) for instant in instants]
    assert said == [None, True, True, False, False, None]


def test_merged_intervals_are_disjoint_ascending_and_not_empty() -> None:
    assert merged([(5, 7), (1, 2), (2, 3), (9, 9), (6, 8), (12, 11)]) == [(1, 3), (5, 8)]


def test_business_time_of_a_monday_in_utc() -> None:
    store = Store("s", hours=((0, 9 * HOUR, 12 * HOUR),), timezone="UTC")
    nine = MONDAY_MIDNIGHT + 9 * HOUR
    assert business_time(store, nine + HOUR, nine + HOUR) == [(nine, nine + 3 * HOUR)]


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Fraction(0), "0.00"),
        (Fraction(60), "60.00"),
        (Fraction(4999, 1_000_000), "0.00"),
        (Fraction(5, 1000), "0.01"),
        (Fraction(25, 1000), "0.03"),
        (Fraction(1005, 1000), "1.01"),
        (Fraction(59995, 1000), "60.00"),
        (Fraction(1, 3), "0.33"),
    ],
)
def test_two_decimals_round_half_away_from_zero(amount: Fraction, text: str) -> None:
    assert two_decimals(amount) == text


def test_a_csv_row_quotes_a_store_id_only_where_it_must() -> None:
    plain = reference_csv_row(Store("s"), MONDAY_MIDNIGHT, "nearest", DAY, True)
    assert plain == "s,0.00,0.00,0.00,0.00,0.00,0.00,60.00,24.00,168.00"
    quoted = reference_csv_row(Store('a "b", c'), MONDAY_MIDNIGHT, "nearest", DAY, False)
    assert quoted == '"a ""b"", c",0.00,0.00,0.00,0.00,0.00,0.00'


def test_each_poll_speaks_for_max_gap_to_either_side() -> None:
    polls = tuple((MONDAY_MIDNIGHT - nth * HOUR, nth % 2 == 0) for nth in range(24))
    totals = reference_totals(Store("s", polls), MONDAY_MIDNIGHT, "nearest", MINUTE)
    # The poll at `as_of` has one minute before it, the other 23 have one on either side.
    up, down, unknown, _ = totals["day"]
    assert up == 23 * MINUTE
    assert down == 24 * MINUTE
    assert unknown == DAY - 47 * MINUTE
