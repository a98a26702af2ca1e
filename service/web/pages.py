"""Long lists, a page at a time: an opaque cursor, and the link to the next page (RFC 8288)."""

import base64
import binascii
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, TypeAlias
from urllib.parse import urlencode
from uuid import UUID

from litestar import Request
from litestar.datastructures import ResponseHeader
from litestar.params import Parameter

from service.web.links import link
from service.web.problems import Problem, refused

PAGE_SIZE, LARGEST_PAGE = 100, 1000
_DIGEST = 8  # bytes
#: Digits of a place: no list has more items.
_LONGEST_PLACE = 9

#: How many items a page has; the parameter's default is PAGE_SIZE.
Limit: TypeAlias = Annotated[
    int, Parameter(ge=1, le=LARGEST_PAGE, description="Maximum number of items on the page.")
]
#: Where a page begins; the parameter's default is None.
Cursor: TypeAlias = Annotated[
    str | None,
    Parameter(
        max_length=2000,
        description="Where the page begins: `next_cursor` of the previous page. All other "
        "parameters except `limit` must be the same as for that page.",
    ),
]
#: What OpenAPI says of the header that `next_link` makes.
NEXT_LINK = ResponseHeader(
    name="Link",
    documentation_only=True,
    description='The next page, if there is one: `<…>; rel="next"` (RFC 8288).',
)


def to_cursor(position: str, request: Request[Any, Any, Any]) -> str:
    """The cursor of the page after a position in the order of the list that a request asks for."""
    content = _filters(request) + position.encode()
    cursor = sha256(content).digest()[:_DIGEST] + content
    return base64.urlsafe_b64encode(cursor).decode().rstrip("=")


def from_cursor(cursor: str | None, request: Request[Any, Any, Any]) -> str | None:
    """The position that a cursor stands for; None: the start of the list.

    Raises:
        Problem: it is no cursor of ours, or one of another list or of other filters
    """
    if cursor is None:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        read = base64.b64decode(padded, altchars=b"-_", validate=True)
        digest, content = read[:_DIGEST], read[_DIGEST:]
        filters, position = content[:_DIGEST], content[_DIGEST:].decode()
        if digest != sha256(content).digest()[:_DIGEST] or not position or "\0" in position:
            raise ValueError
    except (binascii.Error, ValueError):
        raise not_ours() from None
    if filters != _filters(request):
        raise refused(
            "cursor",
            "belongs to another list or other filters: keep all parameters except `limit` as they "
            "were for the page that gave it, or begin without a cursor",
        )
    return position


def place_of(cursor: str | None, request: Request[Any, Any, Any], otherwise: int = 0) -> int:
    """How many items come before the page; `otherwise`: without a cursor.

    Raises:
        Problem: as `from_cursor` does
    """
    position = from_cursor(cursor, request)
    if position is None:
        return otherwise
    if not position.isdecimal() or len(position) > _LONGEST_PLACE:
        raise not_ours()
    return int(position)


def dated_cursor(created_at: datetime, item_id: UUID, request: Request[Any, Any, Any]) -> str:
    """The cursor after an item of a list in the order of when its items were made."""
    return to_cursor(f"{created_at.isoformat()} {item_id}", request)


def from_dated_cursor(
    cursor: str | None, request: Request[Any, Any, Any]
) -> tuple[datetime, UUID] | None:
    """When the item before the page was made, and its id; None: the start of the list.

    Raises:
        Problem: as `from_cursor` does
    """
    position = from_cursor(cursor, request)
    if position is None:
        return None
    try:
        created_at, _, item_id = position.partition(" ")
        instant = datetime.fromisoformat(created_at)
        if instant.tzinfo is None:
            raise ValueError
        return instant.astimezone(UTC), UUID(item_id)
    except (ValueError, OverflowError):
        raise not_ours() from None


def not_ours() -> Problem:
    """What to say of a cursor that stands for no position in the list."""
    return refused(
        "cursor", "was not given by a page of this version of the service: begin without a cursor"
    )


def _filters(request: Request[Any, Any, Any]) -> bytes:
    """A digest of what is asked for, apart from where the page begins and how long it is."""
    given = request.query_params.multi_items()
    filters = sorted(
        (name, value) for name, value in given if value and name not in ("limit", "cursor")
    )
    return sha256(f"{request.scope['path']}?{urlencode(filters)}".encode()).digest()[:_DIGEST]


def next_link(request: Request[Any, Any, Any], cursor: str | None) -> dict[str, str]:
    """The header that names the next page: the same request with another cursor."""
    if cursor is None:
        return {}
    given = request.query_params.multi_items()
    query = urlencode([(name, value) for name, value in given if name != "cursor"])
    query = f"{query}&{urlencode({'cursor': cursor})}".removeprefix("&")
    return {"Link": f'<{link(request.scope["path"])}?{query}>; rel="next"'}
