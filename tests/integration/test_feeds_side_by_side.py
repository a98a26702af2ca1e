"""Feeds that arrive at the same time, at several instances, end as if one came after the other."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from compute.axis import DAY_MS
from service.database import locks
from service.feeds.poll_line import SMALL
from tests.harness.database import another_transaction, ask, waiting_for_locks
from tests.harness.polls import (
    CSV,
    JSON,
    Answer,
    Poll,
    answer_to,
    as_csv,
    as_json,
    post,
    send,
    stored_polls,
)
from tests.harness.processes import eventually
from tests.harness.service import Service, running_service

#: Midnight of the day that most polls here are of.
TODAY = 19_379 * DAY_MS
TAKE_ALL = f"select pg_advisory_xact_lock({locks.STORE_A_FEED})"


@pytest.fixture(scope="module")
def both(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Service]]:
    """Two instances on one database."""
    home = tmp_path_factory.mktemp("services")
    with (
        running_service(module_database_url, home) as one,
        running_service(module_database_url, home) as other,
    ):
        yield [one, other]


@pytest.fixture
def database_url(both: list[Service], module_database_url: str) -> str:
    """Their database, empty."""
    ask(module_database_url, "truncate store, poll_day, newest_poll_row")
    return module_database_url


@pytest.fixture
def instances(database_url: str, both: list[Service]) -> list[Service]:
    """Both, without any data."""
    return both


@pytest.fixture
def service(instances: list[Service]) -> Service:
    """One of them."""
    return instances[0]


def take_rows(condition: str) -> str:
    """Statements that lock the rows of some stores and days."""
    return f"""
        select from poll_day join store on store.id = poll_day.store
        where {condition} for update of poll_day
    """


def together(count: int, each: Callable[[int], Any]) -> list[Any]:
    """What each of many threads returns that begin at the same time; they get numbers from 0."""
    begin = threading.Barrier(count)

    def run(number: int) -> Any:
        begin.wait()
        return each(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


@contextmanager
def load(services: Sequence[Service], store: str = "busy") -> Iterator[list[Poll]]:
    """Send single polls from some clients until the block ends; all that were acknowledged."""
    stored: list[Poll] = []
    over = threading.Event()

    def run(number: int) -> None:
        at = 0
        while not over.is_set():
            at += 1
            poll = Poll(f"{store}-{number % 4}", TODAY + 50 * at + number, at % 2 == 0)
            assert post(services[number % len(services)], as_json([poll])).counts == (1, 0, 0)
            stored.append(poll)

    with ThreadPoolExecutor(8) as threads:
        clients = [threads.submit(run, number) for number in range(8)]
        try:
            eventually(lambda: len(stored) > 8 or any(client.done() for client in clients))
            yield stored
        finally:
            over.set()
            for client in clients:
                client.result()


def assert_no_deadlock(database_url: str) -> None:
    """Nobody waited in a circle."""
    counted = "select deadlocks from pg_stat_database where datname = current_database()"
    assert ask(database_url, counted) == [(0,)]


# Many clients.

CLIENTS, ROUNDS, STORES = 200, 4, 40


class PollingClient:
    """Sends polls of instants that nobody else sends, each again until it is acknowledged.

    Attributes:
        polls: as they must be stored
    """

    def __init__(self, number: int, instances: list[Service]) -> None:
        self._number, self._instances = number, instances
        self._rng = random.Random(number)
        self._sent = 0
        self.polls: dict[tuple[str, int], Poll] = {}

    def run(self, acknowledged: list[int], restarted: threading.Event) -> None:
        """Send some polls after another, the last when a killed instance is there again."""
        for round_ in range(ROUNDS):
            if round_ == ROUNDS - 2:
                restarted.wait()
            count = self._rng.choice((1, 1, 1, 9))
            polls = [self._new() for _ in range(count)]
            at_once, counts = self._deliver(polls, cut=round_ % 2 == 1)
            # What was cut off may be stored, or not.
            assert counts == (count, 0, 0) or (not at_once and counts[1:] == (0, count - counts[0]))
            if at_once and self._rng.random() < 0.5:
                # A request that was never answered might still come after this one.
                polls = [poll._replace(active=not poll.active) for poll in polls]
                at_once, counts = self._deliver(polls)
                assert counts == (0, count, 0) or (not at_once and not counts[0])
            self.polls |= {(poll.store_id, poll.instant): poll for poll in polls}
            acknowledged.append(self._number)

    def _new(self) -> Poll:
        self._sent += 1
        instant = TODAY + (self._sent % 2) * DAY_MS + self._sent * CLIENTS + self._number
        return Poll(f"s{self._rng.randrange(STORES)}", instant, self._rng.random() < 0.5)

    def _deliver(self, polls: Sequence[Poll], cut: bool = False) -> tuple[bool, tuple[int, ...]]:
        """Send polls until they are acknowledged.

        Args:
            polls: in one request
            cut: go away, the first time, before the answer

        Returns:
            whether the first request was answered so; new, replaced and unchanged
        """
        attempts = 0
        while True:
            instance = self._instances[(self._number + attempts) % len(self._instances)]
            attempts += 1
            try:
                connection = send(instance, as_json(polls))
                if cut and attempts == 1:
                    connection.close()
                    continue
                answer = answer_to(connection)
            except (OSError, HTTPException):  # it was killed
                time.sleep(0.05)
                continue
            if answer.status == 503:
                time.sleep(0.05)
                continue
            assert answer.told["rows"] == len(polls)
            assert answer.told["stores"] == len({poll.store_id for poll in polls})
            return attempts == 1, answer.counts


def test_many_clients_and_a_killed_instance_end_as_if_one_client_came_after_the_other(
    database_url: str, service: Service, tmp_path: Path
) -> None:
    acknowledged: list[int] = []
    restarted = threading.Event()
    with ExitStack() as stack:
        instances = [stack.enter_context(running_service(database_url, tmp_path)) for _ in range(2)]
        clients = [PollingClient(number, instances) for number in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS) as threads:
            running = [threads.submit(client.run, acknowledged, restarted) for client in clients]
            try:
                eventually(lambda: len(acknowledged) > CLIENTS)
                instances[1].kill()
                instances[1] = stack.enter_context(running_service(database_url, tmp_path))
            finally:
                restarted.set()
            for client in running:
                client.result()
        expected = [poll for client in clients for poll in client.polls.values()]
        assert stored_polls(database_url) == sorted(expected)
        stores = ask(database_url, "select store_id from store")
        assert sorted(stores) == sorted({(poll.store_id,) for poll in expected})
    assert_no_deadlock(database_url)


def test_two_instances_lose_nothing_of_one_day_of_one_store(
    database_url: str, instances: list[Service]
) -> None:
    def polls_of(number: int) -> list[Poll]:
        return [Poll("s", TODAY + 16 * n + number, n % 3 == 0) for n in range(25)]

    def run(number: int) -> None:
        for n, poll in enumerate(polls_of(number)):
            media_type = CSV if n % 20 == 7 else JSON
            body = (as_csv if media_type == CSV else as_json)([poll])
            assert post(instances[number % 2], body, media_type).counts == (1, 0, 0)

    together(16, run)
    assert stored_polls(database_url) == sorted(
        poll for number in range(16) for poll in polls_of(number)
    )


# Files.


def test_files_of_the_same_stores_and_days_in_any_order_end_as_if_one_came_after_the_other(
    database_url: str, instances: list[Service]
) -> None:
    stores = [f"s{number:02}" for number in range(60)]
    common = [
        Poll(store, TODAY + day * DAY_MS + 1000 * n, n % 3 == 0)
        for store in stores
        for day in range(2)
        for n in range(100)
    ]
    # Half of the rows are there, so that files add rows and change rows.
    known = [Poll(store, TODAY + 7, active=True) for store in stores]
    assert post(instances[0], as_json(known)).counts == (60, 0, 0)

    def file(number: int) -> list[Poll]:
        """Polls that all files have, and some of its own, in an order of its own."""
        own = [
            Poll(store, TODAY + day * DAY_MS + 1000 * n + number, n % 2 == 0)
            for store in stores
            for day in range(2)
            for n in range(1, 7)
        ]
        polls = [*(common if number <= 4 else common[number::5]), *own]
        assert (len(polls) > SMALL) == (number <= 4)
        polls.sort(reverse=number % 2 == 0)
        if number > 2:
            random.Random(number).shuffle(polls)
        return polls

    files = [file(number) for number in range(1, 8)]
    with ThreadPoolExecutor(len(files)) as threads:
        # All begin, and wait half way for a row that somebody else has.
        with another_transaction(
            database_url, take_rows(f"store_id = 's30' and day = {TODAY // DAY_MS}")
        ):
            loading = [
                threads.submit(post, instances[number % 2], as_csv(polls), CSV)
                for number, polls in enumerate(files)
            ]
            eventually(lambda: waiting_for_locks(database_url) >= 4)
            with load(instances) as live:
                pass
        answers = [load.result() for load in loading]
    for polls, answer in zip(files, answers, strict=True):
        new, replaced, unchanged = answer.counts
        assert (replaced, new + unchanged) == (0, len(polls))
    sent = {*known, *live, *(poll for polls in files for poll in polls)}
    assert sum(answer.counts[0] for answer in answers) == len(sent) - len(known) - len(live)
    assert stored_polls(database_url) == sorted(sent)
    assert_no_deadlock(database_url)


OLD = TODAY - 30 * DAY_MS


def old_polls(second: int = 0) -> list[Poll]:
    """Polls of a day long ago, more than are small."""
    return [
        Poll(f"s{store:02}", OLD + 60_000 * n + 1000 * second, n % 5 > 0)
        for store in range(60)
        for n in range(180)
    ]


@contextmanager
def large_load_waiting(database_url: str, service: Service) -> Iterator["Future[Answer]"]:
    """A large feed of old polls that has written some, and waits for a row until the block ends."""
    known = [poll for poll in old_polls() if poll.instant == OLD]
    assert post(service, as_json(known)).counts == (60, 0, 0)
    body = as_csv(old_polls())
    assert len(old_polls()) > SMALL
    with ThreadPoolExecutor(1) as threads:
        with another_transaction(database_url, take_rows("store_id = 's30'")):
            loading = threads.submit(post, service, body, CSV)
            eventually(lambda: waiting_for_locks(database_url))
            yield loading
            assert not loading.done()
        assert loading.result().counts == (len(old_polls()) - 60, 0, 60)


def test_a_large_load_holds_up_nobody_who_writes_something_else(
    database_url: str, service: Service
) -> None:
    stores = sorted({poll.store_id for poll in old_polls()})
    others = [poll._replace(instant=poll.instant + 7 * DAY_MS) for poll in old_polls()]
    small = [Poll(store, TODAY + 5, active=False) for store in (*stores, "new")]
    hours = [{"day": 0, "start_time_local": "09:00:00", "end_time_local": "17:00:00"}]
    single = [Poll(store, TODAY + 6, active=True) for store in (*stores, "newer")]
    with large_load_waiting(database_url, service):
        assert post(service, as_csv(others), CSV).counts == (len(others), 0, 0)
        assert post(service, as_csv(small), CSV).counts == (61, 0, 0)
        for poll in single:
            assert post(service, as_json([poll])).counts == (1, 0, 0)
        for store in ("s00", "s30", "newest"):
            path = f"/stores/{store}/business-hours"
            answer = service.ask("PUT", path, json=hours)
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["business_hours"]) == 1
        assert service.get("/feeds").status_code == 200
    assert stored_polls(database_url) == sorted([*old_polls(), *others, *small, *single])


def test_polls_that_wait_for_a_large_load_hold_up_no_other(
    database_url: str, service: Service
) -> None:
    late = [Poll(f"s{store}", OLD + 60_000 * n + 1, True) for store in (10, 30) for n in range(25)]
    with large_load_waiting(database_url, service):
        waiting = [send(service, as_json([poll])) for poll in late]
        for store in range(30):
            poll = Poll(f"s{store:02}", TODAY, active=True)
            assert post(service, as_json([poll])).counts == (1, 0, 0)
    for connection in waiting:
        assert answer_to(connection).counts == (1, 0, 0)
    assert set(late) < set(stored_polls(database_url))


# Faults.

GOOD = {"store_id": "never", "status": "active", "timestamp_utc": "2023-01-22T12:00:00Z"}
#: Type and text of a body, the status of the answer, and what is wrong with which value.
BAD: tuple[tuple[str, bytes, int, dict[str, object]], ...] = (
    (JSON, json.dumps([GOOD | {"status": "up"}]).encode(), 422, {"line": 1, "column": "status"}),
    (
        JSON,
        json.dumps([GOOD, GOOD | {"timestamp_utc": "soon"}, GOOD]).encode(),
        422,
        {"line": 2, "column": "timestamp_utc", "value": "soon"},
    ),
    (JSON, json.dumps([GOOD, GOOD, GOOD | {"more": 1}]).encode(), 422, {"line": 3}),
    (JSON, json.dumps([*[GOOD] * 9, 7]).encode(), 422, {"line": 10}),
    (JSON, json.dumps(GOOD).encode(), 422, {}),
    (JSON, json.dumps([GOOD])[:-1].encode(), 400, {}),
    (JSON, b"", 400, {}),
    ("text/plain", json.dumps([GOOD]).encode(), 415, {}),
    (
        CSV,
        b"store_id,status,timestamp_utc\n"
        + b"never,active,2023-01-22 12:00:00 UTC\n" * 50
        + b"never\n",
        422,
        {"line": 52},
    ),
    (
        CSV,
        as_csv([Poll("never", TODAY + n, True) for n in range(SMALL + 1)])
        + b"x,asleep,2023-01-22 12:00:00 UTC\n",
        422,
        {"line": SMALL + 3, "column": "status", "value": "asleep"},
    ),
)


def test_what_is_wrong_is_told_to_whoever_sent_it_and_harms_no_other(
    database_url: str, service: Service
) -> None:
    good = [
        [
            Poll(f"s{number % 7}", TODAY + 100 * number + n, n % 2 == 0)
            for n in range(number % 3 + 1)
        ]
        for number in range(10 * len(BAD))
    ]
    with ThreadPoolExecutor(len(BAD)) as threads:
        with another_transaction(database_url, TAKE_ALL):
            # The good ones stand in line, to be stored together; between them come the bad ones.
            waiting, refused = [], []
            for number, polls in enumerate(good):
                waiting.append(send(service, as_json(polls)))
                if number % 10 == 5:
                    refused.append(
                        threads.submit(post, service, BAD[number // 10][1], BAD[number // 10][0])
                    )
            for (_, body, status, fault), answer in zip(BAD, refused, strict=True):
                told = answer.result().told
                assert answer.result().status == status, (body, told)
                shown = told.get("errors", [{}])
                assert len(shown) == 1
                assert shown[0] | fault == shown[0]
        for polls, connection in zip(good, waiting, strict=True):
            assert answer_to(connection).counts == (len(polls), 0, 0)
    assert stored_polls(database_url) == sorted(poll for polls in good for poll in polls)
    assert len(ask(database_url, "select from store")) == 7


def test_who_goes_away_before_the_answer_harms_nobody_and_may_send_it_again(
    database_url: str, service: Service
) -> None:
    stores = [f"s{number}" for number in range(12)]
    first = [Poll(store, TODAY, active=True) for store in stores]
    single = [Poll(store, TODAY + 1 + n, active=True) for n in range(3) for store in stores]
    large = [
        Poll(store, TODAY + 1000 + n, active=n % 2 == 0) for n in range(900) for store in stores
    ]
    assert post(service, as_json(first)).counts == (12, 0, 0)
    with another_transaction(database_url, take_rows("true")):
        gone = [send(service, as_json([poll])) for poll in single]
        loading = send(service, as_csv(large), CSV)
        eventually(lambda: waiting_for_locks(database_url))
        for connection in (*gone, loading):
            connection.close()
        for store in stores:
            other = Poll(store, TODAY + DAY_MS, active=True)
            assert post(service, as_json([other])).counts == (1, 0, 0)
            first.append(other)
    for poll in single:
        new, replaced, unchanged = post(service, as_json([poll])).counts
        assert (replaced, new + unchanged) == (0, 1)
    new, replaced, unchanged = post(service, as_csv(large), CSV).counts
    assert (replaced, new + unchanged) == (0, len(large))
    assert stored_polls(database_url) == sorted([*first, *single, *large])


# The order of arrival.


def test_of_two_polls_of_an_instant_the_one_that_is_acknowledged_last_counts(
    database_url: str, service: Service
) -> None:
    last: list[Poll] = []

    def one_after_the_other(number: int) -> None:
        for n in range(12):
            poll = Poll(f"s{number % 3}", TODAY + 100 * n + number, n % 2 == 0)
            assert post(service, as_json([poll])).counts == (1, 0, 0)
            poll = poll._replace(active=not poll.active)
            assert post(service, as_json([poll])).counts == (0, 1, 0)
            last.append(poll)

    def both_at_once(number: int) -> None:
        for n in range(12):
            poll = Poll(f"s{number % 3}", TODAY + 100 * n + number, n % 2 == 0)
            first = send(service, as_json([poll]))
            poll = poll._replace(active=not poll.active)
            second = send(service, as_json([poll]))
            counts = answer_to(first).counts, answer_to(second).counts
            assert sorted(counts) == [(0, 1, 0), (1, 0, 0)]
            # They come on connections of their own, so the second may be read before the first.
            came_last = counts[1] == (0, 1, 0)
            last.append(poll if came_last else poll._replace(active=not poll.active))

    with load([service]) as others:
        together(24, lambda number: (one_after_the_other, both_at_once)[number % 2](number))
    assert stored_polls(database_url) == sorted([*last, *others])


def test_the_order_of_arrival_counts_also_after_a_wait_for_another_transaction(
    database_url: str, service: Service
) -> None:
    held = [Poll(f"held-{number}", TODAY, active=True) for number in range(12)]
    assert post(service, as_json(held)).counts == (12, 0, 0)
    waiting = []
    with load([service]) as others:
        with another_transaction(database_url, take_rows("store_id like 'held-%'")):
            for active in (False, True, False):
                for poll in held:
                    # Together with something that could be stored at once.
                    polls = [poll._replace(active=active), Poll("free", poll.instant, active)]
                    waiting.append(send(service, as_json(polls)))
        answers = [answer_to(connection) for connection in waiting]
    for answer in answers:
        assert answer.counts[1:] in ((1, 1), (2, 0), (1, 0))
    expected = [poll._replace(active=False) for poll in held]
    expected.append(Poll("free", TODAY, active=False))
    assert stored_polls(database_url) == sorted([*expected, *others])


# Hours and zones.

ZONES = ("Europe/Berlin", "Asia/Kathmandu")


def hours_csv(stores: Sequence[str], start: int) -> bytes:
    rows = [f"{store},{day},0{start}:00:00,17:00:00\n" for store in stores for day in range(7)]
    return "".join(["store_id,day,start_time_local,end_time_local\n", *rows]).encode()


def zones_csv(stores: Sequence[str], zone: str) -> bytes:
    return "".join(["store_id,timezone_str\n", *(f"{store},{zone}\n" for store in stores)]).encode()


def settings(database_url: str) -> set[tuple[str, int, str]]:
    """Ids, the hour at which the stores open, and zones; each store must be there once."""
    rows = ask(
        database_url,
        """
        select store_id, (
                   select (extract(epoch from min(start_local)) / 3600)::integer
                   from business_hours where business_hours.store_id = store.store_id
               ), timezone.name
        from store join timezone on timezone.id = timezone
        """,
    )
    assert len({store for store, _, _ in rows}) == len(rows)
    return {(store, start, zone) for store, start, zone in rows}


def test_hours_and_zones_of_the_same_stores_at_once_end_as_if_one_came_after_the_other(
    database_url: str, instances: list[Service]
) -> None:
    stores = [f"s{number:04}" for number in range(1_000)]
    # Half of them are known.
    polls = [Poll(store, TODAY, active=True) for store in stores[::2]]
    assert post(instances[0], as_json(polls)).counts == (500, 0, 0)

    def load_one(number: int) -> None:
        kind, back = divmod(number, 2)
        in_order = stores[::-1] if back else stores
        if kind == 0:
            body, path = hours_csv(in_order, 8 + back), "/business-hours"
        elif kind == 1:
            body, path = zones_csv(in_order, ZONES[back]), "/timezones"
        else:  # polls of the new ones, by which they are made
            polls = [Poll(store, TODAY, active=True) for store in in_order[1 - back :: 2]]
            for first in range(0, 500, 20):
                assert post(instances[back], as_json(polls[first : first + 20])).status == 200
            return
        assert post(instances[(kind + back) % 2], body, CSV, path).status == 200

    together(6, load_one)
    found = settings(database_url)
    assert {store for store, _, _ in found} == set(stores)
    [start] = {start for _, start, _ in found}
    [zone] = {zone for _, _, zone in found}
    assert start in (8, 9)
    assert zone in ZONES
    assert stored_polls(database_url) == [Poll(store, TODAY, active=True) for store in stores]
    assert_no_deadlock(database_url)


# Polls are deleted meanwhile.


def test_polls_are_deleted_while_others_arrive(database_url: str, instances: list[Service]) -> None:
    acknowledged: list[tuple[float, float, Poll]] = []
    over = threading.Event()

    def poll(number: int) -> None:
        at = 0
        while not over.is_set():
            at += 1
            one = Poll(f"s{number % 4}", TODAY + 100 * at + number, active=at % 2 == 0)
            begun = time.monotonic()
            assert post(instances[number % 2], as_json([one])).status == 200
            acknowledged.append((begun, time.monotonic(), one))

    def load_files() -> None:
        at = 0
        while not over.is_set():
            at += 1
            polls = [
                Poll(f"f{n % 50}", TODAY - DAY_MS + 7 * n + at, True) for n in range(SMALL + 1)
            ]
            begun = time.monotonic()
            assert post(instances[at % 2], as_csv(polls), CSV).status == 200
            ended = time.monotonic()
            acknowledged.extend((begun, ended, one) for one in polls)

    def is_under_way(count: int) -> bool:
        return len(acknowledged) > count or any(one.done() for one in running)

    def delete() -> tuple[float, float]:
        """When it began, and when it was answered."""
        asked = "/polls?from=2023-01-01T00:00Z&to=2023-02-01T00:00Z"
        while True:
            begun = time.monotonic()
            answer = post(instances[0], b"", path=asked, method="DELETE")
            if answer.status == 200:
                return begun, time.monotonic()
            assert answer.status == 503, answer

    with ThreadPoolExecutor(7) as threads:
        running = [threads.submit(poll, number) for number in range(6)]
        running.append(threads.submit(load_files))
        try:
            for times in range(1, 4):
                eventually(partial(is_under_way, times * SMALL))
                deleted, answered = delete()
            eventually(partial(is_under_way, len(acknowledged) + 20))
        finally:
            over.set()
        for one in running:
            one.result()
    stored = set(stored_polls(database_url))
    certain = {poll for begun, _, poll in acknowledged if begun > answered}
    gone = {poll for _, ended, poll in acknowledged if ended < deleted}
    assert certain <= stored
    assert not gone & stored
    assert certain
    [(newest,)] = ask(database_url, "select max(instant) from poll")
    told = instances[1].get("/feeds").json()["newest_poll"]
    assert datetime.fromisoformat(told) == newest
