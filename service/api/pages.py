"""Long lists, a page at a time: an opaque cursor, and the link to the next page (RFC 8288)."""

import base64
import binascii
from typing import Annotated, Any, TypeAlias
from urllib.parse import urlencode

from litestar import Request
from litestar.datastructures import ResponseHeader
from litestar.params import Parameter

from service.api.problems import refused

PAGE_SIZE, LARGEST_PAGE = 100, 1000

#: How many items a page has; the parameter's default is PAGE_SIZE.
Limit: TypeAlias = Annotated[
    int, Parameter(ge=1, le=LARGEST_PAGE, description="Most items on the page.")
]
#: Where a page begins; the parameter's default is None.
Cursor: TypeAlias = Annotated[
    str | None,
    Parameter(
        max_length=2000,
        description="Where the page begins: `next_cursor` of the page before it.",
    ),
]
#: What OpenAPI says of the header that `next_link` makes.
NEXT_LINK = ResponseHeader(
    name="Link",
    documentation_only=True,
    description='The next page, where there is one: `<…>; rel="next"` (RFC 8288).',
)


def to_cursor(place: str) -> str:
    """The cursor of the page after a place in the list's order."""
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def from_cursor(cursor: str | None) -> str | None:
    """The place that a cursor stands for; None: the list's begin.

    Raises:
        Problem: it is no cursor of ours
    """
    if cursor is None:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        place = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
        if not place or "\0" in place:
            raise ValueError
    except (binascii.Error, ValueError):
        raise refused("cursor", "is not one that a page gave: begin without it") from None
    return place


def next_link(request: Request[Any, Any, Any], cursor: str | None) -> dict[str, str]:
    """The header that names the next page, the same question with another cursor."""
    if cursor is None:
        return {}
    given = request.query_params.multi_items()
    query = urlencode([(name, value) for name, value in given if name != "cursor"])
    query = f"{query}&{urlencode({'cursor': cursor})}".removeprefix("&")
    return {"Link": f'<{request.url.path}?{query}>; rel="next"'}
