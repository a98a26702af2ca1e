"""An S3 server in a process of its own, and a network to it that freezes."""

import queue
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
from obstore.store import S3Store

from tests.harness.processes import PATIENCE, eventually, free_port


@contextmanager
def s3_server(bucket: str) -> Iterator[dict[str, str]]:
    """What the environment says of a server with an empty bucket."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: _answers(url))
            httpx.put(f"{url}/{bucket}").raise_for_status()
            yield {
                "AWS_ENDPOINT": url,
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": "any",
                "AWS_SECRET_ACCESS_KEY": "any",
                "AWS_REGION": "us-east-1",
            }
        finally:
            server.kill()


def bucket(s3: dict[str, str], name: str) -> S3Store:
    """A bucket, past the service."""
    return S3Store(
        name,
        endpoint=s3["AWS_ENDPOINT"],
        region=s3["AWS_REGION"],
        access_key_id=s3["AWS_ACCESS_KEY_ID"],
        secret_access_key=s3["AWS_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True},
    )


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=PATIENCE).is_success
    except httpx.TransportError:
        return False


class Network:
    """A way to a server, which can be frozen: it takes what is sent, and passes it on later.

    Attributes:
        url: its near end
        held: bytes that it has taken and not passed on
    """

    def __init__(self, host: str, port: int) -> None:
        self._flows = threading.Event()
        self._flows.set()
        self.held = 0
        network = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection((host, port)) as far:
                    taken: queue.SimpleQueue[bytes] = queue.SimpleQueue()
                    onwards = threading.Thread(target=network._pass_on, args=(taken, far))
                    back = threading.Thread(target=_copy, args=(far, self.request))
                    onwards.start()
                    back.start()
                    with suppress(OSError):
                        while data := self.request.recv(1 << 16):
                            network.held += 0 if network._flows.is_set() else len(data)
                            taken.put(data)
                    taken.put(b"")
                    onwards.join()
                    back.join()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self.server = Server(("127.0.0.1", 0), Connection)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def _pass_on(self, taken: queue.SimpleQueue[bytes], far: socket.socket) -> None:
        with suppress(OSError):
            while data := taken.get():
                self._flows.wait()
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)

    def freeze(self) -> None:
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()


def _copy(far: socket.socket, near: socket.socket) -> None:
    with suppress(OSError):
        while data := far.recv(1 << 16):
            near.sendall(data)
        near.shutdown(socket.SHUT_WR)


@contextmanager
def network_to(url: str) -> Iterator[Network]:
    host, _, port = url.removeprefix("http://").partition(":")
    network = Network(host, int(port))
    serving = threading.Thread(target=network.server.serve_forever, daemon=True)
    serving.start()
    try:
        yield network
    finally:
        network.thaw()
        network.server.shutdown()
        network.server.server_close()


def objects(s3: dict[str, str], name: str) -> list[str]:
    """The names of all objects in a bucket."""
    return sorted(one["path"] for page in bucket(s3, name).list() for one in page)
