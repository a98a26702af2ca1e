"""Feeds into the store: every form they come in, what they replace, and how they are refused."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from compute.feed_faults import FeedRefused
from compute.feed_header import Feed
from service.database.migrations import migrate
from service.database.pool import WORK, pool_of
from service.feeds import ingest as feeds
from service.feeds import text as feed_text
from service.feeds.history import Ingested
from service.feeds.ingest import FeedFile, ingest
from service.feeds.spool import Spool, spool_folder
from service.feeds.text import Form
from service.workers.pool import Workers
from tests.harness.database import ask
from tests.harness.processes import storewatch

POLLS = "store_id,status,timestamp_utc\n"
HOURS = "store_id,day,start_time_local,end_time_local\n"
ZONES = "store_id,timezone_str\n"
HEADERS: dict[Feed, str] = {"polls": POLLS, "business_hours": HOURS, "timezones": ZONES}
NOON = "2023-01-22 12:00:00 UTC"


class Store:
    """A database, and the way into it for feeds."""

    def __init__(self, database_url: str, runner: asyncio.Runner, home: Path) -> None:
        self._aside = spool_folder(home)
        self.database_url = database_url
        self._runner = runner
        self._pool: Any = runner.run(self._open())

    async def _open(self) -> asyncpg.Pool:
        self._opened = pool_of(self.database_url, WORK, 2)
        pool = await self._opened.__aenter__()
        async with pool.acquire() as connection:
            await migrate(connection)
        self._workers = Workers(2)
        return pool

    def load(self, feed: Feed, text: str | bytes, piece: int = 1 << 20) -> Ingested:
        """Load a feed that comes in pieces of so many bytes, and is called `the feed`."""
        data = text if isinstance(text, bytes) else text.encode()

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(data), piece):
                yield data[start : start + piece]

        files = [FeedFile("the feed", pieces())]
        return self._runner.run(ingest(self._pool, self._workers, feed, files, aside=self._aside))

    def load_rows(self, feed: Feed, rows: Iterator[bytes], form: Form = "csv") -> int:
        """Load a feed that is made while it is loaded; how many rows it had."""

        async def pieces() -> AsyncIterator[bytes]:
            while some := b"".join(islice(rows, 500)):
                yield some

        files = [FeedFile("the feed", pieces(), form)]
        feed_done = ingest(self._pool, self._workers, feed, files, aside=self._aside)
        return self._runner.run(feed_done).rows

    def refusal(self, feed: Feed, text: str | bytes) -> str:
        """Why a feed is refused."""
        with pytest.raises(FeedRefused) as refused:
            self.load(feed, text)
        return str(refused.value)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return ask(self.database_url, sql)

    def polls(self) -> list[tuple[str, str, str]]:
        """Every poll: store, instant, status."""
        return self.ask(
            "select store_id, to_char(instant at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS'), "
            "status from poll order by store_id, instant"
        )

    def hours(self) -> list[tuple[str, int, timedelta, timedelta]]:
        """Every row of business hours: store, weekday, start, end."""
        return self.ask(
            "select store_id, weekday, start_local, end_local from business_hours order by 1, 2, 3"
        )

    def zones(self) -> list[tuple[str, str]]:
        """The zone of every store."""
        return self.ask(
            "select store_id, zone.name from store "
            "left join timezone as zone on zone.id = timezone order by store_id"
        )

    def close(self) -> None:
        self._workers.close()
        self._runner.run(self._opened.__aexit__(None, None, None))


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    with asyncio.Runner() as runner:
        store = Store(database_url, runner, tmp_path)
        yield store
        store.close()


def hours(start: float, end: float) -> tuple[timedelta, timedelta]:
    return timedelta(hours=start), timedelta(hours=end)


# The forms that a feed comes in.

FORMS = {
    "as it is": f"{POLLS}s1,active,{NOON}\ns2,inactive,{NOON}\n".encode(),
    "other order of columns": (
        f"timestamp_utc,store_id,status\n{NOON},s1,active\n{NOON},s2,inactive\n".encode()
    ),
    "columns of no interest": (
        f"a,status,store_id,b,timestamp_utc\n1,active,s1,,{NOON}\n2,inactive,s2,x,{NOON}\n".encode()
    ),
    "spaces in the header": (
        f" store_id , status, timestamp_utc\ns1,active,{NOON}\ns2,inactive,{NOON}\n".encode()
    ),
    "byte order mark": f"\ufeff{POLLS}s1,active,{NOON}\ns2,inactive,{NOON}\n".encode(),
    "CRLF": f"{POLLS}s1,active,{NOON}\ns2,inactive,{NOON}\n".replace("\n", "\r\n").encode(),
    "no last line end": f"{POLLS}s1,active,{NOON}\ns2,inactive,{NOON}".encode(),
    "blank lines": f"{POLLS}\n\ns1,active,{NOON}\n\ns2,inactive,{NOON}\n\n".encode(),
    "quotes": f'"store_id","status","timestamp_utc"\n"s1",active,"{NOON}"\ns2,"inactive",{NOON}'
    "\n".encode(),
}


@pytest.mark.parametrize("piece", [1, 1 << 20], ids=["byte by byte", "at once"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("form", FORMS)
def test_a_feed_may_come_as(store: Store, form: str, packed: bool, piece: int) -> None:
    text = gzip.compress(FORMS[form], mtime=0) if packed else FORMS[form]
    assert store.load("polls", text, piece) == Ingested(
        rows=2, stores=2, new=2, replaced=0, unchanged=0
    )
    assert store.polls() == [
        ("s1", "2023-01-22 12:00:00.000", "active"),
        ("s2", "2023-01-22 12:00:00.000", "inactive"),
    ]


def test_gzip_may_have_several_members_that_end_anywhere(store: Store) -> None:
    text = FORMS["byte order mark"]
    members = b"".join(gzip.compress(text[at : at + 7], mtime=0) for at in range(0, len(text), 7))
    store.load("polls", members, piece=11)
    assert [row[0] for row in store.polls()] == ["s1", "s2"]


@pytest.mark.parametrize("column", ["day", "dayOfWeek"])
def test_the_weekday_has_two_names(store: Store, column: str) -> None:
    store.load(
        "business_hours", f"store_id,{column},start_time_local,end_time_local\ns,6,9:30,17:00\n"
    )
    assert store.hours() == [("s", 6, *hours(9.5, 17))]


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("2023-01-22 12:09:39.388884 UTC", "12:09:39.388"),
        ("2023-01-22 12:09:39 UTC", "12:09:39.000"),
        ("2023-01-22 12:09:39.3 UTC", "12:09:39.300"),
        ("2023-01-22 12:09:39.38 UTC", "12:09:39.380"),
        ("2023-01-22 12:09:39.9999 UTC", "12:09:39.999"),
        ("2023-01-22 12:09:39.9999999999999999999999 UTC", "12:09:39.999"),
        ("2023-01-22 12:09:39", "12:09:39.000"),
        ("2023-01-22T12:09:39Z", "12:09:39.000"),
        ("2023-01-22T12:09:39.388884Z", "12:09:39.388"),
        ("2023-01-22T12:09:39+00:00", "12:09:39.000"),
        ("2023-01-22T17:54:39.5+05:45", "12:09:39.500"),
        ("2023-01-21 22:09:39-1400", "12:09:39.000"),
        ("2023-01-22t12:09Z", "12:09:00.000"),
        ("2023-01-22 12:09:39z", "12:09:39.000"),
        ("2023-01-22 13:09+01", "12:09:00.000"),
    ],
)
def test_an_instant_may_be_written(store: Store, text: str, stored: str) -> None:
    # Once among its like, once beside another form.
    store.load("polls", f"{POLLS}alone,active,{text}\n")
    store.load("polls", f"{POLLS}beside,active,{text}\nother,active,2023-01-22T01:00:00+01:00\n")
    assert store.polls() == [
        ("alone", f"2023-01-22 {stored}", "active"),
        ("beside", f"2023-01-22 {stored}", "active"),
        ("other", "2023-01-22 00:00:00.000", "active"),
    ]


def test_a_time_of_day_may_be_written_with_and_without_seconds_up_to_24_00(store: Store) -> None:
    store.load("business_hours", f"{HOURS}s,0,0:00,23:59\ns,1,09:30:15.25,24:00\ns,2,08:00,08:00\n")
    assert store.hours() == [
        ("s", 0, timedelta(), timedelta(hours=23, minutes=59)),
        ("s", 1, timedelta(hours=9, minutes=30, seconds=15.25), timedelta(hours=24)),
        ("s", 2, *hours(8, 8)),
    ]


def test_a_store_id_is_any_text_however_it_has_to_be_quoted(store: Store, tmp_path: Path) -> None:
    ids = ["a,b", 'say "hi"', "two\nlines", "Zürich", "☃", "a space", "-", "8419537941919820732"]
    quoted = ['"a,b"', '"say ""hi"""', '"two\nlines"', "Zürich", "☃", "a space", "-", ids[-1]]
    store.load("polls", POLLS + "".join(f"{field},active,{NOON}\n" for field in quoted))
    assert sorted(store.ask("select store_id from poll")) == sorted((name,) for name in ids)
    report = storewatch("report", database_url=store.database_url, home=tmp_path)
    rest = ",60.00,24.00,24.00,0.00,0.00,0.00"
    by_bytes = sorted(zip(ids, quoted, strict=True), key=lambda pair: pair[0].encode())
    assert report.stdout.decode().split("\n", 1)[1] == "".join(
        f"{field}{rest}\n" for _, field in by_bytes
    )


