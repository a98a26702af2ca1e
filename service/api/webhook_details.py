"""An endpoint of webhooks and its deliveries, as the API takes and shows them."""

from datetime import datetime
from typing import Annotated, TypeAlias
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from compute.feed_values import MOST_TAGS
from service.spans import SPAN_PATTERN, format_span
from service.webhooks.addresses import LONGEST_URL
from service.webhooks.deliveries import Delivery, DeliveryState
from service.webhooks.events import EVENTS, WebhookEvent
from service.webhooks.table import LONGEST_DESCRIPTION, Webhook

Url: TypeAlias = Annotated[
    str,
    Meta(
        min_length=8,
        max_length=LONGEST_URL,
        description="Where to send events by POST: a public address, or one that "
        "STOREWATCH_WEBHOOK_NETWORKS allows, such as `https://example.com/hook`.",
    ),
]
Description: TypeAlias = Annotated[
    str, Meta(max_length=LONGEST_DESCRIPTION, description="What it is for.")
]
Events: TypeAlias = Annotated[
    list[WebhookEvent],
    Meta(min_length=1, max_length=len(EVENTS), description="What to tell it of."),
]
Tags: TypeAlias = Annotated[
    list[Annotated[str, Meta(max_length=511)]],
    Meta(
        max_length=MOST_TAGS,
        description="Of stores only those that have this tag, `key:value`, when they go down or "
        "fall silent; without a value, those without a tag of this key. All must hold. Reports "
        "are told whatever their tags.",
        examples=[["region:west"]],
    ),
]
_Span: TypeAlias = Annotated[str, Meta(pattern=SPAN_PATTERN, min_length=2, max_length=20)]
DownFor: TypeAlias = Annotated[
    _Span,
    Meta(
        description="After how much downtime within counted time to tell, up to 24h; `0s`: at "
        "once.",
        examples=["15m"],
    ),
]
SilentFor: TypeAlias = Annotated[
    _Span,
    Meta(
        description="After how much counted time without a poll to tell, 1m to 24h.",
        examples=["3h"],
    ),
]
Paused: TypeAlias = Annotated[
    bool,
    Meta(
        description="Whether it is told nothing and sent nothing. What happens meanwhile is not "
        "told later; what waited before is sent when it goes on."
    ),
]


class NewWebhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint to make."""

    url: Url
    description: Description = ""
    events: Events
    tags: Tags = []
    down_for: DownFor = "0s"
    silent_for: SilentFor = "3h"
    paused: Paused = False


class WebhookPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of an endpoint: what is left out stays as it is."""

    url: Url | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    events: Events | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    down_for: DownFor | UnsetType = UNSET
    silent_for: SilentFor | UnsetType = UNSET
    paused: Paused | UnsetType = UNSET


