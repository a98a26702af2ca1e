"""Outages as the API shows them, with their ids and what is noted of them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from compute.axis import DAY_MS, PER_MS
from compute.instants import EPOCH
from compute.outages import LOOK_BACK_MS, NO_INSTANT, Outages
from compute.timeline import STATES
from service.api.stores import StoreId
from service.outages.all_stores import Page
from service.outages.kept import Kept, Named
from service.reports.summary import Seconds, exact_seconds

LOOK_BACK_DAYS = LOOK_BACK_MS // DAY_MS
#: Characters.
LONGEST_NOTE, LONGEST_CAUSE, LONGEST_AUTHOR = 2000, 100, 100
_UP = STATES.index("up")

OutageId: TypeAlias = Annotated[
    str, Meta(description="Its id: 16 letters and digits.", examples=["aaaaaaibr3vq7aaa"])
]
Note: TypeAlias = Annotated[str | None, Meta(description="What people note of it; null: nothing.")]
Cause: TypeAlias = Annotated[
    str | None,
    Meta(
        description="Why it was, in a few words of one's own; null: nothing is said.",
    ),
]
Author: TypeAlias = Annotated[str | None, Meta(description="Who says so; null: nobody is named.")]
NotedAt: TypeAlias = Annotated[
    datetime | None, Meta(description="When that was last set; null: nothing is noted.")
]


class OutageNote(msgspec.Struct, frozen=True, kw_only=True):
    """What was noted of an outage that has become one with another."""

    id: OutageId
    note: Note
    cause: Cause
    author: Author
    noted_at: NotedAt


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """A longest time that a store was down, with closed and excluded time between joined."""

    id: OutageId
    start: Annotated[
        datetime | None,
        Meta(
            description="Its first instant; null: that may lie before the "
            f"{LOOK_BACK_DAYS} days that are looked at."
        ),
    ]
    end: Annotated[
        datetime,
        Meta(
            description="The first instant after its last downtime; of an open one `as_of`, or "
            "where what is closed or excluded then began."
        ),
    ]
    duration: Annotated[
        Seconds, Meta(description="How long it was down in it: closed time does not count.")
    ]
    open: Annotated[
        bool, Meta(description="Whether it goes on: nothing but closing has come after it.")
    ]
    restored: Annotated[
        bool,
        Meta(description="Whether the store was up after it. If it ended in silence, it was not."),
    ]
    note: Note
    cause: Cause
    author: Author
    noted_at: NotedAt
    merged_notes: Annotated[
        list[OutageNote],
        Meta(
            description="What else is noted of it: polls that came late may make one outage of two."
        ),
    ]


class ListedOutage(Outage, frozen=True, kw_only=True):
    """An outage of one of many stores."""

    store_id: StoreId
    name: Annotated[str | None, Meta(description="What the store is called; null: nothing.")]


def shown_outages(found: Outages, named: Sequence[Named]) -> list[Outage]:
    """Outages of one store as the API shows them."""
    return [Outage(**members) for members in _members(found, named)]


def listed_outages(page: Page, named: Sequence[Named]) -> list[ListedOutage]:
    """A page of outages as the API shows them."""
    stores = zip(page.store_id, page.name, _members(page.found, named), strict=True)
    return [
        ListedOutage(store_id=store_id, name=name, **members) for store_id, name, members in stores
    ]


def listed_outage(store_id: str, name: str | None, outage: Outages, named: Named) -> ListedOutage:
    """A single outage as the API shows it among others."""
    (members,) = _members(outage, [named])
    return ListedOutage(store_id=store_id, name=name, **members)


def _members(found: Outages, named: Sequence[Named]) -> list[dict[str, Any]]:
    columns = (found.begin, found.end, found.length, found.then)
    rows = zip(named, *(column.tolist() for column in columns), strict=True)
    members = []
    for called, begin, end, length, then in rows:
        first, *others = called.notes or [Kept(called.id)]
        members.append(
            {
                **_noted(first),
                "id": called.id.text,
                "start": instant_or_none(begin),
                "end": EPOCH + timedelta(milliseconds=end // PER_MS),
                "duration": exact_seconds(length),
                "open": then < 0,
                "restored": then == _UP,
                "merged_notes": [OutageNote(id=one.id.text, **_noted(one)) for one in others],
            }
        )
    return members


def _noted(kept: Kept) -> dict[str, Any]:
    return {
        "note": kept.note,
        "cause": kept.cause,
        "author": kept.author,
        "noted_at": kept.noted_at,
    }


def instant_or_none(position: int) -> datetime | None:
    """A half-millisecond, which by `previous` is a whole one, as a datetime."""
    if position == NO_INSTANT:
        return None
    return EPOCH + timedelta(milliseconds=position // PER_MS)
