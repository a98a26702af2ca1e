"""How the server takes the signals that end it."""

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
