"""Delivers what is told: at most so much at once, again where it fails, by any of the instances.

An endpoint whose last delivery failed has one request at a time, and all such endpoints together
have half of what there is: so however many of them hang, the others are served.
"""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from service.background import end, happens
from service.database.pool import DATABASE_FAILED
from service.webhooks import deliveries
from service.webhooks.answer import Answer
from service.webhooks.deliveries import REMOVED_AT_ONCE, Taken
from service.webhooks.report_events import report_payload
from service.webhooks.sender import Sender
from service.webhooks.signing import signatures
from service.webhooks.table import forget_gone

log = logging.getLogger("storewatch.webhooks")

#: Requests at the same time, of an instance: in all, to one endpoint, and to failing endpoints.
_AT_ONCE, _OF_ENDPOINT, _TO_FAILING = 40, 4, 20
#: When to try again: those of the Standard Webhooks specification. Then a delivery has failed.
RETRIES = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
#: Each wait is up to so much longer, so that deliveries that failed together do not return so.
JITTER = 0.2
#: The longest that a receiver may want to be left alone by `Retry-After`.
_LONGEST_HOLD = timedelta(days=1)
#: An endpoint at which nothing arrived for so long, though it was tried, is disabled.
PATIENCE = timedelta(days=5)
_GONE = 410
#: How often to look for deliveries whose time has come, and how often to tidy.
_LOOK_SECONDS, _TIDY_SECONDS = 1.0, 300.0
#: The database has this long to answer.
_ANSWER_SECONDS = 20.0


