"""The HTTP server around the application."""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import uvicorn
from litestar import Litestar
from litestar.types import ASGIApp, Receive, Send

from service.api.access import is_loopback
from service.app import create_app
from service.database import DatabaseUnavailable
from service.keys import KeyRefused
from service.settings import Settings

log = logging.getLogger("storewatch")

# Open responses get this long to end when the service is told to stop, seconds.
_GRACE = 3
# After so many seconds the process is gone, whatever it waits for: a database that is frozen, say.
# What it leaves is cleaned up as after a kill: by the next start, or another instance.
_END = 4.7


def run_server(settings: Settings, host: str, port: int, *, insecure: bool) -> None:
    """Serve until a signal, and end by it.

    If the service cannot start, it ends the process, with status 3.

    Args:
        settings: from the environment
        host: name or address to listen on; other than loopback only with a key, or `insecure`
        port: 0 for any that is free
        insecure: whether everybody is served as long as there is no key
    """
    app = create_app(settings, local=is_loopback(host), insecure=insecure)
    _Server(
        app,
        uvicorn.Config(
            _failing_in_words(app),
            host=host,
            port=port,
            lifespan="on",
            log_config=None,
            access_log=False,  # `RequestLog` writes a better one
            proxy_headers=False,  # or a header could say that the client is this machine
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        ),
    ).run()


class _Server(uvicorn.Server):
    """Ends streams of events when it is told to stop: they would last as long as their reports."""

    def __init__(self, app: Litestar, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            end = threading.Timer(_END, _end_at_once)
            end.daemon = True
            end.start()
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End in order by SIGHUP too, when a terminal closes, unless it is ignored."""
        with super().capture_signals():
            before = signal.getsignal(signal.SIGHUP)
            if before is not signal.SIG_IGN:
                signal.signal(signal.SIGHUP, self.handle_exit)
            try:
                yield
            finally:
                signal.signal(signal.SIGHUP, before)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; told again, the server does not leave its ending half done."""
        if not self.should_exit:
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if "events" in self._app.state:
            self._app.state.events.close()
        await super().shutdown(sockets)


def _end_at_once() -> None:
    log.error("did not end within %g s, and ends at once: something does not answer", _END)
    os._exit(1)


def _failing_in_words(app: Litestar) -> ASGIApp:
    """The application; what cuts its start short is told in words, not a stack."""

    async def run(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(app, scope, receive, send)
        else:
            await app(scope, receive, send)

    return run


async def _live(app: Litestar, scope: Any, receive: Receive, send: Send) -> None:
    async def send_without_stack(message: Any) -> None:
        # Litestar gives the server the whole stack as the message of a failed start.
        if message["type"] == "lifespan.startup.failed":
            message = {**message, "message": ""}
        await send(message)

    try:
        await app(scope, receive, send_without_stack)
    except* (DatabaseUnavailable, KeyRefused) as known:
        log.error("%s", _first(known))
    except* Exception as unknown:
        log.error("the service cannot start", exc_info=_first(unknown))


def _first(failure: BaseException) -> BaseException:
    """The failure itself: Litestar runs what starts in a group of tasks."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
