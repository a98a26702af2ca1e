"""Conditional requests (RFC 9110 §13): entity tags and the conditions that requests put on them."""

from hashlib import sha256
from typing import Annotated, Any, TypeAlias

import msgspec
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter
from werkzeug.http import parse_etags

from service.web.problems import Problem

#: `If-Match` of a request that writes; the parameter's default is None.
IfMatch: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="Write only if what would be replaced has one of these ETags, or, with `*`, if "
        "the store exists. Otherwise 412.",
    ),
]
#: `If-None-Match` of a request that writes; the parameter's default is None.
IfNoneMatch: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="If-None-Match",
        description="`*`: write only if the store does not exist yet. Otherwise 412.",
    ),
]
#: `If-None-Match` of a request that reads; the parameter's default is None.
IfChanged: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="If-None-Match",
        description="ETags of the versions that the client has already: for one of them, 304.",
    ),
]
#: What OpenAPI says of the header that goes with a tag.
ETAG = ResponseHeader(
    name="ETag",
    documentation_only=True,
    description="Tag of this version, for `If-None-Match`, and for `If-Match` of a PUT.",
)
#: What OpenAPI says of the answer to a client that has this version already.
NOT_MODIFIED = {
    304: ResponseSpec(None, description="`If-None-Match` names the present version: no body.")
}


def tag_of(shown: Any) -> str:
    """A strong tag, without its quotes: it changes with every byte of what is shown."""
    return sha256(msgspec.json.encode(shown)).hexdigest()[:32]


def is_known(if_none_match: str | None, tag: str) -> bool:
    """Whether a client that reads says that it has the version with this tag, given unquoted."""
    return parse_etags(if_none_match).contains_weak(tag)


def check_preconditions(
    if_match: str | None, if_none_match: str | None, tag: str | None, also: str | None = None
) -> None:
    """Let a request write if its conditions hold.

    Args:
        if_match: the header, if it was sent
        if_none_match: the header, if it was sent
        tag: of what would be replaced, without its quotes; None: there is nothing
        also: the tag of the whole resource that it is a part of, which If-Match may name as well

    Raises:
        Problem: a condition does not hold (412)
    """
    headers = {} if tag is None else {"ETag": f'"{tag}"'}
    problem = None
    if if_match is not None:
        wanted = parse_etags(if_match)  # `contains` leaves weak tags out, as it has to here
        if tag is None:
            problem = "If-Match: the store does not exist, so there is nothing to match"
        elif not (wanted.contains(tag) or (also is not None and wanted.contains(also))):
            problem = "If-Match: it has changed; this answer has the ETag of the present version"
    if tag is not None and is_known(if_none_match, tag):
        problem = "If-None-Match: the store exists already"
    if problem is not None:
        text = f"{problem}. Nothing was written."
        raise Problem(412, text, slug="precondition-failed", headers=headers)
