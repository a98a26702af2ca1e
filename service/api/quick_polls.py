"""A short way for `POST /polls` with a few polls as JSON, as pollers send them, thousands a second.

Routing, dependencies and the log of requests take several times as long as a poll itself. So this
layer around the application answers the plain case: a small body of JSON that has come as a whole,
a key that is good, rows that are good. Everything else, and everything that goes wrong, goes on to
the route (`service.api.feeds`), which says what is wrong, and which the OpenAPI document describes.
"""

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import cast

import msgspec
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, ReceiveMessage, Scope, Send

from compute.feed_faults import FeedRefused
from service.api.feeds import FAILED, json_rows
from service.feeds.ingest import ingest_rows
from service.logs import Successes, given_id
from service.web.access import Access
from service.web.problems import Problem

#: The requests that it is about: method and path.
QUICK_POLLS = _METHOD, _PATH = "POST", "/polls"
#: Bytes of a body: of some hundred polls, which are read in less than a millisecond.
MOST_BYTES = 16 << 10
_JSON = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")
#: A request with one of these is left to the layers that know what it means.
_NOT_PLAIN = {
    b"content-encoding",
    b"expect",
    b"origin",
    b"transfer-encoding",
    b"x-forwarded-prefix",
}


class QuickPolls:
    """ASGI application around another, which gets all but the plain requests.

    Args:
        app: the other
        state: of the service, which is there once it has started
        successes: told of each request whose polls are stored
    """

    def __init__(self, app: ASGIApp, state: State, successes: Successes) -> None:
        self._app, self._state, self._successes = app, state, successes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Store the polls of a plain request, or pass it on."""
        if scope["type"] != ScopeType.HTTP or (headers := _plain_headers(scope)) is None:
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        message = await receive()
        try:
            answer = await self._answer(scope, headers, message)
        except (asyncio.CancelledError, Exception) as failed:
            cast(dict[str, object], scope)[FAILED] = failed
            answer = None
        if answer is None:
            await self._app(scope, _again(message, receive), send)
            return
        request_id = given_id(scope) or secrets.token_hex(8)
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(answer)),
                    (b"x-request-id", request_id.encode()),
                ],
            }
        )
        await send({"type": "http.response.body", "body": answer, "more_body": False})
        self._successes.add(time.perf_counter() - begin)

    async def _answer(
        self, scope: HTTPScope, headers: Mapping[str, str], message: ReceiveMessage
    ) -> bytes | None:
        """What became of the polls; None: this is not a plain request.

        Raises:
            any exception: they could not be stored
        """
        if message["type"] != "http.request" or message["more_body"]:
            return None
        try:
            rows = json_rows("polls", message["body"])
            access: Access = self._state.access
            await access.check("write", scope["client"][0] if scope["client"] else None, headers)
        except (FeedRefused, Problem):
            return None
        if rows.fault_count:
            return None
        state = self._state
        done = await ingest_rows(state.work_pool, state.poll_line, "polls", rows)
        return msgspec.json.encode(done)


def _plain_headers(scope: HTTPScope) -> dict[str, str] | None:
    """The headers of a request that is plain as far as its head tells; None: it is not."""
    if scope["path"] != _PATH or scope["method"] != _METHOD or scope["query_string"]:
        return None
    given = list(scope["headers"])
    headers = dict(given)
    length = headers.get(b"content-length", b"")
    if (
        len(headers) < len(given)
        or headers.get(b"content-type") not in _JSON
        or not length.isdigit()
        or int(length) > MOST_BYTES
        or not _NOT_PLAIN.isdisjoint(headers)
    ):
        return None
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}


def _again(message: ReceiveMessage, receive: Receive) -> Receive:
    """What gives a message once more, and then what follows."""
    read = [message]

    async def receive_again() -> ReceiveMessage:
        return read.pop() if read else await receive()

    return receive_again
