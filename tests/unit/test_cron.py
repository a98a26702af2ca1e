"""When a schedule fires, above all on the days when clocks change."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.schedules.cron import CronRefused, Plan, ZoneMissing
from tests.harness.schedules import ZONES, clock_changes


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# New York goes from 02:00 to 03:00 on 2026-03-08, at 07:00 UTC, and from 02:00 back to 01:00 on
# 2026-11-01, at 06:00 UTC. Havana goes from 00:00 to 01:00 on 2026-03-08, at 05:00 UTC.
@pytest.mark.parametrize(
    ("cron", "zone", "start", "expected"),
    [
        (
            "30 2 * * *",
            "America/New_York",
            "2026-03-07 06:00",
            ["2026-03-07 07:30", "2026-03-08 07:00", "2026-03-09 06:30"],
        ),
        (
            "0,30 2 * * *",
            "America/New_York",
            "2026-03-07 08:00",
            ["2026-03-08 07:00", "2026-03-09 06:00", "2026-03-09 06:30"],
        ),
        (
            "30 2,3 * * *",
            "America/New_York",
            "2026-03-07 12:00",
            ["2026-03-08 07:00", "2026-03-08 07:30", "2026-03-09 06:30", "2026-03-09 07:30"],
        ),
        (
            "*/20 2 * * *",
            "America/New_York",
            "2026-03-07 12:00",
            ["2026-03-09 06:00", "2026-03-09 06:20", "2026-03-09 06:40"],
        ),
        (
            "0 * * * *",
            "America/New_York",
            "2026-03-08 05:30",
            ["2026-03-08 06:00", "2026-03-08 07:00", "2026-03-08 08:00"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-10-31 04:00",
            ["2026-10-31 05:30", "2026-11-01 05:30", "2026-11-02 06:30"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-11-01 06:10",
            ["2026-11-02 06:30"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-11-01 05:30",
            ["2026-11-02 06:30"],
        ),
        (
            "0 * * * *",
            "America/New_York",
            "2026-11-01 04:30",
            ["2026-11-01 05:00", "2026-11-01 06:00", "2026-11-01 07:00", "2026-11-01 08:00"],
        ),
        (
            "*/30 1 * * *",
            "America/New_York",
            "2026-11-01 04:30",
            ["2026-11-01 05:00", "2026-11-01 05:30", "2026-11-01 06:00", "2026-11-01 06:30"],
        ),
        (
            "0 0 * * *",
            "America/Havana",
            "2026-03-07 06:00",
            ["2026-03-08 05:00", "2026-03-09 04:00"],
        ),
        (
            "*/30 0 8 3 *",
            "America/Havana",
            "2026-03-07 06:00",
            ["2027-03-08 04:00", "2027-03-08 04:30"],
        ),
        ("0 6 1 * *", "America/Chicago", "2026-10-02 00:00", ["2026-11-01 12:00"]),
        ("0 6 L * *", "UTC", "2028-02-01 00:00", ["2028-02-29 06:00"]),
        ("0 6 * * 1#1", "UTC", "2026-11-01 00:00", ["2026-11-02 06:00", "2026-12-07 06:00"]),
        ("0 6 1 * 1", "UTC", "2026-11-01 00:00", ["2026-11-01 06:00", "2026-11-02 06:00"]),
        ("0 6 * * mon", "UTC", "2026-11-02 06:00", ["2026-11-09 06:00"]),
    ],
    ids=[
        "skipped-is-at-once-after",
        "several-skipped-are-one",
        "skipped-beside-one-that-is-there",
        "each-few-minutes-of-a-skipped-hour",
        "hourly-forward",
        "repeated-is-the-first",
        "begun-in-the-repeated-hour",
        "begun-at-the-first",
        "hourly-back",
        "each-few-minutes-of-a-repeated-hour",
        "midnight-skipped",
        "minutes-of-a-midnight-skipped",
        "the-day-of-the-change",
        "last-day-of-a-month",
        "first-monday",
        "day-of-month-or-of-week",
        "strictly-after",
    ],
)
def test_it_fires_when_a_person_expects_it(
    cron: str, zone: str, start: str, expected: list[str]
) -> None:
    found = islice(Plan(cron, zone).after(utc(start)), len(expected))
    assert list(found) == [utc(text) for text in expected]


CRONS = ["* * * * *", "*/7 * * * *", "0 * * * *", "30 1 * * *", "15,45 0-3 * * *", "0 0 * * *"]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(CRONS),
    st.sampled_from([zone for zone in ZONES if zone is not None]),
    st.data(),
)
def test_the_latest_of_those_that_were_missed_is_the_last_that_comes_forward(
    cron: str, zone: str, data: st.DataObject
) -> None:
    changes = [one for one in clock_changes(zone) if one > 1_500_000_000_000]
    change = data.draw(st.sampled_from(changes or [1_700_000_000_000]))
    hours = st.integers(-10 * 60, 10 * 60).map(lambda minutes: timedelta(minutes=minutes))
    near = datetime.fromtimestamp(change // 1000, UTC)
    plan = Plan(cron, zone)
    fired = next(plan.after(near + data.draw(hours) - timedelta(days=1)))
    now = max(fired, near + data.draw(hours))
    expected = fired
    for fires in plan.after(fired):
        if fires > now:
            break
        expected = fires
    assert plan.latest(fired, now) == expected


def test_it_does_not_matter_where_one_begins_to_look() -> None:
    plan = Plan("15,45 0-3 * * *", "America/New_York")
    begin = utc("2026-10-31 00:00")
    whole = list(islice(plan.after(begin), 24))
    for minutes in range(0, 2 * 24 * 60, 5):
        start = begin + timedelta(minutes=minutes)
        assert next(plan.after(start)) == next(one for one in whole if one > start)


@pytest.mark.parametrize(
    ("cron", "told"),
    [
        ("* * * * * *", "five fields"),
        ("@daily", "five fields"),
        ("60 * * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 0 * * 1#6", "bad day-of-week"),
        ("0 0 * * \0", "bad day-of-week"),
    ],
    ids=["seconds", "name", "minute", "hour", "no-such-day", "no-such-week", "nul"],
)
def test_what_is_no_expression_is_refused_in_words(cron: str, told: str) -> None:
    with pytest.raises(CronRefused, match=told):
        Plan(cron, "UTC")


def test_an_expression_that_never_fires_has_no_next_time() -> None:
    assert list(Plan("* * */20 * 1L", "UTC").after(utc("2026-01-01 00:00"))) == []


def test_a_zone_that_is_not_there_is_told_with_the_version_of_the_tz_database() -> None:
    with pytest.raises(ZoneMissing, match=r"version \d{4}[a-z]+, lacks the zone Mars/Olympus"):
        Plan("0 0 * * *", "Mars/Olympus")