def test_a_feed_of_a_header_alone_holds_nothing(store: Store) -> None:
    for feed, header in HEADERS.items():
        assert store.load(feed, header) == Ingested(0, 0, 0, 0, 0)
    assert store.ask("select count(*) from store") == [(0,)]


# What replaces what.


def row_versions(store: Store) -> list[tuple[Any, ...]]:
    """Every row of every table with the transaction that wrote it."""
    return [
        row
        for table in ("store", "timezone", "poll_day", "newest_poll_row")
        for row in store.ask(f"select xmin::text, t.* from {table} as t order by ctid")  # noqa: S608
    ]


def test_a_feed_that_is_loaded_twice_changes_nothing(store: Store) -> None:
    given: dict[Feed, str] = {
        "timezones": f"{ZONES}s1,America/New_York\ns2,Europe/Berlin\n",
        "business_hours": f"{HOURS}s1,0,09:00,12:00\ns1,0,13:00,17:00\ns3,6,22:00,02:00\n",
        "polls": f"{POLLS}s1,active,{NOON}\ns1,inactive,2023-01-23 00:00:00 UTC\n"
        f"s4,active,{NOON}\n",
    }
    for feed, text in given.items():
        done = store.load(feed, text)
        assert (done.replaced, done.unchanged) == (0, 0)
    before = row_versions(store)
    for feed, text in given.items():
        done = store.load(feed, text)
        assert (done.new, done.replaced) == (0, 0)
        assert done.unchanged > 0
    assert row_versions(store) == before


