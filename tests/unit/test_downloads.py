"""Downloads: only so many are under way at once, and one that is left makes room."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.web.downloads import Downloads
from service.web.problems import Problem


async def _pieces() -> AsyncIterator[bytes]:
    yield b"a"
    yield b"b"


def test_one_more_than_may_be_is_refused_until_another_ends() -> None:
    async def run() -> None:
        downloads = Downloads(1)
        first = downloads.sent(_pieces())
        downloads.check()
        assert await anext(first) == b"a"
        with pytest.raises(Problem) as refused:
            downloads.check()
        assert refused.value.status == 503
        assert [piece async for piece in first] == [b"b"]
        downloads.check()

    asyncio.run(run())


def test_a_download_that_is_left_makes_room() -> None:
    async def run() -> None:
        downloads = Downloads(1)
        left = downloads.sent(_pieces())
        await anext(left)
        await left.aclose()  # type: ignore[attr-defined]
        downloads.check()

    asyncio.run(run())
