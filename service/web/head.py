"""HEAD for every GET: what GET would answer, without its body."""

import re
from collections.abc import Iterable

from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """ASGI application around another: answers HEAD by means of GET, and lists it in `Allow`.

    Args:
        app: gets the requests
        handlers: of the routes; a path that has a handler of HEAD keeps it
    """

    def __init__(self, app: ASGIApp, handlers: Iterable[HTTPRouteHandler]) -> None:
        self._app = app
        self._own = [
            re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path))
            for handler in handlers
            if "HEAD" in handler.http_methods
            for path in handler.paths
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
        elif scope["method"] != "HEAD" or any(own.fullmatch(scope["path"]) for own in self._own):
            await self._app(scope, receive, _allowing_head(send))
        else:
            # The server sees from its own scope, which still says HEAD, that no body follows.
            asked: Scope = {**scope, "method": "GET"}
            try:
                await self._app(asked, receive, _allowing_head(_without_body(send)))
            finally:
                if "path_template" in asked:  # the request log measures by it
                    scope["path_template"] = asked["path_template"]


def _without_body(send: Send) -> Send:
    """Ends the response after its headers; to a stream it looks as if the client went away."""

    async def send_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_headers


def _allowing_head(send: Send) -> Send:
    async def send_allowing(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [
                (name, _with_head(value) if name == b"allow" else value)
                for name, value in message["headers"]
            ]
            message = {**message, "headers": headers}
        await send(message)

    return send_allowing


def _with_head(allow: bytes) -> bytes:
    methods = set(allow.decode("ascii").split(", "))
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set()))).encode()