def test_polls_may_arrive_late_and_out_of_order(store: Store) -> None:
    instants = [f"2023-01-{day:02} {hour:02}:00:00.000" for day in (20, 21) for hour in range(24)]
    shuffled = instants[1::3] + instants[2::3] + instants[::3]
    for start in range(0, len(shuffled), 10):
        some = reversed(shuffled[start : start + 10])
        store.load("polls", POLLS + "".join(f"s,active,{instant}\n" for instant in some))
    assert [instant for _, instant, _ in store.polls()] == instants
    assert store.ask("select count(*) from poll_day") == [(2,)]
    assert store.ask("select instant from newest_poll") == [
        (datetime(2023, 1, 21, 23, tzinfo=UTC),)
    ]


def test_of_two_polls_in_one_millisecond_the_later_arrival_counts_within_a_file(
    store: Store,
) -> None:
    store.load(
        "polls",
        f"{POLLS}s,active,2023-01-22 12:00:00.0019 UTC\nt,inactive,{NOON}\n"
        f"s,inactive,2023-01-22 12:00:00.0011 UTC\nt,active,{NOON}\n",
    )
    assert store.polls() == [
        ("s", "2023-01-22 12:00:00.001", "inactive"),
        ("t", "2023-01-22 12:00:00.000", "active"),
    ]


def test_of_two_polls_in_one_millisecond_the_later_arrival_counts_across_files(
    store: Store,
) -> None:
    other = "2023-01-22 13:00:00 UTC"
    store.load("polls", f"{POLLS}s,active,{NOON}\ns,active,{other}\nt,active,{NOON}\n")
    done = store.load("polls", f"{POLLS}s,inactive,{NOON}\nt,active,{NOON}\nu,active,{NOON}\n")
    assert done == Ingested(rows=3, stores=3, new=1, replaced=1, unchanged=1)
    assert [(name, status) for name, _, status in store.polls()] == [
        ("s", "inactive"),
        ("s", "active"),
        ("t", "active"),
        ("u", "active"),
    ]


