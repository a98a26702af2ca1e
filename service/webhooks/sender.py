"""Sends one request to an endpoint: bounded in time and size, to an address that was checked."""

import asyncio
import socket
from collections.abc import Sequence
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any

from service.webhooks.addresses import Network
from service.webhooks.answer import Answer, Resolve

if TYPE_CHECKING:
    from service.webhooks.requests import Requests

#: For everything together: to resolve, connect, send, and get the answer.
_TIMEOUT_SECONDS = 15.0


def _getaddrinfo(host: str, port: int) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


class Sender:
    """Sends requests, each over a connection of its own; an asynchronous context.

    Args:
        allowed: networks that are not public, but allowed
        timeout: seconds for one request
        resolve: what finds the addresses of a name
    """

    def __init__(
        self,
        allowed: Sequence[Network] = (),
        timeout: float = _TIMEOUT_SECONDS,
        resolve: Resolve = _getaddrinfo,
    ) -> None:
        self._allowed, self._timeout, self._resolve = allowed, timeout, resolve
        self._beginning = asyncio.Lock()
        self._entered = False
        self._requests: Requests | None = None

    async def __aenter__(self) -> "Sender":
        self._entered = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered = False
        if self._requests is not None:
            requests, self._requests = self._requests, None
            await requests.close()

    async def send(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Send an event; whatever goes wrong is told by the answer."""
        return await (await self._ready()).send(url, body, headers)

    async def _ready(self) -> "Requests":
        """What sends. It is imported by the first request: most services tell nobody of anything.

        Without aiohttp and the certificates of the world a service starts sooner, and is smaller.
        """
        async with self._beginning:
            if self._requests is None:
                await asyncio.to_thread(import_module, "service.webhooks.requests")
                from service.webhooks.requests import Requests

                if not self._entered:
                    raise ValueError("the sender is not entered")
                self._requests = Requests(self._allowed, self._timeout, self._resolve)
            return self._requests
