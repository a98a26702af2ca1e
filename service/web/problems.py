"""What went wrong, as `application/problem+json` (RFC 9457), the one form in which errors go.

A handler raises `Problem`. `answer` turns it, Litestar's own exceptions, those of the domain and
any unexpected one into a response. What a client cannot act on, or should not see, goes only to the
log.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

import asyncpg
import msgspec
from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import ParameterKwarg
from litestar.types import HTTPResponseStartEvent, Send
from msgspec import UNSET, Meta, UnsetType

from compute.feed_faults import FeedRefused
from compute.feed_header import COLUMNS, FeedUnknown, header_of
from compute.zones import ZoneUnknown
from service.database.pool import DATABASE_AWAY
from service.decoding import with_members
from service.logs import request_id
from service.storage import StorageFailed
from service.web.problem_types import OF_STATUS, TYPES, path_of

log = logging.getLogger("storewatch.api")

MEDIA_TYPE = "application/problem+json"

#: `Retry-After` when the database is away: about as long as a restart of PostgreSQL takes.
_DATABASE_RETRY_SECONDS = 2
#: `Retry-After` when storage fails: it takes a person to repair it, so soon is too soon.
_STORAGE_RETRY_SECONDS = 30
#: Longer values are cut to so many characters where they are quoted.
_LONGEST_VALUE = 100


class ProblemError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong: in a feed, by line and column; in a request, by its part."""

    problem: Annotated[str, Meta(description="What is wrong with it.")]
    source: Annotated[
        str | UnsetType, Meta(description="Part of the request: body, path, query or header.")
    ] = UNSET
    field: Annotated[str | UnsetType, Meta(description="Name within that part.")] = UNSET
    line: Annotated[
        int | UnsetType, Meta(description="Line on which the row of the feed begins, from 1.")
    ] = UNSET
    column: Annotated[str | UnsetType, Meta(description="Column of the feed.")] = UNSET
    value: Annotated[str | UnsetType, Meta(description="The value that was given.")] = UNSET


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was not answered as asked (RFC 9457)."""

    type: Annotated[
        str,
        Meta(
            description="The kind of problem, for programs to tell apart: `/problems/` and a short "
            "name, after the path prefix of the service if it has one. It is also the path of a "
            "page that explains it."
        ),
    ]
    title: Annotated[str, Meta(description="The kind of problem, for people.")]
    status: Annotated[int, Meta(ge=400, le=599, description="The HTTP status.")]
    detail: Annotated[str, Meta(description="What is wrong this time, and what to do.")]
    instance: Annotated[
        str | UnsetType,
        Meta(
            description="This occurrence of it: `urn:storewatch:request:` and the percent-encoded "
            "`X-Request-ID`, under which the log says more."
        ),
    ] = UNSET
    errors: Annotated[
        list[ProblemError] | UnsetType,
        Meta(description="What is wrong, one by one; only the first of many."),
    ] = UNSET
    count: Annotated[
        int | UnsetType, Meta(description="How many errors there are, shown or not.")
    ] = UNSET


class Problem(Exception):  # noqa: N818 - it is the name that RFC 9457 gives it
    """Ends a request with a status and its reason.

    Attributes:
        status: HTTP status, 400 to 599
        detail: for the person who asked: what is wrong, what to do
        slug: the kind of problem, one of TYPES with its status; some statuses have a default
        headers: of the response
        extra: further members, of any type that msgspec encodes
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        slug: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: object,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.slug = slug or OF_STATUS[status]
        if self.slug not in TYPES or TYPES[self.slug].status != status:
            raise ValueError(f"{self.slug} is not a problem type of status {status}")
        self.headers = dict(headers or {})
        self.extra = extra

    def response(self) -> Response[bytes]:
        """The problem as a response."""
        members = {
            "type": path_of(self.slug),
            "title": TYPES[self.slug].title,
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }
        if (asked := request_id()) is not None:
            members["instance"] = f"urn:storewatch:request:{quote(asked, safe='')}"
        return Response(
            msgspec.json.encode(members),
            status_code=self.status,
            media_type=MEDIA_TYPE,
            headers={"Cache-Control": "no-store", **self.headers},
        )


def refused(name: str, problem: str, source: str = "query") -> Problem:
    """What a handler raises about a wrong value in a request that a schema cannot refuse.

    Args:
        name: of the value, within its part of the request
        problem: what is wrong with it; continues the sentence that the name begins
        source: body, path, query or header
    """
    return Problem(
        422,
        f"{source} {name}: {problem}",
        slug="invalid-request",
        errors=[ProblemError(problem=problem, source=source, field=name)],
    )


