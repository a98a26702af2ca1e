"""Receivers of webhooks: real HTTP servers that answer as a test wants, and keep what came."""

import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from tests.harness.certificates import self_signed
from tests.harness.processes import eventually


@dataclass(frozen=True)
class Reply:
    """How a receiver answers.

    Attributes:
        status: HTTP status
        headers: of the answer
        body: what it sends
        endless: whether it sends the body again and again, until nobody reads it
        after: what it waits for, before it answers
    """

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    endless: bool = False
    after: threading.Event | None = None


@dataclass(frozen=True)
class Received:
    """A request that came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Receiver:
    """A receiver that listens.

    Attributes:
        url: where
        received: what came, in order
        reply: how it answers from now on
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self.received: list[Received] = []
        self.reply = Reply()

    def wait_for(self, count: int) -> Sequence[Received]:
        """Wait until so many requests came; all that came."""
        eventually(lambda: len(self.received) >= count)
        return self.received

    def of_kind(self, kind: str) -> list[Received]:
        """What came of one kind."""
        return [one for one in self.received if one.event["type"] == kind]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: who asked has broken off."""


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    """A certificate of a host name that nobody has signed but itself.

    Args:
        folder: where to put it
        name: of the host

    Returns:
        a receiver's TLS with it, and the file that makes it trusted
    """
    file, private = self_signed(folder, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, private)
    return context, file


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on a free port, until the block ends.

    Args:
        tls: its certificate; None: it speaks plain HTTP
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append(Received(self.path, headers, body))
            reply = receiver.reply
            if reply.after is not None:
                reply.after.wait()
            try:
                self._answer(reply)
            except OSError:  # whoever asked is gone
                self.close_connection = True

        def _answer(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if not reply.endless:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
            while reply.endless:
                self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            """Say nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    receiver = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
