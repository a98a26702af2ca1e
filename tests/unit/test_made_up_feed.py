"""The made-up feed: the same every time, in the form of a real one, and as varied as one."""

import csv
import gzip
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from service.feeds.made_up import NEWEST, FeedFiles, poll_columns, store_ids, write_feed

STORES = 1500
DAYS = 2


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> FeedFiles:
    return write_feed(tmp_path_factory.mktemp("feed"), stores=STORES, days=DAYS)


@pytest.fixture(scope="module")
def polls(feed: FeedFiles) -> list[tuple[str, str, datetime]]:
    _, *rows = read(feed.polls)
    return [(store, status, instant(text)) for store, status, text in rows]


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def instant(text: str) -> datetime:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{0,5}[1-9])? UTC", text)
    whole, _, fraction = text.removesuffix(" UTC").partition(".")
    return datetime.fromisoformat(whole).replace(
        tzinfo=UTC, microsecond=int(fraction.ljust(6, "0") or 0)
    )


def contents(files: FeedFiles) -> list[bytes]:
    return [path.read_bytes() for path in (files.polls, files.business_hours, files.timezones)]


@pytest.mark.parametrize("compress", [False, True])
def test_the_same_arguments_write_the_same_bytes(tmp_path: Path, compress: bool) -> None:
    first = write_feed(tmp_path / "first", stores=50, days=1, compress=compress)
    second = write_feed(tmp_path / "second", stores=50, days=1, compress=compress)
    assert contents(first) == contents(second)


def test_another_seed_writes_other_stores(tmp_path: Path) -> None:
    one, two = (
        write_feed(tmp_path / str(seed), stores=50, days=1, seed=seed).timezones for seed in (1, 2)
    )
    assert not {store for store, _ in read(one)[1:]} & {store for store, _ in read(two)[1:]}


def test_a_compressed_feed_unpacks_to_the_plain_one(tmp_path: Path) -> None:
    plain = write_feed(tmp_path, stores=50, days=1)
    packed = write_feed(tmp_path, stores=50, days=1, compress=True)
    assert packed.polls.name == "polls.csv.gz"
    assert [gzip.decompress(content) for content in contents(packed)] == contents(plain)


def test_shuffling_changes_the_order_and_no_row(feed: FeedFiles, tmp_path: Path) -> None:
    shuffled = write_feed(tmp_path, stores=STORES, days=DAYS, order="shuffled")
    in_order, out_of_order = read(feed.polls), read(shuffled.polls)
    assert in_order != out_of_order
    assert sorted(in_order) == sorted(out_of_order)


def test_polls_in_order_of_time_arrive_up_to_two_minutes_late(
    polls: list[tuple[str, str, datetime]],
) -> None:
    instants = [instant for _, _, instant in polls]
    newest_so_far = np.maximum.accumulate(np.array([at.timestamp() for at in instants]))
    late = newest_so_far - np.array([at.timestamp() for at in instants])
    assert 0 < late.max() <= 120


def test_a_larger_feed_begins_with_the_same_stores() -> None:
    assert store_ids(300)[:100].tolist() == store_ids(100).tolist()


def test_files_have_the_columns_of_a_real_feed(feed: FeedFiles) -> None:
    assert read(feed.polls)[0] == ["store_id", "status", "timestamp_utc"]
    assert read(feed.business_hours)[0] == [
        "store_id",
        "day",
        "start_time_local",
        "end_time_local",
    ]
    assert read(feed.timezones)[0] == ["store_id", "timezone_str"]


