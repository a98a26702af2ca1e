"""While the service stops: a request that is cut short gets an answer that says so."""

import asyncio

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.web.problems import Problem, send_problem

#: About as long as a restart takes; behind a proxy another instance answers sooner.
_RETRY_SECONDS = 2


class CutShort:
    """ASGI application around another: answers 503 for a request that had no time to end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except asyncio.CancelledError:  # the service stops, and the request has had its time to end
            # If its response has begun, the server closes the connection, and logs that.
            if scope["type"] == ScopeType.HTTP and not begun:
                await send_problem(
                    Problem(
                        503,
                        "The service is stopping. Try again soon.",
                        slug="stopping",
                        headers={"Retry-After": str(_RETRY_SECONDS), "Connection": "close"},
                    ),
                    send,
                )
