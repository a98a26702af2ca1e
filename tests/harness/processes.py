"""`storewatch` in processes of its own: its commands, and waiting for what must happen."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

COMMAND = (sys.executable, "-m", "service")
#: Of our environment; the second would have each process compile the whole service anew.
_NOT_PASSED_ON = {"DATABASE_URL", "PYTHONDONTWRITEBYTECODE"}
#: What takes the place of packages that only our tools need.
_NOT_FOR_USERS = str(Path(__file__).with_name("not_for_users"))
#: How long to wait for what must happen, before a test fails; seconds.
PATIENCE = 60


def eventually(holds: Callable[[], object]) -> None:
    """Wait until something holds; who asks for long asks less often, as asking holds it up."""
    begun = time.monotonic()
    while not holds():
        waited = time.monotonic() - begun
        assert waited < PATIENCE, "it never came about"
        time.sleep(min(max(waited / 10, 0.01), 0.1))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs; a zombie does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def storewatch(
    *arguments: str | Path,
    database_url: str | None,
    home: Path,
    stdin: bytes = b"",
    **environment: str,
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        cwd=home,
        env=command_environment(database_url, home, environment),
        timeout=2 * PATIENCE,
    )


def command_environment(
    database_url: str | None, home: Path, more: dict[str, str]
) -> dict[str, str]:
    """The environment of a command: ours, without settings of our own, and what is to be added.

    Stores are looked at only where a test asks for it: others count what the database is asked.
    """
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_PASSED_ON and not name.startswith("STOREWATCH_")
    }
    url = {} if database_url is None else {"DATABASE_URL": database_url}
    quiet = {"STOREWATCH_STATE_EVERY": "0"}
    path = os.pathsep.join(filter(None, [_NOT_FOR_USERS, clean.get("PYTHONPATH")]))
    ours = {"STOREWATCH_HOME": str(home), "PYTHONPATH": path}
    return clean | url | ours | quiet | more


def make_key(database_url: str | None, home: Path, *arguments: str) -> str:
    """Run `storewatch keys create`; the key."""
    made = storewatch("keys", "create", *arguments, database_url=database_url, home=home)
    assert made.returncode == 0, made.stderr.decode()
    return made.stdout.decode().strip()
