"""Clients' connections: how many there may be, and how long each may keep the service waiting.

uvicorn bounds how long a connection is idle after a response. Whatever else a client can do to
others with its connections alone is bounded here; what it can do with request bodies, in
`request_bodies`. There is no limit per address: behind a proxy all clients have the address of the
proxy, which is the one that can tell them apart.
"""

import asyncio
import resource
import socket
from collections import OrderedDict, deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.web.patience import Crowd, Patience
from service.web.problems import Problem, wire_bytes

#: Most connections, where nothing else bounds them: each takes about 20 kB when it is idle.
_MOST = 10_000
#: Connections that are accepted in one turn of the event loop, before any of them is counted, and
#: those turned away that may be open. libuv, which uvloop stands on, accepts one of a socket in a
#: turn, and a turn is long while many requests come: the last of five hundred clients that connect
#: then would wait for seconds. So as many take turns at one socket.
_ACCEPTED_AT_ONCE = 16
#: Open files besides counted connections: connections accepted and not yet counted, those to the
#: database, reports, feeds set aside; and so many for each worker process.
_OTHER_FILES, _FILES_OF_WORKER = 256, 3
#: A client that is turned away has this long to send its request, in seconds: if the connection
#: were closed before the request is read, the client's system might drop the answer.
_LINGER = 0.5
#: `Retry-After` when all connections are busy: by then those of slow clients are closed
#: (`Patience.crowded_seconds`).
_FULL_RETRY_SECONDS = 5

_FULL = Problem(
    503,
    "All connections that the service allows are busy. Try again soon.",
    slug="too-many-connections",
    headers={"Retry-After": str(_FULL_RETRY_SECONDS), "Connection": "close"},
)
#: Most bytes of the head of a request, and between two pieces of its body; and how many are parsed
#: before that is looked at. Up to 256 KiB are read at a time.
_LONGEST_HEAD, _PIECE = 64 << 10, 16 << 10
#: Requests that a connection may send before the first of them is answered.
_MOST_PIPELINED = 32

#: The extension in the scope of a request whose body has come to its end.
WHOLE_BODY = "storewatch.whole_body"
#: What uvicorn writes before the head of a response, if it is asked for.
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
#: Headers that say how long a body is.
_FRAMING = (b"content-length", b"transfer-encoding")

_HEAD_TOO_LONG = Problem(
    431, "The head of the request is too long.", headers={"Connection": "close"}
)
_BETWEEN_TOO_LONG = Problem(
    400, "There is too much between the pieces of the body.", headers={"Connection": "close"}
)
_HEAD_TOO_SLOW = Problem(
    408, "The head of the request did not arrive in time.", headers={"Connection": "close"}
)


