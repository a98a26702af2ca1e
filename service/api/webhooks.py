"""Webhooks over HTTP: endpoints, their secrets, and what was delivered to them.

All of it needs scope write, lists too: URLs of receivers often have a token in them.
"""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec
from litestar import Request, delete, get, patch, post
from litestar.datastructures import ResponseHeader
from litestar.params import HeaderParameter, Parameter, QueryParameter
from litestar.response import Response
from msgspec import UnsetType

from service.api.webhook_details import (
    MadeWebhook,
    NewWebhook,
    RotatedSecret,
    SecretRotation,
    WebhookDelivery,
    WebhookDeliveryPage,
    WebhookDetails,
    WebhookPage,
    WebhookPatch,
    listed_delivery,
    shown,
    shown_delivery,
)
from service.database.pool import transaction
from service.settings import Settings
from service.spans import parse_span
from service.states.look import LONGEST_THRESHOLD
from service.stores.selection import TagRefused, with_tags
from service.web.conditions import check_preconditions, tag_of
from service.web.links import link
from service.web.pages import (
    NEXT_LINK,
    PAGE_SIZE,
    Cursor,
    Limit,
    dated_cursor,
    from_cursor,
    from_dated_cursor,
    next_link,
    not_ours,
    to_cursor,
)
from service.web.problems import Problem, documented, refused
from service.web.strict import check_body, given_members
from service.webhooks.addresses import url_problem
from service.webhooks.deliverer import Deliverer
from service.webhooks.deliveries import (
    DeliveryState,
    add_test,
    list_deliveries,
    read_delivery,
    replay,
)
from service.webhooks.events import EVENTS
from service.webhooks.signing import shown as shown_secret
from service.webhooks.table import (
    MOST_WEBHOOKS,
    SameWebhook,
    TooManyWebhooks,
    Webhook,
    change_webhook,
    create_webhook,
    delete_webhook,
    list_webhooks,
    read_webhook,
    rotate_secret,
    take_webhook,
)
from service.webhooks.table import Settings as WebhookSettings

log = logging.getLogger("storewatch.webhooks")

_TAGS = ["webhooks"]
_SHORTEST_SILENCE = 60_000
_LONGEST_OVERLAP = timedelta(days=7)
#: Digits of the sequence number of a delivery: more do not fit into the database's.
_LONGEST_SEQUENCE = 18

_WebhookId: TypeAlias = Annotated[UUID, Parameter(description="The endpoint's id.")]
_DeliveryId: TypeAlias = Annotated[UUID, Parameter(description="The delivery's id.")]
_IfMatch: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="Write only if the endpoint has one of these ETags. Otherwise 412.",
    ),
]
_ETAG = ResponseHeader(
    name="ETag",
    documentation_only=True,
    description="Tag of what was set, for `If-Match`: a delivery does not change it.",
)


@post(
    "/webhooks",
    operation_id="createWebhook",
    summary="Make an endpoint for events",
    tags=_TAGS,
    status_code=201,
    opt={"scope": "write"},
    responses=documented(408, 409, 413),
    response_headers=[
        _ETAG,
        ResponseHeader(
            name="Location", documentation_only=True, description="Where the endpoint is."
        ),
    ],
)
async def post_webhook(
    request: Request[Any, Any, Any], pool: asyncpg.Pool, settings: Settings, data: NewWebhook
) -> Response[MadeWebhook]:
    """Make an endpoint. The answer holds its secret, and is the only one that does.

    Stores that are down or silent already are not told, nor when they are up again. At most 100 are
    kept. One with the same URL, events, tags and thresholds as another is refused, so a request
    that is sent again makes no second one: if the answer was lost, rotate the secret.
    """
    await check_body(request, NewWebhook)
    wanted = WebhookSettings(
        url=data.url,
        description=data.description,
        events=[event for event in EVENTS if event in data.events],
        tags=sorted(set(data.tags)),
        down_for=_threshold("down_for", data.down_for),
        silent_for=_threshold("silent_for", data.silent_for, _SHORTEST_SILENCE),
        paused=data.paused,
    )
    _check_url(wanted.url, settings)
    _check(wanted)
    async with transaction(pool) as connection:
        try:
            made, secret = await create_webhook(connection, wanted)
        except SameWebhook as same:
            raise Problem(
                409,
                f"The endpoint {same.id} has the same URL, events, tags and thresholds. If its "
                "secret was lost, POST /webhooks/{id}/rotate-secret makes a new one.",
                slug="webhook-exists",
            ) from None
        except TooManyWebhooks:
            raise Problem(
                409,
                f"There are {MOST_WEBHOOKS} endpoints already: delete one that nobody needs.",
                slug="too-many-webhooks",
            ) from None
    log.info("made the webhook %s", made.id)
    told = msgspec.structs.asdict(shown(made))
    return Response(
        MadeWebhook(**told, secret=shown_secret(secret)),
        headers={
            "Location": link(f"/webhooks/{made.id}"),
            "Cache-Control": "no-store",
            **_etag(made),
        },
    )


