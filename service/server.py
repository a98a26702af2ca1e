"""The HTTP server around the application."""

import asyncio
import logging
import socket
from typing import Any

import uvicorn
from litestar import Litestar
from litestar.types import ASGIApp, Message, Receive, Send

from service.api import problems
from service.api.access import is_loopback
from service.app import KeyNeeded, create_app
from service.database import DatabaseUnavailable
from service.logs import start_logging
from service.settings import Settings
from service.storage import StorageFailed

log = logging.getLogger("storewatch")

_STOPPING = problems.Problem(
    503,
    "The service stops. Ask again soon.",
    slug="stopping",
    headers={"Retry-After": "2", "Connection": "close"},
)

# Open responses get this long to end when the service is told to stop, seconds.
_GRACE = 3


def run_server(settings: Settings, host: str, port: int, *, insecure: bool) -> None:
    """Serve until a signal; ends the process, with status 3, if the service cannot start.

    Args:
        settings: from the environment
        host: name or address to listen on; other than loopback only with a key, or `insecure`
        port: 0 for any that is free
        insecure: whether everybody is served as long as there is no key
    """
    start_logging()
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

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if "events" in self._app.state:
            self._app.state.events.close()
        await super().shutdown(sockets)


def _failing_in_words(app: Litestar) -> ASGIApp:
    """The application; what cuts its start or a request short is told in words, not a stack."""

    async def run(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(app, scope, receive, send)
        else:
            await _answer(app, scope, receive, send)

    return run


async def _live(app: Litestar, scope: Any, receive: Receive, send: Send) -> None:
    async def send_without_stack(message: Any) -> None:
        # Litestar gives the server the whole stack as the message of a failed start.
        if message["type"] == "lifespan.startup.failed":
            message = {**message, "message": ""}
        await send(message)

    try:
        await app(scope, receive, send_without_stack)
    except* (DatabaseUnavailable, KeyNeeded, StorageFailed) as known:
        log.error("%s", _first(known))
    except* Exception as unknown:
        log.error("the service cannot start", exc_info=_first(unknown))


async def _answer(app: Litestar, scope: Any, receive: Receive, send: Send) -> None:
    begun = False

    async def send_and_note(message: Message) -> None:
        nonlocal begun
        begun = True
        await send(message)

    try:
        await app(scope, receive, send_and_note)
    except asyncio.CancelledError:  # the service stops, and the request has had its time to end
        if begun:  # the server closes the connection, and says in the log that it was early
            return
        response = _STOPPING.response()
        headers = {**response.headers, "Content-Type": problems.MEDIA_TYPE}
        start: Any = {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": [(name.lower().encode(), text.encode()) for name, text in headers.items()],
        }
        await send(start)
        await send({"type": "http.response.body", "body": response.content, "more_body": False})


def _first(failure: BaseException) -> BaseException:
    """The failure itself: Litestar runs what starts in a group of tasks."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
