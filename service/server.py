"""The HTTP server around the application."""

import asyncio
import contextlib
import errno
import gc
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
from service.database.pool import DATABASE_FAILED, DatabaseUnavailable
from service.failures import first_failure
from service.keys import KeyRefused
from service.memory import share_freed_memory
from service.settings import Settings
from service.storage import StorageFailed
from service.web.access import is_loopback
from service.web.connections import Connections, accept_more, most_connections
from service.web.patience import Crowd, Patience
from service.web.request_bodies import RequestBodies

log = logging.getLogger("storewatch")

_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# When the service is told to stop, open responses have this long to end, seconds.
_GRACE = 3
# After this many seconds the process ends, whatever it is waiting for, such as a frozen database.
# What it leaves is cleaned up as after a kill: by the next start, or by another instance.
_END = 4.7

# Clients that may wait to be accepted; the system may allow fewer.
_BACKLOG = 2048

#: Thresholds of the garbage collector while serving: new objects before it looks, and rounds. By
#: Python's own, 700, a burst of some hundred requests is looked through again and again while it
#: waits for the database, which took a fifth of the processor's time.
_GARBAGE = (50_000, 10, 10)

#: Headers of every answer. The answers are for the service's own pages and for programs: no page of
#: another site may embed one, and no browser may treat one as another type than it says.
_HEADERS = [("X-Content-Type-Options", "nosniff"), ("Cross-Origin-Resource-Policy", "same-origin")]

#: uvicorn logs these for each bad request, so a client could fill the log with them.
_LOGGED_OF_CLIENTS = ("Invalid HTTP request", "Unsupported upgrade", "No supported WebSocket")


def run_server(
    settings: Settings,
    host: str,
    port: int,
    *,
    insecure: bool,
    patience: Patience = Patience(),  # noqa: B008 - it cannot be changed
) -> None:
    """Serve until a signal, and end by that signal.

    If the service cannot start, the process ends with status 3.

    Args:
        settings: from the environment
        host: name or address to listen on
        port: 0: any free port
        insecure: whether everybody is served until an API key is made
        patience: with slow clients
    """
    logging.getLogger("uvicorn.error").addFilter(_is_not_of_clients)
    share_freed_memory()
    most = most_connections(settings.connections, settings.workers)
    if settings.connections and most < settings.connections:
        log.warning("the limit of open files allows %d connections, not more", most)
    app = create_app(settings, streams=most // 2, local=is_loopback(host), insecure=insecure)
    # What there is now stays, and is no more looked through for cycles; requests make some.
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
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
            backlog=_BACKLOG,
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
    """uvicorn's server, which also checks its connections every second, and ends in time.

    When it is told to stop, it ends event streams, which would last as long as their reports.
    """

    def __init__(
        self, app: Litestar, connections: Connections, crowd: Crowd, config: uvicorn.Config
    ) -> None:
        super().__init__(config)
        self._app, self._connections, self._crowd = app, connections, crowd

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Also end in order on SIGHUP, sent when a terminal closes, unless SIGHUP is ignored."""
        with super().capture_signals():
            before = signal.getsignal(signal.SIGHUP)
            if before is not signal.SIG_IGN:
                signal.signal(signal.SIGHUP, self.handle_exit)
            try:
                yield
            finally:
                signal.signal(signal.SIGHUP, before)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, within a bounded time; a second signal does not cut that short."""
        if self.should_exit:
            return
        super().handle_exit(sig, frame)  # first, because another signal may come at any moment
        # One that comes during uvicorn's handler makes that see a second Ctrl-C, and force the end.
        self.force_exit = False
        end = threading.Timer(_END, _end_at_once)
        end.daemon = True
        end.start()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
        await super().startup(sockets)
        for server in list(self.servers):
            for listening in server.sockets:
                self.servers += await accept_more(listening, self._connection, _BACKLOG)

    def _connection(self) -> asyncio.Protocol:
        return self._connections(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # each second
            self._connections.look()
            self._crowd.tell()
        return await super().on_tick(counter)

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(error := context.get("exception"), OSError) and error.errno in _NO_FILES:
            self._crowd.note(f"times the system gave no file: {error.strerror}")
        elif isinstance(error, DATABASE_FAILED):
            # asyncpg 0.32 gives connections back in tasks of its own, and lets nobody hear how
            # that fails; the request or report whose connection it was has been told.
            log.warning("a connection to the database ended badly: %s", error or type(error))
        else:
            loop.default_exception_handler(context)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if "streams" in self._app.state:
            self._app.state.streams.close()
        await super().shutdown(sockets)


def _end_at_once() -> None:
    log.error("did not end within %g s because something does not answer: ending at once", _END)
    os._exit(1)


def _failing_in_words(app: Litestar) -> ASGIApp:
    """The application, whose failures to start are logged in words instead of a stack trace."""

    async def run(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(app, scope, receive, send)
        else:
            await app(scope, receive, send)

    return run


async def _live(app: Litestar, scope: Any, receive: Receive, send: Send) -> None:
    async def send_without_stack(message: Any) -> None:
        # Litestar passes the whole stack trace to the server as the message of a failed start.
        if message["type"] == "lifespan.startup.failed":
            message = {**message, "message": ""}
        await send(message)

    try:
        await app(scope, receive, send_without_stack)
    except* (DatabaseUnavailable, KeyRefused, StorageFailed) as known:
        log.error("%s", first_failure(known))
    except* Exception as unknown:
        log.error("the service cannot start", exc_info=first_failure(unknown))