def run_ingest(store: Store, folder: Path, *files: tuple[str, str, str]) -> list[str]:
    """Run the command with files of (option, name, text); its exit status and lines of stderr."""
    arguments = []
    for option, name, text in files:
        (folder / name).write_text(text)
        arguments += [f"--{option}", name]
    done = storewatch("ingest", *arguments, database_url=store.database_url, home=folder)
    return [str(done.returncode), *done.stderr.decode().splitlines()]


def test_the_files_of_an_option_are_one_feed_in_their_order_each_with_its_own_header(
    store: Store, tmp_path: Path
) -> None:
    told = run_ingest(
        store,
        tmp_path,
        ("polls", "first", f"{POLLS}s,active,{NOON}\nt,active,{NOON}\n"),
        ("business-hours", "monday", f"{HOURS}s,0,09:00,17:00\nt,0,08:00,12:00\n"),
        ("polls", "last", f"timestamp_utc,status,store_id\n{NOON},inactive,s"),
        ("business-hours", "friday", f"x,{HOURS},s,4,10:00,11:00\n"),
        ("timezones", "zones", f"{ZONES}s,Asia/Tokyo\n"),
    )
    assert told == [
        "0",
        "timezones: 1 row of 1 store: 1 store new, 0 replaced, 0 unchanged",
        "business hours: 3 rows of 2 stores in 2 files: 2 stores new, 0 replaced, 0 unchanged",
        "polls: 3 rows of 2 stores in 2 files: 2 new, 0 replaced, 0 unchanged",
    ]
    assert [(name, status) for name, _, status in store.polls()] == [
        ("s", "inactive"),
        ("t", "active"),
    ]
    assert store.hours() == [
        ("s", 0, *hours(9, 17)),
        ("s", 4, *hours(10, 11)),
        ("t", 0, *hours(8, 12)),
    ]


def test_a_bad_file_refuses_its_feed_and_no_other_and_faults_name_file_and_line(
    store: Store, tmp_path: Path
) -> None:
    told = run_ingest(
        store,
        tmp_path,
        ("polls", "good", f"{POLLS}s,active,{NOON}\n"),
        ("polls", "bad", f"{POLLS}t,shut,{NOON}\n"),
        ("polls", "empty", ""),
        ("polls", "worse", f"{POLLS}\n*,active,{NOON}\n"),
        ("timezones", "zones", f"{ZONES}z,Asia/Tokyo\n"),
        ("business-hours", "hours", POLLS),
    )
    assert told == [
        "2",
        "timezones: 1 row of 1 store: 1 store new, 0 replaced, 0 unchanged",
        "Error: hours: line 1: the header has no column day or dayOfWeek; it is "
        "'store_id,status,timestamp_utc', but a file of business hours starts with "
        "'store_id,day or dayOfWeek,start_time_local,end_time_local[,valid_from]'",
        "business hours: 1 fault; nothing of the feed was stored",
        "bad: line 2, column status, value 'shut': is neither active nor inactive",
        "empty: line 1: it is empty: it does not even have a header",
        "worse: line 3, column store_id, value '*': a store id cannot be *, which stands for all "
        "stores",
        "polls: 3 faults; nothing of the feed was stored",
    ]
    assert store.zones() == [("z", "Asia/Tokyo")]
    assert store.polls() == []


def test_hours_replace_the_whole_week_of_each_store_they_name_and_no_other(store: Store) -> None:
    store.load("business_hours", f"{HOURS}s,0,09:00,17:00\ns,1,09:00,17:00\nt,0,08:00,12:00\n")
    done = store.load("business_hours", f"{HOURS}s,4,10:00,11:00\nu,5,10:00,11:00\n")
    assert done == Ingested(rows=2, stores=2, new=1, replaced=1, unchanged=0)
    assert store.hours() == [
        ("s", 4, *hours(10, 11)),
        ("t", 0, *hours(8, 12)),
        ("u", 5, *hours(10, 11)),
    ]


def test_a_zone_replaces_the_zone_of_its_store_the_last_one_in_a_file(store: Store) -> None:
    store.load("timezones", f"{ZONES}s,America/New_York\nt,Asia/Beirut\n")
    store.load("timezones", f"{ZONES}s,Asia/Tokyo\nu,Asia/Tokyo\ns,Europe/Berlin\n")
    assert store.zones() == [("s", "Europe/Berlin"), ("t", "Asia/Beirut"), ("u", "Asia/Tokyo")]


