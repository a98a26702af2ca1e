"""Of two polls of one store and instant the one that arrived later counts, also when many wait."""

import json
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service.database import locks
from tests.harness.database import another_transaction, ask
from tests.harness.processes import PATIENCE
from tests.harness.service import Service, running_service

STORES = 12
TAKE_ROWS = "select from poll_day for update"
TAKE_ALL = f"select pg_advisory_xact_lock({locks.STORE_A_FEED})"


def begin_to_post(service: Service, store: int, status: str) -> HTTPConnection:
    """Send a poll, all of it, without waiting for the answer."""
    poll = {"store_id": f"s{store}", "status": status, "timestamp_utc": "2023-01-22T12:00:00Z"}
    address = urlsplit(service.base_url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=PATIENCE)
    connection.request(
        "POST", "/polls", json.dumps([poll]).encode(), {"Content-Type": "application/json"}
    )
    return connection


def answer_to(connection: HTTPConnection) -> tuple[int, dict[str, int]]:
    with closing(connection):
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("taken", [TAKE_ROWS, TAKE_ALL])
def test_who_came_first_is_stored_first(database_url: str, tmp_path: Path, taken: str) -> None:
    with running_service(database_url, tmp_path) as service:
        for store in range(STORES):
            assert answer_to(begin_to_post(service, store, "active"))[0] == 200
        with another_transaction(database_url, taken):
            waiting = []
            for number in range(2 * STORES):
                status = "inactive" if number < STORES else "active"
                waiting.append(begin_to_post(service, number % STORES, status))
                # Of each store, the second comes when the first has stood in line for long.
                assert service.get("/health/live").status_code == 200
        for connection in waiting:
            status_code, told = answer_to(connection)
            assert status_code == 200
            # The first of a store replaces what was there, and the second the first.
            assert (told["new"], told["replaced"], told["unchanged"]) == (0, 1, 0)
        assert ask(database_url, "select distinct status from poll") == [("active",)]