def most_connections(wanted: int | None, workers: int) -> int:
    """How many connections the process can have; raises its limit of open files where allowed.

    Args:
        wanted: None: as many as is sensible
        workers: most worker processes
    """
    others = _OTHER_FILES + _FILES_OF_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = others + (wanted or _MOST)
    if resource.RLIM_INFINITY != soft < files:
        soft = files if hard == resource.RLIM_INFINITY else min(files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    possible = _MOST if soft == resource.RLIM_INFINITY else max(soft - others, soft // 4)
    return min(wanted or _MOST, possible)


async def accept_more(
    listening: socket.socket, protocol: Callable[[], asyncio.Protocol], backlog: int
) -> list[asyncio.Server]:
    """Accept more of a socket's connections in a turn of the event loop than the loop does.

    Args:
        listening: that a server of the loop accepts from
        protocol: makes that of a new connection
        backlog: how many may wait to be accepted

    Returns:
        servers that accept from it, too
    """
    loop = asyncio.get_running_loop()
    return [
        await loop.create_server(protocol, sock=listening.dup(), backlog=backlog)
        for _ in range(_ACCEPTED_AT_ONCE - 1)
    ]


class Connections:
    """The open connections of a server.

    Args:
        most: one more replaces the one that has waited longest for a request, if any
        patience: with slow clients
        crowd: is told of those that find no room, or are cut off
    """

    def __init__(self, most: int, patience: Patience, crowd: Crowd) -> None:
        self._most, self._patience, self._crowd = most, patience, crowd
        self._open: set[Connection] = set()
        self._turned_away = 0
        # Since when each waits for a request, oldest first; some may have got one meanwhile.
        self._waiting: OrderedDict[Connection, float] = OrderedDict()

    def __call__(self, **given: Any) -> "Connection":
        """A new connection, as uvicorn asks for it."""
        return Connection(self, **given)

    def takes(self, connection: "Connection") -> bool:
        """Count a new connection, or turn it away."""
        if len(self._open) >= self._most:
            oldest = self._longest_waiting()
            if oldest is None:
                self._crowd.no_room()
                self._crowd.note("connections turned away: all were busy")
                return False
            self._crowd.note("connections without a request closed for newer ones")
            self.lost(oldest)
            oldest.transport.abort()
        self._open.add(connection)
        self.waits(connection)
        return True

    def turn_away(self, transport: asyncio.Transport, answer: bytes) -> None:
        """Answer a connection that is not taken, and close it."""
        transport.set_protocol(asyncio.Protocol())  # which ignores whatever comes
        if self._turned_away >= _ACCEPTED_AT_ONCE:
            transport.abort()
            return

        def close() -> None:
            self._turned_away -= 1
            transport.abort()

        self._turned_away += 1
        transport.write(answer)
        asyncio.get_running_loop().call_later(_LINGER, close)

    def waits(self, connection: "Connection") -> None:
        """Note that a connection waits for a request from now on."""
        self._waiting[connection] = asyncio.get_running_loop().time()
        self._waiting.move_to_end(connection)

    def lost(self, connection: "Connection") -> None:
        """Forget a connection."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def look(self) -> None:
        """Cut off clients that are too slow; to be called every second."""
        now = asyncio.get_running_loop().time()
        last = now - self._patience.head_seconds
        while (oldest := self._longest_waiting()) and self._waiting[oldest] <= last:
            del self._waiting[oldest]
            if oldest.give_up_request():
                self._crowd.note("connections closed because no request came in time")
        seconds = (
            self._patience.crowded_seconds if self._crowd.crowded else self._patience.write_seconds
        )
        for connection in list(self._open):
            if connection.is_stuck(now - seconds, now, self._patience.step_bytes):
                self._crowd.note("connections closed because the client does not read")
                connection.transport.abort()

    def invalid(self) -> None:
        """Count a request that is not HTTP."""
        self._crowd.note("requests refused that are not valid HTTP")

    def _longest_waiting(self) -> "Connection | None":
        for _ in range(len(self._waiting)):
            connection = next(iter(self._waiting))
            if connection.has_request:
                del self._waiting[connection]  # it comes back at the end of its response
            elif connection.transport.get_write_buffer_size():
                self.waits(connection)  # its client still reads the last response
            else:
                return connection
        return None


class Connection(HttpToolsProtocol):
    """A connection that can be closed when it takes too long.

    httptools reads several times as many requests a second as h11, but bounds nothing, and passes
    some of what h11 refuses because two servers may read it in two ways. So that is done here.
    """

    def __init__(self, connections: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._all = connections
        self._unsent, self._unsent_since = 0, 0.0
        self._in_head = True
        # Bytes since the head began, or since the last piece of a body: of what lies between the
        # pieces, nothing is of use.
        self._without_body = 0
        # Requests that are not answered to their end, oldest first.
        self._unanswered: deque[RequestResponseCycle] = deque()
        self._refused: Problem | None = None

    @property
    def has_request(self) -> bool:
        """Whether a request waits for its response, or for the end of it."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many connections."""
        if self._all.takes(self):
            super().connection_made(transport)
        else:
            self._all.turn_away(transport, wire_bytes(_FULL, self.server_state.default_headers))

    def connection_lost(self, exc: Exception | None) -> None:
        """End: all requests are told, of which uvicorn tells the newest only."""
        self._all.lost(self)
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request, which a client that pipelines may have sent already."""
        self._all.waits(self)
        cast(_Response, self._unanswered.popleft().transport).flush()
        super().on_response_complete()
        if not self._unanswered:
            self._tell_refused()

    def resume_writing(self) -> None:
        """Go on: what filled the buffer has been sent."""
        self._unsent = 0
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Read what came, unless a head, or what is between the pieces of a body, has no end."""
        self._unset_keepalive_if_required()
        for begin in range(0, len(data), _PIECE):
            if self._refused:
                return
            piece = data[begin : begin + _PIECE]
            self._without_body += len(piece)
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                self._take_body(piece[upgrade.args[0] :])
            except httptools.HttpParserError as error:
                self._refuse(error)
            if self._without_body > _LONGEST_HEAD and not self._refused:
                self._all.invalid()
                self._end_with(_HEAD_TOO_LONG if self._in_head else _BETWEEN_TOO_LONG)

    def _take_body(self, data: bytes) -> None:
        """Go on in HTTP/1.1 with a request that would rather speak another protocol.

        HTTP/2 is offered so by Java's client with its first request, and by `curl --http2`.
        httptools takes the body for the other protocol; so another parser reads it.
        """
        framing = [(name, value) for name, value in self.headers if name in _FRAMING]
        if not framing:
            return
        body = SimpleNamespace(on_body=self.on_body, on_message_complete=self.on_message_complete)
        self.parser = httptools.HttpRequestParser(body)
        head = b"".join(b"%b: %b\r\n" % header for header in framing)
        try:
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + head + b"\r\n" + data)
        except httptools.HttpParserError as error:
            self._refuse(error)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes behind a body in its place is not used."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin a request, unless it could be read in two ways."""
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise _Refused(400, "only HTTP/1.0 and HTTP/1.1 are spoken here")
        names = [name for name, _ in self.headers]
        if names.count(b"host") != 1 and (
            b"host" in names or self.parser.get_http_version() == "1.1"
        ):
            raise _Refused(400, "one Host header is needed")
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if codings and (len(codings) > 1 or codings[0].lower() != b"chunked"):
            raise _Refused(501, "no Transfer-Encoding but chunked is known here")
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise _Refused(400, "too many requests were sent before the first one was answered")
        super().on_headers_complete()
        self.cycle.transport = cast(asyncio.Transport, _Response(self.transport, self.loop))
        self._unanswered.append(self.cycle)
        if self.parser.should_upgrade():  # what follows the body is not looked at
            self.cycle.keep_alive = False
        self._in_head = False
        self._without_body = 0

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._without_body = 0
        if self.cycle.more_body:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect the next head."""
        if self.parser.should_upgrade() and any(name in _FRAMING for name, _ in self.headers):
            return  # the body comes, and `_take_body` takes it
        self.cycle.scope.setdefault("extensions", {})[WHOLE_BODY] = {}
        super().on_message_complete()
        self._in_head = True
        self._without_body = 0

    def give_up_request(self) -> bool:
        """Close: the next request, or the rest of the last one, takes too long."""
        if self.transport.is_closing():
            return False
        if self._in_head and self._without_body:
            self._end_with(_HEAD_TOO_SLOW)
        else:
            self.transport.close()
        return True

    def is_stuck(self, since: float, now: float, step: int) -> bool:
        """Whether the client has not taken a step of the response since an instant.

        Args:
            since: in the loop's time
            now: in the loop's time
            step: bytes; or what is left, if that is less
        """
        unsent = self.transport.get_write_buffer_size()
        if not self._unsent or unsent <= self._unsent - step:
            self._unsent, self._unsent_since = unsent, now
        return unsent > 0 and self._unsent_since <= since

    def _refuse(self, error: httptools.HttpParserError) -> None:
        """Answer bytes that are not HTTP."""
        self._all.invalid()
        refused = error.__context__
        if not isinstance(refused, _Refused):
            refused = _Refused(400, str(error))
        self._end_with(
            Problem(
                refused.status,
                f"This is not an HTTP/1.1 request that the service accepts: {refused}.",
                headers={"Connection": "close"},
            )
        )

    def _end_with(self, problem: Problem) -> None:
        """Refuse the request that is being read, once those before it are answered, and close."""
        self._refused = problem
        if not self._in_head:
            self.cycle.disconnected = True  # whatever the application still sends is too late
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()
                return
            self._unanswered.pop()
            if self.pipeline:
                self.pipeline.popleft()
        if not self._unanswered:
            self._tell_refused()

    def _tell_refused(self) -> None:
        if self._refused and not self.transport.is_closing():
            self.transport.write(wire_bytes(self._refused, self.server_state.default_headers))
            self.transport.close()


class _Response:
    """Where a response is written: its head goes out with the first piece of its body.

    Two pieces take a system call more, wake the client twice, and a small answer is little else.

    Args:
        transport: of the connection
        loop: that it runs in
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""
        self._begun = False

    def write(self, data: bytes) -> None:
        """Write the head, which waits until this turn of the event loop ends, or what follows."""
        if self._begun or data == _CONTINUE:
            self._transport.write(self._head + data)
            self._head = b""
        else:
            self._begun, self._head = True, data
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write the head, if it still waits."""
        if self._head and not self._transport.is_closing():
            self._transport.write(self._head)
        self._head = b""

    def close(self) -> None:
        """Close the connection when all is written."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is closed, or will be."""
        return self._transport.is_closing()


class _Refused(Exception):  # noqa: N818 - read by a person as a sentence
    """A request that the parser passes, and the service does not."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status = status
