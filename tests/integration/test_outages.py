"""Outages of all stores over HTTP: lists, statistics, ids that stay, notes; and of reports."""

import asyncio
import base64
import csv
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from datetime import UTC, date, datetime, timedelta
from functools import cache
from hashlib import sha256
from random import Random
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg
import httpx
import numpy as np
import pytest
from litestar.response import Stream

from compute.axis import PER_MS
from compute.outages import NO_INSTANT
from compute.timeline import STATES
from compute.windows import Window
from service.api import outage_lists
from service.api.outage_lists import OutageLists
from service.database.pool import READING, pool_of
from service.outages import all_stores
from service.outages.all_stores import (
    CONNECTIONS,
    Asked,
    TooManyValues,
    TooMuchAsked,
    list_outages,
    outage_statistics,
)
from service.outages.ids import OutageId, read_id
from service.outages.kept import remember
from service.states.look import NEVER_SEEN, Look
from service.stores import snapshot
from service.stores.selection import with_tags
from service.workers.pool import Workers
from tests.harness.database import ask, table_locked
from tests.harness.reference import (
    DAY,
    HOUR,
    Interval,
    Outage,
    Store,
    reaching,
    reference_outages,
    utc_instant,
)
from tests.harness.reports import completed
from tests.harness.service import Service, problem

LAST = datetime(2024, 3, 15, 17, tzinfo=UTC)
AS_OF = round(LAST.timestamp() * 1000)
FROM, TO = AS_OF - 6 * DAY, AS_OF - DAY
HOURS: tuple[tuple[tuple[int, int, int], ...], ...] = (
    (),
    tuple((day, 9 * HOUR, 17 * HOUR) for day in range(7)),
    tuple((day, 18 * HOUR, 2 * HOUR) for day in range(7)),
    tuple((day, 10 * HOUR, 20 * HOUR) for day in range(5)),
)
ZONES = (None, "Asia/Kathmandu", "UTC")
BRANDS = ("fresh", "=oak", "")
EXCLUDED_FOR_ALL = AS_OF - 3 * DAY, AS_OF - 3 * DAY + 7 * HOUR
EXCLUDED_FOR_FRESH = AS_OF - 5 * DAY, AS_OF - 5 * DAY + 30 * HOUR
ACCEPT_CSV = {"Accept": "text/csv"}
_DOWN, _UP = STATES.index("down"), STATES.index("up")
Result = TypeVar("Result")