@get(
    "/webhooks",
    operation_id="listWebhooks",
    summary="List endpoints for events",
    tags=_TAGS,
    opt={"scope": "write"},
    responses=documented(),
    response_headers=[NEXT_LINK],
)
async def get_webhooks(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    limit: Limit = PAGE_SIZE,
    cursor: Cursor = None,
) -> Response[WebhookPage]:
    """List endpoints, in the order in which they were made."""
    after = from_dated_cursor(cursor, request)
    found = await list_webhooks(pool, limit + 1, after)
    page = found[:limit]
    next_cursor = None
    if len(found) > limit:
        next_cursor = dated_cursor(page[-1].created_at, page[-1].id, request)
    return Response(
        WebhookPage([shown(webhook) for webhook in page], next_cursor),
        headers=next_link(request, next_cursor),
    )


@get(
    "/webhooks/{webhook_id:uuid}",
    operation_id="getWebhook",
    summary="An endpoint for events",
    tags=_TAGS,
    opt={"scope": "write"},
    responses=documented(404),
    response_headers=[_ETAG],
)
async def get_webhook(pool: asyncpg.Pool, webhook_id: _WebhookId) -> Response[WebhookDetails]:
    """Give an endpoint: what it is told, and how deliveries to it go."""
    webhook = await read_webhook(pool, webhook_id)
    if webhook is None:
        raise _not_known()
    return _response(webhook)


@patch(
    "/webhooks/{webhook_id:uuid}",
    operation_id="patchWebhook",
    summary="Change, pause or resume an endpoint",
    tags=_TAGS,
    opt={"scope": "write"},
    responses=documented(404, 408, 412, 413),
    response_headers=[_ETAG],
)
async def patch_webhook(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    settings: Settings,
    webhook_id: _WebhookId,
    data: WebhookPatch,
    if_match: _IfMatch = None,
) -> Response[WebhookDetails]:
    """Change an endpoint. What is left out stays as it is.

    Told to go on, or with other events, tags or thresholds, it begins anew: stores that are down or
    silent then are not told, nor when they are up again. `paused`: false also lets one go on that
    the service has disabled.
    """
    await check_body(request, WebhookPatch)
    async with transaction(pool) as connection:
        known = await _taken(connection, webhook_id, if_match)
        wanted = _changed(known.settings, data)
        if wanted.url != known.settings.url:
            _check_url(wanted.url, settings)
        _check(wanted)
        await change_webhook(connection, known, wanted)
        changed = await _taken(connection, webhook_id, None)
    return _response(changed)


@delete(
    "/webhooks/{webhook_id:uuid}",
    operation_id="deleteWebhook",
    summary="Delete an endpoint",
    tags=_TAGS,
    status_code=204,
    opt={"scope": "write"},
    responses=documented(404, 412),
)
async def remove_webhook(
    pool: asyncpg.Pool, webhook_id: _WebhookId, if_match: _IfMatch = None
) -> None:
    """Delete an endpoint with its deliveries. One that is under way may still arrive."""
    async with transaction(pool) as connection:
        await _taken(connection, webhook_id, if_match)
        await delete_webhook(connection, webhook_id)
    log.info("deleted the webhook %s", webhook_id)


