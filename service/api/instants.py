"""Instants of requests, as the kernel and the database count them."""

from datetime import UTC, datetime, timedelta

import msgspec

from service.api.problems import refused
from service.store import EPOCH

_LATEST = datetime(9999, 1, 1, tzinfo=UTC)


def parse_instant(text: str | None, name: str) -> datetime | None:
    """An instant of the query in RFC 3339, with or without an offset; None stays None.

    Raises:
        Problem: it is none
    """
    if text is None:
        return None
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise refused(name, "is not an instant such as 2023-01-22T12:00:00Z") from None


def to_utc(instant: datetime | None, name: str, source: str = "query") -> datetime | None:
    """The same instant in UTC; without an offset it is UTC.

    Args:
        instant: as it was given; None stays None
        name: of the value, for the reader
        source: the part of the request that it is in

    Raises:
        Problem: it is before 1970 or after 9998
    """
    if instant is None:
        return None
    given = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant
    if not EPOCH <= given < _LATEST:
        raise refused(name, "is before 1970 or after 9998", source)
    return given.astimezone(UTC)


def to_milliseconds(instant: datetime | None, name: str, source: str = "query") -> int | None:
    """Milliseconds since 1970-01-01 UTC, cut; otherwise as `to_utc`."""
    utc = to_utc(instant, name, source)
    return None if utc is None else (utc - EPOCH) // timedelta(milliseconds=1)