def test_loading_zones_does_not_use_up_their_numbers(store: Store) -> None:
    store.load("timezones", f"{ZONES}s,America/New_York\nt,Asia/Beirut\n")
    store.ask("alter sequence timezone_id_seq restart with 32767")
    for _ in range(3):
        store.load("timezones", f"{ZONES}s,America/New_York\nt,Asia/Beirut\n")
    store.load("timezones", f"{ZONES}s,America/New_York\nt,Asia/Tokyo\n")
    assert store.zones() == [("s", "America/New_York"), ("t", "Asia/Tokyo")]


def test_a_store_exists_as_soon_as_any_feed_names_it(store: Store, tmp_path: Path) -> None:
    store.load("timezones", f"{ZONES}zoned,America/New_York\n")
    store.load("business_hours", f"{HOURS}with hours,0,09:00,17:00\n")
    store.load("polls", f"{POLLS}polled,active,{NOON}\n")
    report = storewatch("report", database_url=store.database_url, home=tmp_path)
    rows = report.stdout.decode().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["polled", "with hours", "zoned"]


@pytest.mark.parametrize("column", ["timezone", "timezone_str"])
def test_the_time_zone_has_two_names(store: Store, column: str) -> None:
    store.load("timezones", f"store_id,{column}\ns,Asia/Tokyo\n")
    assert store.zones() == [("s", "Asia/Tokyo")]


# What is refused, and how it is said.

GOOD: dict[Feed, str] = {
    "polls": f"good,active,{NOON}\n",
    "business_hours": "good,0,09:00,17:00\n",
    "timezones": "good,America/Chicago\n",
}
FAULTS: list[tuple[Feed, str, str, str, str]] = [
    ("polls", f"s,open,{NOON}", "status", "open", "is neither active nor inactive"),
    ("polls", f"s,Active,{NOON}", "status", "Active", "is neither active nor inactive"),
    ("polls", f"s,,{NOON}", "status", "", "is neither active nor inactive"),
    ("polls", "s,active,2023-02-29 00:00:00 UTC", "timestamp_utc", "2023-02-29 00:00:00 UTC",
     "is not an instant such as"),
    ("polls", "s,active,22/01/2023 12:00", "timestamp_utc", "22/01/2023 12:00",
     "is not an instant such as"),
    ("polls", "s,active,2023-01-22", "timestamp_utc", "2023-01-22", "is not an instant such as"),
    ("polls", "s,active,1674389379", "timestamp_utc", "1674389379", "is not an instant such as"),
    ("polls", "s,active,", "timestamp_utc", "", "is not an instant such as"),
    ("polls", "s,active,1969-12-31 23:59:59 UTC", "timestamp_utc", "1969-12-31 23:59:59 UTC",
     "is before 1970 or after 9998"),
    ("polls", f",active,{NOON}", "store_id", "", "a store id cannot be empty"),
    ("polls", f"{'x' * 256},active,{NOON}", "store_id", "x" * 80, "can have at most 255"),
    ("polls", f"a\0b,active,{NOON}", "store_id", "a\0b", "cannot contain a NUL character"),
    ("business_hours", "s,7,09:00,17:00", "day", "7", "is not a weekday, 0 (Monday) to 6 (Sunday)"),
    ("business_hours", "s,-1,09:00,17:00", "day", "-1", "is not a weekday"),
    ("business_hours", "s,Monday,09:00,17:00", "day", "Monday", "is not a weekday"),
    ("business_hours", "s,0,25:00,17:00", "start_time_local", "25:00", "is not a time of day"),
    ("business_hours", "s,0,24:00,17:00", "start_time_local", "24:00", "is the end of a day"),
    ("business_hours", "s,0,09:00,24:01", "end_time_local", "24:01", "is not a time of day"),
    ("business_hours", "s,0,09:00,12:60", "end_time_local", "12:60", "is not a time of day"),
    ("business_hours", "s,0,09:00,9am", "end_time_local", "9am", "is not a time of day such as"),
    ("timezones", "s,America/Atlantis", "timezone_str", "America/Atlantis",
     "is not a time zone of the tz database"),
    ("timezones", "s,", "timezone_str", "", "is not a time zone of the tz database"),
    ("timezones", "s,america/chicago", "timezone_str", "america/chicago",
     "is not a time zone of the tz database"),
]  # fmt: skip


