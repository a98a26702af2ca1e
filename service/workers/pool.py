"""The worker processes: started on demand, shared by reports and feeds, replaced when one dies."""

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import forkserver, resource_tracker
from typing import ParamSpec, TypeVar, cast

from service.workers.slots import Slots
from service.workers.worker import begin_worker

P = ParamSpec("P")
R = TypeVar("R")

#: How often a batch is tried alone, after it was in flight when a worker died.
_TRIES_ALONE = 2
#: If all workers are busy and none finishes anything for this long, they count as dead, seconds.
_LONGEST_BATCH = 30.0

#: What the start of a process raises when the fork server has died, or dies meanwhile.
_NO_FORK_SERVER = (EOFError, ConnectionError, FileNotFoundError)
#: Pauses, in seconds, before each attempt to start a process. The first attempt after the old fork
#: server is completely gone starts a new one.
_START_AFTER = (0, 0.01, 0.1, 1.0)
#: How often we check whether a long batch can still end, seconds.
_LOOK_SECONDS = 1.0

#: Batches in flight per core at first: of several, one is being read, one is being computed, and
#: some wait until they are written. `make bench ARGS=in-flight` shows the effect of other numbers.
_BEGIN_PER_CORE = 6

#: See `Workers.close`.
_CLOSE_SECONDS = 2

#: What a terminal sends to all processes started from it: on Ctrl-C, and when it is closed.
_OF_THE_TERMINAL = {signal.SIGINT, signal.SIGHUP}


class WorkerDied(Exception):  # noqa: N818
    """A batch ended its worker process each time that it was tried, also alone."""


