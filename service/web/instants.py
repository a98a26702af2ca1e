"""Instants in requests → milliseconds for the kernel, datetimes for the database."""

from datetime import datetime
from typing import overload

from compute.instants import instant_of, parse_instant
from service.web.problems import refused


@overload
def to_milliseconds(text: str, name: str, source: str = "query") -> int: ...
@overload
def to_milliseconds(text: str | None, name: str, source: str = "query") -> int | None: ...
def to_milliseconds(text: str | None, name: str, source: str = "query") -> int | None:
    """Milliseconds since 1970-01-01 UTC, cut, of an instant in any form that feeds may have.

    Args:
        text: as it was given; None stays None
        name: of the value, for messages
        source: the part of the request that it is in

    Raises:
        Problem: it is no instant, or before 1970 or after 9998
    """
    if text is None:
        return None
    try:
        return parse_instant(text)
    except ValueError as error:
        raise refused(name, str(error), source) from None


def to_utc(text: str | None, name: str) -> datetime | None:
    """An instant in the query as a datetime, which the database takes."""
    milliseconds = to_milliseconds(text, name)
    return instant_of(milliseconds)
