"""Delivered files: where they may go, and what they are called."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from service.deliveries.names import file_stem, folder_name
from service.deliveries.places import PlaceRefused, checked_place

ALLOWED = ("s3://bucket/out", "/srv/out")


@pytest.mark.parametrize(
    ("given", "kept"),
    {
        "s3://bucket/out": "s3://bucket/out",
        "s3://bucket/out/": "s3://bucket/out",
        "s3://bucket/out/region=west/a.b": "s3://bucket/out/region=west/a.b",
        "/srv/out/": "/srv/out",
        "file:///srv/out/daily": "/srv/out/daily",
    }.items(),
)
def test_what_is_allowed_or_lies_below_it_is_kept_without_a_slash(given: str, kept: str) -> None:
    assert checked_place(given, ALLOWED) == kept


@pytest.mark.parametrize(
    ("given", "words"),
    {
        "s3://bucket": "lies in none",
        "s3://bucket/other": "lies in none",
        "s3://bucket/out-2/x": "lies in none",
        "s3://bucket/out/../secret": "begins with a dot",
        "s3://bucket/out/%2e%2e/secret": "other characters",
        "s3://bucket/out//x": "empty",
        "s3://bucket/out/x//": "empty",
        "s3://bucket/out/x?y=1": "other characters",
        "/srv/out/../../etc": "begins with a dot",
        "/srv/out/.hidden": "begins with a dot",
        "/srv/out/a\nb": "other characters",
        "/srv/out/a\n": "other characters",
        "/srv/outside": "lies in none",
        "/": "lies in none",
        "file://host/srv/out": "lies in none",
        "out": "lies in none",
    }.items(),
)
def test_nothing_leads_out_of_what_is_allowed(given: str, words: str) -> None:
    with pytest.raises(PlaceRefused, match=words):
        checked_place(given, ALLOWED)


def test_where_nothing_is_allowed_the_setting_is_named() -> None:
    with pytest.raises(PlaceRefused, match="STOREWATCH_DELIVER_TO"):
        checked_place("s3://bucket/out", ())


def test_a_plain_name_of_a_schedule_is_that_of_its_folder() -> None:
    assert folder_name("daily_West-2") == "daily_West-2"


def test_any_other_name_becomes_one_that_no_other_schedule_has() -> None:
    names = [
        "last month",
        "last-month",
        "last/month",
        "..",
        ".",
        "ночь",
        "день",
        "a" * 200,
        "a" * 199,
    ]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert folders[0].startswith("last-month-")
    assert all(set(folder) <= set(map(chr, range(128))) - set("./ ") for folder in folders)
    assert max(map(len, folders)) <= 100


def test_a_time_of_the_plan_is_told_in_utc_to_the_minute_and_no_run_by_hand_has_its_name() -> None:
    plan = datetime(2026, 11, 1, 7, 0, tzinfo=timezone(timedelta(hours=1)))
    assert file_stem(plan, plan) == "2026-11-01T06-00Z"
    by_hand = datetime(2026, 11, 1, 6, 0, 0, 5000, tzinfo=UTC)
    assert file_stem(None, by_hand) == "2026-11-01T06-00-00-005Z"
    assert file_stem(None, plan) == "2026-11-01T06-00-00-000Z"
