"""Reports in an object store: an S3 server in a process of its own, and a network that freezes."""

import hashlib
import queue
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import httpx
import pytest
from obstore.store import S3Store

from tests.harness.database import add_many_stores, ask
from tests.harness.processes import eventually, free_port
from tests.harness.service import Service, running_service


@pytest.fixture
def s3() -> Iterator[dict[str, str]]:
    """What the environment says of a bucket `reports`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: _answers(url))
            httpx.put(f"{url}/reports").raise_for_status()
            yield {
                "STOREWATCH_REPORTS": "s3://reports/made",
                "AWS_ENDPOINT": url,
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": "any",
                "AWS_SECRET_ACCESS_KEY": "any",
                "AWS_REGION": "us-east-1",
            }
        finally:
            server.kill()


def bucket(s3: dict[str, str]) -> S3Store:
    """The bucket, past the service."""
    return S3Store(
        "reports",
        endpoint=s3["AWS_ENDPOINT"],
        region=s3["AWS_REGION"],
        access_key_id=s3["AWS_ACCESS_KEY_ID"],
        secret_access_key=s3["AWS_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True},
    )


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def test_every_instance_serves_what_one_put_into_the_object_store(
    database_url: str, tmp_path: Path, s3: dict[str, str]
) -> None:
    expected = add_many_stores(database_url, 5000)
    with running_service(database_url, tmp_path / "one", **s3) as makes:
        path = makes.ask("POST", "/reports").headers["Location"]
        eventually(lambda: makes.get(path).json()["status"] == "completed")
        assert list((tmp_path / "one" / "unfinished").iterdir()) == []
    with running_service(database_url, tmp_path / "two", **s3) as serves:
        csv = serves.get(f"{path}/csv")
        assert csv.content == expected
        part = serves.get(f"{path}/csv", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, expected[10:20])
        assert serves.ask("HEAD", f"{path}/csv").status_code == 200
        key = f"made/{path.removeprefix('/reports/')}.1.csv"
        assert bytes(bucket(s3).get(key).bytes()) == expected
        assert serves.ask("DELETE", path).status_code == 204
        assert list(bucket(s3).list()) == []


def test_a_report_whose_object_is_lost_is_gone(
    database_url: str, tmp_path: Path, s3: dict[str, str]
) -> None:
    add_many_stores(database_url, 10)
    with running_service(database_url, tmp_path, **s3) as service:
        path = service.ask("POST", "/reports").headers["Location"]
        eventually(lambda: service.get(path).json()["status"] == "completed")
        report_id = path.removeprefix("/reports/")
        for kind, shown in (("csv", "csv"), ("totals", "stores")):
            assert service.get(f"{path}/{shown}").status_code == 200
            bucket(s3).delete(f"made/{report_id}.1.{kind}")
        assert service.get(f"{path}/csv").status_code == 410
        assert service.get(f"{path}/stores").json()["total"] == 10  # it was read before


PLAIN = {"Accept-Encoding": "identity"}


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


def objects(s3: dict[str, str]) -> list[str]:
    """The names of all objects in the bucket."""
    return sorted(one["path"] for page in bucket(s3).list() for one in page)


@contextmanager
def uploading(service: Service, network: Network, size: int) -> Iterator[str]:
    """A report of so many bytes, all of which the network has taken, and holds; its path."""
    network.freeze()
    path = service.ask("POST", "/reports").headers["Location"]
    eventually(lambda: network.held > size)
    yield path


def test_what_a_run_uploads_late_never_takes_the_place_of_the_file_of_the_one_that_completed(
    database_url: str, tmp_path: Path, s3: dict[str, str]
) -> None:
    first = add_many_stores(database_url, 100)
    with (
        network_to(s3["AWS_ENDPOINT"]) as network,
        running_service(
            database_url, tmp_path / "one", **{**s3, "AWS_ENDPOINT": network.url}
        ) as slow,
        uploading(slow, network, len(first)) as path,
    ):
        report_id = path.removeprefix("/reports/")
        slow.send(SIGSTOP)
        ask(
            database_url,
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()",
        )
        ask(database_url, "update report set leased_until = now() - interval '1 second'")
        # The same report is another one by now.
        ask(database_url, "delete from store where right(store_id, 1) = '7'")
        with running_service(database_url, tmp_path / "two", **s3) as other:
            eventually(lambda: other.get(path).json()["status"] == "completed")
            completed = other.get(f"{path}/csv", headers=PLAIN)
            network.thaw()
            eventually(lambda: f"made/{report_id}.1.csv" in objects(s3))
            served = other.get(f"{path}/csv", headers=PLAIN)
            assert served.content == completed.content
            assert served.headers["ETag"].strip('"') == hashlib.sha256(served.content).hexdigest()
            assert served.content.count(b"\n") == 1 + 90
            # The one that was late sees it, and takes its file away.
            slow.send(SIGCONT)
            eventually(
                lambda: objects(s3) == [f"made/{report_id}.2.{kind}" for kind in ("csv", "totals")]
            )
            assert other.ask("DELETE", path).status_code == 204
            assert objects(s3) == []


def test_a_report_whose_upload_hangs_stays_its_runs_own_and_can_be_cancelled_at_once(
    database_url: str, tmp_path: Path, s3: dict[str, str]
) -> None:
    expected = add_many_stores(database_url, 100)
    one = {"STOREWATCH_CONCURRENT_REPORTS": "1"}
    with (
        network_to(s3["AWS_ENDPOINT"]) as network,
        running_service(
            database_url, tmp_path, **{**s3, **one, "AWS_ENDPOINT": network.url}
        ) as service,
    ):
        with uploading(service, network, len(expected)) as path:
            leased = ask(database_url, "select leased_until from report")
            eventually(lambda: ask(database_url, "select leased_until from report") > leased)
            in_transaction = "select count(*) from pg_stat_activity where state like 'idle in%'"
            assert ask(database_url, in_transaction) == [(0,)]
            assert service.ask("POST", f"{path}/cancel").status_code == 200
            eventually(lambda: "report cancelled" in service.log)
        network.thaw()
        path = service.ask("POST", "/reports").headers["Location"]
        eventually(lambda: service.get(path).json()["status"] == "completed")
        assert service.get(f"{path}/csv").content == expected


def test_a_report_that_the_object_store_does_not_take_fails_in_words(
    database_url: str, tmp_path: Path, s3: dict[str, str]
) -> None:
    add_many_stores(database_url, 10)
    nowhere = {**s3, "STOREWATCH_REPORTS": "s3://no-such-bucket/made"}
    with running_service(database_url, tmp_path, **nowhere) as service:
        path = service.ask("POST", "/reports").headers["Location"]
        eventually(lambda: service.get(path).json()["status"] == "failed")
        assert service.get(path).json()["error"] == "the object store does not work"
        assert "s3://no-such-bucket/made" in service.log
        assert "Traceback" not in service.log


def test_a_file_of_version_0_1_is_served_expired_and_deleted_under_its_old_name(
    database_url: str, tmp_path: Path, s3: dict[str, str]
) -> None:
    expected = add_many_stores(database_url, 10)
    with running_service(database_url, tmp_path, **s3) as service:
        path = service.ask("POST", "/reports").headers["Location"]
        eventually(lambda: service.get(path).json()["status"] == "completed")
        report_id = path.removeprefix("/reports/")
        bucket(s3).rename(f"made/{report_id}.1.csv", f"made/{report_id}.csv")
        bucket(s3).delete(f"made/{report_id}.1.totals")
        ask(database_url, "update report set file_name = null, totals_size = null")
        assert service.get(f"{path}/csv").content == expected
        assert service.ask("DELETE", path).status_code == 204
        assert objects(s3) == []
