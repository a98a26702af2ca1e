"""What an endpoint is told: the kinds of events, what each holds, and its bytes.

An event is `{"type", "timestamp", "data"}`, as the Standard Webhooks specification has it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, TypeAlias, get_args
from uuid import UUID

import msgspec
from msgspec import Meta

#: What an endpoint can ask for. Of stores, many events of one kind come as one of `stores.…`.
WebhookEvent = Literal[
    "store.down",
    "store.up",
    "store.silent",
    "report.completed",
    "report.failed",
    "target.missed",
]
EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)
StoreEvent = Literal["store.down", "store.up", "store.silent"]
STORE_EVENTS: tuple[StoreEvent, ...] = get_args(StoreEvent)
#: The kind of an event over many stores, by that over one.
OF_MANY: Mapping[StoreEvent, str] = {
    "store.down": "stores.down",
    "store.up": "stores.up",
    "store.silent": "stores.silent",
}
TEST = "webhook.test"

_Sequence: TypeAlias = Annotated[
    int,
    Meta(
        ge=1,
        description="Of two events for the same endpoint the later one has the larger number. They "
        "may arrive in another order.",
    ),
]
_AsOf: TypeAlias = Annotated[datetime, Meta(description="The instant of the look at the store.")]
_StoreId: TypeAlias = Annotated[str, Meta(description="The id that feeds give the store.")]
_StoreName: TypeAlias = Annotated[
    str | None, Meta(description="What the store is called; null: nothing.")
]
_StoreTags: TypeAlias = Annotated[dict[str, str], Meta(description="Its tags, key → value.")]
_Url: TypeAlias = Annotated[
    str, Meta(description="Where more is to be seen; without STOREWATCH_PUBLIC_URL only the path.")
]
_Since: TypeAlias = Annotated[
    datetime | None,
    Meta(description="Since when it has been in this state; null: that is not known."),
]
_ReportId: TypeAlias = Annotated[UUID, Meta(description="The report's id.")]
_Count: TypeAlias = Annotated[int, Meta(ge=1, description="How many stores they are.")]
_Some: TypeAlias = Annotated[
    list[str], Meta(max_length=20, description="Ids of up to 20 of them, the first in their order.")
]
_AtMostADay = "at most 86,400: of more it is only known that it is more"


class StoreDownData(msgspec.Struct, frozen=True, kw_only=True):
    """A store has been down for as long as the endpoint's `down_for` says."""

    sequence: _Sequence
    store_id: _StoreId
    name: _StoreName
    tags: _StoreTags
    as_of: _AsOf
    since: Annotated[
        datetime | None,
        Meta(description="Since when it is down; null: that is not known, or it has closed since."),
    ]
    down_for: Annotated[
        float, Meta(ge=0, description=f"Seconds of counted time that it was down, {_AtMostADay}.")
    ]
    url: _Url


class StoreUpData(msgspec.Struct, frozen=True, kw_only=True):
    """A store is up again, of which the endpoint was told that it is down or silent."""

    sequence: _Sequence
    store_id: _StoreId
    name: _StoreName
    tags: _StoreTags
    as_of: _AsOf
    since: _Since
    was_down: Annotated[bool, Meta(description="Whether it is up after an outage.")]
    was_silent: Annotated[bool, Meta(description="Whether it is up after a silence.")]
    url: _Url


class StoreSilentData(msgspec.Struct, frozen=True, kw_only=True):
    """No poll of a store has come for as long as the endpoint's `silent_for` says."""

    sequence: _Sequence
    store_id: _StoreId
    name: _StoreName
    tags: _StoreTags
    as_of: _AsOf
    silent_for: Annotated[
        float,
        Meta(ge=0, description=f"Seconds of counted time since its newest poll, {_AtMostADay}."),
    ]
    url: _Url


class StoresDownData(msgspec.Struct, frozen=True, kw_only=True):
    """More stores went down within a minute than are told one by one: these did in one look."""

    sequence: _Sequence
    as_of: _AsOf
    count: _Count
    store_ids: _Some
    url: _Url


