"""While the service stops: a request that is cut short is told so."""

import asyncio

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.web.problems import Problem, send_problem


class CutShort:
    """ASGI application around another: answers 503 in place of what had no time to end."""

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
            # Of one that has begun the server closes the connection, and says so in the log.
            if scope["type"] == ScopeType.HTTP and not begun:
                await send_problem(
                    Problem(
                        503,
                        "The service stops. Ask again soon.",
                        slug="stopping",
                        headers={"Retry-After": "2", "Connection": "close"},
                    ),
                    send,
                )
