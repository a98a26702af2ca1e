"""Bodies of requests: how much of them is in memory at once, and how slowly they may arrive.

This is an ASGI layer around the application, so it applies to whatever reads a body: Litestar
itself, or a handler that takes it piece by piece.
"""

import asyncio
from collections import deque
from contextlib import suppress

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPRequestEvent, HTTPScope, Receive, Scope, Send
from litestar.types.asgi_types import ReceiveMessage

from service.web.connections import WHOLE_BODY
from service.web.patience import Crowd, Patience
from service.web.problems import Problem, send_problem

#: Most memory that one body takes: JSON may have up to 10 MB, and of CSV two blocks of 4 MiB are
#: kept.
MOST_HELD = 10_000_000
#: The server reads as much of a body before anything asks for it.
_HELD_ANYWAY = 64 << 10
#: Each request in line holds a connection and the first piece of its body in memory.
_LONGEST_LINE = 100
_GZIP = b"\x1f\x8b"


class RequestBodies:
    """ASGI application around another: bodies find room before they are read, or are refused.

    Args:
        app: gets the requests
        most_bytes: of all bodies together, at least MOST_HELD
        patience: with slow clients
        crowd: is told of those that find no room
    """

    def __init__(self, app: ASGIApp, most_bytes: int, patience: Patience, crowd: Crowd) -> None:
        self._app = app
        self._room = _Room(most_bytes, patience, crowd)
        self._patience, self._crowd = patience, crowd

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with its body."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length, coding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
        if length in (None, b"0") and coding is None:
            await self._app(scope, receive, send)
            return
        if coding is not None and (length is not None or scope["http_version"] == "1.0"):
            # A proxy that passed the request on may have seen the body end elsewhere, and so read
            # another request behind it: request smuggling (RFC 9112, section 6.1).
            self._crowd.note("requests refused because it is unclear where the body ends")
            await send_problem(_UNCLEAR_END, send)
            return
        body = _Body(
            scope,
            receive,
            None if length is None else int(length),
            self._room,
            self._patience,
            self._crowd,
        )
        try:
            await self._app(scope, body.receive, send)
        finally:
            body.close()


_UNCLEAR_END = Problem(
    400,
    "It is unclear where the body ends: send either Content-Length or, in HTTP/1.1, "
    "Transfer-Encoding.",
    headers={"Connection": "close"},
)


class _Body:
    """One request's body, as its reader gets it."""

    def __init__(
        self,
        scope: HTTPScope,
        given: Receive,
        length: int | None,
        room: "_Room",
        patience: Patience,
        crowd: Crowd,
    ) -> None:
        self._scope, self._given = scope, given
        self._length, self._room = length, room
        self._patience, self._crowd = patience, crowd
        self._held: int | None = None
        self._come, self._waited = 0, 0.0

    async def receive(self) -> ReceiveMessage:
        """The next message; the first piece is handed on only once there is room for the body.

        Raises:
            Problem: there was no room in time, or the client is too slow
        """
        message = await self._next()
        if self._held is None and message["type"] == "http.request":
            self._held = 0
            size = self._size(message)
            if size > _HELD_ANYWAY:
                await self._room.take(size)
                self._held = size
        return message

    def close(self) -> None:
        """Leave the room to others."""
        if self._held:
            self._room.give_back(self._held)

    def _size(self, first: HTTPRequestEvent) -> int:
        piece = first["body"]
        if piece.startswith(_GZIP[: len(piece)]):  # it may decompress to a thousand times its size
            return MOST_HELD
        if not first["more_body"]:
            return len(piece)
        return MOST_HELD if self._length is None else min(self._length, MOST_HELD)

    async def _next(self) -> ReceiveMessage:
        if WHOLE_BODY in (self._scope.get("extensions") or ()):
            return await self._given()
        loop, patience = asyncio.get_running_loop(), self._patience
        while True:
            begin, message = loop.time(), None
            try:
                async with asyncio.timeout(patience.crowded_seconds):
                    message = await self._given()
            except TimeoutError:
                pass
            if message is not None:
                if message["type"] != "http.request" or not message["more_body"]:
                    return message
                self._come += len(message["body"])
                if self._come >= patience.step_bytes:
                    self._come, self._waited = 0, 0.0
                    return message
            self._waited += loop.time() - begin
            crowded = self._waited >= patience.crowded_seconds and self._crowd.crowded
            if crowded or self._waited >= patience.body_seconds:
                self._crowd.note("bodies refused because they came too slowly")
                raise Problem(
                    408,
                    "The body arrives too slowly"
                    + (", and others are waiting for its room." if crowded else "."),
                    headers={"Connection": "close"},
                )
            if message is not None:
                return message


class _Room:
    """Bytes of memory for bodies, given out in the order in which they are asked for."""

    def __init__(self, most_bytes: int, patience: Patience, crowd: Crowd) -> None:
        self._free = most_bytes
        self._patience, self._crowd = patience, crowd
        self._line: deque[tuple[asyncio.Future[None], int]] = deque()

    async def take(self, size: int) -> None:
        """Take bytes.

        Raises:
            Problem: they did not become free in time
        """
        if not self._line and size <= self._free:
            self._free -= size
            return
        self._crowd.no_room()
        if len(self._line) >= _LONGEST_LINE:
            raise self._refusal()
        turn = asyncio.get_running_loop().create_future()
        waiter = (turn, size)
        self._line.append(waiter)
        try:
            async with asyncio.timeout(self._patience.line_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # the room was given at the same moment
                self.give_back(size)
            else:
                with suppress(ValueError):
                    self._line.remove(waiter)
                self.give_back(0)  # those behind may need less
            if isinstance(error, TimeoutError):
                raise self._refusal() from None
            raise

    def give_back(self, size: int) -> None:
        """Give bytes back, to those in line."""
        self._free += size
        while self._line:
            turn, wanted = self._line[0]
            if not turn.done():  # done: it gave up waiting, and has not left the line yet
                if wanted > self._free:
                    return
                self._free -= wanted
                turn.set_result(None)
            self._line.popleft()

    def _refusal(self) -> Problem:
        self._crowd.note("bodies refused because there was no room")
        return Problem(
            503,
            "Too many request bodies are arriving at the same time. Send it again soon.",
            slug="no-room",
            # Those in line now will have got their room, or given up, by then.
            headers={"Retry-After": str(round(self._patience.line_seconds) or 1)},
        )
