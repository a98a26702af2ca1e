"""Cross-origin requests: which web pages a browser lets read the answers (CORS).

Litestar 2.25 has CORS too, but there `Vary: Origin` replaces `Vary: Accept-Encoding`, and is
missing from answers to requests without `Origin`, although caches pass these on to other origins;
every OPTIONS request with an `Origin` counts as a preflight; and answers of the layers around
Litestar have no CORS headers.
"""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.settings import Origins

_METHODS = ("DELETE", "GET", "HEAD", "POST", "PUT")
_TAKEN = (
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "If-Range",
    "Last-Event-ID",
    "Range",
    "X-API-Key",
    "X-Request-ID",
)
_SHOWN = (
    "Content-Disposition",
    "Content-Range",
    "Deprecation",
    "ETag",
    "Link",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
)
_PREFLIGHT_SECONDS = 600

Headers = list[tuple[bytes, bytes]]

_FOR_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", ", ".join(_METHODS).encode()),
    (b"access-control-allow-headers", ", ".join(_TAKEN).encode()),
    (b"access-control-max-age", str(_PREFLIGHT_SECONDS).encode()),
]
_FOR_ANSWERS: Headers = [(b"access-control-expose-headers", ", ".join(_SHOWN).encode())]


class Cors:
    """ASGI application around another: tells browsers who may read each answer, errors too.

    Args:
        app: gets all requests except preflights of allowed origins
        origins: those that are allowed
    """

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight, which carries no key; pass everything else on."""
        if scope["type"] != ScopeType.HTTP or not self._origins:
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"])
        allowing = self._allowing(given.get(b"origin", b""))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *allowing, *_FOR_ANSWERS]}
            await send(message)

        if (
            scope["method"] == "OPTIONS"
            and b"access-control-request-method" in given
            and any(name == b"access-control-allow-origin" for name, _ in allowing)
        ):
            headers = [*allowing, *_FOR_PREFLIGHT]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._app(scope, receive, send_with_headers)

    def _allowing(self, origin: bytes) -> Headers:
        if "*" in self._origins:
            return [(b"access-control-allow-origin", b"*")]
        if origin.decode("latin-1") in self._origins:
            return [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
        return [(b"vary", b"Origin")]