class WebhookDetails(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint that is told of events."""

    id: Annotated[UUID, Meta(description="Its id.")]
    url: Annotated[str, Meta(description="Where events are sent.")]
    description: Annotated[str, Meta(description="What it is for.")]
    events: Annotated[list[WebhookEvent], Meta(description="What it is told of.")]
    tags: Annotated[list[str], Meta(description="Tags of the stores that it is told of.")]
    down_for: Annotated[str, Meta(description="After how much downtime it is told.")]
    silent_for: Annotated[str, Meta(description="After how much time without a poll it is told.")]
    paused: Annotated[bool, Meta(description="Whether it is told nothing and sent nothing.")]
    disabled_at: Annotated[
        datetime | None,
        Meta(
            description="When the service paused it, as nothing arrived; null: it did not. A PATCH "
            "with `paused`: false lets it go on."
        ),
    ]
    disabled_reason: Annotated[str | None, Meta(description="Why; null: it is not.")]
    failing_since: Annotated[
        datetime | None,
        Meta(description="The first failure since a delivery arrived; null: the last one did."),
    ]
    waiting: Annotated[int, Meta(ge=0, description="Deliveries that wait for their turn.")]
    dropped: Annotated[
        int,
        Meta(ge=0, description="Events that were never delivered, as more than 1,000 waited."),
    ]
    old_secret_ends: Annotated[
        datetime | None,
        Meta(description="Until when the secret before the present one signs too; null: no more."),
    ]
    created_at: Annotated[datetime, Meta(description="When it was made.")]


class MadeWebhook(WebhookDetails, frozen=True, kw_only=True):
    """An endpoint that was made."""

    secret: Annotated[
        str,
        Meta(description="What its events are signed with. It is not shown again: rotate it then."),
    ]


class WebhookPage(msgspec.Struct, frozen=True):
    """Some endpoints, in the order in which they were made."""

    items: Annotated[list[WebhookDetails], Meta(description="The endpoints of this page.")]
    next_cursor: Annotated[
        str | None, Meta(description="`cursor` of the next page; null on the last page.")
    ]


class SecretRotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to change the secret of an endpoint."""

    overlap: Annotated[
        _Span,
        Meta(
            description="For how long the old secret signs too, up to 7d; `0s`: not at all.",
            examples=["24h"],
        ),
    ] = "24h"


class RotatedSecret(msgspec.Struct, frozen=True, kw_only=True):
    """The new secret of an endpoint."""

    secret: Annotated[str, Meta(description="It is not shown again.")]
    old_secret_ends: Annotated[
        datetime | None, Meta(description="Until when the old one signs too; null: no more.")
    ]


class WebhookDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is on its way to an endpoint, or was."""

    id: Annotated[UUID, Meta(description="Its id, which each attempt has as `webhook-id`.")]
    sequence: Annotated[int, Meta(ge=1, description="The number that is in the event.")]
    type: Annotated[str, Meta(description="The kind of the event.")]
    state: Annotated[DeliveryState, Meta(description="Where it is.")]
    created_at: Annotated[datetime, Meta(description="When it was written.")]
    next_attempt: Annotated[
        datetime | None, Meta(description="When it is tried next; null: it is over.")
    ]
    attempts: Annotated[
        int, Meta(ge=0, description="How often it was tried since it was last replayed.")
    ]
    attempted_at: Annotated[
        datetime | None, Meta(description="When it was last tried; null: never.")
    ]
    status: Annotated[
        int | None, Meta(description="HTTP status of the last answer; null: there was none.")
    ]
    error: Annotated[
        str | None, Meta(description="What was wrong at the last attempt; null: nothing.")
    ]
    answer: Annotated[
        str | None, Meta(description="How the last answer begins, up to 1,024 bytes.")
    ]
    finished_at: Annotated[datetime | None, Meta(description="When it was over; null: it waits.")]
    payload: Annotated[
        str | UnsetType | None,
        Meta(description="The body that is sent, as it is; null: not made yet. Left out in lists."),
    ] = UNSET


class WebhookDeliveryPage(msgspec.Struct, frozen=True):
    """Some deliveries, the newest first."""

    items: Annotated[list[WebhookDelivery], Meta(description="The deliveries of this page.")]
    next_cursor: Annotated[
        str | None, Meta(description="`cursor` of the next page; null on the last page.")
    ]


def shown(webhook: Webhook) -> WebhookDetails:
    """What the API shows of an endpoint."""
    settings = webhook.settings
    return WebhookDetails(
        id=webhook.id,
        url=settings.url,
        description=settings.description,
        # One that only a later version knows stays what that version made it.
        events=[event for event in EVENTS if event in settings.events],
        tags=settings.tags,
        down_for=format_span(settings.down_for),
        silent_for=format_span(settings.silent_for),
        paused=settings.paused,
        disabled_at=webhook.disabled_at,
        disabled_reason=webhook.disabled_reason,
        failing_since=webhook.failing_since,
        waiting=webhook.waiting,
        dropped=webhook.dropped,
        old_secret_ends=webhook.old_secret_ends,
        created_at=webhook.created_at,
    )


def listed_delivery(delivery: Delivery) -> WebhookDelivery:
    """What the API shows of a delivery in a list."""
    return WebhookDelivery(
        id=delivery.id,
        sequence=delivery.sequence,
        type=delivery.type,
        state=delivery.state,
        created_at=delivery.created_at,
        next_attempt=delivery.due,
        attempts=delivery.attempts,
        attempted_at=delivery.attempted_at,
        status=delivery.status,
        error=delivery.error,
        answer=delivery.answer,
        finished_at=delivery.finished_at,
    )


def shown_delivery(delivery: Delivery) -> WebhookDelivery:
    """What the API shows of a single delivery: also what is sent."""
    payload = None if delivery.payload is None else delivery.payload.decode()
    return msgspec.structs.replace(listed_delivery(delivery), payload=payload)
