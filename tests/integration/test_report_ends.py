"""A report that runs is cancelled, one that has ended is deleted, and neither is the other.

Each may be sent again without doing more, and answers as it did the first time.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from tests.harness.database import add_many_stores, ask, many_stores_report, polls_locked
from tests.harness.processes import eventually
from tests.harness.reports import completed, create, running
from tests.harness.service import Service, freeze_workers, problem, running_service

KIND = "/problems/"


@pytest.fixture(scope="module")
def service(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    add_many_stores(module_database_url, 10)
    one = {"STOREWATCH_CONCURRENT_REPORTS": "1"}
    home = tmp_path_factory.mktemp("service")
    with running_service(module_database_url, home, **one) as service:
        yield service


def test_a_report_that_waits_and_one_that_runs_are_cancelled_once_and_for_all(
    service: Service, module_database_url: str
) -> None:
    with polls_locked(module_database_url):
        first, waiting = running(service), create(service).headers["Location"]
        for path in (waiting, first):
            answers = [service.ask("POST", f"{path}/cancel") for _ in range(2)]
            assert [answer.status_code for answer in answers] == [200, 200]
            assert answers[0].json()["status"] == "cancelled"
            told = [answer.json()["finished_at"] for answer in answers]
            assert told[0] == told[1] is not None
            assert service.get(path).json() == answers[1].json()
            assert service.status(path.removeprefix("/reports/")) == "Failed"


def test_cancel_never_touches_a_report_that_has_ended(
    service: Service, module_database_url: str
) -> None:
    path = completed(service)
    report_id = path.removeprefix("/reports/")
    for state in ("completed", "failed", "expired"):
        become = "update report set state = $1 where id = $2::uuid"
        ask(module_database_url, become, state, report_id)
        answer = service.ask("POST", f"{path}/cancel")
        assert answer.status_code == 409
        assert problem(answer)["type"] == f"{KIND}report-ended"
        assert state in problem(answer)["detail"]
        assert service.get(path).json()["status"] == state
    assert service.csv(report_id).exists()
    assert service.ask("POST", f"/reports/{uuid4()}/cancel").status_code == 404
    assert service.ask("POST", "/reports/nonsense/cancel").status_code == 404


def test_a_report_that_has_not_ended_is_not_deleted(
    service: Service, module_database_url: str
) -> None:
    with polls_locked(module_database_url):
        first, waiting = running(service), create(service).headers["Location"]
        for path, state in ((first, "running"), (waiting, "queued")):
            answer = service.ask("DELETE", path)
            assert answer.status_code == 409
            assert problem(answer)["type"] == f"{KIND}report-not-ended"
            assert f"POST {path}/cancel" in problem(answer)["detail"]
            assert service.get(path).json()["status"] == state
    eventually(lambda: service.get(waiting).json()["status"] == "completed")


def test_a_finished_report_is_deleted_with_its_file_and_deleting_it_again_is_no_error(
    service: Service,
) -> None:
    path = completed(service)
    others = set(service.files()) - set(service.files_of(path.removeprefix("/reports/")))
    for _ in range(3):
        deleted = service.ask("DELETE", path)
        assert (deleted.status_code, deleted.content) == (204, b"")
    assert service.get(path).status_code == 404
    assert service.ask("POST", f"{path}/cancel").status_code == 404
    assert set(service.files()) == others
    never = service.ask("DELETE", f"/reports/{uuid4()}")
    assert problem(never)["type"] == f"{KIND}report-not-found"


def test_two_who_delete_the_same_report_at_once_are_both_answered_that_it_is_gone(
    service: Service,
) -> None:
    paths = [completed(service) for _ in range(5)]
    with ThreadPoolExecutor(4) as threads:
        for path in paths:
            answers = list(threads.map(lambda path: service.ask("DELETE", path), [path] * 4))
            assert [answer.status_code for answer in answers] == [204] * 4


def test_the_id_of_a_deleted_report_is_forgotten_after_a_day(
    service: Service, module_database_url: str
) -> None:
    old, new = completed(service), completed(service)
    for path in (old, new):
        assert service.ask("DELETE", path).status_code == 204
    ask(
        module_database_url,
        "update deleted_report set deleted_at = now() - interval '25 hours' where id = $1::uuid",
        old.removeprefix("/reports/"),
    )
    eventually(lambda: service.ask("DELETE", old).status_code == 404)
    assert service.ask("DELETE", new).status_code == 204


def test_a_report_that_runs_is_cancelled_and_its_places_are_free_for_the_next(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 40_000)
    with running_service(database_url, tmp_path, STOREWATCH_WORKERS="2") as service:
        report_id, workers = freeze_workers(service, 2)
        assert service.ask("POST", f"/reports/{report_id}/cancel").status_code == 200
        eventually(lambda: service.files() == [])
        for worker in workers:
            worker.resume()
        assert service.get(f"/reports/{report_id}").json()["status"] == "cancelled"
        assert service.report() == many_stores_report(range(1, 40_001))
        assert ask(database_url, "select state from report where id = $1::uuid", report_id) == [
            ("cancelled",)
        ]
