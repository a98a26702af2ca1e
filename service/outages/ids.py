"""Ids of outages: a store's number and an instant within the outage, its anchor.

Outages are computed, and polls that come late move their edges. So an id names none by its
beginning: it means the outage of its store that holds the anchor, whatever edges it has by now.
"""

import base64
import re
from typing import NamedTuple

from compute.axis import PER_MS
from compute.outages import NO_INSTANT

#: An id: ten bytes in base 32.
PATTERN = re.compile("[a-z2-7]{16}")
_STORE_BYTES, _ANCHOR_BYTES = 4, 6
_LARGEST_NUMBER = (1 << 31) - 1


class OutageId(NamedTuple):
    """What an id says.

    Attributes:
        store: number of the store in the database
        anchor: milliseconds since 1970-01-01 UTC
    """

    store: int
    anchor: int

    @property
    def text(self) -> str:
        """The id as clients get it, who need not know what it says."""
        packed = self.store.to_bytes(_STORE_BYTES, "big")
        packed += self.anchor.to_bytes(_ANCHOR_BYTES, "big")
        return base64.b32encode(packed).decode().lower()


def read_id(text: str) -> OutageId | None:
    """What a text says; None: it is no id."""
    if not PATTERN.fullmatch(text):
        return None
    packed = base64.b32decode(text.upper())
    store = int.from_bytes(packed[:_STORE_BYTES], "big")
    anchor = int.from_bytes(packed[_STORE_BYTES:], "big")
    return OutageId(store, anchor) if store <= _LARGEST_NUMBER else None


def anchor_of(begin: int, end: int) -> int:
    """The anchor of an outage for which none is kept, milliseconds since 1970-01-01 UTC.

    Args:
        begin: half-milliseconds since 1970-01-01 UTC, or `NO_INSTANT`
        end: the same
    """
    if begin == NO_INSTANT:  # its last instant, which stays in it
        return max(0, end // PER_MS - 1)
    return begin // PER_MS