_DESCRIPTIONS = {
    400: "The request cannot be read.",
    401: "No key was given, or the key is not valid.",
    403: "The key does not allow this, or keys are needed and none has been made.",
    404: "There is nothing with this id, or at this path.",
    406: "There is none of what `Accept` asks for.",
    408: "The body arrives too slowly.",
    409: "Not possible in the present state.",
    410: "It was there, and is gone.",
    412: "`If-Match` or `If-None-Match` does not hold; nothing was written.",
    413: "The body is too large.",
    415: "The type or the encoding of the body is not accepted.",
    416: "The range lies outside the file.",
    422: "The request can be read, but a value in it is not allowed; `errors` says which.",
    429: "Too much at once; `Retry-After` says when to ask again.",
    500: "The service is at fault; its log says more.",
    503: "The service cannot do this now; `Retry-After` says when to ask again.",
    507: "A disk of the service or of its database is full.",
}
#: What any operation may answer. Reading may answer 507 too: PostgreSQL sorts on its disk.
_ALWAYS = (400, 401, 403, 422, 500, 503, 507)


def documented(
    *statuses: int, public: bool = False, but: Sequence[int] = ()
) -> dict[int, ResponseSpec]:
    """The `responses=` of a route handler: which problems it may answer with.

    Args:
        statuses: besides those that any operation may answer (400, 401, 403, 422, 500, 503, 507)
        public: the operation needs no key, so no 401 and 403
        but: statuses to leave out
    """
    wanted = {*statuses, *_ALWAYS} - set(but) - ({401, 403} if public else set())
    return {
        status: ResponseSpec(
            ProblemDetails,
            description=_DESCRIPTIONS[status],
            media_type=MEDIA_TYPE,
            generate_examples=False,
        )
        for status in sorted(wanted)
    }


async def send_problem(problem: Problem, send: Send) -> None:
    """Answer with a problem outside Litestar: in an ASGI layer around the application."""
    start: HTTPResponseStartEvent = {
        "type": "http.response.start",
        "status": problem.status,
        "headers": [(name.encode(), text.encode()) for name, text in _headers(problem).items()],
    }
    await send(start)
    await send(
        {"type": "http.response.body", "body": problem.response().content, "more_body": False}
    )


