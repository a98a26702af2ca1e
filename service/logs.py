"""The service's log on standard error: one line per record, readable on a terminal, else JSON.

Every line names the request and the report that it belongs to. No line contains a body, a key or a
query: what is never logged cannot leak from the log.
"""

import asyncio
import contextlib
import logging
import re
import secrets
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO
from uuid import UUID

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from service import metrics

access = logging.getLogger("storewatch.access")

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_report_id: ContextVar[str | None] = ContextVar("report_id", default=None)

#: Ids that a client or a proxy may give a request; any other id is replaced.
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Paths that machines ask every few seconds: requests are logged only if they fail.
_QUIET = "/health/"
#: How often the number of requests is logged that are not logged one by one, seconds.
_TELL_SECONDS = 10.0


def start_logging(stream: TextIO | None = None) -> None:
    """Send every record to a stream, standard error by default."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Readable() if stream.isatty() else _Json())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def request_id() -> str | None:
    """The id of the request that is being answered, if any."""
    return _request_id.get()


@contextlib.contextmanager
def about_report(report_id: UUID) -> Iterator[None]:
    """Within the block every record, also of tasks started in it, has this report's id."""
    token = _report_id.set(str(report_id))
    try:
        yield
    finally:
        _report_id.reset(token)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        } | _context(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class _Readable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).astimezone()
        line = f"{clock:%H:%M:%S} {record.levelname.lower():7} {record.getMessage()}"
        for name, value in _context(record).items():
            line += f" {name}={value}"
        # A line break in a path must not look like the start of another record.
        line = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", line)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _context(record: logging.LogRecord) -> dict[str, object]:
    context: dict[str, object] = dict(getattr(record, "fields", {}))
    for name, variable in (("request_id", _request_id), ("report_id", _report_id)):
        if value := variable.get():
            context.setdefault(name, value)
    return context


class RequestLog:
    """ASGI application around another: gives each request an id, logs it and measures it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and log it when its response has ended."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        path, client = scope["path"], scope["client"]
        own_id = given_id(scope) or secrets.token_hex(8)
        token = _request_id.set(own_id)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], (b"x-request-id", own_id.encode())]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - begin
            method = scope["method"] if scope["method"] in _METHODS else "other"
            # Litestar leaves the route here. With the path as a label, each id would be a metric.
            route = scope.get("path_template", "none")
            metrics.REQUEST_SECONDS.labels(method, route, str(status)).observe(seconds)
            if not route.startswith(_QUIET) or status >= 400:
                access.info(
                    "%s %s %d",
                    *(method, path, status),
                    extra={
                        "fields": {
                            "method": method,
                            "path": path,
                            "route": route,
                            "status": status,
                            "milliseconds": round(1000 * seconds, 1),
                            "client": client[0] if client else None,
                        }
                    },
                )
            _request_id.reset(token)


class Successes:
    """Requests of one kind that come so often that only a number of them is logged, now and then.

    Args:
        method: of all of them
        route: of all of them
    """

    def __init__(self, method: str, route: str) -> None:
        self._method, self._route = method, route
        self._seconds = metrics.REQUEST_SECONDS.labels(method, route, "200")
        self._count, self._slowest = 0, 0.0

    def add(self, seconds: float) -> None:
        """Measure a request that was answered by 200 after so many seconds."""
        self._seconds.observe(seconds)
        if not self._count:
            asyncio.get_running_loop().call_later(_TELL_SECONDS, self.tell)
        self._count += 1
        self._slowest = max(self._slowest, seconds)

    def tell(self) -> None:
        """Log how many there were since the last time; to be called at the end, too."""
        if not self._count:
            return
        access.info(
            "%s %s 200, %d times",
            *(self._method, self._route, self._count),
            extra={
                "fields": {
                    "method": self._method,
                    "route": self._route,
                    "status": 200,
                    "requests": self._count,
                    "most_milliseconds": round(1000 * self._slowest, 1),
                }
            },
        )
        self._count, self._slowest = 0, 0.0


def given_id(scope: HTTPScope | Scope) -> str | None:
    """The id that a client or a proxy gives a request, if it is a sane one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            return text if _SANE_ID.fullmatch(text) else None
    return None
