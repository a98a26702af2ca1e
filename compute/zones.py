"""The known time zones, whose names and rules come only from the package tzdata.

Import names of zones from here: this module first makes zoneinfo ignore the operating system's own
rules, so that the same names have the same rules on every machine.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones, reset_tzpath

from tzdata import IANA_VERSION

from compute.instants import instant_of

reset_tzpath(to=())

#: The zone of a store that has none of its own.
DEFAULT_TIMEZONE = "America/Chicago"
#: The release of the tz database, such as 2026f.
TZ_VERSION: str = IANA_VERSION
# Two changes between two looks at a zone's clocks would be missed. Since 1967 there have been more
# than six days between any two, which a test watches.
_LOOK_EVERY_MS = 86_400_000
_MILLISECOND = timedelta(milliseconds=1)


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """The names of the tz database."""
    return frozenset(available_timezones())


class Offset(NamedTuple):
    """How a zone's clocks are set, from an instant on."""

    start: int  # milliseconds since 1970-01-01 UTC
    ahead: int  # of UTC, milliseconds
    abbreviation: str  # as the tz database has it: EST, or +0530 where a zone has no letters


@lru_cache(maxsize=2048)
def offsets(name: str, from_ms: int, to_ms: int) -> tuple[Offset, ...]:
    """The offsets of a zone over a stretch of time, in order, the first one from its begin.

    Args:
        name: IANA name
        from_ms: milliseconds since 1970-01-01 UTC
        to_ms: the same; what changes up to a day later may be told too

    Raises:
        zoneinfo.ZoneInfoNotFoundError: the tz database lacks the name
    """
    zone = ZoneInfo(name)

    def at(utc_ms: int) -> tuple[int, str]:
        local = instant_of(utc_ms).astimezone(zone)
        return (local.utcoffset() or timedelta()) // _MILLISECOND, local.tzname() or ""

    # zoneinfo tells an offset at an instant, not when it changes: look every day, then halve.
    before = at(from_ms)
    found = [Offset(from_ms, *before)]
    for looked in range(from_ms, to_ms, _LOOK_EVERY_MS):
        after = at(looked + _LOOK_EVERY_MS)
        if after == before:
            continue
        low, high = looked, looked + _LOOK_EVERY_MS
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if at(middle) == before else (low, middle)
        found.append(Offset(high, *after))
        before = after
    return tuple(found)


class StoresInZone(NamedTuple):
    """Stores of a zone: how many, and the id of one of them."""

    name: str
    stores: int
    example: str


class ZoneUnknown(Exception):  # noqa: N818 - read by a person as a sentence
    """Stores are in zones that this tz database lacks: another version of it accepted them.

    Attributes:
        zones: the zones, each with its stores
    """

    def __init__(self, zones: Sequence[StoresInZone]) -> None:
        super().__init__(zones)
        self.zones = zones

    def __str__(self) -> str:
        told = ", ".join(
            f"{zone.name} ({zone.stores} {'store' if zone.stores == 1 else 'stores'}, such as "
            f"{zone.example!r})"
            for zone in self.zones
        )
        return (
            f"the tz database of this instance, version {TZ_VERSION}, lacks {told}: update the "
            "package tzdata, run a newer storewatch, or give those stores another zone"
        )
