"""The HTTP server around the application."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, cast

import uvicorn
from litestar import Litestar
from litestar.types import ASGIApp, Receive, Send

from service.app import create_app
from service.database.pool import DatabaseUnavailable
from service.keys import KeyRefused
from service.settings import Settings
from service.storage import StorageFailed
from service.web.access import is_loopback
from service.web.connections import ACCEPTED_AT_ONCE, Connections, most_connections
from service.web.patience import Crowd, Patience
from service.web.request_bodies import RequestBodies

log = logging.getLogger("storewatch")

_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# Open responses get this long to end when the service is told to stop, seconds.
_GRACE = 3
# After so many seconds the process is gone, whatever it waits for: a database that is frozen, say.
# What it leaves is cleaned up as after a kill: by the next start, or another instance.
_END = 4.7

# Clients that connect while others are being accepted; the system may allow fewer.
_BACKLOG = 2048

#: For every answer, whoever makes it. The service's answers are for its own pages and for programs:
#: no other site's page may show one, or have a browser take one for something else than it says.
_HEADERS = [("X-Content-Type-Options", "nosniff"), ("Cross-Origin-Resource-Policy", "same-origin")]

#: What uvicorn logs of each bad request, as often as a client likes.
_LOGGED_OF_CLIENTS = ("Invalid HTTP request", "Unsupported upgrade", "No supported WebSocket")


def run_server(
    settings: Settings,
    host: str,
    port: int,
    *,
    insecure: bool,
    patience: Patience = Patience(),  # noqa: B008 - it cannot be changed
) -> None:
    """Serve until a signal, and end by it.

    If the service cannot start, it ends the process, with status 3.

    Args:
        settings: from the environment
        host: name or address to listen on; other than loopback only with a key, or `insecure`
        port: 0 for any that is free
        insecure: whether everybody is served as long as there is no key
        patience: with slow clients
    """
    logging.getLogger("uvicorn.error").addFilter(_is_not_of_clients)
    most = most_connections(settings.connections, settings.workers)
    if settings.connections and most < settings.connections:
        log.warning("the limit of open files allows %d connections, not more", most)
    app = create_app(settings, streams=most // 2, local=is_loopback(host), insecure=insecure)
    crowd = Crowd(patience)
    bounded = RequestBodies(_failing_in_words(app), settings.body_bytes, patience, crowd)
    connections = Connections(most, patience, crowd)
    _Server(
        app,
        connections,
        crowd,
        uvicorn.Config(
            bounded,
            host=host,
            port=port,
            http=cast("type[asyncio.Protocol]", connections),  # uvicorn only calls it
            ws="none",
            lifespan="on",
            backlog=ACCEPTED_AT_ONCE,
            headers=_HEADERS,
            log_config=None,
            access_log=False,  # `RequestLog` writes a better one
            proxy_headers=False,  # or a header could say that the client is this machine
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        ),
    ).run()


def _is_not_of_clients(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_LOGGED_OF_CLIENTS)


class _Server(uvicorn.Server):
    """Looks after its connections.

    When it is told to stop it ends streams of events: they would last as long as their reports.
    """

    def __init__(
        self, app: Litestar, connections: Connections, crowd: Crowd, config: uvicorn.Config
    ) -> None:
        super().__init__(config)
        self._app, self._connections, self._crowd = app, connections, crowd

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
        """Begin to end, in time; told again, the server does not leave its ending half done."""
        if self.should_exit:
            return
        super().handle_exit(sig, frame)  # first: another signal may come at any moment
        # It comes in the middle of uvicorn's handler too, which then takes it for a second Ctrl-C.
        self.force_exit = False
        end = threading.Timer(_END, _end_at_once)
        end.daemon = True
        end.start()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
        await super().startup(sockets)
        # asyncio takes one number for how many it accepts at once and how many wait for that.
        for server in self.servers:
            for listening in server.sockets:
                with listening.dup() as same:
                    same.listen(_BACKLOG)

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # each second
            self._connections.look()
            self._crowd.tell()
        return await super().on_tick(counter)

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(error := context.get("exception"), OSError) and error.errno in _NO_FILES:
            self._crowd.note(f"times the system gave no file: {error.strerror}")
        else:
            loop.default_exception_handler(context)

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
    except* (DatabaseUnavailable, KeyRefused, StorageFailed) as known:
        log.error("%s", _first(known))
    except* Exception as unknown:
        log.error("the service cannot start", exc_info=_first(unknown))


def _first(failure: BaseException) -> BaseException:
    """The failure itself: Litestar runs what starts in a group of tasks."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
