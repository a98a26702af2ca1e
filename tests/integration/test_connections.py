"""What one client can do to the others by its connections and its bodies: not much."""

import asyncio
import gzip
import json
import re
import resource
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
import uvloop
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send
from uvicorn.server import ServerState

from service.web.connections import Connections, accept_more
from service.web.patience import Crowd, Patience
from tests.harness import impatient
from tests.harness.database import add_many_stores, polls_locked
from tests.harness.processes import COMMAND, PATIENCE, eventually, make_key
from tests.harness.service import Service, problem, running_service

# -P: the folder of the file is not a place to import from; it has a `service` of its own.
IMPATIENT = (sys.executable, "-P", str(Path(impatient.__file__)))
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
JSON, CSV = "application/json", "text/csv"
POLL = {"store_id": "a", "status": "active", "timestamp_utc": "2023-01-22 12:09:39 UTC"}
FOR_EVERY_ANSWER = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.fixture(scope="module")
def service(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    with running_service(
        module_database_url, tmp_path_factory.mktemp("service"), command=IMPATIENT
    ) as service:
        yield service


def connect(service: Service) -> socket.socket:
    url = urlsplit(service.base_url)
    assert url.hostname
    assert url.port
    return socket.create_connection((url.hostname, url.port), timeout=PATIENCE)


def head(path: str, media_type: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def answer(connection: socket.socket) -> httpx.Response:
    """The next response."""
    read = HTTPResponse(connection)
    read.begin()
    return httpx.Response(read.status, headers=read.getheaders(), content=read.read())


def is_closed(connection: socket.socket) -> bool:
    """Whether nothing more comes; waits for it."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_clients_that_connect_together_are_not_accepted_one_by_one() -> None:
    accepted = 0

    class Counted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            nonlocal accepted
            accepted += 1

    async def turns_until_all_are_accepted() -> int:
        server = await asyncio.get_running_loop().create_server(Counted, "127.0.0.1", 0)
        (listening,) = server.sockets
        servers = [server, *await accept_more(listening, Counted, backlog=200)]
        address = listening.getsockname()
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(socket.create_connection(address))
            turns = 0
            while accepted < 100:
                await asyncio.sleep(0)
                turns += 1
            for each in servers:
                each.close()
        return turns

    assert uvloop.run(turns_until_all_are_accepted()) < 20


def test_a_small_answer_comes_in_one_piece(service: Service) -> None:
    with connect(service) as sender:
        for _ in range(50):
            sender.sendall(LIVE)
            received = sender.recv(65_536)
            head, _, body = received.partition(b"\r\n\r\n")
            assert json.loads(body)
            assert b"content-length: %d\r\n" % len(body) in head


def test_the_head_of_an_answer_does_not_wait_for_a_body_that_is_yet_to_come() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["type"] == ScopeType.HTTP and scope["method"] == "GET":
            await head_read.wait()
        await send({"type": "http.response.body", "body": b"late", "more_body": False})

    async def answers() -> tuple[bytes, bytes]:
        crowd = Crowd(Patience())
        config = uvicorn.Config(app, lifespan="off", log_config=None)
        config.load()
        of_all = Connections(10, Patience(), crowd)
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: of_all(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(LIVE.replace(b"GET", b"HEAD") + LIVE)
            without_body = await reader.readuntil(b"\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            head_read.set()
            chunks = await reader.readuntil(b"0\r\n\r\n")
            writer.close()
            await writer.wait_closed()
        assert without_body.startswith(b"HTTP/1.1 200")
        return head, chunks

    head_read = asyncio.Event()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        head, chunks = runner.run(answers())
    assert head.startswith(b"HTTP/1.1 200")
    assert chunks == b"4\r\nlate\r\n0\r\n\r\n"


def test_two_thousand_silent_connections_keep_nobody_out_and_fill_no_log(
    database_url: str, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    few_files = ("sh", "-c", 'ulimit -n 1024; exec "$0" "$@"', *COMMAND)
    with (
        running_service(database_url, tmp_path, command=few_files) as service,
        ExitStack() as open_,
    ):
        before = len(service.log)
        for _ in range(2000):
            open_.enter_context(connect(service))
        for _ in range(3):
            with connect(service) as further:
                further.sendall(LIVE)
                assert answer(further).status_code == 200
        eventually(lambda: "closed for newer ones" in service.log)
        assert len(service.log) - before < 3000
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_who_asks_nothing_is_closed_and_who_stops_in_the_head_is_told(service: Service) -> None:
    with connect(service) as silent, connect(service) as half, connect(service) as second:
        half.sendall(LIVE[:-10])
        second.sendall(LIVE)
        assert answer(second).status_code == 200
        second.sendall(LIVE[:-10])
        for one in (half, second):
            told = answer(one)
            assert told.status_code == 408
            assert "head" in problem(told)["detail"]
            assert is_closed(one)
        assert is_closed(silent)


@pytest.mark.parametrize(
    ("path", "media_type", "begin"),
    [
        ("/polls", JSON, b'[{"store_id":'),
        ("/polls", CSV, b"store_id,status,timestamp_utc\na,act"),
        ("/polls", CSV, b""),
        ("/reports", JSON, b'{"as_of":'),
    ],
)
def test_a_body_that_stops_is_told_that_it_is_too_slow(
    service: Service, path: str, media_type: str, begin: bytes
) -> None:
    with connect(service) as half:
        half.sendall(head(path, media_type, 100) + begin)
        told = answer(half)
        assert told.status_code == 408
        assert "too slowly" in problem(told)["detail"]
        assert is_closed(half)


def test_a_body_that_trickles_is_too_slow_as_well(service: Service) -> None:
    with connect(service) as trickle:
        trickle.sendall(head("/polls", JSON, 1_000_000))
        trickle.settimeout(0.05)
        told = b""
        while not told:
            trickle.sendall(b" ")
            try:
                told = trickle.recv(12)
            except TimeoutError:
                continue
        assert told == b"HTTP/1.1 408"


def test_a_body_that_is_slow_but_goes_on_is_taken(service: Service) -> None:
    body = json.dumps([POLL]).encode() + b" " * 500_000

    def pieces() -> Iterator[bytes]:
        for begin in range(0, len(body), 100_000):
            yield body[begin : begin + 100_000]
            time.sleep(0.4)  # in all it is twice as long as a body may be silent

    loaded = service.ask("POST", "/polls", content=pieces(), headers={"Content-Type": JSON})
    assert loaded.status_code == 200, loaded.text


def test_who_sends_on_after_the_answer_is_closed(service: Service) -> None:
    with connect(service) as refused:
        refused.sendall(head("/polls", "text/html", 1_000_000) + b"<p>")
        assert answer(refused).status_code == 415
        assert is_closed(refused)


def test_who_does_not_read_the_answer_is_closed(service: Service) -> None:
    asked = b"GET /schema/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(service) as deaf:
        deaf.sendall(20 * asked)
        eventually(lambda: "client does not read" in service.log)
        come = 0
        with suppress(ConnectionResetError):
            while piece := deaf.recv(1 << 20):
                come += len(piece)
        assert come < 20 * len(service.get("/schema/swagger-ui-bundle.js").content)


def eventually_answered(service: Service, status: int) -> httpx.Response:
    """Ask until the answer has a status; in a flood some who are turned away are only cut off."""
    answers: list[httpx.Response] = []

    def answered() -> bool:
        with suppress(httpx.TransportError):
            answers.append(service.get("/health/live"))
        return bool(answers) and answers[-1].status_code == status

    eventually(answered)
    return answers[-1]


def test_while_all_connections_are_busy_a_new_one_is_told_to_come_back_and_finds_a_place_soon(
    database_url: str, tmp_path: Path
) -> None:
    with (
        running_service(database_url, tmp_path, STOREWATCH_CONNECTIONS="4") as service,
        ExitStack() as open_,
    ):
        busy = [open_.enter_context(connect(service)) for _ in range(4)]
        for one in busy:  # a connection whose request nobody has read yet is not busy
            one.sendall(head("/polls", JSON, 100)[:-2] + b"Expect: 100-continue\r\n\r\n")
        for one in busy:
            assert one.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            one.sendall(b"[")
        refused = eventually_answered(service, 503)
        assert refused.headers["Retry-After"]
        assert problem(refused)["type"].endswith("too-many-connections")
        for _ in range(200):
            open_.enter_context(connect(service))
        # Before anybody was refused, the busy ones had longer.
        eventually_answered(service, 200)
        assert answer(busy[0]).status_code == 408
        assert "Traceback" not in service.log


def test_streams_of_events_leave_half_of_the_connections_to_others(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 10)
    with (
        running_service(database_url, tmp_path, STOREWATCH_CONNECTIONS="6") as service,
        polls_locked(database_url),
        ExitStack() as open_,
    ):
        url = f"/reports/{service.trigger_report()}/events"

        def stream() -> httpx.Response:
            return open_.enter_context(
                httpx.stream("GET", service.base_url + url, timeout=PATIENCE)
            )

        streams = [stream() for _ in range(3)]
        assert [one.status_code for one in streams] == [200] * 3
        refused = service.get(url)
        assert refused.status_code == 503
        assert refused.headers["Retry-After"]
        assert problem(refused)["type"].endswith("too-many-streams")
        streams[0].close()
        eventually(lambda: stream().status_code == 200)


@pytest.mark.parametrize(
    ("length", "begin"),
    [(9_999_999, b"["), (2000, gzip.compress(b"[", mtime=0)[:12]), (2000, b"\x1f")],
    ids=["large", "gzip", "perhaps gzip"],
)
def test_a_body_finds_no_room_beside_others_and_is_told_to_come_back(
    database_url: str, tmp_path: Path, length: int, begin: bytes
) -> None:
    limits = {"STOREWATCH_BODY_BYTES": "10000000"}
    with running_service(database_url, tmp_path, command=IMPATIENT, **limits) as service:

        def load(size: int) -> httpx.Response:
            body = json.dumps([POLL]).encode().ljust(size)
            return service.ask("POST", "/polls", content=body, headers={"Content-Type": JSON})

        def refused() -> bool:
            """Whether there was no room; the body before is cut off soon, which makes some."""
            with connect(service) as holder, ThreadPoolExecutor() as beside:
                holder.sendall(head("/polls", JSON, length) + begin)
                small = beside.submit(load, 1000)
                told = load(5_000_000)
                assert small.result().status_code == 200, "what is small needs no room"
            if told.status_code == 200:
                return False
            assert told.status_code == 503
            assert problem(told)["type"].endswith("no-room")
            return bool(told.headers["Retry-After"])

        eventually(refused)
        eventually(lambda: load(5_000_000).status_code == 200)


def test_who_waits_in_line_for_room_gets_it_when_the_one_before_has_ended(
    database_url: str, tmp_path: Path
) -> None:
    body = json.dumps([POLL]).encode().ljust(9_000_000)
    with (
        running_service(database_url, tmp_path, STOREWATCH_BODY_BYTES="10000000") as service,
        ExitStack() as open_,
    ):
        senders = [open_.enter_context(connect(service)) for _ in range(4)]
        for sender in senders:
            sender.sendall(head("/polls", JSON, len(body)) + body[:70_000])
        for sender in senders:
            sender.sendall(body[70_000:])
            assert answer(sender).status_code == 200


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("POST /polls HTTP/1.1|Host: a|Content-Length: 5|Transfer-Encoding: chunked", 400),
        ("GET /health/live HTTP/1.1|Host: a|Content-Length: 5|Transfer-Encoding: chunked", 400),
        ("POST /polls HTTP/1.0|Host: a|Transfer-Encoding: chunked", 400),
        ("POST /polls HTTP/1.1|Host: a|Content-Length: 5|Content-Length: 6", 400),
        ("POST /polls HTTP/1.1|Host: a|Content-Length: 5, 6", 400),
        ("POST /polls HTTP/1.1|Host: a|Content-Length: +5", 400),
        ("POST /polls HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked", 501),
        ("POST /polls HTTP/1.1|Host: a|Transfer-Encoding: chunked|Transfer-Encoding: x", 400),
        ("POST /polls HTTP/1.1|Host: a|Transfer-Encoding: chunked, chunked", 400),
        ("POST /polls HTTP/1.1|Host: a|Transfer-Encoding: xchunked", 501),
        ("POST /polls HTTP/1.1|Host: a|Content-Length: 5|Content-Length: 5", 400),
        ("POST /polls HTTP/1.1|Host: a|Content-Length: 0x5", 400),
        ("POST /polls HTTP/1.1|Host: a|Content-Length : 5", 400),
        ("GET /health/live HTTP/1.1|X: no host", 400),
        ("GET /health/live HTTP/1.1|Host: a|Host: b", 400),
        ("GET /health/live HTTP/1.1|Host: a|X: folded| into two", 400),
        ("GET /health/live HTTP/1.1|Host: a|X: nul\0", 400),
        ("GET /health/live HTTP/1.1|Host: a|X: a\rY: b", 400),
        ("GET /health/live HTTP/1.1|Host: a|: nameless", 400),
        ("GET /health/live HTTP/0.9|Host: a", 400),
        ("GET /health/live HTTP/2.0|Host: a", 400),
        ("GET /health/live HTTP/1.7|Host: a", 400),
        ("GET /health/live|Host: a", 400),
        ("GET /health/ live HTTP/1.1|Host: a", 400),
        ("GET /\u00e9 HTTP/1.1|Host: a", 400),
        ("CONNECT a:1 HTTP/1.1|Host: a", 400),
        ("nonsense", 400),
    ],
)
def test_a_request_that_could_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_read(
    service: Service, lines: str, status: int
) -> None:
    with connect(service) as sender:
        sender.sendall(lines.replace("|", "\r\n").encode() + b"\r\n\r\n0\r\n\r\n" + LIVE)
        told = answer(sender)
        assert told.status_code == status
        assert problem(told)["detail"]
        assert told.headers["Connection"] == "close"
        for name, value in FOR_EVERY_ANSWER.items():
            assert told.headers.get_list(name) == [value]
        assert is_closed(sender)


def test_a_head_that_grows_and_grows_is_refused(service: Service) -> None:
    with connect(service) as sender:
        sender.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\nX: " + 70_000 * b"y")
        told = answer(sender)
        assert told.status_code == 431
        assert problem(told)["detail"]
        assert is_closed(sender)


@pytest.mark.parametrize(
    "chunks",
    [
        b"x\r\nabc\r\n0\r\n\r\n",
        b"-1\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\nabc\n0\n\n",
        b"ffffffffffffffffff\r\nabc",
        b"3;" + 70_000 * b"x",
        b"0\r\nX: " + 400_000 * b"x",
        b"0\r\n" + 20_000 * b"X: y\r\n",
    ],
)
def test_chunks_that_are_none_are_refused_and_nothing_behind_them_is_read(
    service: Service, chunks: bytes
) -> None:
    head = b"POST /polls HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
    with connect(service) as sender:
        sender.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + LIVE)
        told = answer(sender)
        assert told.status_code == 400
        assert told.headers["Connection"] == "close"
        assert is_closed(sender)


def test_requests_may_be_sent_ahead_but_not_without_end(service: Service) -> None:
    with connect(service) as sender:
        sender.sendall(10 * LIVE)
        received = b""
        while received.count(b"HTTP/1.1 200") < 10:
            received += sender.recv(65_536)
    with connect(service) as sender:
        sender.sendall(5_000 * LIVE)
        received = b""
        with suppress(ConnectionResetError):
            while piece := sender.recv(65_536):
                received += piece
        assert received.count(b"HTTP/1.1 200") < 100


def test_what_was_asked_before_a_request_that_is_none_is_answered_first(service: Service) -> None:
    late = b"GET /stores?limit=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    chunks = b"POST /polls HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"
    endless = b"GET / HTTP/1.1\r\nX: " + 100_000 * b"y"
    for bad, status in ((b"nonsense\r\n\r\n", b"400"), (chunks, b"400"), (endless, b"431")):
        with connect(service) as sender:
            sender.sendall(late + LIVE + bad)
            received = b""
            while piece := sender.recv(65_536):
                received += piece
        assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"200", status]


def test_a_body_that_goes_wrong_after_its_answer_has_no_second_one(service: Service) -> None:
    with connect(service) as sender:
        sender.sendall(
            b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert answer(sender).status_code == 404
        sender.sendall(b"x\r\n")
        assert is_closed(sender)


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_client_that_would_rather_speak_http_2_has_its_body_read(
    service: Service, framing: str
) -> None:
    body = json.dumps([POLL]).encode()
    if framing == "length":
        more, sent = b"Content-Length: %d" % len(body), body
    else:
        more, sent = b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    for pieces in (1, 2, 7):
        with connect(service) as sender:
            wire = (
                b"POST /polls HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"
                b"\r\n%b\r\n\r\n%b" % (more, sent)
            )
            size = -(-len(wire + LIVE) // pieces)
            for begin in range(0, len(wire + LIVE), size):
                sender.sendall((wire + LIVE)[begin : begin + size])
                time.sleep(0.02)
            told = answer(sender)
            assert told.status_code == 200, told.text
            assert told.json()["rows"] == 1
            assert is_closed(sender)  # what came behind it is not looked at


def test_trailers_are_no_headers(service: Service) -> None:
    with connect(service) as sender:
        sender.sendall(
            b"POST /polls HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\nContent-Type: text/csv\r\n\r\n"
        )
        assert answer(sender).status_code == 415


def test_bad_requests_do_not_fill_the_log(service: Service) -> None:
    before = len(service.log)
    for _ in range(100):
        with connect(service) as sender:
            sender.sendall(b"nonsense\r\n\r\n")
            assert answer(sender).status_code == 400
        with connect(service) as sender:
            sender.sendall(
                LIVE.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
            )
            assert answer(sender).status_code == 200
    eventually(lambda: "not valid HTTP" in service.log[before:])
    assert len(service.log) - before < 5000


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/dashboard/nothing"),
        ("GET", "/schema"),
        ("GET", "/schema/openapi.json"),
        ("GET", "/health/live"),
        ("GET", "/stores"),
        ("POST", "/stores"),
        ("POST", "/polls"),
        ("OPTIONS", "/reports"),
    ],
)
def test_every_answer_keeps_other_sites_and_guessing_browsers_off(
    service: Service, method: str, path: str
) -> None:
    told = service.ask(method, path)
    for name, value in FOR_EVERY_ANSWER.items():
        assert told.headers.get_list(name) == [value]


def test_options_needs_no_key(database_url: str, tmp_path: Path) -> None:
    make_key(database_url, tmp_path, "some")
    with running_service(database_url, tmp_path) as service:
        assert service.get("/stores").status_code == 401
        for path in ("/", "/dashboard/app.js", "/health/live", "/schema", "/schema/openapi.json"):
            told = service.ask("OPTIONS", path)
            assert told.status_code == 204, path
            assert "GET" in told.headers["Allow"].split(", ")


def test_reports_are_not_for_other_accounts_whatever_the_umask(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 10)
    no_umask = ("sh", "-c", 'umask 0; exec "$0" "$@"', *COMMAND)
    with running_service(database_url, tmp_path, command=no_umask) as service:
        service.report()
        assert service.reports.stat().st_mode & 0o777 == 0o750
        modes = {file.stat().st_mode & 0o777 for file in service.reports.iterdir()}
        assert modes == {0o640}


def test_a_service_that_is_killed_leaves_nothing_in_the_folder_for_temporary_files(
    database_url: str, public_folder: Path, tmp_path: Path
) -> None:
    add_many_stores(database_url, 10)
    temporary = public_folder  # whose path is short, as that of a socket must be
    with running_service(database_url, tmp_path, TMPDIR=str(temporary)) as service:
        service.report()
        assert list(temporary.iterdir())
        service.kill()
        eventually(lambda: not list(temporary.iterdir()))
