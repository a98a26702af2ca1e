"""Polls as many clients send them, each on a connection of its own, and as the database has them.

`http.client` sends a request some twenty times as fast as httpx makes a client, so that it is the
service which is busy. And it lets a client go away between the request and the answer.
"""

import json
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.harness.database import ask
from tests.harness.processes import PATIENCE
from tests.harness.service import Service

JSON, CSV = "application/json", "text/csv"


class Poll(NamedTuple):
    """A poll."""

    store_id: str
    instant: int  # milliseconds since 1970-01-01 UTC
    active: bool

    @property
    def row(self) -> tuple[str, str, str]:
        """As feeds have it."""
        at = datetime.fromtimestamp(self.instant // 1000, UTC)
        stamp = f"{at:%Y-%m-%dT%H:%M:%S}.{self.instant % 1000:03}Z"
        return self.store_id, "active" if self.active else "inactive", stamp


class Answer(NamedTuple):
    """What a service answered."""

    status: int
    told: dict[str, Any]

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many polls were new, replaced and unchanged; the answer must be a good one."""
        assert self.status == 200, self
        return self.told["new"], self.told["replaced"], self.told["unchanged"]


def as_json(polls: Iterable[Poll]) -> bytes:
    """A body of JSON."""
    columns = ("store_id", "status", "timestamp_utc")
    return json.dumps([dict(zip(columns, poll.row, strict=True)) for poll in polls]).encode()


def as_csv(polls: Iterable[Poll]) -> bytes:
    """A file of the feed."""
    rows = [("store_id", "status", "timestamp_utc"), *(poll.row for poll in polls)]
    return "".join(f"{','.join(row)}\n" for row in rows).encode()


def send(
    service: Service,
    body: bytes,
    media_type: str = JSON,
    path: str = "/polls",
    method: str = "POST",
) -> HTTPConnection:
    """Send a request, all of it, without waiting for the answer."""
    address = urlsplit(service.base_url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=PATIENCE)
    connection.request(method, path, body, {"Content-Type": media_type})
    return connection


def answer_to(connection: HTTPConnection) -> Answer:
    """Wait for the answer to what was sent."""
    with closing(connection):
        response = connection.getresponse()
        return Answer(response.status, json.loads(response.read()))


def post(
    service: Service,
    body: bytes,
    media_type: str = JSON,
    path: str = "/polls",
    method: str = "POST",
) -> Answer:
    """Send a request, and wait for the answer."""
    return answer_to(send(service, body, media_type, path, method))


def stored_polls(database_url: str) -> list[Poll]:
    """All polls that the database has, in their order."""
    rows = ask(
        database_url,
        "select store_id, (1000 * extract(epoch from instant))::bigint, status = 'active' "
        "from poll",
    )
    return sorted(Poll(*row) for row in rows)
