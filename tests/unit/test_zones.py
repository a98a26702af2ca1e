"""Offsets of time zones are those of the tz database, at every instant, and change on time."""

import struct
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.instants import instant_of
from compute.windows import MOST_AHEAD_MS, MOST_BEHIND_MS
from compute.zones import Offset, offsets, zone_names
from tests.harness.reference import DAY, HOUR


def ms(year: int, month: int, day: int, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * 1000


def transitions(zone: str) -> tuple[list[int], list[int]]:
    """Seconds since 1970 of a zone's transitions, and the seconds that its offsets are east of UTC.

    Of those that its file lists; later ones repeat every year. Nothing from before 1967.
    """
    file = resources.files("tzdata.zoneinfo").joinpath(*zone.split("/")).read_bytes()
    # RFC 9636: a header, the same in 32 bits, a header again, then times, their types, the types.
    header = struct.Struct(">20x6L")
    in_ut, standard, leap, times, types, letters = header.unpack_from(file)
    start = header.size + 5 * times + 6 * types + letters + 8 * leap + standard + in_ut
    _, _, _, times, types, _ = header.unpack_from(file, start)
    start += header.size
    at = struct.unpack_from(f">{times}q", file, start)
    kind = file[start + 8 * times : start + 9 * times]
    offset = [
        struct.unpack_from(">l", file, start + 9 * times + 6 * place)[0] for place in range(types)
    ]
    since = bisect_left(at, ms(1967, 1, 1) // 1000)
    first = kind[since - 1] if since else 0
    return list(at[since:]), [offset[one] for one in (first, *kind[since:])]


def test_no_zone_changes_its_clocks_twice_within_six_days() -> None:
    apart = [
        later - earlier
        for zone in zone_names()
        for earlier, later in pairwise(transitions(zone)[0])
    ]
    assert len(apart) > 10_000
    assert min(apart) > 6 * DAY // 1000


def test_no_zone_is_further_from_utc_than_windows_reckon_with() -> None:
    offsets_east = [ahead for zone in zone_names() for ahead in transitions(zone)[1]]
    assert max(offsets_east) == MOST_AHEAD_MS // 1000
    assert min(offsets_east) == -MOST_BEHIND_MS // 1000


ZONES = ("America/Chicago", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kolkata", "UTC")


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.integers(0, ms(2037, 1, 1)),
    st.integers(1, 200 * DAY),
    st.floats(0, 1, exclude_max=True),
)
def test_at_every_instant_the_offset_is_that_of_the_tz_database(
    zone: str, start: int, length: int, place: float
) -> None:
    found = offsets(zone, start, start + length)
    assert found[0].start == start
    at = start + int(place * length)
    holds = [offset for offset in found if offset.start <= at][-1]
    local = instant_of(at).astimezone(ZoneInfo(zone))
    assert timedelta(milliseconds=holds.ahead) == local.utcoffset()
    assert holds.abbreviation == local.tzname()


@pytest.mark.parametrize(
    ("zone", "year", "changes"),
    [
        (
            "America/New_York",
            2024,
            [(ms(2024, 3, 10, 7), -4, "EDT"), (ms(2024, 11, 3, 6), -5, "EST")],
        ),
        # Half an hour of summer time.
        (
            "Australia/Lord_Howe",
            2024,
            [(ms(2024, 4, 6, 15), 10.5, "+1030"), (ms(2024, 10, 5, 15) + HOUR // 2, 11, "+11")],
        ),
        # From Eastern to Central time on the night of summer time: another name, the same clocks.
        (
            "America/Indiana/Knox",
            2006,
            [(ms(2006, 4, 2, 7), -5, "CDT"), (ms(2006, 10, 29, 7), -6, "CST")],
        ),
    ],
)
def test_clocks_change_to_the_millisecond(
    zone: str, year: int, changes: list[tuple[int, float, str]]
) -> None:
    first, *later = offsets(zone, ms(year, 1, 1), ms(year + 1, 1, 1))
    assert first.start == ms(year, 1, 1)
    assert later == [Offset(at, int(hours * HOUR), name) for at, hours, name in changes]
