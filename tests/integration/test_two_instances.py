"""Several instances on one database share its reports."""

import json
import signal
import time
from pathlib import Path
from typing import Any

from tests.harness.database import add_many_stores, ask, polls_locked
from tests.harness.processes import eventually
from tests.harness.service import Service, running_service

REPORTS, AT_ONCE = 20, 2


def states(database_url: str) -> dict[str, int]:
    counts: list[Any] = ask(database_url, "select state, count(*) from report group by state")
    return dict(counts)


def test_twenty_reports_complete_each_once_although_one_of_two_instances_is_killed_half_way(
    database_url: str, tmp_path: Path
) -> None:
    expected = add_many_stores(database_url, 20_000)
    shared = {
        "STOREWATCH_REPORTS": str(tmp_path / "reports"),
        "STOREWATCH_CONCURRENT_REPORTS": str(AT_ONCE),
    }
    with (
        running_service(database_url, tmp_path, **shared) as killed,
        running_service(database_url, tmp_path, **shared) as survivor,
    ):
        with polls_locked(database_url):
            asked = [(killed, survivor)[number % 2].trigger_report() for number in range(REPORTS)]
        eventually(lambda: states(database_url).get("completed", 0) >= REPORTS // 4)
        assert len(_killed_in_the_middle(killed, database_url)) <= AT_ONCE
        for report_id in asked:
            assert survivor.wait_for(report_id) == "Completed"
        assert states(database_url) == {"completed": REPORTS}
        # Nobody's work was done again but that of the one that was killed.
        # What was run again is what the killed one had in hand, never more than it may have.
        [(again,)] = ask(database_url, "select count(*) from report where run > 1")
        assert again <= AT_ONCE
        assert survivor.files() == sorted(
            file.with_suffix(kind).name
            for file in map(survivor.csv, asked)
            for kind in (".csv", ".totals")
        )
        for report_id in asked:
            assert survivor.csv(report_id).read_bytes() == expected


def _killed_in_the_middle(service: Service, database_url: str) -> set[str]:
    """Kill an instance at a moment when it runs a report; which ones it ran."""
    while True:
        service.send(signal.SIGSTOP)
        begun = {
            line["report_id"]
            for line in map(json.loads, service.log.splitlines())
            if line["message"].startswith("report began")
        }
        running = {
            report_id
            for (report_id,) in ask(
                database_url, "select id::text from report where state = 'running'"
            )
        }
        if begun & running:
            service.kill()
            return begun & running
        service.send(signal.SIGCONT)
        assert states(database_url)["completed"] < REPORTS, "they were faster: give more stores"
        time.sleep(0.01)


def _begun(service: Service) -> int:
    return service.log.count("report began")


def test_a_report_is_told_and_served_by_an_instance_that_did_not_make_it(
    database_url: str, tmp_path: Path
) -> None:
    expected = add_many_stores(database_url, 1000)
    shared = {"STOREWATCH_REPORTS": str(tmp_path / "reports")}
    with running_service(database_url, tmp_path, **shared) as makes:
        path = makes.ask("POST", "/reports").headers["Location"]
        eventually(lambda: makes.get(path).json()["status"] == "completed")
        with running_service(database_url, tmp_path, **shared) as serves:
            assert serves.get(path).json() == makes.get(path).json()
            assert serves.get(f"{path}/csv").content == expected


def test_an_idle_instance_takes_a_report_at_once_that_another_was_asked_for(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 10)
    shared = {"STOREWATCH_REPORTS": str(tmp_path / "reports")}
    with (
        running_service(database_url, tmp_path, **shared) as first,
        running_service(database_url, tmp_path, **shared) as second,
    ):
        for _ in range(40):
            if _begun(first) and _begun(second):
                break
            first.trigger_report()
            time.sleep(0.05)
        assert _begun(second), "only the instance that was asked ever took one"
