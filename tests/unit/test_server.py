"""How the server takes the signals that end it."""

import asyncio
import gc
import os
import signal
from unittest.mock import MagicMock

import pytest
import uvicorn

from service.server import _Server


class _ToldAgain(list[int]):
    """Signals that were taken; while the server notes the first, it is told again."""

    def append(self, sent: int) -> None:
        super().append(sent)
        if len(self) == 1:
            signal.raise_signal(signal.SIGINT)


def test_told_again_while_it_takes_the_first_signal_it_still_ends_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.server._end_at_once", lambda: None)  # or pytest ends
    server = _Server(MagicMock(), MagicMock(), MagicMock(), uvicorn.Config(MagicMock()))
    server._captured_signals = _ToldAgain()
    before = signal.signal(signal.SIGINT, server.handle_exit)
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(server._captured_signals) == 2
    assert server.should_exit
    assert not server.force_exit


def test_a_task_of_asyncpg_that_fails_unheard_is_told_in_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = _Server(MagicMock(), MagicMock(), MagicMock(), uvicorn.Config(MagicMock()))

    async def release() -> None:
        raise TimeoutError

    async def leave_alone() -> None:
        asyncio.get_running_loop().set_exception_handler(server._on_loop_error)
        task = asyncio.create_task(release())
        await asyncio.wait([task])
        del task
        gc.collect()

    asyncio.run(leave_alone())
    (told,) = caplog.records
    assert told.levelname == "WARNING"
    assert "a connection to the database ended badly" in told.message
    assert told.exc_info is None
