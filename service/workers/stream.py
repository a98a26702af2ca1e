"""Reader → workers → writer, in order; a slow step holds up the steps before it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import TypeVar

from service.failures import first_failure
from service.workers.slots import Slots

Item = TypeVar("Item")
Result = TypeVar("Result")


async def stream(
    slots: Slots,
    items: AsyncIterator[Item],
    work: Callable[[Item], Coroutine[None, None, Result]],
    write: Callable[[Result], Awaitable[float]],
    most: int | None = None,
) -> None:
    """Put every item through `work`, many at a time, and its result through `write`, one by one.

    An item that was read waits for a slot, while no other item is read, and keeps the slot until
    its result is written. While the next item is being read, no slot is held for it.

    Args:
        slots: one for each item in flight
        items: what to read
        work: awaited for several items at the same time
        write: gets the results in the order of the items; returns how much work each was, by which
            they measure throughput, or 0
        most: items that may have a slot at the same time; None: as many as there are slots
    """
    results: asyncio.Queue[asyncio.Task[Result] | None] = asyncio.Queue()  # bounded by the slots
    taken = 0
    room = asyncio.Semaphore(most) if most else None

    async def read() -> None:
        nonlocal taken
        async for item in items:
            if room:
                await room.acquire()
            await slots.take_slot()
            taken += 1
            results.put_nowait(group.create_task(work(item)))
        results.put_nowait(None)

    async def write_in_order() -> None:
        nonlocal taken
        while (result := await results.get()) is not None:
            done = await write(await result)
            del result
            taken -= 1
            slots.give_back_slot(done)
            if room:
                room.release()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            group.create_task(write_in_order())
    except BaseExceptionGroup as failures:
        raise first_failure(failures) from None
    finally:
        for _ in range(taken):
            slots.give_back_slot()