class Workers(Slots):
    """An executor of up to `most` processes, with a slot for each batch in flight.

    The pool starts a process when a batch finds none idle, so there are never more processes than
    slots that were taken at the same time.

    Args:
        most: processes, and batches in flight
        start: batches in flight to begin with; None: a few per core
        adapt: whether that number then follows the measured throughput
        here: batches that are run in this process, at the same time, while there are no workers.
            Their start takes longer than a small job, but a process that also answers requests
            would answer late meanwhile
    """

    def __init__(
        self,
        most: int,
        *,
        start: int | None = None,
        adapt: bool = True,
        here: int = 0,
    ) -> None:
        super().__init__(most, start or _BEGIN_PER_CORE * _usable_cores(), adapt=adapt)
        self._most = most
        self._here = here
        self._running = 0
        self._last_result = time.monotonic()
        self._alone = asyncio.Lock()
        # NumPy's own threads would fight with the processes for the cores.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            [
                "service.workers.fork_server",
                "service.workers.worker",
                "concurrent.futures.process",
                "compute.report_rows",
                "compute.feed_rows",
            ]
        )
        self._begun: ProcessPoolExecutor | None = None
        self._threads = ThreadPoolExecutor(_usable_cores(), "beside")

    @property
    def _pool(self) -> ProcessPoolExecutor:
        if self._begun is None:
            self._begun = self._new_pool(self._most)
        return self._begun

    def begin(self) -> None:
        """Begin to start workers: what they import is loaded while this process does other work."""
        self._here = 0
        with _out_of_the_terminals_reach():
            forkserver.ensure_running()

    async def run(self, task: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a pure function in a worker. If a worker dies, the batch is run again, alone.

        A pool breaks as a whole when one of its processes dies, or the fork server does, and does
        not say which batch was to blame. So batches are tried again one by one: one that kills its
        worker then fails without affecting others.

        Raises:
            WorkerDied: the worker also died when the batch ran alone, or none can be started
        """
        batch = partial(task, *args, **kwargs)
        if self._running < self._here and self._begun is None:
            return await self._run_here(batch)
        if not self._running:
            self._last_result = time.monotonic()
        self._running += 1
        try:
            with suppress(BrokenProcessPool):
                return await self._try(batch, alone=False)
            async with self._alone:
                for _ in range(_TRIES_ALONE):
                    with suppress(BrokenProcessPool):
                        return await self._try(batch, alone=True)
        finally:
            self._running -= 1
            self._last_result = time.monotonic()
        raise WorkerDied(
            "a worker process died each time it was given a certain batch; "
            "the machine's log says whether it ran out of memory"
        )

    async def run_in_thread(self, task: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a function that hardly holds Python's lock in a thread of this process.

        Its arguments and its result need not go to a worker and back, which takes as long as to
        parse a text with NumPy. There are as many threads as cores.
        """
        batch = partial(task, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, batch)

    async def _run_here(self, batch: Callable[[], R]) -> R:
        self._running += 1
        try:
            return await asyncio.to_thread(batch)
        finally:
            self._running -= 1

    async def _try(self, batch: Callable[[], R], *, alone: bool) -> R:
        """Give a batch to the pool or, alone, to one of its own.

        Raises:
            BrokenProcessPool: a worker died, or the fork server
            WorkerDied: no worker can be started
        """
        for pause in _START_AFTER:
            await asyncio.sleep(pause)
            pool = self._new_pool(1) if alone else self._pool
            try:
                with _out_of_the_terminals_reach():
                    future = pool.submit(batch)
            except (BrokenProcessPool, *_NO_FORK_SERVER):
                self._give_up(pool)
                continue
            try:
                return await _outcome(pool, future)
            except BrokenProcessPool:
                self._give_up(pool)
                raise
            finally:
                if alone:
                    pool.shutdown(wait=False)
        raise WorkerDied("no worker process can be started: the machine's log may say why")

    def processes(self) -> list[int]:
        """Process ids of the live workers."""
        if self._begun is None:
            return []
        return list(self._begun._processes or ())  # the executor has no public way to ask

    async def answer(self) -> bool:
        """Whether the workers do their work, as far as that shows without starting another.

        An idle worker is asked. While all are busy, the last result must not be too long ago.
        """
        if not self.processes():
            return True
        if self._running:
            return time.monotonic() - self._last_result < _LONGEST_BATCH
        await self.run(os.getpid)
        return True

    def close(self) -> None:
        """End the workers; batches that have not begun are dropped, those that run may end.

        Whoever runs one after that starts workers anew.

        It takes at most two seconds. When all processes are told to end together, a worker may be
        killed in the middle of sending a result, and the pool would wait for the rest for ever.
        Workers that are left end with this process.
        """
        begun, self._begun = self._begun, None
        if begun is None:
            return
        ending = threading.Thread(
            target=begun.shutdown, kwargs={"cancel_futures": True}, daemon=True
        )
        ending.start()
        ending.join(_CLOSE_SECONDS)

    def _new_pool(self, most: int) -> ProcessPoolExecutor:
        with _out_of_the_terminals_reach():
            return ProcessPoolExecutor(most, mp_context=self._context, initializer=begin_worker)

    def _give_up(self, broken: ProcessPoolExecutor) -> None:
        if self._begun is broken:  # no other batch that saw it break has replaced it yet
            self._begun = None
        for process in list((broken._processes or {}).values()):
            process.kill()
        broken.shutdown(wait=False)


async def _outcome(pool: ProcessPoolExecutor, batch: Future[R]) -> R:
    """The result of a batch. A batch that nobody waits for any more is computed nevertheless.

    A thread of the executor notices when a worker dies. There are two cases in which it does not:
    if that thread has died itself, as in Python 3.11 when a pool breaks with a cancelled batch in
    it; and if the dead worker was started while the thread slept. So a long wait also checks.

    Raises:
        BrokenProcessPool: a worker or the fork server died, or no result can come any more
    """
    result = asyncio.wrap_future(batch)
    result.add_done_callback(
        lambda done: done.cancelled() or done.exception()
    )  # seen, if by nobody
    while not (await asyncio.wait([result], timeout=_LOOK_SECONDS))[0]:
        if _is_broken(pool):
            raise BrokenProcessPool
    return result.result()


def _is_broken(pool: ProcessPoolExecutor) -> bool:
    # The executor has no public way to ask. After it is shut down, as it is when another batch has
    # seen it break, it has neither a thread nor processes.
    thread = cast(threading.Thread | None, pool._executor_manager_thread)
    if thread is None or not thread.is_alive():
        return True
    return not all(process.is_alive() for process in list(pool._processes.values()))


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _out_of_the_terminals_reach() -> Iterator[None]:
    """Processes that the block starts, and their children, ignore the signals of the terminal.

    Ctrl-C reaches the whole process group, but only the process that owns the workers must act on
    it. A process inherits blocked signals, so the workers are safe from their first moment on;
    anything that a worker did about signals by itself would come too late.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_TERMINAL)
    try:
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_TERMINAL)  # it may have unblocked SIGINT
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
