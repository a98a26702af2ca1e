"""Tasks that run beside a block and end with it, and what they wait for."""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have work done until the block ends; then it is cancelled."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        await end(tasks)


async def end(tasks: "Collection[asyncio.Task[None]]") -> None:
    """Cancel tasks, and wait until they have ended, however they do."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event; false: it did not come in time."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
