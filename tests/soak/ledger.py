"""What the clients sent, and so what the database must, may and must not hold.

A request that gets no answer, or one that says that the service could not, may have been carried
out, may be carried out yet, or never. So each value is a set of those that it may be, and only an
acknowledgement makes it one. That is sound as long as a client never sends another value for a key
after a request about it that was not answered at once: the late one might still win.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntFlag
from typing import Literal

Setting = Literal["hours", "zone"]
Week = tuple[tuple[int, int, int], ...]  # weekday, start and end in milliseconds, ascending


class May(IntFlag):
    """What a poll of one store and millisecond may be."""

    ABSENT = 1
    INACTIVE = 2
    ACTIVE = 4


@dataclass
class Row:
    """A poll that a client sends; `sure` while each request about it was answered at once."""

    store_id: str
    instant: int  # milliseconds since 1970-01-01 UTC
    active: bool
    sure: bool = True

    def timestamp(self, microseconds: int = 0) -> str:
        """The instant as text, with digits below the millisecond that the service cuts."""
        moment = datetime.fromtimestamp(self.instant // 1000, UTC)
        return f"{moment:%Y-%m-%d %H:%M:%S}.{self.instant % 1000:03}{microseconds:03}"

    @property
    def status(self) -> str:
        return "active" if self.active else "inactive"


class Ledger:
    """All that was sent.

    Attributes:
        polls: by store and millisecond
        settings: hours (`Week`) and zones (a name or None) of stores for which any were sent
        named: stores that an acknowledged request named
        newest: instant of the newest acknowledged poll
    """

    def __init__(self, newest: int) -> None:
        self.polls: dict[str, dict[int, May]] = {}
        self.settings: dict[tuple[Setting, str], set[object]] = {}
        self.named: set[str] = set()
        self.newest = newest

    def sending(self, rows: Iterable[Row]) -> None:
        """These may be stored from now on."""
        for row in rows:
            polls = self.polls.setdefault(row.store_id, {})
            polls[row.instant] = polls.get(row.instant, May.ABSENT) | _value(row)

    def stored(self, rows: Iterable[Row]) -> None:
        """These are."""
        for row in rows:
            self.polls[row.store_id][row.instant] = _value(row)
            self.named.add(row.store_id)
            self.newest = max(self.newest, row.instant)

    def removing(self, rows: Iterable[Row]) -> None:
        """These may be removed from now on."""
        for row in rows:
            self.polls[row.store_id][row.instant] |= May.ABSENT

    def removed(self, rows: Iterable[Row]) -> None:
        """These are."""
        for row in rows:
            self.polls[row.store_id][row.instant] = May.ABSENT

    def setting(self, kind: Setting, store_id: str, value: object) -> None:
        """A store may get these hours, or this zone, from now on."""
        before: object = () if kind == "hours" else None
        self.settings.setdefault((kind, store_id), {before}).add(value)

    def was_set(self, kind: Setting, store_id: str, value: object) -> None:
        """It has them."""
        self.settings[kind, store_id] = {value}
        self.named.add(store_id)


def _value(row: Row) -> May:
    return May.ACTIVE if row.active else May.INACTIVE
