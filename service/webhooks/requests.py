"""Requests to endpoints by aiohttp. Only a `Sender` that sends imports this, as aiohttp is large.

Redirects are not followed, so they lead nowhere; nor is a proxy of the environment used. aiohttp
hands over each address before it connects to it, also one that is written in the URL, so no name
can resolve to another address between the look and the connection. (httpx, which Litestar brings
for its tests and the container leaves out, needs a transport of one's own for that, and had no
release since 2024.)
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from service.webhooks.addresses import AddressRefused, Network, check_address
from service.webhooks.answer import EXCERPT_BYTES, Answer, Resolve

#: Names that are resolved at the same time: more than there are requests, as one that hangs may
#: do so for longer than a request waits for it.
_RESOLVERS = 64
_USER_AGENT = f"storewatch/{version('storewatch')}"


class _Resolver(AbstractResolver):
    """Resolves names on threads of its own, which nobody waits for.

    Those of the loop have other things to do, and a process that ends would wait until a resolver
    that hangs has given up.
    """

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._room = asyncio.Semaphore(_RESOLVERS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        await self._room.acquire()
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[tuple[Any, ...]]] = loop.create_future()

        def tell(result: list[tuple[Any, ...]] | Exception) -> None:
            self._room.release()
            if found.done():  # nobody waits any more
                return
            if isinstance(result, Exception):
                found.set_exception(result)
            else:
                found.set_result(result)

        def run() -> None:
            try:
                result: list[tuple[Any, ...]] | Exception = self._resolve(host, port)
            except Exception as error:  # told to who waits, whatever it is
                result = error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(tell, result)

        threading.Thread(target=run, name="webhook-name", daemon=True).start()
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, protocol, _, address in await found
        ]

    async def close(self) -> None:
        """Nothing is open."""


class Requests:
    """Sends requests, each over a connection of its own, until it is closed.

    Args:
        allowed: networks that are not public, but allowed
        timeout: seconds for one request
        resolve: what finds the addresses of a name
    """

    def __init__(self, allowed: Sequence[Network], timeout: float, resolve: Resolve) -> None:
        def checked(address: tuple[Any, ...]) -> socket.socket:
            family, kind, protocol, _, at = address
            check_address(at[0], allowed)
            return socket.socket(family=family, type=kind, proto=protocol)

        trusted = ssl.create_default_context()
        trusted.set_alpn_protocols(["http/1.1"])
        connector = aiohttp.TCPConnector(
            ssl=trusted,  # verifies certificates against the name in the URL
            resolver=_Resolver(resolve),
            use_dns_cache=False,
            force_close=True,
            limit=0,  # who sends has the bounds
            socket_factory=checked,
        )
        self._timeout, self._connector = timeout, connector
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout),
            trust_env=False,
            headers={"User-Agent": _USER_AGENT, "Accept": "*/*"},
        )

    async def close(self) -> None:
        """Close what is open."""
        await self._session.close()
        await self._connector.close()

    async def send(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Send an event; whatever goes wrong is told by the answer."""
        try:
            async with self._session.post(
                url,
                data=body,
                headers={"Content-Type": "application/json", **headers},
                allow_redirects=False,
            ) as response:
                return Answer(
                    status=response.status,
                    error=_problem(response.status),
                    excerpt=await _excerpt(response),
                    retry_after=_seconds(response.headers.get("Retry-After")),
                )
        except TimeoutError:
            return Answer(error=f"no answer within {self._timeout:g} seconds")
        except aiohttp.ClientConnectorError as error:
            return Answer(error=_of_connection(error))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Its text may have the URL in it, and that a token.
            return Answer(error=f"the request failed ({type(error).__name__})")


async def _excerpt(response: aiohttp.ClientResponse) -> str:
    """How an answer begins, as text; an event has arrived also if its answer breaks off."""
    read = b""
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        while len(read) < EXCERPT_BYTES:
            piece = await response.content.read(EXCERPT_BYTES - len(read))
            if not piece:
                break
            read += piece
    return read.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _problem(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"answered by {status}: redirects are not followed, so the URL has to be changed"
    return f"answered by {status}"


def _of_connection(error: aiohttp.ClientConnectorError) -> str:
    reason = error.os_error
    if isinstance(reason, AddressRefused):
        return str(reason)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"no address was found for {error.host}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"the certificate of {error.host} is not valid: {error.certificate_error}"
    return f"no connection to {error.host}:{error.port}: {reason.strerror or reason}"


def _seconds(retry_after: str | None) -> float | None:
    """What `Retry-After` says: a number of seconds, or a date."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdecimal() and len(retry_after) < 10:
        return float(retry_after)
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return (until - datetime.now(UTC)).total_seconds() if until.tzinfo else None
