"""Reader → workers → writer, in order, each holding up the one before it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import TypeVar

from service.workers.pool import Workers

Item = TypeVar("Item")
Result = TypeVar("Result")


async def stream(
    workers: Workers,
    items: AsyncIterator[Item],
    work: Callable[[Item], Coroutine[None, None, Result]],
    write: Callable[[Result], Awaitable[float]],
) -> None:
    """Put every item through `work`, many at a time, and its result through `write`, one by one.

    An item that was read waits for a place among the workers, holding up the next, and keeps the
    place until its result is written. A source that is slow to give holds no place.

    Args:
        workers: gives the places
        items: what to read
        work: awaited for several items at the same time
        write: gets the results in the order of the items; answers how much work each was, for the
            workers' measure of throughput, or 0
    """
    results: asyncio.Queue[asyncio.Task[Result] | None] = asyncio.Queue()  # bounded by the places
    places = 0

    async def read() -> None:
        nonlocal places
        async for item in items:
            await workers.take_place()
            places += 1
            results.put_nowait(group.create_task(work(item)))
        results.put_nowait(None)

    async def write_in_order() -> None:
        nonlocal places
        while (result := await results.get()) is not None:
            done = await write(await result)
            del result
            places -= 1
            workers.leave_place(done)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            group.create_task(write_in_order())
    except BaseExceptionGroup as failures:
        raise _first(failures) from None
    finally:
        for _ in range(places):
            workers.leave_place()


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