def test_ids_are_long_numbers_and_some_uuids_and_each_is_one_store(feed: FeedFiles) -> None:
    named = {row[0] for path in (feed.polls, feed.business_hours) for row in read(path)[1:]}
    named |= {row[0] for row in read(feed.timezones)[1:]}
    assert len(named) == STORES
    uuids = {store for store in named if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-.{12}", store)}
    assert 0.05 < len(uuids) / STORES < 0.12
    assert all(re.fullmatch(r"\d{17,19}", store) for store in named - uuids)


def test_the_newest_poll_is_at_the_instant_asked_for(
    polls: list[tuple[str, str, datetime]],
) -> None:
    instants = [instant for _, _, instant in polls]
    assert max(instants) == NEWEST
    assert NEWEST - min(instants) <= timedelta(days=DAYS)


def test_a_store_is_polled_about_once_an_hour_and_never_twice_in_a_millisecond(
    polls: list[tuple[str, str, datetime]],
) -> None:
    instants = defaultdict(list)
    for store, _, at in polls:
        instants[store].append(at.timestamp())
    gaps = np.concatenate([np.diff(np.sort(of_store)) for of_store in instants.values()])
    assert gaps.min() > 1
    assert 3300 < np.median(gaps) < 3900
    assert gaps.max() > 4 * 3600


def test_a_few_polls_are_inactive_and_most_of_those_in_runs(
    polls: list[tuple[str, str, datetime]],
) -> None:
    statuses = Counter(status for _, status, _ in polls)
    assert set(statuses) == {"active", "inactive"}
    assert 0.01 < statuses["inactive"] / len(polls) < 0.03
    in_order = [(store, status) for store, status, _ in sorted(polls, key=lambda p: (p[0], p[2]))]
    runs = [len(list(run)) for (_, status), run in groupby(in_order) if status == "inactive"]
    assert np.mean(runs) > 3


def test_some_stores_are_never_polled(polls: list[tuple[str, str, datetime]]) -> None:
    assert 0.9 < len({store for store, _, _ in polls}) / STORES < 1


def test_business_hours_show_every_way_to_write_a_week(feed: FeedFiles) -> None:
    _, *rows = read(feed.business_hours)
    assert len({tuple(row) for row in rows}) == len(rows)
    assert {day for _, day, _, _ in rows} == set("0123456")
    for _, _, start, end in rows:
        assert datetime.strptime(start, "%H:%M:%S") != datetime.strptime(end, "%H:%M:%S")
    per_store = Counter(store for store, *_ in rows)
    assert 0.75 < len(per_store) / STORES < 0.85
    assert Counter(per_store.values()).most_common(1)[0][0] == 7
    assert {1, 6, 7, 14, 21} <= set(per_store.values())
    times = {(start, end) for _, _, start, end in rows}
    assert {("00:00:00", "23:59:59"), ("00:00:00", "23:59:00"), ("00:00:00", "00:10:00")} <= times
    assert any(end < start for start, end in times)


def test_nearly_every_store_has_one_zone_that_exists(feed: FeedFiles) -> None:
    _, *rows = read(feed.timezones)
    assert 0.92 < len(rows) / STORES < 0.98
    assert len({store for store, _ in rows}) == len(rows)
    zones = Counter(zone for _, zone in rows)
    assert all(ZoneInfo(zone).key == zone for zone in zones)
    assert zones.most_common(1)[0][0] == "America/New_York"
    assert "Asia/Beirut" in zones


def test_columns_hold_the_polls_of_the_file(polls: list[tuple[str, str, datetime]]) -> None:
    ids = [store.decode() for store in store_ids(STORES).tolist()]
    parts = list(poll_columns(STORES, DAYS))
    store, instant_ms, active = (np.concatenate(column) for column in zip(*parts, strict=True))
    assert [str(c.dtype) for c in (store, instant_ms, active)] == ["int32", "int64", "bool"]
    assert np.array_equal(np.lexsort((instant_ms, store)), np.arange(len(store)))
    from_file = {
        (store, (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1), status)
        for store, status, at in polls
    }
    statuses = ["inactive", "active"]
    from_columns = {
        (ids[s], ms, statuses[a])
        for s, ms, a in zip(store.tolist(), instant_ms.tolist(), active.tolist(), strict=True)
    }
    assert from_columns == from_file


@pytest.mark.parametrize("wrong", [{"stores": 0}, {"days": 0}, {"seed": -1}])
def test_a_feed_of_nothing_is_refused_with_the_values(
    tmp_path: Path, wrong: dict[str, int]
) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        write_feed(tmp_path, **({"stores": 1} | wrong))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_newest_instant_without_a_time_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="time zone"):
        write_feed(tmp_path, stores=1, newest=datetime(2024, 3, 14))
