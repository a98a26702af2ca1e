"""Links to the service's own paths, which also work where a proxy serves it below a path prefix.

The proxy may remove its prefix from the paths that it passes on, or leave it there. In both cases
the routes see paths without it, and links in answers have it.
"""

import ipaddress
from collections.abc import Collection
from contextvars import ContextVar

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service.settings import Networks, checked_prefix

_prefix: ContextVar[str] = ContextVar("prefix", default="")


def link(path: str) -> str:
    """A path of the service, such as /reports, as the client of this request reaches it."""
    return _prefix.get() + path


class PathPrefix:
    """ASGI application around another: finds each request's prefix and removes it from the path.

    A path whose first segment is also one of the service's own is taken for the service's own. So
    with the prefix /stores or /stores/east, /stores/east/reports is not read as /reports, and the
    proxy must remove the prefix itself.

    Args:
        app: gets the requests
        usual: the prefix of requests that name none; may be empty
        trusted: clients whose `X-Forwarded-Prefix` counts instead
        own: first segments of the service's own paths
    """

    def __init__(self, app: ASGIApp, usual: str, trusted: Networks, own: Collection[str]) -> None:
        self._app, self._usual, self._trusted, self._own = app, usual, trusted, own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; redirect one for the prefix alone to the page below it."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        prefix = self._prefix_of(scope)
        if prefix and prefix.split("/")[1] not in self._own:
            raw = scope["raw_path"]
            if scope["path"] == prefix:  # the page's own references are relative to the slash
                await _redirect(f"{prefix}/".encode(), scope, send)
                return
            if raw.startswith(f"{prefix}/".encode()):
                scope["raw_path"] = raw[len(prefix) :]
                scope["path"] = scope["path"][len(prefix) :]
        token = _prefix.set(prefix)
        try:
            await self._app(scope, receive, send)
        finally:
            _prefix.reset(token)

    def _prefix_of(self, scope: HTTPScope) -> str:
        headers = scope["headers"]
        told = [value for name, value in headers if name == b"x-forwarded-prefix" and value]
        if len(told) == 1 and self._is_trusted(scope):
            try:
                return checked_prefix(told[0].decode("latin-1"))
            except ValueError:  # it could not be put into a link
                pass
        return self._usual

    def _is_trusted(self, scope: HTTPScope) -> bool:
        try:
            address = ipaddress.ip_address(scope["client"][0] if scope["client"] else "")
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._trusted)


async def _redirect(location: bytes, scope: HTTPScope, send: Send) -> None:
    query = scope["query_string"]
    headers = [
        (b"location", location + (b"?" + query if query else b"")),
        (b"content-length", b"0"),
    ]
    await send({"type": "http.response.start", "status": 308, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
