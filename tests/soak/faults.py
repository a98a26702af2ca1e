"""What is done to the service: one fault at a time, each with a pause to recover after it."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import asyncpg
import psutil

from tests.soak.client import Strikes
from tests.soak.disk import fill
from tests.soak.findings import Findings, Invariant
from tests.soak.instances import Instance

#: How long after a fault every instance has to be ready again, seconds.
RECOVERY_SECONDS = 30.0
_PAUSE = 3.0, 8.0
#: How long what is held up is held: mostly short, at times longer than any client waits.
_HOLDS = 2.0, 5.0, 5.0, 10.0, 45.0

Fault = Callable[[], Awaitable[None]]


class Faults:
    """Chooses and commits faults.

    Args:
        rng: chooses
        instances: whom they strike
        database_url: the instances' database, not through a proxy
        disks: small ones that can be filled, by what they hold
        strikes: gets each fault
        findings: gets what did not recover

    Attributes:
        counts: faults by name
        slowest_recovery: seconds
    """

    def __init__(
        self,
        rng: random.Random,
        instances: Sequence[Instance],
        database_url: str,
        disks: Mapping[str, Path],
        strikes: Strikes,
        findings: Findings,
    ) -> None:
        self._rng, self._instances, self._database_url = rng, instances, database_url
        self._disks, self._strikes, self._findings = disks, strikes, findings
        self.counts: Counter[str] = Counter()
        self.slowest_recovery = 0.0
        self._begun = time.monotonic()

    async def run(self, over: asyncio.Event) -> None:
        """Commit each kind of fault once, in a random order, and again, until it is over."""
        kinds: list[Fault] = [
            self._kill,
            self._tell_to_end,
            self._stop_and_go,
            self._kill_worker,
            self._kill_fork_server,
            self._end_one_connection,
            self._end_all_connections,
            self._cut,
            self._hold_up,
            self._black_hole,
            self._lock_polls,
            self._lock_stores,
        ]
        kinds += [partial(self._fill_disk, what) for what in self._disks]
        while True:
            for fault in self._rng.sample(kinds, len(kinds)):
                try:
                    await asyncio.wait_for(over.wait(), self._rng.uniform(*_PAUSE))
                    return
                except TimeoutError:
                    await fault()
                    await self._recovered()

    def _strike(
        self, kind: str, struck: Instance | None = None, more: str = ""
    ) -> AbstractContextManager[None]:
        self.counts[kind] += 1
        whom = f", {struck}" if struck else ""
        name = f"{kind}{whom}{more}"
        print(f"{time.monotonic() - self._begun:6.0f} s  {name}", flush=True)
        return self._strikes.strike(name, struck)

    async def _recovered(self) -> None:
        """Wait for every instance; one that does not recover is started again."""
        begun = time.monotonic()
        strike = self._strikes[-1]
        for instance in self._instances:
            while not await instance.is_ready():
                if time.monotonic() - begun > RECOVERY_SECONDS:
                    what = f"{instance} was not ready {RECOVERY_SECONDS:.0f} s after: {strike.name}"
                    self._findings.add(Invariant.RECOVERY, what)
                    with self._strikes.strike(f"{strike.name}; started again", None):
                        await instance.end(signal.SIGKILL)
                        await instance.start()
                    break
                await asyncio.sleep(0.2)
        lasted, recovery = begun - strike.begun, time.monotonic() - begun
        print(f"          lasted {lasted:.1f} s, all ready {recovery:.1f} s later", flush=True)
        self.slowest_recovery = max(self.slowest_recovery, recovery)

    def _any(self) -> Instance:
        return self._rng.choice(self._instances)

    def _one_to_end(self) -> Instance:
        """Of several instances the first is never ended: it shows whether memory stays flat."""
        return self._rng.choice(self._instances[1:] or self._instances)

    def _hold(self) -> float:
        return self._rng.choice(_HOLDS)

    async def _kill(self) -> None:
        instance = self._one_to_end()
        with self._strike("kill -9", instance):
            await instance.end(signal.SIGKILL)
            await instance.start()

    async def _tell_to_end(self) -> None:
        instance = self._one_to_end()
        with self._strike("SIGTERM", instance):
            await instance.end(signal.SIGTERM)
            await instance.start()

    async def _stop_and_go(self) -> None:
        instance, seconds = self._any(), self._rng.uniform(2, 12)
        # The others may wait for what the stopped one holds in the database.
        with self._strike("SIGSTOP, SIGCONT", None, f" of {instance} for {seconds:.0f} s"):
            instance.service.send(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            instance.service.send(signal.SIGCONT)

    async def _kill_worker(self) -> None:
        instance = self._any()
        with self._strike("kill -9 of a worker", instance):
            if workers := instance.service.workers():
                self._rng.choice(workers).kill()

    async def _kill_fork_server(self) -> None:
        instance = self._any()
        with self._strike("kill -9 of the fork server", instance):
            for child in psutil.Process(instance.service.pid).children():
                if "multiprocessing.forkserver" in " ".join(child.cmdline()):
                    child.kill()

    async def _end_one_connection(self) -> None:
        with self._strike("pg_terminate_backend of one connection"):
            await self._terminate(1)

    async def _end_all_connections(self) -> None:
        with self._strike("pg_terminate_backend of all connections"):
            await self._terminate(1000)

    async def _cut(self) -> None:
        instance = self._any()
        with self._strike("connections to PostgreSQL cut", instance):
            instance.proxy.cut()

    async def _hold_up(self) -> None:
        instance, seconds = self._any(), self._hold()
        more = f" of {instance} for {seconds:.0f} s"
        with self._strike("connections to PostgreSQL held up", None, more):
            instance.proxy.hold()
            await asyncio.sleep(seconds)
            instance.proxy.release()

    async def _black_hole(self) -> None:
        instance, seconds = self._any(), self._hold()
        more = f" of {instance} for {seconds:.0f} s"
        with self._strike("connections to PostgreSQL held up, then dead", None, more):
            instance.proxy.hold()
            await asyncio.sleep(seconds)
            instance.proxy.forget()

    async def _lock_polls(self) -> None:
        await self._lock("poll_day")

    async def _lock_stores(self) -> None:
        await self._lock("store")

    async def _fill_disk(self, what: str) -> None:
        seconds = self._rng.uniform(3, 8)
        with self._strike(f"disk of {what} full", None, f" for {seconds:.0f} s"):
            ballast = await asyncio.to_thread(fill, self._disks[what])
            await asyncio.sleep(seconds)
            ballast.unlink()

    async def _terminate(self, most: int) -> None:
        connection = await asyncpg.connect(self._database_url)
        try:
            await connection.execute(
                """
                select pg_terminate_backend(pid) from (
                    select pid from pg_stat_activity
                    where datname = current_database() and pid <> pg_backend_pid()
                        and application_name like 'storewatch%'
                    order by random() limit $1
                ) as chosen
                """,
                most,
            )
        finally:
            await connection.close()

    async def _lock(self, table: str) -> None:
        """Hold a table alone, as `vacuum full` or a migration by hand does."""
        seconds = self._hold()
        connection = await asyncpg.connect(self._database_url)
        try:
            with self._strike(f"table {table} locked", None, f" for {seconds:.0f} s"):
                await connection.execute(
                    f"begin; lock table {table} in access exclusive mode",
                    timeout=60,
                )
                await asyncio.sleep(seconds)
                await connection.execute("rollback")
        finally:
            await connection.close()
