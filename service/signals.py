"""How a command ends when it is told to: by Ctrl-C, SIGTERM, or SIGHUP when its terminal closes.

What runs is cancelled, and cleans up after itself: files, workers, the private PostgreSQL. Then the
process ends by that same signal, as whatever started it expects: its status in a shell is 128 plus
the number of the signal, and a loop in a shell script ends with it.
"""

import os
import signal
import sys
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import asyncio

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TIDY_SECONDS = 1


class Ending:
    """Ends a process in order, however often it is told to end.

    Attributes:
        quiet: whether Ctrl-C prints nothing, because standard error is a log, of which
            "Interrupted." would not be a valid line
    """

    def __init__(self) -> None:
        self.quiet = False
        self._told: signal.Signals | None = None
        self._running: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Take the signals from now on; while nothing runs, they end the process at once."""
        for number in _ENDING:
            # `nohup`, or a shell that runs us in the background, has it ignored: leave it so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._take)

    def run(self, main: Coroutine[None, None, None]) -> None:
        """Run to its end what has to be cleaned up, cancelled when the process is told to end."""
        import asyncio

        async def noted() -> None:
            self._running = asyncio.current_task()
            await main

        with asyncio.Runner() as runner:
            try:
                runner.run(noted())
            finally:
                self._running = None
                # At once: a thread that reads or writes may hang for as long as its other side.
                if self._told:
                    self._end_by(self._told)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._told = self._told or signal.Signals(number)
        if self._running is None:
            self._end_by(self._told)
        # Cancel again each time: a second signal means not to wait for whatever cleaning up does.
        self._running.get_loop().call_soon_threadsafe(self._running.cancel)

    def _end_by(self, told: signal.Signals) -> NoReturn:
        if "multiprocessing.util" in sys.modules:
            tidying = threading.Thread(target=_tidy, daemon=True)
            tidying.start()
            tidying.join(_TIDY_SECONDS)
        if told is signal.SIGINT and not self.quiet:
            with suppress(OSError):  # the terminal may be gone
                os.write(2, b"\rInterrupted.\n" if os.isatty(2) else b"Interrupted.\n")
        signal.signal(told, signal.SIG_DFL)
        signal.raise_signal(told)
        os._exit(128 + told)  # process 1 of a container is not killed by the signal


def _tidy() -> None:
    # What `multiprocessing` does when Python exits: it removes its named semaphores and its socket.
    from multiprocessing import active_children, util

    for hanging in active_children():
        hanging.kill()
    util._exit_function()  # type: ignore[attr-defined]
