"""Polls as NDJSON, a JSON object on each line, as programs that collect lines send them."""

import gzip
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.feeds.text import BLOCK
from tests.harness.database import ask
from tests.harness.processes import eventually
from tests.harness.service import Service, problem, running_service

POLL = {"store_id": "s1", "status": "active", "timestamp_utc": "2023-01-22T12:09:39Z"}
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with running_service(database_url, tmp_path) as service:
        yield service


def post(service: Service, body: bytes, path: str = "/polls", **headers: str) -> httpx.Response:
    return service.ask("POST", path, content=body, headers=NDJSON | headers)


def lines(*rows: Mapping[str, object]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def many(count: int) -> bytes:
    return b"".join(
        b'{"host": "collector", "store_id": "s%d", "status": "%s", '
        b'"timestamp_utc": "2023-01-22 12:%02d:%02d.000 UTC"}\n'
        % (n % 1_000, (b"active", b"inactive")[n % 2], n // 60_000 % 60, n // 1_000 % 60)
        for n in range(count)
    )


@pytest.mark.parametrize("path", ["/polls", "/polls/ndjson"])
def test_lines_are_stored_also_without_an_end_and_with_empty_ones_and_further_members(
    service: Service, database_url: str, path: str
) -> None:
    body = lines(POLL, POLL | {"store_id": "s2", "host": "a", "n": [1]}).replace(b"\n", b"\r\n")
    body = b"\xef\xbb\xbf\n" + body + b" \n" + lines(POLL | {"status": "inactive"}).rstrip()
    assert post(service, body, path).json() == {
        "rows": 3,
        "stores": 2,
        "new": 2,
        "replaced": 0,
        "unchanged": 0,
        "removed": 0,
    }
    assert sorted(ask(database_url, "select store_id, status from poll")) == [
        ("s1", "inactive"),
        ("s2", "active"),
    ]


@pytest.mark.parametrize(
    "media_type",
    ["application/x-ndjson; charset=utf-8", "application/jsonl", "Application/NDJSON"],
)
def test_it_has_several_names(service: Service, media_type: str) -> None:
    for path in ("/polls", "/polls/ndjson"):
        answer = post(service, lines(POLL), path, **{"Content-Type": media_type})
        assert answer.json()["rows"] == 1


def test_what_is_sent_is_not_noted_as_it_would_push_files_out(service: Service) -> None:
    assert post(service, lines(POLL)).status_code == 200
    assert post(service, b"{}\n").status_code == 422
    csv = b"store_id,status,timestamp_utc\ns1,active,2023-01-22T12:09:39Z\n"
    for body in (csv, csv + b"s1\n"):
        service.ask("POST", "/polls", content=body, headers={"Content-Type": "text/csv"})
    known = service.get("/feeds").json()
    assert [load["loaded"]["unchanged"] for load in known["loads"]] == [1]
    assert [refusal["fault"][:7] for refusal in known["refusals"]] == ["line 3:"]


def test_more_bytes_than_a_feed_may_have_are_refused_packed_or_not(
    database_url: str, tmp_path: Path
) -> None:
    body = many(2_000)
    with running_service(database_url, tmp_path, STOREWATCH_FEED_BYTES="200000") as service:
        assert len(gzip.compress(body)) < 200_000 < len(body)
        for sent in (body, gzip.compress(body)):
            answer = post(service, sent)
            assert answer.status_code == 413
            assert "larger than 200000 bytes, decompressed" in problem(answer)["detail"]
        assert ask(database_url, "select count(*) from poll") == [(0,)]


def test_a_client_that_goes_away_in_the_middle_stores_nothing(
    service: Service, database_url: str
) -> None:
    body = many(60_000)
    parts = urlsplit(service.base_url)
    assert parts.hostname
    begin = f"POST /polls HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/x-ndjson"
    for more in (
        f"Content-Length: {len(body) + 1}\r\n\r\n",
        f"Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n",
    ):
        with socket.create_connection((parts.hostname, parts.port or 80), 60) as connection:
            connection.sendall(f"{begin}\r\n{more}".encode() + body)
    eventually(lambda: service.log.count("POST /polls 400") == 2)
    assert ask(database_url, "select count(*) from store") == [(0,)]
    assert post(service, body).json()["new"] == 60_000
    assert "Traceback" not in service.log


def test_nothing_is_nothing(service: Service) -> None:
    for body in (b"", b"\n\n"):
        assert post(service, body).json()["rows"] == 0


def test_many_blocks_are_stored_packed_or_not_as_the_same_csv_would_be(
    service: Service, database_url: str
) -> None:
    body = many(100_000)
    assert len(body) > 2 * BLOCK
    assert post(service, gzip.compress(body, 1), "/polls/ndjson").json()["new"] == 100_000
    assert post(service, body).json()["unchanged"] == 100_000
    assert ask(database_url, "select count(*) from poll") == [(100_000,)]


def test_what_is_wrong_is_told_by_line_member_and_value_and_nothing_is_stored(
    service: Service, database_url: str
) -> None:
    good = many(60_000)
    wrong = lines(
        POLL | {"status": "asleep"},
        POLL | {"timestamp_utc": "soon"},
        {"store_id": "s1", "status": "active"},
        POLL | {"store_id": 5},
    )
    wrong += b"nonsense\n[]\n{\n}\n" + lines(POLL).rstrip() * 2 + b'\n{"store_id": "\xff"}\n'
    assert len(good) > BLOCK
    answer = post(service, gzip.compress(good + wrong, 1))
    assert answer.status_code == 422
    told = problem(answer)
    errors = [(error["line"], error.get("column"), error.get("value")) for error in told["errors"]]
    assert told["count"] == len(errors) == 10
    assert errors[:4] == [
        (60_001, "status", "asleep"),
        (60_002, "timestamp_utc", "soon"),
        (60_003, None, None),
        (60_004, "store_id", "5"),
    ]
    assert [line for line, *_ in errors[4:]] == list(range(60_005, 60_011))
    assert ask(database_url, "select count(*) from store") == [(0,)]


def test_a_line_without_an_end_is_refused(service: Service) -> None:
    answer = post(service, lines(POLL) + b'{"store_id": "' + 3 * BLOCK * b"x")
    assert answer.status_code == 422
    assert "no line ends" in problem(answer)["errors"][0]["problem"]
    assert problem(answer)["errors"][0]["line"] == 2


def test_only_polls_come_as_ndjson(service: Service) -> None:
    for path in ("/timezones", "/business-hours", "/polls/csv", "/feeds"):
        assert post(service, lines(POLL), path).status_code == 415
    answer = service.ask("POST", "/polls", content=b"", headers={"Content-Type": "text/plain"})
    assert answer.headers["Accept-Post"] == "text/csv, application/x-ndjson, application/json"
