"""The time zones that there are: their names and rules come from the package tzdata alone.

Import names of zones from here: this module takes the operating system's own rules out of reach
first, so the same names have the same rules on every machine.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import available_timezones, reset_tzpath

from tzdata import IANA_VERSION

reset_tzpath(to=())

#: The zone of a store that no feed gave one.
DEFAULT_TIMEZONE = "America/Chicago"
#: The release of the tz database, such as 2026f.
TZ_VERSION: str = IANA_VERSION


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """The names of the tz database."""
    return frozenset(available_timezones())


class StoresInZone(NamedTuple):
    """Stores of a zone: how many, and the id of one of them."""

    name: str
    stores: int
    example: str


class ZoneUnknown(Exception):  # noqa: N818 - read by a person as a sentence
    """Stores are in zones that this tz database lacks: another version of it let them in.

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
            "package tzdata or run the newer storewatch, or give those stores another zone"
        )