@post(
    "/webhooks/{webhook_id:uuid}/rotate-secret",
    operation_id="rotateWebhookSecret",
    summary="Give an endpoint a new secret",
    tags=_TAGS,
    status_code=200,
    opt={"scope": "write"},
    responses=documented(404, 408, 413),
)
async def post_rotate_secret(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    webhook_id: _WebhookId,
    data: SecretRotation | None = None,
) -> Response[RotatedSecret]:
    """Make a new secret, which this answer alone shows. For `overlap` the old one signs too.

    Meanwhile `webhook-signature` has two signatures, so receivers need not change at the same
    moment. A secret before the old one ends at once.
    """
    await check_body(request, SecretRotation)
    overlap = timedelta(milliseconds=parse_span((data or SecretRotation()).overlap))
    if overlap > _LONGEST_OVERLAP:
        raise refused("overlap", f"is longer than {_LONGEST_OVERLAP.days} days", source="body")
    async with transaction(pool) as connection:
        await _taken(connection, webhook_id, None)
        secret = await rotate_secret(connection, webhook_id, overlap)
        changed = await _taken(connection, webhook_id, None)
    log.info("rotated the secret of the webhook %s", webhook_id)
    return Response(
        RotatedSecret(secret=shown_secret(secret), old_secret_ends=changed.old_secret_ends),
        headers={"Cache-Control": "no-store"},
    )


@post(
    "/webhooks/{webhook_id:uuid}/test",
    operation_id="testWebhook",
    summary="Send an endpoint an event that tells of nothing",
    tags=_TAGS,
    status_code=202,
    opt={"scope": "write"},
    responses=documented(404),
)
async def post_test(
    pool: asyncpg.Pool, deliverer: Deliverer, webhook_id: _WebhookId
) -> WebhookDelivery:
    """Send `webhook.test`, as any other event. Its delivery tells what came of it.

    To one that is paused it waits, as all others do.
    """
    async with transaction(pool) as connection:
        await _taken(connection, webhook_id, None)
        delivery = await add_test(connection, webhook_id)
    deliverer.wake()
    return listed_delivery(delivery)


@get(
    "/webhooks/{webhook_id:uuid}/deliveries",
    operation_id="listWebhookDeliveries",
    summary="What was delivered to an endpoint, and what waits",
    tags=_TAGS,
    opt={"scope": "write"},
    responses=documented(404),
    response_headers=[NEXT_LINK],
)
async def get_deliveries(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    webhook_id: _WebhookId,
    wanted: Annotated[
        DeliveryState | None,
        QueryParameter(name="state", description="Only deliveries that are so."),
    ] = None,
    limit: Limit = PAGE_SIZE,
    cursor: Cursor = None,
) -> Response[WebhookDeliveryPage]:
    """List deliveries, the newest first. They are kept for 30 days, and of those over 10,000."""
    position = from_cursor(cursor, request)
    if position is not None and (not position.isdecimal() or len(position) > _LONGEST_SEQUENCE):
        raise not_ours()
    if await read_webhook(pool, webhook_id) is None:
        raise _not_known()
    before = None if position is None else int(position)
    found = await list_deliveries(pool, webhook_id, limit + 1, before, wanted)
    page = found[:limit]
    next_cursor = to_cursor(str(page[-1].sequence), request) if len(found) > limit else None
    return Response(
        WebhookDeliveryPage([listed_delivery(delivery) for delivery in page], next_cursor),
        headers=next_link(request, next_cursor),
    )


