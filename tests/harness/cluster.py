"""A Dask cluster on this machine: its scheduler and its workers are processes of their own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.harness.processes import eventually, free_port

Process = subprocess.Popen[bytes]


class Cluster:
    """A scheduler and workers, started and ended by a test.

    Attributes:
        address: of the scheduler
        scheduler: the last that was started

    Args:
        database_url: what the workers read
        folder: for their files
        options: to all commands, such as those of certificates
        scheme: tcp or tls
        host: address of the scheduler
        by: command that starts the scheduler's
    """

    def __init__(
        self,
        database_url: str,
        folder: Path,
        options: Sequence[str] = (),
        *,
        scheme: str = "tcp",
        host: str = "127.0.0.1",
        by: Sequence[str] = (),
    ) -> None:
        self._folder, self._options, self._by = folder, options, by
        self._environment = {**os.environ, "DATABASE_URL": database_url}
        self._listens_at = (host, free_port())
        self.address = f"{scheme}://{host}:{self._listens_at[1]}"
        self.scheduler: Process
        self._processes: list[Process] = []
        self._workers: list[Process] = []

    def start_scheduler(self) -> None:
        """Start the scheduler, at the same address as the one before."""
        self.scheduler = self._start(
            "dask_scheduler",
            *("--host", self.address, "--no-show"),
            name="scheduler",
            by=self._by,
        )
        eventually(self._listens)

    @property
    def workers(self) -> list[Process]:
        """Those that run."""
        return [worker for worker in self._workers if worker.poll() is None]

    def start_worker(self, name: str, *options: str, **environment: str) -> Process:
        """Start a worker with two threads."""
        worker = self._start(
            "dask_worker",
            *(self.address, "--nthreads", "2", "--no-nanny", "--name", name),
            *("--local-directory", str(self._folder), *options),
            name=name,
            environment=environment,
        )
        self._workers.append(worker)
        return worker

    def log_of(self, name: str) -> str:
        """What a process said so far."""
        return (self._folder / f"{name}.log").read_text()

    def end(self) -> None:
        """End all of its processes at once."""
        for process in self._processes:
            kill(process)

    def _start(
        self,
        command: str,
        *options: str,
        name: str,
        by: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> Process:
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    *(*by, sys.executable, "-m", f"distributed.cli.{command}"),
                    *(*options, "--no-dashboard", *self._options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={**self._environment, **(environment or {})},
            )
        self._processes.append(process)
        return process

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(self._listens_at, timeout=1):
            return True
        return False


def kill(process: Process) -> None:
    """End a process, also one that is frozen, and those that it started."""
    started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    process.wait()
    for one in started:
        with suppress(psutil.NoSuchProcess):
            one.kill()


@contextmanager
def frozen(*processes: Process) -> Iterator[None]:
    """Freeze processes until the block ends; those that are gone then are left alone."""
    for process in processes:
        psutil.Process(process.pid).suspend()
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                psutil.Process(process.pid).resume()