def wire_bytes(problem: Problem, more: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A problem as the bytes of an HTTP response, for bytes that could not be read as a request.

    Args:
        problem: what to send
        more: further headers
    """
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}".encode()]
    lines += [b"%b: %b" % header for header in more]
    lines += [f"{name}: {text}".encode() for name, text in _headers(problem).items()]
    return b"\r\n".join([*lines, b"", problem.response().content])


def _headers(problem: Problem) -> dict[str, str]:
    response = problem.response()
    given = {name.lower(): text for name, text in response.headers.items()}
    length = str(len(response.content))
    return {**given, "content-type": MEDIA_TYPE, "content-length": length}


def answer(request: Request[object, object, State], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for every exception."""
    problem = _problem(request, error)
    if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request failed", exc_info=error)
    elif isinstance(error, StorageFailed | asyncpg.DiskFullError):
        log.error("%s", error)
    elif problem.status == HTTPStatus.SERVICE_UNAVAILABLE and not isinstance(error, Problem):
        log.warning("the database is away: %s", error or type(error).__name__)
    return problem.response()


def _problem(request: Request[object, object, State], error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, ValidationException):
        return _of_validation(request, error)
    if isinstance(error, HTTPException):
        return _of_litestar(error)
    if isinstance(error, FeedUnknown):
        return _of_unknown_feed(error)
    if isinstance(error, FeedRefused):
        return _of_feed(error)
    if isinstance(error, ZoneUnknown):
        return Problem(409, f"{str(error)[0].upper()}{str(error)[1:]}.", slug="zone-unknown")
    if isinstance(error, UnicodeDecodeError):  # Litestar lets it through from a body of JSON
        return Problem(400, "The body is not UTF-8.")
    if isinstance(error, RecursionError) and "deserializing" in str(error):  # of JSON, by msgspec
        return Problem(400, "The JSON of the body is nested too deeply.")
    if isinstance(error, StorageFailed):
        return _of_storage(error.told, full=error.full)
    if isinstance(error, asyncpg.DiskFullError):
        return _of_storage("the disk of the database is full", full=True)
    if isinstance(error, DATABASE_AWAY):
        return Problem(
            503,
            "The database is not answering. Try again soon.",
            slug="database-unavailable",
            headers={"Retry-After": str(_DATABASE_RETRY_SECONDS)},
        )
    return Problem(500, _FAILED)


def _of_storage(told: str, *, full: bool) -> Problem:
    sentence = f"{told[0].upper()}{told[1:]}."
    if full:
        return Problem(507, f"{sentence} Try again when there is room.", slug="storage-full")
    return Problem(
        503,
        f"{sentence} The log of the service says more to its operator.",
        slug="storage-unavailable",
        headers={"Retry-After": str(_STORAGE_RETRY_SECONDS)},
    )


def _of_validation(request: Request[object, object, State], error: ValidationException) -> Problem:
    """Values that do not fit the handler's signature, for which Litestar itself answers 400."""
    told = error.extra if isinstance(error.extra, list) else []
    errors = [_of_part(request, one) for one in told if isinstance(one, dict)]
    if not errors:  # a parameter is missing, which Litestar says only in the detail
        text = re.sub(r" for (url|path) \S+$", "", error.detail)
        return Problem(422, text, slug="invalid-request")
    detail = "; ".join(
        " ".join(str(part) for part in (one.source, one.field) if part is not UNSET)
        + f": {one.problem}"
        for one in errors[:3]
    ).removeprefix(": ")
    return Problem(
        422,
        detail,
        slug="invalid-request",
        errors=errors,
        count=len(errors),
    )


def _of_part(request: Request[object, object, State], told: Mapping[str, object]) -> ProblemError:
    source, field = told.get("source"), _name_in_request(request, told.get("key"))
    problem = str(told.get("message") or "it is not valid")
    if source == "body" and problem == "'data'":  # Litestar's way to say that there is no body
        problem = "a body is needed"
    for struct in _structs_of_body(request):
        problem = with_members(problem, struct.__struct_encode_fields__)
    return ProblemError(
        problem=problem,
        source=UNSET if source is None else str(getattr(source, "value", source)),
        field=UNSET if field in (None, "data") else str(field),
    )


def _structs_of_body(request: Request[object, object, State]) -> list[type[msgspec.Struct]]:
    """The Struct of the handler's body, or of the rows in it; empty if the body is neither."""
    handler = request.scope.get("route_handler")
    data = handler.parsed_fn_signature.parameters.get("data") if handler else None
    types = [] if data is None else [data, *data.inner_types]
    return [each.annotation for each in types if each.is_subclass_of(msgspec.Struct)]


def _name_in_request(request: Request[object, object, State], name: object) -> object:
    """What the request calls a parameter, such as `from`, which Python does not take as a name."""
    handler = request.scope.get("route_handler")
    if handler is None or not isinstance(name, str):
        return name
    parameter = handler.parsed_fn_signature.parameters.get(name)
    definition = parameter.kwarg_definition if parameter else None
    if not isinstance(definition, ParameterKwarg):
        return name
    return definition.query or definition.header or name


_FAILED = "The service failed. Its log says more under the X-Request-ID."
_OF_STATUS = {
    400: "The request cannot be read: its body is not what its Content-Type says, or a part of it "
    "is malformed.",
    404: "There is nothing at this path.",
    405: "This path does not support the method; Allow lists those that it supports.",
    413: "The body is larger than this operation accepts.",
}


def _of_litestar(error: HTTPException) -> Problem:
    """Raised by the framework around a handler: its texts quote internals, so ours replace them."""
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Problem(500, _FAILED)
    detail = _OF_STATUS.get(error.status_code, error.detail)
    return Problem(error.status_code, detail, headers=error.headers)


def _of_unknown_feed(error: FeedUnknown) -> Problem:
    if error.feeds:
        told = "it has the columns of several feeds. Send the file to the path of the one it is"
    else:
        begins = (f"of {feed.replace('_', ' ')} with {header_of(feed)}" for feed in COLUMNS)
        told = f"it is none of a feed's. Files begin, {'; '.join(begins)}; other columns may follow"
    return Problem(
        422,
        f"The first line that was found is {error.first_line!r}: {told}.",
        slug="feed-not-recognised",
        errors=_errors_of(error),
        count=error.count,
    )


def _of_feed(error: FeedRefused) -> Problem:
    return Problem(
        422,
        f"{error.summary}.",
        slug="feed-refused",
        errors=_errors_of(error),
        count=error.count,
    )


def _errors_of(error: FeedRefused) -> list[ProblemError]:
    return [
        ProblemError(
            problem=fault.problem,
            line=fault.line or UNSET,
            column=fault.column or UNSET,
            value=_shortened(fault.value) if fault.column else UNSET,
        )
        for fault in error.faults
    ]


def _shortened(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}…"
