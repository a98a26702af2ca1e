"""Who may ask: the guard of every route, and what the OpenAPI document says of it.

A route says what it needs by `opt={"scope": "read"}`, "write" or "none"; without, GET and HEAD
need `read` and everything else `write`. A key of scope `write` may read too.
"""

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import SecurityScheme

from service.keys import Key, KeyRing
from service.settings import Hosts, Origins
from service.web.problems import Problem

Needed = Literal["none", "read", "write"]

SECURITY_SCHEMES = {
    "bearer": SecurityScheme(
        type="http",
        scheme="bearer",
        description="A key that `storewatch keys create` made: `Authorization: Bearer sw_…`.",
    ),
    "apiKey": SecurityScheme(
        type="apiKey",
        name="X-API-Key",
        security_scheme_in="header",
        description="The same key, for clients that cannot set `Authorization`.",
    ),
}

#: Where in a request's state the guard leaves the key for the handler.
_CALLER = "caller"
_REALM = 'Bearer realm="storewatch"'
#: A proxy adds one of these: then the client is not the one whose address we see.
_OF_PROXIES = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
#: Kinds of `Authorization` that are for a proxy before the service, which may pass them on.
_KINDS_FOR_PROXIES = ("basic", "digest", "negotiate")


class Access:
    """Decides about each request.

    Attributes:
        keys: those that were made
        local: whether the service listens on a loopback address only
        insecure: whether it serves everybody until an API key is made
        origins: of web pages of other sites that may ask too; `*` is not one
        hosts: names that the service is reached by, besides those of this machine itself
    """

    def __init__(
        self, keys: KeyRing, *, local: bool, insecure: bool, origins: Origins, hosts: Hosts
    ) -> None:
        self.keys, self.local, self.insecure = keys, local, insecure
        self.origins, self.hosts = origins - {"*"}, hosts

    async def check(
        self, needed: Needed, client: str | None, headers: Mapping[str, str]
    ) -> Key | None:
        """Let a request pass, or raise the Problem that says why not.

        Returns:
            the key that it came with; None: it needs none
        """
        if needed == "none":
            return None
        given = _given_keys(headers)
        # Looked up first: the very first key may have been made a moment ago.
        key = await self.keys.find(next(iter(given))) if len(given) == 1 else None
        if key is None and not await self.keys.any_made():
            self._check_keyless(client, headers)
            return None
        if not given:
            raise Problem(
                401,
                "An API key is needed: send it as Authorization: Bearer … or as X-API-Key. "
                "`storewatch keys create` makes one.",
                headers={"WWW-Authenticate": _REALM},
            )
        if key is None:
            raise key_not_valid(
                "Authorization and X-API-Key have different keys: send only one of them."
                if len(given) > 1
                else "This key is not valid: it was revoked or never existed."
            )
        if needed == "write" and key.scope != "write":
            raise Problem(
                403,
                f"The key {key.prefix}… may only read. This needs a key with scope write.",
                slug="scope-too-small",
                headers={
                    "WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="write"'
                },
            )
        return key

    def _check_keyless(self, client: str | None, headers: Mapping[str, str]) -> None:
        """Without a key only this machine's own programs may ask, and no web page through them.

        A page in a browser that reaches the service could ask too: under its own host's name, once
        it has made that name resolve to the service's address (DNS rebinding, seen from `Host`), or
        by a plain cross-site request (seen from `Origin` and `Sec-Fetch-Site`). The same holds for
        `insecure`, which lets other machines ask, but no web page.
        """
        host = headers.get("host", "")
        name = _host_name(f"//{host}")
        origin = headers.get("origin")
        here = self.local and client is not None and is_loopback(client)
        if not (here or self.insecure):
            reason = "only this machine itself is served"
        elif not self.insecure and any(header in headers for header in _OF_PROXIES):
            reason = "no request that comes through a proxy is served"
        elif not (is_loopback(name) or name in self.hosts or (self.insecure and _is_address(name))):
            reason = (
                "only a Host such as localhost or 127.0.0.1 is served, or one that "
                "STOREWATCH_ALLOWED_HOSTS names"
            )
        elif origin not in self.origins and (
            headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
            or (origin is not None and origin.partition("://")[2] != host)
        ):
            reason = "no request from a page of another site is served"
        else:
            return
        raise Problem(
            403,
            f"Until an API key is made, {reason}. `storewatch keys create` makes one.",
            slug="key-needed",
        )


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Litestar's guard of all routes: lets a request pass, or answers 401 or 403."""
    access: Access = connection.app.state.access
    connection.scope["state"][_CALLER] = await access.check(
        needed_scope(handler.opt, str(connection.scope.get("method"))),
        connection.client.host if connection.client else None,
        connection.headers,
    )


def key_not_valid(detail: str = "This key is not valid any more.") -> Problem:
    """What is told of a request that came without the right key."""
    return Problem(
        401,
        detail,
        slug="key-not-valid",
        headers={"WWW-Authenticate": f'{_REALM}, error="invalid_token"'},
    )


def caller_of(request: ASGIConnection[Any, Any, Any, Any]) -> Key | None:
    """The API key that a request came with, which the guard has checked; None: it needed none."""
    key: Key | None = request.scope["state"][_CALLER]
    return key


def needed_scope(opt: Mapping[str, Any], method: str) -> Needed:
    """What a key must allow, for a route with this `opt` and this method."""
    if method == "OPTIONS":  # it lists the methods, which the OpenAPI document shows to everybody
        return "none"
    needed: Needed = opt.get("scope", "read" if method in ("GET", "HEAD") else "write")
    return needed


@lru_cache
def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own, reached from itself alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    if not _is_address(host):
        return False
    address = ipaddress.ip_address(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


@lru_cache
def _host_name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _given_keys(headers: Mapping[str, str]) -> set[str]:
    """Everything that was sent as a key. Each must be valid: a wrong one is not just ignored."""
    given = set()
    if "authorization" in headers:
        kind, _, key = headers["authorization"].partition(" ")
        if kind.lower() not in _KINDS_FOR_PROXIES:
            given.add(key.strip() if kind.lower() == "bearer" else "")
    if "x-api-key" in headers:
        given.add(headers["x-api-key"].strip())
    return given