@pytest.mark.parametrize(("feed", "row", "column", "value", "problem"), FAULTS)
def test_a_bad_value_is_named_with_its_line_and_column_and_nothing_is_stored(
    store: Store, feed: Feed, row: str, column: str, value: str, problem: str
) -> None:
    refusal = store.refusal(feed, f"{HEADERS[feed]}{GOOD[feed]}{row}\n{GOOD[feed]}")
    first, last = refusal.splitlines()
    assert first.startswith(f"the feed: line 3, column {column}, value {value!r}: ")
    assert problem in first
    assert last == "1 fault; nothing of the feed was stored"
    assert store.ask("select count(*) from store") == [(0,)]
    assert store.ask("select count(*) from poll_day") == [(0,)]
    assert store.ask("select count(*) from timezone") == [(0,)]


def test_a_line_is_a_physical_line_also_after_blank_lines_and_line_ends_in_quotes(
    store: Store,
) -> None:
    refusal = store.refusal(
        "polls",
        f'{POLLS}\n"two\nlines",active,{NOON}\n\r\n"three\r\nmore\nlines",open,{NOON}\n'
        f"s,shut,{NOON}\n",
    )
    assert [line.split(",")[0] for line in refusal.splitlines()[:2]] == [
        "the feed: line 6",
        "the feed: line 9",
    ]


def test_a_line_is_counted_across_all_blocks_of_a_long_feed(store: Store) -> None:
    good = "".join(f"s{number},active,{NOON}\n\n" for number in range(150_000))
    refusal = store.refusal("polls", f"{POLLS}{good}s,shut,{NOON}\n{good}t,shut,{NOON}\n")
    assert refusal.splitlines()[:2] == [
        "the feed: line 300002, column status, value 'shut': is neither active nor inactive",
        "the feed: line 600003, column status, value 'shut': is neither active nor inactive",
    ]


def test_several_faults_of_one_row_are_all_named(store: Store) -> None:
    refusal = store.refusal("business_hours", f"{HOURS}s,8,9,10\n")
    assert [line.split(",")[1] for line in refusal.splitlines()[:3]] == [
        " column day",
        " column start_time_local",
        " column end_time_local",
    ]


def test_the_first_twenty_faults_are_named_and_all_are_counted(store: Store) -> None:
    rows = (f"s,{'shut' if number % 3 else 'active'},{NOON}\n" for number in range(150_000))
    lines = store.refusal("polls", POLLS + "".join(rows)).splitlines()
    bad = [number + 2 for number in range(150_000) if number % 3]
    assert [int(line.split()[3].rstrip(",")) for line in lines[:-1]] == bad[:20]
    assert lines[-1] == "100000 faults, the first 20 shown; nothing of the feed was stored"


