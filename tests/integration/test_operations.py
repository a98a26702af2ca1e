"""What those who run the service see of it: health, measures, and how it starts and stops."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from compute.zones import TZ_VERSION
from tests.harness.database import ask, polls_locked
from tests.harness.processes import eventually, is_alive, storewatch
from tests.harness.service import Service, running_service

POLLS = "store_id,status,timestamp_utc\n"
ONE = f"{POLLS}s1,active,2023-01-22 12:09:39.388884 UTC\n"
CSV = {"Content-Type": "text/csv"}


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with running_service(database_url, tmp_path) as service:
        yield service


def measures(service: Service) -> dict[str, float]:
    """Every measure, by its name and labels."""
    answer = service.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_it_is_alive_and_ready(service: Service) -> None:
    assert service.get("/health/live").json() == {"status": "ok"}
    ready = service.get("/health/ready")
    assert ready.json() == {
        "status": "ok",
        "database": "ok",
        "workers": "ok",
        "reports": "ok",
        "tz_version": TZ_VERSION,
    }


def test_measures_follow_what_is_done(service: Service) -> None:
    before = measures(service)
    assert before['storewatch_reports{state="completed"}'] == 0
    service.ask("POST", "/polls", content=ONE, headers=CSV)
    service.ask("POST", "/polls", content=f"{ONE}s1,perhaps,x\n", headers=CSV)
    service.report()
    after = measures(service)
    assert after['storewatch_reports{state="completed"}'] == 1
    assert after['storewatch_reports{state="queued"}'] == 0
    assert after['storewatch_ingest_rows_total{feed="polls"}'] == 1
    assert after['storewatch_ingest_refused_total{feed="polls"}'] == 1
    assert after["storewatch_stores_total"] == 1
    assert after["storewatch_polls_total"] == 1
    assert after['storewatch_batch_seconds_count{step="read"}'] == 1
    assert after['storewatch_batch_seconds_count{step="compute"}'] == 1
    assert after["storewatch_batches_in_flight_limit"] >= 1
    assert after["storewatch_batches_in_flight"] == 0
    assert after["storewatch_batches_waiting"] == 0
    assert after["storewatch_worker_processes"] >= 1
    assert after['storewatch_database_connections{state="idle"}'] >= 1


def test_requests_are_measured_by_route_never_by_id(service: Service) -> None:
    for number in range(3):
        service.get(f"/stores/secret-{number}")
        service.get(f"/nothing/secret-{number}")
        service.get(f"/get_report/secret-{number}")
    found = measures(service)
    name = "storewatch_http_request_seconds_count"
    assert found[f'{name}{{method="GET",route="/stores/{{store_id}}",status="404"}}'] == 3
    assert found[f'{name}{{method="GET",route="none",status="404"}}'] == 3
    assert found[f'{name}{{method="GET",route="/get_report/{{report_id}}",status="200"}}'] == 3
    assert not any("secret" in label for label in found)


def test_every_line_of_the_log_is_json_and_a_reports_lines_tell_its_id(service: Service) -> None:
    service.ask("POST", "/polls", content=ONE, headers=CSV)
    report_id = service.trigger_report()
    service.wait_for(report_id)
    service.stop()
    lines = [json.loads(line) for line in service.log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    about = [line for line in lines if line.get("report_id") == report_id]
    assert any("began" in line["message"] for line in about)
    assert any("completed" in line["message"] for line in about)
    # Asked every few seconds by machines: not worth a line.
    assert not any("/health/" in line.get("path", "") for line in lines)


def test_a_database_that_cannot_be_used_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    url = "postgresql://user:secret@127.0.0.1:5432:1/x"
    failed = storewatch("serve", "--port", "0", database_url=url, home=tmp_path)
    assert failed.returncode == 3
    log = failed.stderr.decode()
    assert "DATABASE_URL cannot be read" in log
    assert "secret" not in log
    assert "Traceback" not in log


# Stopping.


def test_a_request_that_began_ends_before_the_service_does(service: Service) -> None:
    parts = urlsplit(service.base_url)
    assert parts.hostname
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=60) as connection:
        head = ["POST /polls HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: text/csv"]
        connection.sendall("\r\n".join([*head, f"Content-Length: {len(ONE)}", "", ""]).encode())
        connection.sendall(ONE[:40].encode())
        eventually(lambda: service.get("/health/live").status_code == 200)
        service.send(signal.SIGTERM)
        eventually(lambda: "Shutting down" in service.log)
        connection.sendall(ONE[40:].encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 200 ")
    service.wait()
    assert "POST /polls 200" in service.log


def test_it_stops_although_a_request_never_ends_and_a_report_runs(
    service: Service, database_url: str
) -> None:
    service.ask("POST", "/polls", content=ONE, headers=CSV)
    parts = urlsplit(service.base_url)
    assert parts.hostname
    with (
        socket.create_connection((parts.hostname, parts.port or 80)) as connection,
        polls_locked(database_url),
    ):
        head = ["POST /polls HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: text/csv"]
        connection.sendall("\r\n".join([*head, "Content-Length: 100", "", ""]).encode())
        connection.sendall(ONE[:40].encode())
        report_id = service.trigger_report()
        eventually(lambda: "began" in service.log)
        children = service.processes()
        service.stop()
        answer = connection.recv(10_000).decode()
    assert answer.startswith("HTTP/1.1 503 ")
    assert "/problems/stopping" in answer
    assert "Traceback" not in service.log
    assert "handed back to the queue" in service.log
    eventually(lambda: not any(map(is_alive, children)))
    assert service.csv(report_id).exists() is False


def test_it_stops_although_somebody_follows_a_report_which_goes_back_to_the_queue(
    service: Service, database_url: str
) -> None:
    service.ask("POST", "/polls", content=ONE, headers=CSV)
    with polls_locked(database_url):
        report_id = service.ask("POST", "/reports").json()["id"]
        url = f"{service.base_url}/reports/{report_id}/events"
        with httpx.stream("GET", url, timeout=60) as events:
            pieces = events.iter_raw()
            assert next(pieces).startswith(b":")
            service.stop()
            assert b"completed" not in b"".join(pieces)  # it ends, without a final state
        assert ask(database_url, "select state from report") == [("queued",)]
    assert "Traceback" not in service.log
