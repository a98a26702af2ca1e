"""Commands that are told to end: by Ctrl-C, by SIGTERM, or because their terminal closes."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil
import pytest

from tests.harness.database import add_many_stores, polls_locked
from tests.harness.processes import COMMAND, PATIENCE, command_environment, eventually, is_alive
from tests.harness.service import running_service

#: Seconds after a command first listens to signals: from its imports to the middle of its work.
MOMENTS = (0, 0.05, 0.15, 0.3, 0.5, 0.7, 1, 1.5)


@pytest.fixture(autouse=True)
def _nobody_ignores_ctrl_c() -> Iterator[None]:
    # Where the tests are a shell's job in the background, they and all they start would.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Running:
    """A command in a process group of its own, as a shell gives one to each of its jobs."""

    def __init__(
        self,
        *arguments: str,
        database_url: str | None,
        home: Path,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
    ) -> None:
        # A short path: that of a socket in it may have 107 bytes.
        self._temporary = Path(tempfile.mkdtemp())
        self._popen = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=home,
            env=command_environment(database_url, home, {"TMPDIR": str(self._temporary)}),
            start_new_session=True,
        )
        self._seen: set[psutil.Process] = set()
        eventually(self._listens)

    def _listens(self) -> bool:
        status = Path(f"/proc/{self._popen.pid}/status")
        if not status.exists():  # not on Linux
            time.sleep(0.5)
            return True
        caught = dict(line.split(":") for line in status.read_text().splitlines())["SigCgt"]
        return bool(int(caught, 16) >> (signal.SIGHUP - 1) & 1)

    def look(self) -> list[psutil.Process]:
        """Its processes now; all that were seen must be gone at the end."""
        with suppress(psutil.NoSuchProcess):
            self._seen.update(psutil.Process(self._popen.pid).children(recursive=True))
        return [process for process in self._seen if is_alive(process)]

    def has_workers(self) -> bool:
        # Those of the fork server, beside it and the resource tracker.
        return sum("multiprocessing.forkserver" in _words(one) for one in self.look()) > 1

    def send(self, sent: signal.Signals) -> None:
        """To all of its processes, as a terminal does, and `timeout`."""
        self.look()
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, sent)

    def ends_by(self, sent: signal.Signals) -> None:
        """It ends by this signal, with no more than a word, and nothing is left of it."""
        self._popen.wait(PATIENCE)
        eventually(lambda: not self.look())
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        with self._popen.stdout, self._popen.stderr as errors:
            told = errors.read()
        assert told == (b"Interrupted.\n" if sent is signal.SIGINT else b"")
        assert self._popen.returncode == -sent  # a shell says 128 + the number
        self._temporary.rmdir()  # which is empty, or cannot be removed


def _words(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


@pytest.fixture(scope="module")
def many_stores(module_database_url: str) -> str:
    """The DSN of a database whose report is more than a pipe holds."""
    add_many_stores(module_database_url, 20_000)
    return module_database_url


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_at_any_moment_leaves_nothing_but_a_word(
    many_stores: str, tmp_path: Path, moment: float
) -> None:
    # Nobody reads its output: however fast it is, it is in the middle of it.
    command = Running("report", database_url=many_stores, home=tmp_path)
    time.sleep(moment)
    command.send(signal.SIGINT)
    command.ends_by(signal.SIGINT)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_workers_end_with_their_command_also_when_each_is_told_so(
    many_stores: str, tmp_path: Path, sent: signal.Signals
) -> None:
    command = Running("report", database_url=many_stores, home=tmp_path)
    eventually(command.has_workers)
    command.send(sent)
    command.ends_by(sent)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_of_a_file_that_was_begun(
    many_stores: str, tmp_path: Path, sent: signal.Signals
) -> None:
    (tmp_path / "x.csv").write_text("before")
    with polls_locked(many_stores):
        command = Running("report", "--out", "x.csv", database_url=many_stores, home=tmp_path)
        eventually(lambda: any(tmp_path.glob(".storewatch-*")))
        command.send(sent)
        command.ends_by(sent)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv"]
    assert (tmp_path / "x.csv").read_text() == "before"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [0.2, 1])
def test_told_again_and_again_a_command_with_its_own_server_ends_just_the_same(
    public_folder: Path, sent: signal.Signals, moment: float
) -> None:
    never_ends, kept_open = os.pipe()
    with os.fdopen(never_ends, "rb") as stdin, os.fdopen(kept_open, "wb"):
        command = Running(
            *("ingest", "--polls", "-"), database_url=None, home=public_folder, stdin=stdin
        )
        time.sleep(moment)
        for _ in range(4):
            command.send(sent)
            time.sleep(0.02)
        command.ends_by(sent)


def test_a_command_that_waits_for_the_reader_of_a_fifo_can_be_told(
    many_stores: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    command = Running("report", "--out", "fifo", database_url=many_stores, home=tmp_path)
    time.sleep(1)
    command.send(signal.SIGINT)
    command.ends_by(signal.SIGINT)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_service_ends_in_order_by_the_signal_it_is_sent(
    public_folder: Path, sent: signal.Signals
) -> None:
    temporary = public_folder / "temporary"
    temporary.mkdir()
    with running_service(None, public_folder, TMPDIR=str(temporary)) as service:
        polls = b"store_id,status,timestamp_utc\ns,active,2024-03-14 18:00:00 UTC\n"
        service.ask("POST", "/polls", content=polls, headers={"Content-Type": "text/csv"})
        service.report()
        started = service.processes()
        service.send(sent)
        service.send(sent)
        service.wait()
        assert service.status_of_its_end == -sent
        eventually(lambda: not any(map(is_alive, started)))
        assert [path.name for path in temporary.iterdir()] == []
        assert "Application shutdown complete" in service.log
        assert all(line.startswith("{") for line in service.log.splitlines())