class StoresUpData(msgspec.Struct, frozen=True, kw_only=True):
    """More stores are up again within a minute than are told one by one: these are in one look."""

    sequence: _Sequence
    as_of: _AsOf
    count: _Count
    store_ids: _Some
    url: _Url


class StoresSilentData(msgspec.Struct, frozen=True, kw_only=True):
    """More stores fell silent within a minute than are told one by one: these did in one look."""

    sequence: _Sequence
    as_of: _AsOf
    count: _Count
    store_ids: _Some
    url: _Url


class ReportCompletedData(msgspec.Struct, frozen=True, kw_only=True):
    """A report was completed."""

    sequence: _Sequence
    report_id: _ReportId
    as_of: Annotated[datetime | None, Meta(description="What no window of it reaches beyond.")]
    created_at: Annotated[datetime, Meta(description="When it was asked for.")]
    finished_at: Annotated[datetime | None, Meta(description="When it was completed.")]
    stores: Annotated[int | None, Meta(description="How many stores it is about.")]
    schedule_id: Annotated[
        UUID | None, Meta(description="The schedule that asked for it; null: none did.")
    ]
    scheduled_for: Annotated[
        datetime | None, Meta(description="The time of the schedule; null: none.")
    ]
    url: _Url


class ReportFailedData(msgspec.Struct, frozen=True, kw_only=True):
    """A report failed."""

    sequence: _Sequence
    report_id: _ReportId
    created_at: Annotated[datetime, Meta(description="When it was asked for.")]
    finished_at: Annotated[datetime | None, Meta(description="When it failed.")]
    error: Annotated[str | None, Meta(description="Why.")]
    schedule_id: Annotated[
        UUID | None, Meta(description="The schedule that asked for it; null: none did.")
    ]
    scheduled_for: Annotated[
        datetime | None, Meta(description="The time of the schedule; null: none.")
    ]
    url: _Url


class MissedWindow(msgspec.Struct, frozen=True, kw_only=True):
    """How the stores that have a target did in one window."""

    window: Annotated[str, Meta(description="The window, by the name that reports have for it.")]
    stores_met: Annotated[int, Meta(ge=0, description="Stores that met their target.")]
    stores_missed: Annotated[int, Meta(ge=0, description="Stores that missed it.")]
    stores_unknown: Annotated[int, Meta(ge=0, description="Stores of which nothing is known.")]
    url: _Url


class TargetMissedData(msgspec.Struct, frozen=True, kw_only=True):
    """A report was completed in which stores missed their target."""

    sequence: _Sequence
    report_id: _ReportId
    as_of: Annotated[datetime | None, Meta(description="What no window of it reaches beyond.")]
    schedule_id: Annotated[
        UUID | None, Meta(description="The schedule that asked for it; null: none did.")
    ]
    windows: Annotated[
        list[MissedWindow], Meta(description="Its windows in which a store has a target.")
    ]
    url: _Url


class WebhookTestData(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody wants to see whether events arrive."""

    sequence: _Sequence
    webhook_id: Annotated[UUID, Meta(description="The endpoint's id.")]


#: What each kind of event holds.
DATA: Mapping[str, type[msgspec.Struct]] = {
    "store.down": StoreDownData,
    "store.up": StoreUpData,
    "store.silent": StoreSilentData,
    "stores.down": StoresDownData,
    "stores.up": StoresUpData,
    "stores.silent": StoresSilentData,
    "report.completed": ReportCompletedData,
    "report.failed": ReportFailedData,
    "target.missed": TargetMissedData,
    TEST: WebhookTestData,
}


def payload_of(kind: str, happened: datetime, data: msgspec.Struct) -> bytes:
    """The body of a delivery.

    Args:
        kind: of the event, one of `DATA`
        happened: when
        data: what it holds, of the type that `DATA` tells
    """
    return msgspec.json.encode({"type": kind, "timestamp": happened, "data": data})
