"""The cluster as a report sees it: parts go to those workers that fit, and come back or are told.

Dask itself runs a part again whose worker died. What it leaves to its user is done here: a worker
that is frozen, or runs other software, gets no parts; a scheduler that went away is found again;
and nobody waits for ever.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError
from uuid import uuid4

import asyncpg
from distributed import Client, KilledWorker

from compute.fingerprint import BLOCK
from service.background import beside
from service.cluster.part import (
    SOFTWARE,
    DatabaseName,
    Introduction,
    MadePart,
    Part,
    PartFailed,
    database_name,
    introduce,
    make_part,
)
from service.database.pool import DATABASE_FAILED
from service.workers.pool import WorkerDied
from service.workers.slots import Slots

log = logging.getLogger("storewatch.cluster")

#: Parts in flight at most, and to begin with. `Slots` finds how many are best. Those that are made
#: wait here for their turn, a quarter of a kilobyte a store: this many come to some 200 MB, and one
#: of a tenth of a second each is more than this process can write.
_MOST_PARTS, _FIRST_PARTS = 64, 4
#: Stores of a part: fewer in a small report, so that all workers get some, and fewer if there are
#: more windows than three, so that it is not larger.
_FEWEST_STORES, _MOST_STORES, _MOST_TOTALS = 512, 16_384, 3 * 16_384
_PARTS_PER_THREAD = 2
#: How often the scheduler is asked who is there, and how long it, or a worker, may take to answer.
_LOOK_SECONDS, _ANSWER_SECONDS = 2.0, 10.0
_CONNECT_SECONDS, _CLOSE_SECONDS = 5.0, 2.0
#: Seconds between attempts to reach the scheduler.
_AGAIN_SECONDS = 2.0
#: How often a part is given to other workers, because those that had it are frozen; and how many
#: it may end when it has one to itself.
_MOST_TRIES, _TRIES_ALONE = 5, 2
#: How long workers that died have to come back, before the reports are handed back to the queue.
_BACK_SECONDS, _LOOK_BACK_SECONDS = 8.0, 0.1
#: If no part of any report is finished for this long, the reports are handed back to the queue.
_STALLED_SECONDS = 60.0


class ClusterAway(ConnectionError):  # noqa: N818 - read by a person as a sentence
    """The scheduler cannot be reached, or no worker does anything: the report is run again."""


class _WorkersGone(Exception):  # noqa: N818
    """All workers died that might have made a part: this one may have ended them, or another."""


class Cluster(Slots):
    """A Dask cluster, which is connected while `running`.

    Args:
        address: of its scheduler
        pool: the database, which the workers must read too
    """

    def __init__(self, address: str, pool: asyncpg.Pool) -> None:
        super().__init__(_MOST_PARTS, _FIRST_PARTS)
        self._address, self._pool = address, pool
        self._client: Client | None = None
        self._threads: dict[str, int] = {}  # of each worker that fits, by its address
        self._refused: set[str] = set()
        self._waits: dict[str, bool] = {}  # of each part by its key: does a frozen worker have it?
        self._alone, self._apart = asyncio.Lock(), ""  # the worker that has one part to itself
        self._last_part = 0.0

    @property
    def ready(self) -> bool:
        """Whether there is a worker that fits."""
        return bool(self._threads)

    def stores_per_part(self, total: int, windows: int) -> int:
        """How many stores each part of a report has.

        Args:
            total: stores of the report
            windows: of the report
        """
        parts = _PARTS_PER_THREAD * max(1, sum(self._threads.values()))
        most = min(_MOST_STORES, _MOST_TOTALS // windows)
        stores = min(most, max(_FEWEST_STORES, -(-total // parts)))
        return -(-stores // BLOCK) * BLOCK  # so that workers hash all that the fingerprint takes

    async def make(self, part: Part) -> MadePart:
        """Have a part made. If its workers die, it is made again by one that has no other.

        When a worker dies, nobody says which of its parts was to blame. So a part that ends its
        worker fails its own report alone, as with workers of one's own.

        Raises:
            ClusterAway: the cluster is, or does nothing any more
            ConnectionError: the database gave a worker not what it needed
            RuntimeError: something nobody expected happened in a worker
            WorkerDied: the part ended its worker each time, also alone, or froze it
        """
        with contextlib.suppress(_WorkersGone):
            for _ in range(_MOST_TRIES):
                client, fit = await self._workers()
                if (made := await self._try(client, fit, part)) is not None:
                    return _told(made)
            raise WorkerDied("a worker of the cluster froze each time it was given a certain part")
        async with self._alone:
            for _ in range(_TRIES_ALONE):
                client, fit = await self._workers()
                self._apart = min(fit)
                try:
                    if made := await self._try(client, {self._apart}, part):
                        return _told(made)
                except _WorkersGone:
                    pass
                finally:
                    self._apart = ""
        raise WorkerDied(
            "a worker of the cluster died each time it was given a certain part; "
            "its machine's log says whether it ran out of memory"
        )

    async def _workers(self) -> tuple[Client, set[str]]:
        """Those that fit, without one that is apart; if there is none, some may be coming back.

        Raises:
            ClusterAway: they are not
        """
        until = time.monotonic() + _BACK_SECONDS
        while (client := self._client) is not None and time.monotonic() < until:
            if self._threads:
                return client, self._threads.keys() - {self._apart} or set(self._threads)
            await asyncio.sleep(_LOOK_BACK_SECONDS)
        raise ClusterAway("the cluster has no worker that fits")

    async def _try(self, client: Client, fit: set[str], part: Part) -> MadePart | PartFailed | None:
        """The same once; None: a frozen worker has it.

        Raises:
            _WorkersGone: those who might have made it died
        """
        key = f"storewatch-part-{uuid4()}"
        self._waits[key] = False
        future = client.submit(
            make_part, part, key=key, pure=False, workers=sorted(fit), allow_other_workers=False
        )
        result = asyncio.ensure_future(future.result())
        begun = time.monotonic()
        try:
            while not (await asyncio.wait([result], timeout=_LOOK_SECONDS))[0]:
                if client is not self._client:
                    raise ClusterAway("the scheduler of the cluster is away")
                if self._waits[key]:
                    return None
                if not fit & self._threads.keys():
                    raise _WorkersGone
                if time.monotonic() - max(begun, self._last_part) > _STALLED_SECONDS:
                    raise ClusterAway(f"the cluster finished nothing in {_STALLED_SECONDS:.0f} s")
            made: MadePart | PartFailed = result.result()
        except KilledWorker:
            raise _WorkersGone from None
        except CancelledError:  # that is not asyncio's: Dask gave it up
            if client is self._client:
                self._fit({})
            raise ClusterAway("the scheduler of the cluster is away") from None
        finally:
            result.cancel()
            future.release()
            del self._waits[key]
        self._last_part = time.monotonic()
        return made

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Stay connected until the block ends."""
        async with beside(self._run()):
            yield

    async def _run(self) -> None:
        told = ""
        while True:
            try:
                async with _connected(self._address) as client:
                    told = ""
                    await self._watch(client)
            except (OSError, *DATABASE_FAILED) as error:
                text = str(error) or type(error).__name__
                if text != told:
                    log.warning("cannot use the cluster, will try again: %s", text)
                told = text
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _watch(self, client: Client) -> None:
        """Keep up with who is there, until the scheduler does not answer."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            database = await database_name(self._pool)
        self._client = client
        try:
            while True:
                await self._look(client, database)
                await asyncio.sleep(_LOOK_SECONDS)
        finally:  # before the connection is closed, which a network that is cut holds up
            self._client = None
            self._fit({})

    async def _look(self, client: Client, database: DatabaseName) -> None:
        """See who is there."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            seen = (await client.scheduler.identity(n_workers=-1))["workers"]
        introduced = await asyncio.gather(*(self._introduced(client, one) for one in seen))
        fit: dict[str, int] = {}
        unfit: dict[str, str] = {}
        for (address, worker), introduction in zip(seen.items(), introduced, strict=True):
            if introduction is None:
                continue  # it is frozen, or has just ended
            if problem := _unfit(introduction, database):
                unfit[f"{worker['id']} at {address}"] = problem
            else:
                fit[address] = worker["nthreads"]
        for name in unfit.keys() - self._refused:
            log.warning("worker %s of the cluster gets no parts: %s", name, unfit[name])
        self._refused = set(unfit)
        if self._waits and (silent := seen.keys() - fit.keys()):
            # The scheduler does not know that these do nothing.
            async with asyncio.timeout(_ANSWER_SECONDS):
                processing = await client.processing()
            for key in (str(key) for address in silent for key in processing.get(address, ())):
                if key in self._waits:  # and not another service's
                    self._waits[key] = True
        self._fit(fit)

    def _fit(self, threads: dict[str, int]) -> None:
        """Note which workers fit, and their threads."""
        if threads.keys() != self._threads.keys():
            log.info("the cluster has %d workers that fit", len(threads))
        self._threads = threads

    async def _introduced(self, client: Client, address: str) -> Introduction | str | None:
        """What a worker says of itself, or why it cannot; None: it does not answer."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answers = await client.run(introduce, workers=[address], on_error="return")
        except (OSError, TimeoutError):
            return None
        answer = answers.get(address)
        if isinstance(answer, OSError):
            return None
        if answer is None or isinstance(answer, Introduction):
            return answer
        return f"it cannot say what it runs: {answer}"


@contextlib.asynccontextmanager
async def _connected(address: str) -> AsyncIterator[Client]:
    """A connection to the scheduler."""
    client = await Client(
        address,
        asynchronous=True,
        timeout=_CONNECT_SECONDS,
        direct_to_workers=True,
        set_as_default=False,
        name="storewatch",
    )
    try:
        yield client
    finally:
        # Over a network that is cut, it would try for as long as TCP does to send what is left.
        with contextlib.suppress(OSError):
            await client.close(timeout=_CLOSE_SECONDS)


def _told(made: MadePart | PartFailed) -> MadePart:
    if isinstance(made, PartFailed):
        failed = ConnectionError if made.again else RuntimeError
        raise failed(f"a worker of the cluster: {made.why}")
    return made


def _unfit(introduction: Introduction | str, database: DatabaseName) -> str:
    """Why a worker gets no parts; empty: it fits."""
    if isinstance(introduction, str):
        return introduction
    ours, theirs = SOFTWARE, introduction.software
    for what, own, other in (
        ("storewatch", ours.storewatch, theirs.storewatch),
        ("the tz database", ours.tz, theirs.tz),
        ("NumPy", ours.numpy, theirs.numpy),
    ):
        if own != other:
            return f"it runs version {other} of {what}, this instance {own}"
    if introduction.database is None:
        return introduction.problem
    if introduction.database != database:
        return "its DATABASE_URL names another database than that of this instance"
    return ""
