"""What the OpenAPI document says of webhooks: what the service sends, and how it is answered."""

import inspect
from typing import Any

from service.webhooks.events import DATA

_STRING: dict[str, Any] = {"type": "string"}
_HEADERS = {
    "webhook-id": "The delivery's id: the same at each attempt, so that nothing counts twice.",
    "webhook-timestamp": "When it was sent, seconds since 1970-01-01 UTC: refuse what is minutes "
    "old.",
    "webhook-signature": "`v1,` and the base64 of HMAC-SHA256 over `{webhook-id}."
    "{webhook-timestamp}.{body}`, by the secret without `whsec_` from base64. Several are "
    "separated by spaces: one that is right suffices.",
}
_ANSWERS = {
    "2XX": {"description": "It arrived. The body is not read but for its first 1,024 bytes."},
    "410": {"description": "The receiver wants no more: the endpoint is disabled."},
    "4XX": {"description": "Not taken: it is sent again later, after `Retry-After` if that is so."},
    "5XX": {
        "description": "Not taken, and sent again. Redirects are not followed: they count so too."
    },
}

#: Structs of `service.webhooks.events` that only webhooks have.
DATA_SCHEMAS = frozenset(data.__name__ for data in DATA.values())


def webhooks() -> dict[str, Any]:
    """The member `webhooks` of the document."""
    return {kind: {"post": _operation(kind)} for kind in DATA}


def event_schemas() -> dict[str, Any]:
    """The bodies of webhooks, by the names of their schemas."""
    return {_name(kind): _event(kind) for kind in DATA}


def _name(kind: str) -> str:
    return DATA[kind].__name__.removesuffix("Data") + "Event"


def _meaning(kind: str) -> str:
    return inspect.cleandoc(DATA[kind].__doc__ or "")


def _event(kind: str) -> dict[str, Any]:
    return {
        "title": _name(kind),
        "type": "object",
        "description": _meaning(kind),
        "properties": {
            "type": {"const": kind, "description": "What kind of event it is."},
            "timestamp": {
                "type": "string",
                "format": "date-time",
                "description": "When it happened.",
            },
            "data": {
                "$ref": f"#/components/schemas/{DATA[kind].__name__}",
                "description": "What happened.",
            },
        },
        "required": ["type", "timestamp", "data"],
    }


def _operation(kind: str) -> dict[str, Any]:
    name = _name(kind)
    reference = {"$ref": f"#/components/schemas/{name}"}
    return {
        "operationId": f"on{name}",
        "summary": kind,
        "description": f"{_meaning(kind)} Sent to endpoints that POST /webhooks made.",
        "tags": ["webhooks"],
        "security": [],
        "parameters": [
            {
                "name": header,
                "in": "header",
                "required": True,
                "schema": _STRING,
                "description": text,
            }
            for header, text in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference}}},
        "responses": dict(_ANSWERS),
    }
