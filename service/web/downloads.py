"""Downloads that are made piece by piece as they are sent: only so many at the same time."""

import asyncio
from collections.abc import AsyncIterator

from service.web.problems import Problem

_RETRY_SECONDS = 5


class Downloads:
    """Downloads of one kind.

    Args:
        most: that are sent at the same time
        busy: what there are so many of then, in words

    Attributes:
        room: whoever makes one before it is sent holds it meanwhile
    """

    def __init__(
        self, most: int, busy: str = "downloads are under way as this instance sends"
    ) -> None:
        self.room = asyncio.Semaphore(most)
        self._busy = busy

    def check(self) -> None:
        """Let a request begin one.

        Raises:
            Problem: as many as may are under way (503)
        """
        if self.room.locked():
            raise Problem(
                503,
                f"As many {self._busy} at once. Ask again soon.",
                slug="too-many-downloads",
                headers={"Retry-After": str(_RETRY_SECONDS)},
            )

    async def sent(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same pieces; from the first to the last of them it is under way."""
        async with self.room:
            async for piece in pieces:
                yield piece
