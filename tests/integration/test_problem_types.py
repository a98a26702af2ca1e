"""Each kind of problem has a page that explains it, and each problem an id that the log knows."""

import ast
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import service as package
from service.web.problem_types import OF_STATUS, TYPES
from service.web.problems import Problem
from tests.harness.processes import eventually
from tests.harness.service import Service, problem, running_service

SOURCE = Path(package.__file__).parent


@pytest.fixture(scope="module")
def service(empty_service: Service) -> Service:
    """Without a feed, and without a key."""
    return empty_service


def raised() -> Iterator[tuple[int | None, str]]:
    """Status and slug of every problem that is made in the code; no status: it is not written."""
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "Problem",
                "problems.Problem",
            ):
                [status, *_] = node.args
                slugs = [keyword.value for keyword in node.keywords if keyword.arg == "slug"]
                known = ast.literal_eval(status) if isinstance(status, ast.Constant) else None
                if slugs:
                    yield known, ast.literal_eval(slugs[0])
                elif known is not None:
                    yield known, OF_STATUS[known]
    # What Litestar refuses, or the connection, which becomes a problem by its status alone.
    yield from ((status, OF_STATUS[status]) for status in (404, 405, 501))


def test_every_problem_in_the_code_is_of_a_registered_type_and_there_is_no_other() -> None:
    for status, slug in raised():
        assert slug in TYPES
        assert status in (None, TYPES[slug].status), slug
    assert {slug for _, slug in raised()} == set(TYPES)


def test_a_problem_of_no_such_type_is_not_made() -> None:
    for status, slug in ((422, "whatever"), (409, "invalid-request")):
        with pytest.raises(ValueError, match=f"{slug} is not a problem type of status {status}"):
            Problem(status, "It went wrong.", slug=slug)


def test_every_type_has_a_page_that_needs_nothing_from_elsewhere(service: Service) -> None:
    listed = service.get("/problems")
    assert set(re.findall(r'href="(/problems/[^"]+)"', listed.text)) == {
        f"/problems/{slug}" for slug in TYPES
    }
    for slug, kind in TYPES.items():
        page = service.get(f"/problems/{slug}", headers={"Accept": "text/html,*/*;q=0.8"})
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert f"<h1>{kind.title}</h1>" in page.text
        assert f"HTTP {kind.status} " in page.text
        assert "http" not in page.text.replace("http-equiv", "")
        assert len(kind.meaning) > 20
        assert len(kind.what_to_do) > 20


def test_programs_read_a_type_as_json(service: Service) -> None:
    for media_type in ("application/json", "application/problem+json"):
        told = service.get("/problems/queue-full", headers={"Accept": media_type})
        assert told.headers["content-type"] == media_type
        assert told.headers["vary"] == "Accept"
        assert told.json() == {
            "type": "/problems/queue-full",
            "status": 429,
            "title": "Queue full",
            "meaning": TYPES["queue-full"].meaning,
            "what_to_do": TYPES["queue-full"].what_to_do,
        }
    items = service.get("/problems", headers={"Accept": "application/json"}).json()["items"]
    assert [one["type"] for one in items] == [f"/problems/{slug}" for slug in TYPES]
    for accept in ("*/*", "image/png", ";;;"):
        page = service.get("/problems/queue-full", headers={"Accept": accept})
        assert page.headers["content-type"].startswith("text/html")


def test_a_type_that_there_is_not_is_not_found(service: Service) -> None:
    for slug in ("nothing", "..%2F..", "%3Cscript%3E"):
        answer = service.get(f"/problems/{slug}")
        assert answer.status_code == 404
        assert problem(answer)["type"] == "/problems/not-found"


@pytest.mark.parametrize("request_id", ["mine", "a/b:c=d+e", "0" * 128])
def test_instance_is_the_id_of_the_request_in_header_and_log(
    service: Service, request_id: str
) -> None:
    answer = service.get("/nothing", headers={"X-Request-ID": request_id})
    assert answer.headers["x-request-id"] == request_id
    problem(answer)  # checks it
    assert re.fullmatch(r"urn:storewatch:request:[A-Za-z0-9%._~-]+", answer.json()["instance"])
    eventually(lambda: f'"request_id":"{request_id}"' in service.log)


def test_an_id_that_is_not_sane_is_replaced_in_instance_too(service: Service) -> None:
    answer = service.get("/nothing", headers={"X-Request-ID": 'no"t <sane>'})
    assert answer.json()["instance"] == f"urn:storewatch:request:{answer.headers['x-request-id']}"


def test_what_is_cut_short_when_the_service_stops_is_told_in_the_same_form(
    database_url: str, tmp_path: Path
) -> None:
    with running_service(database_url, tmp_path) as service:
        parts = urlsplit(service.base_url)
        assert parts.hostname
        with socket.create_connection((parts.hostname, parts.port or 80)) as connection:
            head = ["POST /polls HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: text/csv"]
            head += ["X-Request-ID: the-one", "Content-Length: 100", "", ""]
            connection.sendall("\r\n".join(head).encode())
            eventually(lambda: service.get("/health/live").status_code == 200)
            service.stop()
            text = b"".join(iter(lambda: connection.recv(10_000), b"")).decode()
        headers, _, body = text.partition("\r\n\r\n")
        assert headers.startswith("HTTP/1.1 503 ")
        assert "x-request-id: the-one" in headers
        told = json.loads(body)
        assert told["type"] == "/problems/stopping"
        assert told["instance"] == "urn:storewatch:request:the-one"
        assert "POST /polls 503" in service.log
