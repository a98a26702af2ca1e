"""All that decides which time counts, from feeds to reports and single stores."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from compute.csv_rows import header
from compute.instants import milliseconds_of
from tests.harness.feeds import write_csv
from tests.harness.processes import storewatch
from tests.harness.reference import (
    DAY,
    HOUR,
    Interval,
    Row,
    Store,
    reference_csv_row,
    reference_csv_row_of_windows,
)
from tests.harness.reports import completed
from tests.harness.service import Service, running_service

#: A Friday; clocks in Chicago went forward on the 10th.
LAST = datetime(2024, 3, 15, 17, tzinfo=UTC)
AS_OF = milliseconds_of(LAST)
NINE_TO_FIVE: tuple[Row, ...] = tuple((day, 9 * HOUR, 17 * HOUR) for day in range(7))
TEN_TO_TWO: tuple[Row, ...] = tuple((day, 10 * HOUR, 2 * HOUR) for day in range(7))


def at(*when: int) -> int:
    return milliseconds_of(datetime(*when, tzinfo=UTC))  # type: ignore[arg-type, misc]


MAINTENANCE: Interval = (at(2024, 3, 13, 15), at(2024, 3, 13, 18, 30))
OUTAGE: Interval = (at(2024, 3, 14, 20), at(2024, 3, 15, 16, 45))
RENOVATION: Interval = (at(2024, 3, 4), at(2024, 3, 9, 12))
FOR_GOOD: Interval = (at(2024, 2, 1), at(2024, 4, 1))


def polls(every: int) -> tuple[tuple[int, bool], ...]:
    return tuple(
        (AS_OF - minutes * 60_000, minutes // every % 4 != 1)
        for minutes in range(0, 45 * 24 * 60, every)
    )


STORES = [
    Store("always", polls(61), exclusions=(MAINTENANCE,)),
    Store(
        "changed",
        polls(47),
        hours=NINE_TO_FIVE,
        weeks=((date(2024, 3, 11), TEN_TO_TWO), (date(2024, 3, 14), ())),
        special=((date(2024, 3, 14), ((6 * HOUR, 23 * HOUR),)), (date(2024, 3, 6), ())),
        exclusions=(MAINTENANCE, OUTAGE),
    ),
    Store(
        "late",
        polls(53),
        timezone="Asia/Kathmandu",
        weeks=((date(2024, 3, 9), NINE_TO_FIVE),),
        exclusions=(MAINTENANCE, RENOVATION, OUTAGE),
    ),
    Store("never", polls(71), exclusions=(MAINTENANCE, FOR_GOOD)),
    Store(
        "special",
        polls(59),
        special=((date(2024, 3, 12), ((20 * HOUR, 3 * HOUR), (8 * HOUR, 11 * HOUR))),),
        exclusions=(MAINTENANCE,),
    ),
]


def clock(milliseconds: int) -> str:
    return f"{timedelta(milliseconds=milliseconds)}".rjust(8, "0")


def instant(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%dT%H:%M:%S}Z"


@pytest.fixture(scope="module")
def loaded(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("feeds")
    weeks: list[Sequence[object]] = []
    special: list[Sequence[object]] = []
    for store in STORES:
        for valid_from, hours in (("", store.hours), *store.weeks):
            weeks += [
                (store.store_id, day, clock(start), clock(end), valid_from)
                for day, start, end in hours
            ]
            if valid_from and not hours:
                weeks.append((store.store_id, "", "", "", valid_from))
        for date_, intervals in store.special:
            special += [
                (store.store_id, date_, clock(start), clock(end), "", "fair")
                for start, end in intervals
            ] or [(store.store_id, date_, "", "", "true", "holiday")]
    files = {
        "--polls": write_csv(
            folder / "polls.csv",
            "store_id,status,timestamp_utc",
            [
                (store.store_id, "active" if active else "inactive", instant(when))
                for store in STORES
                for when, active in store.polls
            ],
        ),
        "--business-hours": write_csv(
            folder / "hours.csv",
            "store_id,day,start_time_local,end_time_local,valid_from",
            weeks,
        ),
        "--special-hours": write_csv(
            folder / "special.csv",
            "store_id,date,start_time_local,end_time_local,closed,reason",
            special,
        ),
        "--exclusions": write_csv(
            folder / "exclusions.csv",
            "store_id,from,to,reason",
            [
                ("*", *map(instant, MAINTENANCE), "maintenance"),
                ("late", *map(instant, RENOVATION), "renovation"),
                ("never", *map(instant, FOR_GOOD), "not ours"),
            ],
        ),
        "--stores": write_csv(
            folder / "stores.csv",
            "store_id,name,brand,city",
            [("changed", "Corner", "fresh", "Chicago"), ("late", "Late", "fresh", "Kathmandu")],
        ),
        "--timezones": write_csv(
            folder / "zones.csv", "store_id,timezone", [("late", "Asia/Kathmandu")]
        ),
    }
    arguments = [str(part) for pair in files.items() for part in pair]
    home = tmp_path_factory.mktemp("home")
    for _ in range(2):  # loading anything twice changes nothing
        done = storewatch("ingest", *arguments, database_url=module_database_url, home=home)
        assert done.returncode == 0, done.stderr.decode()
    return module_database_url


@pytest.fixture(scope="module")
def service(loaded: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(loaded, tmp_path_factory.mktemp("service")) as service:
        begins, ends = map(instant, OUTAGE)
        outage = {"tags": {"brand": "fresh"}, "from": begins, "to": ends, "reason": "no network"}
        answer = service.ask("POST", "/exclusions", json=[outage])
        assert answer.status_code == 200, answer.text
        yield service


@pytest.mark.parametrize("interpolation", ["nearest", "previous"])
def test_the_default_report_counts_what_the_reference_counts(
    service: Service, interpolation: str
) -> None:
    options = {"include_unknown": True, "include_excluded": True, "interpolation": interpolation}
    path = completed(service, options)
    assert interpolation in ("nearest", "previous")
    rows = [
        reference_csv_row(store, AS_OF, interpolation, DAY, True, True)  # type: ignore[arg-type]
        for store in STORES
    ]
    told = service.get(f"{path}/csv").text
    assert told == header(True, True).decode() + "".join(f"{row}\n" for row in rows)


def test_windows_of_a_time_before_count_by_the_hours_of_that_time(service: Service) -> None:
    texts = ["2024-03-06T06:00Z/2024-03-07T06:00Z", "2024-03-10T00:00Z/2024-03-14T12:00Z", "15d"]
    body = {
        "windows": texts,
        "include_unknown": True,
        "include_excluded": True,
        "unit": "seconds",
        "stores": [store.store_id for store in STORES],
    }
    path = completed(service, body)
    windows = [
        (at(2024, 3, 6, 6), at(2024, 3, 7, 6)),
        (at(2024, 3, 10), at(2024, 3, 14, 12)),
        (AS_OF - 15 * DAY, AS_OF),
    ]
    rows = [
        reference_csv_row_of_windows(store, windows, AS_OF, "nearest", DAY, [0, 1, 2, 3], 1000)
        for store in STORES
    ]
    assert service.get(f"{path}/csv").text.splitlines()[1:] == rows


def test_a_store_alone_counts_the_same_and_shows_what_is_excluded(service: Service) -> None:
    path = completed(service)
    for item in service.get(f"{path}/stores").json()["items"]:
        of_store = f"/stores/{item['store_id']}"
        week = service.get(f"{of_store}/availability").json()
        parts = ("business_time", "uptime", "downtime", "unknown", "excluded")
        assert [week[part] for part in parts] == [item["windows"][-1][part] for part in parts]
        segments = service.get(f"{of_store}/timeline").json()["segments"]
        excluded = sum(
            (
                datetime.fromisoformat(one["end"]) - datetime.fromisoformat(one["start"])
                for one in segments
                if one["state"] == "excluded"
            ),
            timedelta(),
        )
        assert excluded.total_seconds() == pytest.approx(week["excluded"])
        assert week["excluded"] > 0


def test_a_report_can_be_checked_afterwards_by_what_it_was_made_of(service: Service) -> None:
    def made(body: object = None) -> tuple[str, bytes]:
        path = completed(service, body)
        return service.get(path).json()["fingerprint"], service.get(f"{path}/csv").content

    fingerprint, csv = made()
    assert made() == (fingerprint, csv)
    assert len(fingerprint) == 64
    special = "/stores/special/special-hours/2024-03-15"
    answer = service.ask("PUT", special, json={"closed": True, "reason": "a fair"})
    assert answer.status_code == 200, answer.text
    other, changed = made()
    assert (other != fingerprint, changed != csv) == (True, True)
    assert service.ask("DELETE", special).status_code in (200, 204)
    assert made() == (fingerprint, csv)
    # What lies outside of the windows' time is not made use of.
    long_ago = {"from": "2020-01-01T00:00Z", "to": "2020-01-02T00:00Z", "reason": "snow"}
    row = {"all_stores": True, **long_ago}
    assert service.ask("POST", "/exclusions", json=[row]).status_code == 200
    assert made()[0] == fingerprint


@pytest.mark.parametrize(
    ("tags", "stores"),
    [
        (["brand:fresh"], ["changed", "late"]),
        (["brand:fresh", "city:Chicago"], ["changed"]),
        (["brand:"], ["always", "never", "special"]),
        (["brand:fresh", "brand:stale"], []),
        (["brand:fresh", "brand:"], []),
    ],
    ids=["one", "both", "without", "two-values", "contradiction"],
)
def test_a_report_is_limited_to_tags(
    service: Service, loaded: str, tmp_path: Path, tags: list[str], stores: list[str]
) -> None:
    path = completed(service, {"tags": tags})
    report = service.get(path).json()
    assert report["options"]["tags"] == tags
    assert report["progress"]["stores_total"] == len(stores)
    text = service.get(f"{path}/csv").text
    assert [line.partition(",")[0] for line in text.splitlines()[1:]] == stores
    options = [part for tag in tags for part in ("--tag", tag)]
    assert (
        storewatch("report", *options, database_url=loaded, home=tmp_path).stdout == text.encode()
    )


def test_a_tag_that_is_none_is_refused(service: Service, loaded: str, tmp_path: Path) -> None:
    answer = service.ask("POST", "/reports", json={"tags": ["fresh"]})
    assert answer.status_code == 422
    assert "is not `key:value`" in answer.text
    done = storewatch("report", "--tag", "fresh", database_url=loaded, home=tmp_path)
    assert done.returncode == 2
    assert "'fresh' is not `key:value`" in done.stderr.decode()


def test_an_exclusion_set_afterwards_and_taken_back_changes_the_next_report(
    service: Service,
) -> None:
    def always() -> list[float]:
        path = completed(service, {"stores": ["always"], "windows": ["3h"]})
        [item] = service.get(f"{path}/stores").json()["items"]
        return [item["windows"][0][part] for part in ("uptime", "excluded")]

    uptime, excluded = always()
    assert excluded == 0
    row = {"store_ids": ["always"], "from": instant(AS_OF - 2 * HOUR), "to": instant(AS_OF)}
    made = service.ask("POST", "/exclusions", json=[row | {"reason": "storm"}]).json()
    assert always()[1] == 7200
    [known] = [
        one
        for one in service.get("/exclusions", params={"store_id": "always"}).json()["items"]
        if one["reason"] == "storm"
    ]
    assert made["new"] == 1
    assert service.ask("DELETE", "/exclusions/" + known["id"]).status_code == 200
    assert always() == [uptime, 0]


def test_the_reference_stores_differ_by_each_thing_that_is_tested() -> None:
    """A part of what is known that changes no number would test nothing."""

    def numbers(store: Store) -> str:
        return reference_csv_row(store, AS_OF, "nearest", DAY, True, True)

    for store in STORES:
        without = {
            "weeks": replace(store, weeks=()),
            "special": replace(store, special=()),
            "exclusions": replace(store, exclusions=()),
        }
        for part, other in without.items():
            assert other == store or numbers(other) != numbers(store), (store.store_id, part)
