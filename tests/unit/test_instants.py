"""Instants have one form, whoever reads them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.instants import LATEST_MS, instant_of, parse_instant

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda m: timezone(timedelta(minutes=m)))


@settings(deadline=None)
@given(
    instant=st.datetimes(datetime(1970, 1, 2), datetime(9998, 12, 30)),
    zone=OFFSETS,
    separator=st.sampled_from(" Tt"),
    colon=st.booleans(),
    more=st.text("0123456789", max_size=5),
)
def test_an_instant_of_any_offset_is_read_and_cut(
    instant: datetime, zone: timezone, separator: str, colon: bool, more: str
) -> None:
    there = instant.replace(tzinfo=zone)
    text = f"{instant:%Y-%m-%d}{separator}{instant:%H:%M:%S.%f}{more}{there:%z}"
    text = text.replace(f"{instant:%Y}-", f"{instant.year:04}-", 1)
    if colon:
        text = f"{text[:-2]}:{text[-2:]}"
    assert parse_instant(text) == (there - EPOCH) // timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2023-01-22 12:09", "2023-01-22T12:09:00Z"),
        ("2023-01-22 12:09 UTC", "2023-01-22T12:09:00Z"),
        ("2023-01-22t12:09z", "2023-01-22T12:09:00Z"),
        ("2023-01-22 12:09:39.1239", "2023-01-22T12:09:39.123Z"),
        ("2023-01-22 13:09+01", "2023-01-22T12:09:00Z"),
        ("2023-01-22 13:09+0100", "2023-01-22T12:09:00Z"),
        ("2023-01-22 13:09:00.5+01:00", "2023-01-22T12:09:00.500Z"),
        ("9999-01-01T01:00:00+02:00", "9998-12-31T23:00:00Z"),
        ("1969-12-31T23:00:00-01:00", "1970-01-01T00:00:00Z"),
    ],
)
def test_it_has_these_forms(text: str, same: str) -> None:
    assert parse_instant(text) == parse_instant(same)
    assert instant_of(parse_instant(text)) == datetime.fromisoformat(same)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2023-01-22",
        "2023-01-22 12",
        "2023-01-22 12:09:39.",
        "2023-01-22 12:09:39. UTC",
        "2023-01-22 12:09:39,5",
        "2023-01-22 12:09:39:5",
        "2023-01-22 12:09.5",
        "2023-01-22  12:09:39",
        "2023-01-22_12:09:39",
        "2023-01-22 12:09:39  UTC",
        "2023-01-22 12:09:39 utc",
        "2023-01-22 12:09:39UTC",
        "2023-01-22 12:09:39 Z",
        "2023-01-22 12:09:39 +01:00",
        "2023-01-22 12:09:39+1:00",
        "2023-01-22 12:09:39+01:00:00",
        "2023-01-22 12:09:39+24:00",
        "2023-01-22 12:09:39+01:60",
        "2023-01-22 12:09:39-06:00 UTC",
        "2023-01-22 12:09:39Z\0",
        "2023-01-22 12:09:39Z\n",
        " 2023-01-22 12:09:39Z",
        "2023-01-22 24:00:00Z",
        "2023-01-22 12:60:00Z",
        "2023-01-22 12:09:60Z",
        "2023-02-29 12:09:39Z",
        "2023-1-22 12:09:39Z",
        "20230122T120939Z",
        "2023-W04 12:00",
        "2023-W04-7 12:00",
        "2023-022 12:00",
        "+2023-01-22 12:09:39Z",
        "٢٠٢٣-01-22 12:09:39Z",
        "2023-01-22 12:09:3\uff19Z",
        "1674389379",
    ],
)
def test_nothing_else_is_an_instant(text: str) -> None:
    with pytest.raises(ValueError, match="is not an instant such as"):
        parse_instant(text)


@pytest.mark.parametrize(
    "text", ["1969-12-31T23:59:59.999Z", "9999-01-01T00:00Z", "0001-01-01 00:00"]
)
def test_it_is_of_the_years_1970_to_9998(text: str) -> None:
    with pytest.raises(ValueError, match="is before 1970 or after 9998"):
        parse_instant(text)
    assert parse_instant("9998-12-31T23:59:59.9999Z") == LATEST_MS