def iso(instant: float) -> str:
    """Milliseconds as the API tells them, which are whole seconds here."""
    return datetime.fromtimestamp(instant / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def at(hours: float) -> str:
    """So many hours after a Monday of 2023 began, when nothing of the feed is."""
    monday = datetime(2023, 1, 23, tzinfo=UTC)
    return iso((monday + timedelta(hours=hours)).timestamp() * 1000)


def made_up() -> list[Store]:
    """Stores of all kinds; the last three were down for long, for longer than is looked, never."""
    chance = Random(7)
    stores = []
    for number in range(18):
        polls = []
        active, instant = True, AS_OF - 14 * DAY
        while instant < AS_OF:
            polls.append((instant, active))
            active ^= chance.random() < 0.35
            instant += chance.randrange(1, 16) * 1_234_000 * 2
        brand = BRANDS[number % 3]
        excluded = [EXCLUDED_FOR_ALL] + [EXCLUDED_FOR_FRESH] * (brand == "fresh")
        stores.append(
            Store(
                f"s{number:02}",
                tuple(polls),
                HOURS[number % 4],
                ZONES[number // 4 % 3],
                exclusions=tuple(excluded),
                tags=(("set", "feed"), *((("brand", brand),) if brand else ())),
            )
        )
    long = tuple((AS_OF - back * 20 * HOUR, False) for back in range(6, 200))
    longer = tuple((AS_OF - back * 20 * HOUR, False) for back in range(490))
    for store_id, polls_of_it in (
        ('long, "down"', (*long, (AS_OF - 4 * DAY, True))),
        ("longer", longer),
        ("never", ()),
    ):
        stores.append(
            Store(
                store_id,
                polls_of_it,
                timezone="UTC",
                exclusions=(EXCLUDED_FOR_ALL,),
                tags=(("set", "feed"),),
            )
        )
    return sorted(stores, key=lambda store: store.store_id.encode())


STORES = made_up()


def written(*rows: tuple[object, ...]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def load(service: Service, feed: str, content: bytes) -> None:
    answer = service.ask("POST", feed, content=content, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def service(empty_service: Service) -> Service:
    """With all of `STORES`; other tests have stores of their own, in another year."""

    def clock(time: int) -> str:
        return f"{time // HOUR:02}:00"

    rows: list[tuple[object, ...]] = [("store_id", "status", "timestamp_utc")]
    hours: list[tuple[object, ...]] = [("store_id", "day", "start_time_local", "end_time_local")]
    for store in STORES:
        rows += [
            (store.store_id, "active" if active else "inactive", iso(instant))
            for instant, active in store.polls
        ]
        hours += [
            (store.store_id, day, clock(start), clock(end)) for day, start, end in store.hours
        ]
    load(empty_service, "/polls", written(*rows))
    load(empty_service, "/business-hours", written(*hours))
    zones = [(store.store_id, store.timezone) for store in STORES if store.timezone]
    load(empty_service, "/timezones", written(("store_id", "timezone"), *zones))
    named = [
        (store.store_id, f"=Shop {store.store_id}", "feed", dict(store.tags).get("brand", ""))
        for store in STORES
    ]
    load(empty_service, "/feeds", written(("store_id", "name", "set", "brand"), *named))
    exclusions = [
        {"tags": {"set": "feed"}, "from": iso(begin), "to": iso(end)}
        for begin, end in [EXCLUDED_FOR_ALL]
    ]
    begin, end = EXCLUDED_FOR_FRESH
    exclusions.append({"tags": {"brand": "fresh"}, "from": iso(begin), "to": iso(end)})
    assert empty_service.ask("POST", "/exclusions", json=exclusions).status_code == 200
    return empty_service


Edges = tuple[str, str | None, str, float, bool, bool]


@cache
def all_outages(store: Store) -> list[Outage]:
    """What the slow reference tells of a store."""
    # Others were not polled before: nothing is known of that time, however far one looks.
    look_back = 400 * DAY if store.store_id.startswith("long") else 30 * DAY
    return reference_outages(store, AS_OF, DAY, look_back)


def reference(window: Interval | Callable[[Store], Interval]) -> list[Edges]:
    """What the slow reference tells of all stores in a window."""
    return [
        edges_of(store, outage)
        for store in STORES
        for outage in reaching(
            all_outages(store), window if isinstance(window, tuple) else window(store), AS_OF
        )
    ]


def edges_of(store: Store, outage: Outage) -> Edges:
    begin, end, length, then = outage
    return (
        store.store_id,
        None if begin is None else iso(float(begin)),
        iso(float(end)),
        float(length / 1000),
        then is None,
        then == "up",
    )


def edges(items: list[dict[str, Any]]) -> list[Edges]:
    names = "store_id", "start", "end", "duration", "open", "restored"
    return [tuple(item[name] for name in names) for item in items]


WINDOW = {"from": iso(FROM), "to": iso(TO), "as_of": iso(AS_OF)}


def told(service: Service, path: str = "/outages", **query: Any) -> dict[str, Any]:
    answer = service.get(path, params=query)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def items(service: Service, **query: Any) -> list[dict[str, Any]]:
    """A list that is told on one page."""
    page = told(service, **{"limit": 1000, **query})
    assert page["next_cursor"] is None
    found: list[dict[str, Any]] = page["items"]
    return found


def pages(service: Service, path: str, limit: int, **query: Any) -> Iterator[list[dict[str, Any]]]:
    cursor: str | None = None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        answer = service.get(path, params={"limit": limit, **query, **more})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        yield page["items"]
        cursor = page["next_cursor"]
        assert ('rel="next"' in answer.headers.get("link", "")) == (cursor is not None)
        if cursor is None:
            return


# Lists.


def test_outages_of_all_stores_are_those_of_the_slow_reference(service: Service) -> None:
    found = items(service, **WINDOW)
    assert edges(found) == reference((FROM, TO))
    assert len(found) > 40
    assert {item["open"] for item in found} == {True, False}
    (longer,) = (item for item in found if item["store_id"] == "longer")
    assert (longer["start"], longer["duration"]) == (None, (400 * DAY - 7 * HOUR) / 1000)
    assert longer["name"] == "=Shop longer"
    by_default = told(service, to=iso(AS_OF), limit=1000)
    assert edges(by_default["items"]) == reference((AS_OF - 7 * DAY, AS_OF))
    assert (by_default["from"], by_default["as_of"]) == (iso(AS_OF - 7 * DAY), iso(AS_OF))


def test_each_is_told_of_its_store_alone_with_the_same_id(service: Service) -> None:
    found = items(service, **WINDOW)
    for store in STORES:
        path = f"/stores/{store.store_id.replace(' ', '%20')}/outages"
        alone = told(service, path, **WINDOW)["items"]
        assert alone == [
            {name: value for name, value in item.items() if name not in ("store_id", "name")}
            for item in found
            if item["store_id"] == store.store_id
        ]
    for item in found[::9]:
        details = told(service, f"/outages/{item['id']}", as_of=iso(AS_OF))
        assert details == {**item, "as_of": iso(AS_OF), "max_gap": "24h"}


def test_they_are_filtered(service: Service) -> None:
    found = items(service, **WINDOW)
    tags = {store.store_id: dict(store.tags) for store in STORES}
    fresh = [item for item in found if tags[item["store_id"]].get("brand") == "fresh"]
    assert items(service, **WINDOW, tag="brand:fresh") == fresh
    without = [item for item in found if "brand" not in tags[item["store_id"]]]
    assert items(service, **WINDOW, tag=["brand:", "set:feed"]) == without
    of_now = [item for item in found if item["open"]]
    assert items(service, **WINDOW, open="true") == of_now
    long = [item for item in found if item["duration"] >= 6 * 3600]
    assert items(service, **WINDOW, min_duration="6h") == long
    assert 0 < len(long) < len(found)
    assert items(service, **WINDOW, max_gap="1h") != found


@pytest.mark.parametrize("limit", [1, 7])
def test_pages_together_are_the_whole_list(service: Service, limit: int) -> None:
    query = {**WINDOW, "tag": "brand:"} if limit == 1 else WINDOW
    whole = items(service, **query)
    paged = list(pages(service, "/outages", limit, **query))
    assert [item for page in paged for item in page] == whole
    assert [len(page) for page in paged[:-1]] == [limit] * (len(paged) - 1)


def test_csv_is_all_of_the_list(service: Service) -> None:
    found = items(service, **WINDOW)
    note = {"note": '=1+1, "two"\nlines', "author": "Ann"}
    path = f"/outages/{found[0]['id']}"
    assert service.ask("PATCH", path, json=note, params={"as_of": iso(AS_OF)}).status_code == 200
    found = items(service, **WINDOW)
    answer = service.get("/outages", params={**WINDOW, "limit": 1}, headers=ACCEPT_CSV)
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))

    def cell(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return "" if value in (None, []) else str(value)

    assert rows == [{name: cell(item[name]) for name in rows[0]} for item in found]
    assert set(rows[0]) == set(found[0])
    query = {**WINDOW, "escape_formulas": "true"}
    escaped = service.get("/outages", params=query, headers=ACCEPT_CSV)
    (row, *_) = csv.DictReader(io.StringIO(escaped.text, newline=""))
    assert (row["note"], row["name"][:2]) == (f"'{note['note']}", "'=")
    removed = service.ask("PATCH", path, json={"note": None, "author": ""}, params=query_as_of())
    assert removed.json()["noted_at"] is None


def query_as_of() -> dict[str, str]:
    return {"as_of": iso(AS_OF)}


def test_a_cursor_keeps_the_window_although_time_goes_on(service: Service) -> None:
    store = str(uuid4())
    now = datetime.now(UTC).replace(microsecond=0)
    rows = [
        (store, "inactive" if count % 2 else "active", iso((now.timestamp() - 60 * count) * 1000))
        for count in range(1, 7)
    ]
    load(service, "/polls", written(("store_id", "status", "timestamp_utc"), *rows))
    first = told(service, limit=1, min_duration="30s")
    cursor = first["next_cursor"]
    second = told(service, limit=1, min_duration="30s", cursor=cursor)
    assert [first[name] for name in ("from", "to", "as_of")] == [
        second[name] for name in ("from", "to", "as_of")
    ]
    assert first["items"] != second["items"]
    service.ask("DELETE", f"/stores/{store}")


@pytest.mark.parametrize(
    "position",
    [
        f"{FROM} {TO} {AS_OF} next",
        f"{FROM} {TO} {AS_OF} begin s01",
        f"{FROM} {TO} {AS_OF} {2**63} s01",
        f"{FROM} {TO} {TO - 1} next s01",
        f"{AS_OF - 32 * DAY} {AS_OF} {AS_OF} next s01",
        f"{AS_OF - 401 * DAY} {AS_OF - 400 * DAY} {AS_OF} next s01",
        f"{10**15 - DAY} {10**15 - 1} {10**15 - 1} next s01",
        "s01",
    ],
    ids=["no-store", "no-begin", "large", "as_of", "long", "long-ago", "never", "one-word"],
)
def test_a_cursor_that_only_looks_like_one_is_refused(service: Service, position: str) -> None:
    page = service.get("/outages", params={"limit": 1, "to": iso(AS_OF)})
    ours = base64.urlsafe_b64decode(page.json()["next_cursor"] + "==")
    assert service.get(page.links["next"]["url"]).status_code == 200
    content = ours[8:16] + position.encode()
    forged = base64.urlsafe_b64encode(sha256(content).digest()[:8] + content).decode().rstrip("=")
    answer = service.get("/outages", params={"to": iso(AS_OF), "cursor": forged})
    assert answer.status_code == 422
    assert "begin without a cursor" in problem(answer)["detail"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": iso(AS_OF - 32 * DAY), "to": iso(AS_OF)}, "from"),
        (
            {"from": iso(AS_OF - 401 * DAY), "to": iso(AS_OF - 390 * DAY), "as_of": iso(AS_OF)},
            "from",
        ),
        ({"from": iso(AS_OF), "to": iso(AS_OF)}, "from"),
        ({"to": "soon"}, "to"),
        ({"tag": "brand"}, "tag"),
        ({"max_gap": "32d"}, "max_gap"),
        ({"min_duration": "long"}, "min_duration"),
        ({"limit": "1001"}, "limit"),
        ({"cursor": "abc"}, "cursor"),
    ],
    ids=["long", "long-ago", "empty", "to", "tag", "max_gap", "min_duration", "limit", "cursor"],
)
def test_what_cannot_be_asked_is_refused_by_name(
    service: Service, query: dict[str, str], field: str
) -> None:
    for path in ["/outages", "/outages/summary"][: 1 if field in ("limit", "cursor") else 2]:
        answer = service.get(path, params=query)
        assert answer.status_code == 422
        assert field in [error["field"] for error in problem(answer)["errors"]]


def test_more_lists_at_a_time_than_may_be_are_told_to_come_back(
    service: Service, module_database_url: str
) -> None:
    def get(_: int) -> httpx.Response:
        return service.get("/outages", params=WINDOW)

    with ThreadPoolExecutor(3) as several:
        with table_locked(module_database_url, "poll_day"):
            asked = [several.submit(get, number) for number in range(3)]
            (refused, *_), others = wait(asked, return_when=FIRST_COMPLETED)
        answer = refused.result()
        assert problem(answer)["type"] == "/problems/too-many-outage-lists"
        assert int(answer.headers["retry-after"]) > 0
        assert [other.result().status_code for other in others] == [200, 200]


# Statistics.


def summed(found: list[dict[str, Any]]) -> dict[str, Any]:
    lengths = [item["duration"] for item in found]
    restored = [item["duration"] for item in found if item["restored"] and item["start"]]
    return {
        "count": len(found),
        "open_count": sum(item["open"] for item in found),
        "total_duration": sum(lengths),
        "longest": max(lengths, default=None),
        "mean_time_to_restore": sum(restored) / len(restored) if restored else None,
    }


def test_statistics_are_those_of_the_list(service: Service) -> None:
    query = {**WINDOW, "tag": "set:feed"}
    for more in ({}, {"open": "true"}, {"min_duration": "6h"}, {"min_duration": "9999h"}):
        found = items(service, **query, **more)
        summary = told(service, "/outages/summary", **query, **more)
        assert summary == {
            **summed(found),
            "stores": len(STORES),
            "max_gap": "24h",
            "by": None,
            "groups": None,
            **WINDOW,
        }


def test_statistics_are_told_by_the_values_of_a_tag(service: Service) -> None:
    query = {**WINDOW, "tag": "set:feed"}
    summary = told(service, "/outages/summary", **query, by="brand")
    brands = {store.store_id: dict(store.tags).get("brand", "") for store in STORES}
    found = items(service, **query)
    assert summary["groups"] == [
        {
            "value": brand,
            "stores": list(brands.values()).count(brand),
            **summed([item for item in found if brands[item["store_id"]] == brand]),
        }
        for brand in sorted(BRANDS)
    ]
    assert problem(service.get("/outages/summary", params={"by": "a:b"}))["status"] == 422


# Batches, in this process.


def among_batches(url: str, do: Callable[[asyncpg.Pool, Workers], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        workers = Workers(2, here=1)
        try:
            async with pool_of(url, READING, CONNECTIONS) as pool:
                return await do(pool, workers)
        finally:
            workers.close()

    return asyncio.run(run())


ASKED = Asked(
    Window("asked", "asked", instants=(FROM, TO)), AS_OF, DAY, stores=with_tags(["set:feed"])
)


def test_a_page_stops_where_enough_was_looked_at_and_the_next_goes_on(
    service: Service, module_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "_LARGEST_BATCH", 4)
    monkeypatch.setattr(all_stores, "_DAYS_OF_PAGE", 100)
    whole = items(service, **WINDOW, tag="set:feed")

    async def all_pages(pool: asyncpg.Pool, workers: Workers) -> list[list[tuple[str, int]]]:
        found: list[list[tuple[str, int]]] = []
        place = None
        while True:
            page = await list_outages(pool, workers, ASKED, 9, place)
            begins = page.found.begin.tolist()
            found.append(list(zip(page.store_id, begins, strict=True)))
            place = page.goes_on
            if place is None:
                return found

    found = among_batches(module_database_url, all_pages)
    told_so = [(store_id, begin) for page in found for store_id, begin in page]
    assert [
        (store_id, None if begin == NO_INSTANT else iso(begin / PER_MS))
        for store_id, begin in told_so
    ] == [(item["store_id"], item["start"]) for item in whole]
    assert len(found) > len(whole) / 9 + 1
    assert max(map(len, found)) == 9


def test_csv_is_made_piece_by_piece(
    service: Service, module_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage_lists, "LARGEST_PAGE", 7)

    async def pieces(pool: asyncpg.Pool, workers: Workers) -> list[bytes]:
        lists = OutageLists(pool, pool, workers, ASKED)
        answer = await lists.csv(escape_formulas=False, name="outages.csv")
        assert isinstance(answer, Stream)
        assert isinstance(answer.iterator, AsyncIterator)
        return [bytes(piece) async for piece in answer.iterator if isinstance(piece, bytes)]

    made = among_batches(module_database_url, pieces)
    assert len(made) > 5
    whole = service.get("/outages", params={**WINDOW, "tag": "set:feed"}, headers=ACCEPT_CSV)
    assert b"".join(made) == whole.content


def test_stores_are_looked_at_again_one_by_one_or_with_too_many_polls_not_at_all(
    service: Service, module_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def page(pool: asyncpg.Pool, workers: Workers) -> list[tuple[str, int, int]]:
        found = await list_outages(pool, workers, ASKED, 1000)
        columns = found.found.begin.tolist(), found.found.length.tolist()
        return list(zip(found.store_id, *columns, strict=True))

    whole = among_batches(module_database_url, page)
    monkeypatch.setattr(all_stores, "_POLLS_AT_ONCE", 1)
    assert among_batches(module_database_url, page) == whole
    monkeypatch.setattr(all_stores, "MOST_POLLS", 300)
    longer = {store_id: rest for store_id, *rest in among_batches(module_database_url, page)}
    # The 8 days before the window, and 6 days without what is excluded: of the whole 400 days
    # there are more than 300 polls. Of the other one there are fewer.
    assert longer["longer"] == [NO_INSTANT, PER_MS * (14 * DAY - 7 * HOUR)]
    assert longer['long, "down"'][0] != NO_INSTANT


def test_statistics_of_too_much_are_refused(
    service: Service, module_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def statistics(pool: asyncpg.Pool, workers: Workers) -> object:
        return await outage_statistics(pool, workers, ASKED, "brand")

    monkeypatch.setattr(all_stores, "MOST_DAYS", 15 * len(STORES) - 1)
    with pytest.raises(TooMuchAsked, match=f"{len(STORES)} stores over 16 days"):
        among_batches(module_database_url, statistics)
    monkeypatch.setattr(all_stores, "MOST_DAYS", 16 * len(STORES))
    with pytest.raises(TooMuchAsked, match="down for long"):  # two are looked at again
        among_batches(module_database_url, statistics)
    monkeypatch.setattr(all_stores, "MOST_DAYS", 1000 * len(STORES))
    monkeypatch.setattr(all_stores, "MOST_VALUES", 2)
    with pytest.raises(TooManyValues):
        among_batches(module_database_url, statistics)


# Ids and notes.


@pytest.fixture
def store() -> str:
    return f"own-{uuid4()}"


def poll(service: Service, store: str, *polls: tuple[float, bool]) -> None:
    rows = [
        {
            "store_id": store,
            "timestamp_utc": at(hours),
            "status": "active" if active else "inactive",
        }
        for hours, active in polls
    ]
    answer = service.ask("POST", "/polls", json=rows)
    assert answer.status_code == 200, answer.text


def of_store(service: Service, store: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = told(service, f"/stores/{store}/outages", to=at(24))["items"]
    return found


def note(service: Service, outage_id: str, **body: Any) -> dict[str, Any]:
    answer = service.ask("PATCH", f"/outages/{outage_id}", json=body)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def spans(found: list[dict[str, Any]]) -> list[tuple[str, str, str, str | None]]:
    return [(one["id"], one["start"], one["end"], one["note"]) for one in found]


def test_ids_and_notes_stay_whatever_late_polls_do_to_edges(service: Service, store: str) -> None:
    poll(service, store, *((8, True), (10, False), (12, True), (13, False), (14, True)))
    one, two = (item["id"] for item in of_store(service, store))
    assert note(service, one, note="first")["id"] == one
    assert note(service, two, note="second", cause="power", author="Ann")["cause"] == "power"
    first = (one, at(10), at(12), "first")
    second = (two, at(13), at(14), "second")
    assert spans(of_store(service, store)) == [first, second]
    # The beginning earlier, the end earlier.
    poll(service, store, (9, False), (11.5, True))
    assert spans(of_store(service, store)) == [(one, at(9), at(11.5), "first"), second]
    # Both become one: the earlier id, both notes, and both ids mean it.
    poll(service, store, (11.5, False), (12, False))
    (merged,) = of_store(service, store)
    assert spans([merged]) == [(one, at(9), at(14), "first")]
    (other,) = merged["merged_notes"]
    assert (other["id"], other["note"], other["author"]) == (two, "second", "Ann")
    window = {"from": at(0), "to": at(24)}
    listed = service.get("/outages", params=window, headers=ACCEPT_CSV).text
    (row,) = (row for row in csv.DictReader(io.StringIO(listed)) if row["store_id"] == store)
    assert (row["id"], row["note"]) == (one, "first")
    assert json.loads(row["merged_notes"]) == [other]
    for outage_id in (one, two):
        details = told(service, f"/outages/{outage_id}", as_of=at(24))
        assert spans([details]) == spans([merged])
    # Each note is changed by its own id.
    changed = note(service, two, note="still the second")
    assert [changed["note"], changed["merged_notes"][0]["note"]] == ["first", "still the second"]
    # Apart again: each note stays with the part that it was made of.
    poll(service, store, (12, True))
    assert spans(of_store(service, store)) == [
        (one, at(9), at(12), "first"),
        (two, at(13), at(14), "still the second"),
    ]
    # The beginning moves behind the anchor: there is no such outage any more.
    poll(service, store, (9, True), (10, True), (11, False))
    (late, _) = of_store(service, store)
    assert (late["start"], late["note"]) == (at(11), None)
    assert late["id"] != one
    gone = service.get(f"/outages/{one}")
    assert (gone.status_code, problem(gone)["type"]) == (404, "/problems/outage-not-found")
    poll(service, store, (10, False))
    assert spans(of_store(service, store))[0] == (one, at(10), at(12), "first")


def test_an_id_without_a_note_means_the_outage_that_holds_its_beginning(
    service: Service, store: str
) -> None:
    poll(service, store, *((8, True), (10, False), (12, True)))
    ((before),) = of_store(service, store)
    poll(service, store, (9, False))
    details = told(service, f"/outages/{before['id']}")
    assert (details["start"], details["end"]) == (at(9), at(12))


def test_an_outage_is_one_in_the_night_between(service: Service, store: str) -> None:
    rows = [
        {"day": day, "start_time_local": "09:00", "end_time_local": "17:00"} for day in range(7)
    ]
    service.ask("PUT", f"/stores/{store}/business-hours", json=rows)
    service.ask("PUT", f"/stores/{store}/timezone", json={"timezone": "UTC"})
    poll(service, store, *((-8, False), (10, True)))  # Sunday 16:00 to Monday 10:00
    (item,) = of_store(service, store)
    known = read_id(item["id"])
    assert known is not None
    for hours, status in ((-8, 200), (-4, 200), (9.5, 200), (-8.001, 404), (10, 404)):
        instant = round(datetime.fromisoformat(at(0)).timestamp() * 1000 + hours * HOUR)
        other = OutageId(known.store, instant).text
        assert service.get(f"/outages/{other}").status_code == status


def test_what_is_noted_is_set_changed_and_removed(service: Service, store: str) -> None:
    poll(service, store, (10, False), (12, True))
    (item,) = of_store(service, store)
    path = f"/outages/{item['id']}"
    nothing = service.get(path)
    noted = service.ask("PATCH", path, json={"note": "a\nb", "cause": "power", "author": "Ann"})
    read = service.get(path)
    assert read.json() == noted.json()
    assert [read.json()[name] for name in ("note", "cause", "author")] == ["a\nb", "power", "Ann"]
    assert read.json()["noted_at"] is not None
    assert (noted.headers["etag"], noted.headers["etag"] == nothing.headers["etag"]) == (
        *(read.headers["etag"], False),
    )
    stale = {"If-Match": nothing.headers["etag"]}
    refused = service.ask("PATCH", path, json={"note": "c"}, headers=stale)
    assert (refused.status_code, refused.headers["etag"]) == (412, read.headers["etag"])
    fresh = {"If-Match": read.headers["etag"]}

    def remove_cause(_: int) -> httpx.Response:
        return service.ask("PATCH", path, json={"cause": None}, headers=fresh)

    with ThreadPoolExecutor(4) as several:
        answers = list(several.map(remove_cause, range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]
    (changed,) = (answer.json() for answer in answers if answer.status_code == 200)
    assert [changed[name] for name in ("note", "cause", "author")] == ["a\nb", None, "Ann"]
    removed = note(service, item["id"], note=None, author=None)
    assert [removed[name] for name in ("id", "note", "noted_at")] == [item["id"], None, None]


@pytest.mark.parametrize(
    "body",
    [
        {"note": "x" * 2001},
        {"cause": "x" * 101},
        {"author": "x" * 101},
        {"note": "a\0b"},
        {"cause": "a\nb"},
        {"author": 5},
        {"notes": "a"},
    ],
    ids=["note", "cause", "author", "nul", "lines", "number", "unknown"],
)
def test_what_cannot_be_noted_is_refused(service: Service, body: dict[str, Any]) -> None:
    answer = service.ask("PATCH", f"/outages/{'a' * 16}", json=body)
    assert answer.status_code in (400, 422)
    assert problem(answer)["type"] == "/problems/invalid-request"


@pytest.mark.parametrize(
    "outage_id",
    [
        OutageId(2**31 - 1, AS_OF).text,
        OutageId(1, 2**48 - 1).text,
        "7" * 16,
        "A" * 16,
        "none",
    ],
    ids=["store", "instant", "numbers", "capitals", "text"],
)
def test_no_outage_has_an_id_that_was_not_told(service: Service, outage_id: str) -> None:
    for method in ("GET", "PATCH"):
        body = {"json": {"note": "a"}} if method == "PATCH" else {}
        answer = service.ask(method, f"/outages/{outage_id}", **body)
        assert (answer.status_code, problem(answer)["type"]) == (404, "/problems/outage-not-found")


def test_an_outage_goes_with_its_store(
    service: Service, module_database_url: str, store: str
) -> None:
    poll(service, store, (10, False), (12, True))
    (item,) = of_store(service, store)
    note(service, item["id"], note="a")
    asked = read_id(item["id"])
    assert asked is not None
    count = "select count(*) from outage where store = $1"
    assert ask(module_database_url, count, asked.store) == [(1,)]
    assert service.ask("DELETE", f"/stores/{store}").status_code == 200
    assert ask(module_database_url, count, asked.store) == [(0,)]
    assert service.get(f"/outages/{item['id']}").status_code == 404


# Looks.

NO_BEGIN = -1.0


def look(url: str, as_of: float, *seen: tuple[int, int, int, float, int, int]) -> None:
    """Stores: number, state before and now, since (hours), down for before and now."""
    start = round(datetime.fromisoformat(at(0)).timestamp() * 1000)
    rows = np.array(
        [
            (
                *row[:3],
                NO_INSTANT if row[3] == NO_BEGIN else start + round(row[3] * HOUR),
                *row[4:],
            )
            for row in seen
        ],
        dtype=np.int64,
    )
    store, before, state, since, was, now = rows.reshape(-1, 6).T
    told_of = Look(
        start + round(as_of * HOUR), store, before, state, since, was, now, np.zeros_like(now)
    )

    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction():
                await remember(connection, told_of)
        finally:
            await connection.close()

    asyncio.run(run())


def test_an_outage_that_was_seen_as_it_began_keeps_its_id(
    service: Service, module_database_url: str, store: str
) -> None:
    url = module_database_url
    poll(service, store, *((8, True), (10, False)))
    [(number,)] = ask(url, "select id from store where store_id = $1", store)
    kept = "select count(*) from outage where store = $1"
    look(url, 10, (number, _UP, _DOWN, 10, 0, 0))  # it is down for no time yet
    assert ask(url, kept, number) == [(0,)]
    look(url, 11, (number, _DOWN, _DOWN, 10, 0, HOUR), (0x7FFF_FFFF, NEVER_SEEN, _DOWN, 9, 0, 1))
    assert ask(url, kept, number) == [(1,)]
    assert ask(url, kept, 0x7FFF_FFFF) == [(0,)]  # there is no such store
    (item,) = of_store(service, store)
    assert (
        item["id"]
        == OutageId(number, round(datetime.fromisoformat(at(10)).timestamp() * 1000)).text
    )
    # Its beginning moves, it is seen again as if it were new, and is looked at once more.
    poll(service, store, (9, False), (12, True))
    look(url, 13, (number, STATES.index("closed"), _DOWN, 9, 5, 3 * HOUR))
    assert ask(url, kept, number) == [(1,)]
    (moved,) = of_store(service, store)
    assert (moved["id"], moved["start"], moved["end"]) == (item["id"], at(9), at(12))
    # After 400 days it is tidied away, unless something is noted.
    look(url, 10 + 24 * 400 - 1)
    assert ask(url, kept, number) == [(1,)]
    note(service, item["id"], note="a")
    look(url, 10 + 24 * 400 + 1)
    assert ask(url, kept, number) == [(1,)]
    note(service, item["id"], note=None)
    look(url, 10 + 24 * 400 + 1)
    assert ask(url, kept, number) == [(0,)]


def test_one_without_a_known_beginning_keeps_the_id_that_it_was_first_seen_by(
    service: Service, module_database_url: str, store: str
) -> None:
    url = module_database_url
    poll(service, store, *((8, True), (10, False)))
    [(number,)] = ask(url, "select id from store where store_id = $1", store)
    for as_of in (11, 12):  # the second time as if the store had been up between
        look(url, as_of, (number, NEVER_SEEN, _DOWN, NO_BEGIN, 0, HOUR))
    (item,) = of_store(service, store)
    instant = round(datetime.fromisoformat(at(11)).timestamp() * 1000) - 1
    assert (item["id"], item["start"]) == (OutageId(number, instant).text, at(10))


# Reports.


def test_a_report_tells_the_outages_of_its_windows(service: Service) -> None:
    body = {"as_of": iso(AS_OF), "tags": ["set:feed"], "windows": ["2024-03-12", "2d"]}
    path = f"{completed(service, body)}/outages"

    def of_date(store: Store) -> Interval:
        first, last = (utc_instant(date(2024, 3, day), 0, store.zone) for day in (12, 13))
        return first, last

    by_date = told(service, path, window="2024_03_12", limit=1000)
    assert edges(by_date["items"]) == reference(of_date)
    assert by_date["window"] == "2024_03_12"
    assert (by_date["interpolation"], by_date["report_interpolation"]) == ("previous", "nearest")
    last = told(service, path, limit=1000)
    assert edges(last["items"]) == reference((AS_OF - 2 * DAY, AS_OF))
    assert last["items"] == items(
        service, **{"from": iso(AS_OF - 2 * DAY), "to": iso(AS_OF)}, tag="set:feed"
    )
    paged = pages(service, path, 6)
    assert [item for page in paged for item in page] == last["items"]
    rows = csv.DictReader(io.StringIO(service.get(path, headers=ACCEPT_CSV).text, newline=""))
    assert [row["id"] for row in rows] == [item["id"] for item in last["items"]]
    is_open = told(service, path, open="true", min_duration="1h", limit=1000)["items"]
    assert is_open == [one for one in last["items"] if one["open"] and one["duration"] >= 3600]
    assert problem(service.get(path, params={"window": "last_day"}))["status"] == 422


def test_a_report_of_some_stores_tells_theirs_alone(service: Service) -> None:
    body = {"as_of": iso(AS_OF), "stores": ["s01", "longer"], "interpolation": "previous"}
    found = told(service, f"{completed(service, body)}/outages", limit=1000)
    assert (found["window"], found["report_interpolation"]) == ("week", "previous")
    assert {item["store_id"] for item in found["items"]} == {"s01", "longer"}
    assert problem(service.get(f"/reports/{uuid4()}/outages"))["type"].endswith("report-not-found")