@pytest.mark.parametrize(
    ("feed", "text", "told"),
    [
        ("polls", "", "line 1: it is empty: it does not even have a header"),
        ("polls", "\ufeff", "line 1: the header has no column store_id"),
        ("polls", f"s,active,{NOON}\n", "line 1: the header has no column store_id"),
        ("polls", "store_id,status\n", "line 1: the header has no column timestamp_utc"),
        ("polls", "store_id,status,status,timestamp_utc\n",
         "the header names the column status twice"),
        (
            "business_hours",
            "store_id,day,dayOfWeek,start_time_local,end_time_local\n",
            "the header names the column day or dayOfWeek twice",
        ),
        ("timezones", POLLS, "a file of timezones starts with 'store_id,timezone or timezone_str'"),
        ("polls", b"store_id,status,timestamp_utc\xff\n", "the header is not UTF-8 text"),
        ("polls", '"store_id,status\n', "line 1: a quoted field begins in this row and never ends"),
        ("polls", f"{POLLS}s,active\n", "line 2: it has 2 fields, but the header has 3"),
        ("polls", f"{POLLS}s,active,{NOON},x\n", "line 2: it has 4 fields, but the header has 3"),
        ("polls", f"{POLLS}s,active,{NOON}\n".encode() + b"\xe9,active,x\n",
         "line 3: bytes e9 are not UTF-8"),
        ("polls", f'{POLLS}s,active,{NOON}\n\n"s,active,{NOON}\n', "line 4: "),
        ("polls", f'{POLLS}s,active,{NOON}\n"s"x,active,{NOON}\n', "line 3: "),
        (
            "polls",
            f'{POLLS}s,active,{NOON}\n"s,active,{NOON}\n' + f"s,active,{NOON}\n" * 300_000,
            "line 3: a quoted field begins in this row and never ends",
        ),
        ("polls", f"{POLLS}{'x' * 9_000_000}", "line 2: no line ends within"),
        ("polls", gzip.compress(f"{POLLS}{GOOD['polls']}".encode(), mtime=0)[:-9],
         "line 3: the gzip data cannot be read beyond this line: it ends early"),
        ("polls", gzip.compress(f"{POLLS}{GOOD['polls']}".encode(), mtime=0) + b"more",
         "the gzip data cannot be read beyond this line: "),
        ("polls", b"\x1f\x8b\x08 and then something else", "the gzip data cannot be read beyond"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_such_feed_is_refused_with_a_reason(
    store: Store, feed: Feed, text: str | bytes, told: str
) -> None:
    refusal = store.refusal(feed, text)
    assert told in refusal
    assert refusal.splitlines()[-1] == "1 fault; nothing of the feed was stored"
    assert len(refusal) < 1000
    assert store.ask("select count(*) from store") == [(0,)]


# How large feeds get in.


def made_up(rows: int, stores: int, statuses: tuple[str, str]) -> Iterator[bytes]:
    yield POLLS.encode()
    for row in range(rows):
        day, second = 1 + row * 11 % 28, row * 4001 % 86_400
        clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        status = statuses[row % 5 == 0]
        yield f"store-{row * 7 % stores},{status},2023-01-{day:02} {clock} UTC\n".encode()


def as_lines(rows: Iterator[bytes]) -> Iterator[bytes]:
    """Rows of CSV, after their header, as NDJSON."""
    next(rows)
    for row in rows:
        members = zip(("store_id", "status", "timestamp_utc"), row.decode().split(","), strict=True)
        yield msgspec.json.encode({name: value.rstrip() for name, value in members}) + b"\n"


def test_a_feed_that_is_merged_in_many_parts_gives_the_same_store_as_in_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second lies over the first, with other polls, and other statuses of the same ones.
    first = b"".join(made_up(10_000, 300, ("active", "inactive")))
    second = b"".join(made_up(15_000, 200, ("inactive", "active")))

    def load() -> tuple[object, ...]:
        store.ask("truncate store, poll_day, newest_poll_row")
        counts = store.load("polls", first), store.load("polls", second)
        return *counts, store.polls(), store.ask("select instant from newest_poll")

    in_one = load()
    monkeypatch.setattr(feeds, "Spool", partial(Spool, part_rows=700))
    assert load() == in_one


def test_one_store_with_more_rows_than_a_part_gives_the_same_polls_as_in_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every instant comes again and again, with the one status and the other.
    rows = b"".join(made_up(9_000, 1, ("active", "inactive")))
    rows += b"".join(islice(made_up(5_000, 1, ("inactive", "active")), 1, None))
    store.load("polls", rows)
    in_one = store.polls()
    store.ask("truncate store, poll_day, newest_poll_row")
    monkeypatch.setattr(feeds, "Spool", partial(Spool, part_rows=700))
    store.load("polls", rows)
    assert store.polls() == in_one


def test_more_rows_of_hours_than_a_week_has_are_refused(store: Store) -> None:
    row = b"s1,0,09:00,17:00\n"
    told = store.refusal("business_hours", HOURS.encode() + 100_001 * row)
    assert "a store has 100001 rows; at most 100000 are allowed" in told


@pytest.mark.parametrize(
    ("stores", "growth", "form"), [(100, 1.5, "csv"), (1, 6, "csv"), (100, 1.5, "ndjson")]
)
def test_memory_does_not_grow_with_the_feed(
    store: Store, monkeypatch: pytest.MonkeyPatch, stores: int, growth: float, form: Form
) -> None:
    # Small blocks and parts, so that a small feed has many of them.
    monkeypatch.setattr(feed_text, "BLOCK", 1 << 16)
    monkeypatch.setattr(feeds, "Spool", partial(Spool, part_rows=5000))

    def peak(rows: int) -> int:
        made = made_up(rows, stores, ("active", "inactive"))
        tracemalloc.start()
        assert store.load_rows("polls", made if form == "csv" else as_lines(made), form) == rows
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    peak(1000)  # what is allocated once
    small, large = peak(20_000), peak(200_000)
    assert large < growth * small  # of one store's day all polls are merged together
    assert large < 6_000_000