@get(
    "/webhooks/{webhook_id:uuid}/deliveries/{delivery_id:uuid}",
    operation_id="getWebhookDelivery",
    summary="A delivery, with what is sent",
    tags=_TAGS,
    opt={"scope": "write"},
    responses=documented(404),
)
async def get_delivery(
    pool: asyncpg.Pool, webhook_id: _WebhookId, delivery_id: _DeliveryId
) -> WebhookDelivery:
    """Give a delivery with the body that each attempt sends."""
    delivery = await read_delivery(pool, webhook_id, delivery_id)
    if delivery is None:
        raise _no_delivery()
    return shown_delivery(delivery)


@post(
    "/webhooks/{webhook_id:uuid}/deliveries/{delivery_id:uuid}/replay",
    operation_id="replayWebhookDelivery",
    summary="Make a delivery again",
    tags=_TAGS,
    status_code=202,
    opt={"scope": "write"},
    responses=documented(404),
)
async def post_replay(
    pool: asyncpg.Pool, deliverer: Deliverer, webhook_id: _WebhookId, delivery_id: _DeliveryId
) -> WebhookDelivery:
    """Send an event again, at once, also one that arrived: with the same id and the same body.

    One that waits for its next attempt is tried at once; one that is under way goes on.
    """
    async with transaction(pool) as connection:
        await _taken(connection, webhook_id, None)
        delivery = await replay(connection, webhook_id, delivery_id)
    if delivery is None:
        raise _no_delivery()
    deliverer.wake()
    return shown_delivery(delivery)


ROUTES = [
    post_webhook,
    get_webhooks,
    get_webhook,
    patch_webhook,
    remove_webhook,
    post_rotate_secret,
    post_test,
    get_deliveries,
    get_delivery,
    post_replay,
]


def _changed(known: WebhookSettings, data: WebhookPatch) -> WebhookSettings:
    given = given_members(data)
    if not isinstance(data.events, UnsetType):
        given["events"] = [event for event in EVENTS if event in data.events]
    if not isinstance(data.tags, UnsetType):
        given["tags"] = sorted(set(data.tags))
    if not isinstance(data.down_for, UnsetType):
        given["down_for"] = _threshold("down_for", data.down_for)
    if not isinstance(data.silent_for, UnsetType):
        given["silent_for"] = _threshold("silent_for", data.silent_for, _SHORTEST_SILENCE)
    return msgspec.structs.replace(known, **given)


def _threshold(name: str, text: str, least: int = 0) -> int:
    milliseconds = parse_span(text)
    if milliseconds > LONGEST_THRESHOLD:
        raise refused(name, "is longer than 24h", source="body")
    if milliseconds < least:
        raise refused(name, "is shorter than 1m", source="body")
    return milliseconds


def _check_url(url: str, settings: Settings) -> None:
    if problem := url_problem(url, settings.webhook_networks):
        raise refused("url", problem, source="body")


def _check(wanted: WebhookSettings) -> None:
    if "\0" in wanted.description:
        raise refused("description", "has a NUL character", source="body")
    try:
        with_tags(wanted.tags)
    except TagRefused as error:
        raise refused("tags", str(error), source="body") from None


async def _taken(connection: asyncpg.Connection, webhook_id: UUID, if_match: str | None) -> Webhook:
    """An endpoint, locked, if it is the version that If-Match names.

    Raises:
        Problem: there is none (404), or another one (412)
    """
    webhook = await take_webhook(connection, webhook_id)
    if webhook is None:
        raise _not_known()
    check_preconditions(if_match, None, _tag(webhook))
    return webhook


def _not_known() -> Problem:
    return Problem(404, "There is no endpoint with this id.", slug="webhook-not-found")


def _no_delivery() -> Problem:
    return Problem(
        404, "There is no delivery with this id at this endpoint.", slug="delivery-not-found"
    )


def _tag(webhook: Webhook) -> str:
    return tag_of(webhook.settings)


def _etag(webhook: Webhook) -> Mapping[str, str]:
    return {"ETag": f'"{_tag(webhook)}"'}


def _response(webhook: Webhook) -> Response[WebhookDetails]:
    return Response(shown(webhook), headers=_etag(webhook))
