"""What comes of a request to an endpoint."""

from collections.abc import Callable
from typing import Any

import msgspec

#: How much of an answer is read, bytes: it is shown, and means nothing.
EXCERPT_BYTES = 1024
#: From host and port to what `socket.getaddrinfo` answers.
Resolve = Callable[[str, int], list[tuple[Any, ...]]]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request.

    Attributes:
        status: HTTP status; None: there was no answer
        error: what is wrong, for a person; None: it arrived
        excerpt: how the answer begins
        retry_after: seconds for which the receiver wants to be left alone; None: it did not say
    """

    status: int | None = None
    error: str | None = None
    excerpt: str | None = None
    retry_after: float | None = None