class Deliverer:
    """Delivers events.

    Args:
        pool: the database; of its connections one is used at a time
        sender: sends requests
        base: what the service's paths come after in links
        clock: tells the time; None: the database does, which is one for all instances
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        sender: Sender,
        base: str = "",
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._pool, self._sender, self._base, self._clock = pool, sender, base, clock
        self._connection = asyncio.Lock()
        self._look = asyncio.Event()
        self._under_way: dict[asyncio.Task[None], tuple[UUID, bool]] = {}

    def wake(self) -> None:
        """Look for deliveries now, not at the next turn."""
        self._look.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver until the block ends; what is under way then is tried again by others."""
        async with self._sender:
            tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._tidy_on())]
            try:
                yield
            finally:
                await end([*tasks, *self._under_way])

    async def deliver_due(self) -> int:
        """Make every delivery whose time has come, and wait for all answers; how many it were.

        The sender is entered.
        """
        made = 0
        while taken := await self._take():
            made += taken
            await asyncio.gather(*self._under_way)
        return made

    async def tidy(self) -> None:
        """Drop what waits beyond the limit, and forget what is over for long enough."""
        for webhook_id, dropped in (await self._dropped()).items():
            log.warning("webhook %s: %d events dropped, as too many wait", webhook_id, dropped)
        async with self._asking() as connection:
            await forget_gone(connection)
        removed = REMOVED_AT_ONCE
        while removed == REMOVED_AT_ONCE:
            async with self._asking() as connection:
                now = await self._now(connection)
                removed = await deliveries.forget_deliveries(connection, now)

    async def _run(self) -> None:
        while True:
            self._look.clear()
            try:
                await self._take()
            except DATABASE_FAILED as error:
                log.warning(
                    "cannot look for deliveries, will try again: %s", error or type(error).__name__
                )
            await happens(self._look, _LOOK_SECONDS)

    async def _tidy_on(self) -> None:
        while True:
            try:
                await self.tidy()
            except DATABASE_FAILED as error:
                log.warning("cannot tidy deliveries, will try again: %s", error)
            await asyncio.sleep(_TIDY_SECONDS)

    async def _take(self) -> int:
        """Take deliveries for which there is room, and begin to make them; how many."""
        async with self._asking() as connection:
            now = await self._now(connection)
            due = await deliveries.endpoints_due(connection, now)
            wanted = self._room(due)
            if not wanted:
                return 0
            taken = await deliveries.take_due(connection, now, wanted)
        for one in taken:
            task = asyncio.create_task(self._deliver(one))
            self._under_way[task] = one.webhook, due[one.webhook]
            task.add_done_callback(self._ended)
        return len(taken)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        self.wake()

    def _room(self, due: Mapping[UUID, bool]) -> dict[UUID, int]:
        """How many deliveries may begin for which endpoint."""
        under_way = Counter(webhook_id for webhook_id, _ in self._under_way.values())
        left = _AT_ONCE - len(self._under_way)
        left_failing = _TO_FAILING - sum(failing for _, failing in self._under_way.values())
        room: dict[UUID, int] = {}
        for webhook_id, failing in due.items():
            most = (1 if failing else _OF_ENDPOINT) - under_way[webhook_id]
            most = min(most, left, left_failing if failing else left)
            if most > 0:
                room[webhook_id] = most
                left -= most
                left_failing -= most if failing else 0
        return room

    async def _deliver(self, taken: Taken) -> None:
        try:
            try:
                answer = await self._attempt(taken)
            except DATABASE_FAILED:
                raise
            except Exception as error:
                # Another instance may do better, at its next attempt.
                log.exception("webhook %s: delivery %s cannot be made", taken.webhook, taken.id)
                told = f"the service could not send it ({type(error).__name__}); its log says more"
                answer = Answer(error=told)
            if answer is not None:
                await self._note(taken, answer)
        except DATABASE_FAILED as error:
            log.warning(
                "webhook %s: delivery %s will be made again, as the database did not answer: %s",
                *(taken.webhook, taken.id, error or type(error).__name__),
            )

    async def _attempt(self, taken: Taken) -> Answer | None:
        """Send a delivery; None: there is nothing to send any more, which is noted."""
        body = taken.payload or await self._made(taken)
        if body is None:
            return None
        async with self._asking() as connection:
            sent = await self._now(connection)
        timestamp = int(sent.timestamp())
        headers = {
            "webhook-id": str(taken.id),
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signatures(taken.secrets, str(taken.id), timestamp, body),
        }
        return await self._sender.send(taken.url, body, headers)

    async def _made(self, taken: Taken) -> bytes | None:
        """What a delivery of a report says, which is kept; None: the report is gone."""
        async with self._asking() as connection:
            body = None
            if taken.report is not None:
                body = await report_payload(
                    connection,
                    *(self._base, taken.type, taken.sequence, taken.report, taken.created_at),
                )
            if body is None:
                told = "the report was deleted before it was told"
                await deliveries.give_up(connection, taken, await self._now(connection), told)
            else:
                await deliveries.keep_payload(connection, taken, body)
        return body

    async def _note(self, taken: Taken, answer: Answer) -> None:
        async with self._asking() as connection:
            now = await self._now(connection)
            if answer.error is None:
                await deliveries.note_arrived(connection, taken, now, answer.status, answer.excerpt)
                return
            hold = None
            if answer.retry_after is not None and answer.retry_after > 0:
                hold = now + min(timedelta(seconds=answer.retry_after), _LONGEST_HOLD)
            since = await deliveries.note_failed(
                connection,
                taken,
                now,
                status=answer.status,
                error=answer.error,
                answer=answer.excerpt,
                due=_next_try(taken, now, hold),
                hold_until=hold,
            )
            if since is None:
                return
            log.warning(
                "webhook %s: delivery %s failed, attempt %d: %s",
                *(taken.webhook, taken.id, taken.attempts, answer.error),
            )
            reason = None
            if answer.status == _GONE:
                reason = "it answered by 410: it wants no more events"
            elif now - since >= PATIENCE:
                reason = f"nothing arrived for {PATIENCE.days} days; at last: {answer.error}"
            if reason and await deliveries.disable(connection, taken.webhook, now, reason):
                log.error("webhook %s is disabled: %s", taken.webhook, reason)

    async def _dropped(self) -> Mapping[UUID, int]:
        async with self._asking() as connection:
            return await deliveries.drop_too_many(connection)

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[asyncpg.Connection]:
        """The one connection that all deliveries share, each for a moment."""
        async with (
            self._connection,
            asyncio.timeout(_ANSWER_SECONDS),
            self._pool.acquire() as connection,
        ):
            yield connection

    async def _now(self, connection: asyncpg.Connection) -> datetime:
        if self._clock is not None:
            return self._clock()
        now: datetime = await connection.fetchval("select clock_timestamp()")
        return now


def _next_try(taken: Taken, now: datetime, hold: datetime | None) -> datetime | None:
    """When to try again after an attempt that failed; None: never."""
    if taken.attempts > len(RETRIES):
        return None
    wait = RETRIES[taken.attempts - 1] * random.uniform(1, 1 + JITTER)  # noqa: S311 - no secret
    return max(now + wait, hold or now)
