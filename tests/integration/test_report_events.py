"""A report's progress as server-sent events: what they tell, when they end, what they survive."""

import json
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx

from tests.harness.database import add_many_stores, ask, polls_locked, table_locked
from tests.harness.processes import PATIENCE, eventually
from tests.harness.service import Service, freeze_workers, running_service

Event = dict[str, str]


@contextmanager
def events(service: Service, report_id: str, last: str | None = None) -> Iterator[Iterator[Event]]:
    """The events of a report as they come; a comment is an event with nothing but `comment`."""
    headers = {} if last is None else {"Last-Event-ID": last}
    url = f"{service.base_url}/reports/{report_id}/events"
    with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store"
        yield _parsed(answer.iter_lines())


def _parsed(lines: Iterator[str]) -> Iterator[Event]:
    event: Event = {}
    for line in lines:
        if not line:
            yield event
            event = {}
        else:
            name, _, value = line.partition(": ")
            event[name or "comment"] = value


def state(event: Event) -> tuple[str, int]:
    report = json.loads(event["data"])
    return report["status"], report["progress"]["stores_done"]


def test_events_begin_at_once_and_end_with_the_final_state(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 3000)
    with running_service(database_url, tmp_path) as service:
        with polls_locked(database_url):
            report_id = service.trigger_report()
            with events(service, report_id) as stream:
                assert set(next(stream)) == {"comment"}
        with events(service, report_id) as stream:
            told = [event for event in stream if "data" in event]
        assert {event["event"] for event in told} == {"report"}
        assert state(told[-1]) == ("completed", 3000)
        assert json.loads(told[-1]["data"]) == service.get("/reports").json()["items"][0]
        ids = [int(event["id"]) for event in told]
        assert ids == sorted(set(ids))
        # Who has heard the last word need not come back; who has not hears it.
        path = f"/reports/{report_id}/events"
        assert service.get(path, headers={"Last-Event-ID": told[-1]["id"]}).status_code == 204
        with events(service, report_id, last="1") as stream:
            (again,) = (event for event in stream if "data" in event)
        assert again["id"] == told[-1]["id"]
        assert service.get(f"/reports/{uuid4()}/events").status_code == 404


def test_events_of_a_report_that_another_instance_runs_tell_that_it_is_cancelled(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 40_000)
    with running_service(database_url, tmp_path, STOREWATCH_WORKERS="2") as runs:
        report_id, workers = freeze_workers(runs, 2)
        with running_service(database_url, tmp_path) as other:
            with events(other, report_id) as stream:
                first = next(event for event in stream if "data" in event)
                assert state(first)[0] == "running"
                assert other.ask("POST", f"/reports/{report_id}/cancel").status_code == 200
                last = list(stream)[-1]
            assert state(last)[0] == "cancelled"
            # Its instance, whose workers stand still, drops it all the same.
            eventually(lambda: runs.files() == [])
        for worker in workers:
            worker.resume()


def test_events_go_on_when_the_connection_that_hears_of_them_was_lost(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 1000)
    with running_service(database_url, tmp_path) as service, polls_locked(database_url):
        report_id = service.trigger_report()
        with events(service, report_id) as stream:
            assert any(state(event)[0] == "running" for event in stream if "data" in event)
            ask(
                database_url,
                "select pg_terminate_backend(pid) from pg_stat_activity where query like 'LISTEN%'",
            )
            assert service.ask("POST", f"/reports/{report_id}/cancel").status_code == 200
            assert state(list(stream)[-1])[0] == "cancelled"


def test_events_end_without_an_error_when_the_report_cannot_be_read(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 1000)
    with running_service(database_url, tmp_path) as service, polls_locked(database_url):
        report_id = service.trigger_report()
        with events(service, report_id) as stream:
            assert any(state(event)[0] == "running" for event in stream if "data" in event)
            with table_locked(database_url, "report"):
                told = json.dumps({"report": report_id, "state": "running"})
                ask(database_url, "select pg_notify('storewatch_report', $1)", told)
                list(stream)  # a client comes back then, and is told by 503 while it lasts
        assert "Traceback" not in service.log


def test_told_to_stop_the_service_ends_streams_of_events_and_hands_the_report_back(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 1000)
    with running_service(database_url, tmp_path) as service, polls_locked(database_url):
        report_id = service.trigger_report()
        with events(service, report_id) as stream:
            assert any(state(event)[0] == "running" for event in stream if "data" in event)
            service.send(signal.SIGTERM)
            list(stream)  # ends without an error
            service.wait()
        assert ask(database_url, "select state from report") == [("queued",)]


def test_a_change_is_read_once_for_all_who_follow_a_report(
    database_url: str, tmp_path: Path
) -> None:
    followers = 60
    add_many_stores(database_url, 10)
    with (
        running_service(database_url, tmp_path) as service,
        polls_locked(database_url),
        ThreadPoolExecutor(followers) as threads,
    ):
        report_id = service.trigger_report()
        eventually(lambda: service.get(f"/reports/{report_id}").json()["status"] == "running")
        told = threading.Barrier(followers + 1)

        def follow() -> int:
            seen = 0
            with httpx.stream(
                "GET", f"{service.base_url}/reports/{report_id}/events", timeout=PATIENCE
            ) as answer:
                for line in answer.iter_lines():
                    if line.startswith("event: report"):
                        seen += 1
                        if seen == 1:
                            told.wait()
            return seen

        following = [threads.submit(follow) for _ in range(followers)]
        told.wait()
        before = reads(database_url)
        ask(database_url, "update report set stores_done = 5 where id = $1", report_id)
        ask(database_url, "update report set state = 'cancelled' where id = $1", report_id)
        assert min(one.result() for one in following) >= 2
        # Some are the runner's, which looks once a second.
        assert reads(database_url) - before < followers


def reads(database_url: str) -> int:
    """How often reports were looked up by their id so far."""
    ask(database_url, "select pg_sleep(1.5)")  # the server counts a second late
    ((count,),) = ask(
        database_url,
        "select idx_scan::bigint from pg_stat_user_indexes where indexrelname = 'report_pkey'",
    )
    return int(count)
