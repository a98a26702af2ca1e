"""Instants of requests, as the kernel counts them."""

from datetime import UTC, datetime, timedelta

from service.api.problems import refused
from service.store import EPOCH

_LATEST = datetime(9999, 1, 1, tzinfo=UTC)


def to_milliseconds(instant: datetime | None, name: str, source: str = "query") -> int | None:
    """Milliseconds since 1970-01-01 UTC, cut; without an offset an instant is UTC.

    Args:
        instant: as it was given; None stays None
        name: of the value, for the reader
        source: the part of the request that it is in

    Raises:
        Problem: it is before 1970 or after 9998
    """
    if instant is None:
        return None
    utc = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant
    if not EPOCH <= utc < _LATEST:
        raise refused(name, "is before 1970 or after 9998", source)
    return (utc - EPOCH) // timedelta(milliseconds=1)
