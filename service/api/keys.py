"""API keys over HTTP: list them, make one, revoke one.

Each needs a key of scope write, or none as long as there is none.
"""

import logging
from datetime import datetime
from typing import Annotated, Any

import asyncpg
import msgspec
from litestar import Request, Response, delete, get, post
from litestar.params import Parameter
from msgspec import Meta

from service.keys import (
    LONGEST_NAME,
    Key,
    NameRefused,
    NameTaken,
    NotAllowedAnyMore,
    NoWriteKeyLeft,
    Scope,
    TooManyKeys,
    create_key_for,
    list_keys,
    revoke_key_for,
)
from service.web.access import caller_of, key_not_valid
from service.web.problems import Problem, documented, refused
from service.web.strict import check_body

log = logging.getLogger("storewatch.keys")

_TAGS = ["keys"]
#: Keys that are revoked and still listed.
_REVOKED_SHOWN = 100
#: Of a key's number in the database.
_LARGEST_ID = (1 << 31) - 1


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a key; the key itself is not."""

    id: Annotated[int, Meta(description="Its number, for `DELETE`.")]
    name: Annotated[str, Meta(description="What it was named when it was made.")]
    prefix: Annotated[str, Meta(description="Its first characters, to recognise it by.")]
    scope: Annotated[Scope, Meta(description="What it allows.")]
    created_at: Annotated[datetime, Meta(description="When it was made.")]
    last_used_at: Annotated[
        datetime | None, Meta(description="When it was last used, to the minute; null: never.")
    ]
    revoked_at: Annotated[
        datetime | None, Meta(description="When it was revoked; null: it is valid.")
    ]
    current: Annotated[bool, Meta(description="Whether this request came with it.")]


class ApiKeys(msgspec.Struct, frozen=True):
    """The keys that were made."""

    items: Annotated[
        list[ApiKey],
        Meta(
            description="All that are valid, and the last 100 that were revoked, the oldest first. "
            "Empty: none was ever made, and the service serves its own machine without one."
        ),
    ]


class NewApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to make."""

    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=LONGEST_NAME,
            description="Printable characters; of the keys that are valid each has its own.",
            examples=["poller of the east"],
        ),
    ]
    scope: Annotated[Scope, Meta(description="What it is to allow.")]


class MadeApiKey(ApiKey, frozen=True, kw_only=True):
    """A key that was made."""

    key: Annotated[
        str, Meta(description="The key itself. It is kept as a hash: nobody can see it again.")
    ]


KeyId = Annotated[int, Parameter(ge=1, le=_LARGEST_ID, description="The key's `id`.")]


@get(
    "/keys",
    operation_id="listKeys",
    summary="List API keys",
    tags=_TAGS,
    opt={"scope": "write"},
    responses=documented(),
)
async def get_keys(request: Request[Any, Any, Any], pool: asyncpg.Pool) -> ApiKeys:
    """List the keys that are valid, and the last ones that were revoked."""
    caller = caller_of(request)
    return ApiKeys([_shown(key, caller) for key in await list_keys(pool, _REVOKED_SHOWN)])


@post(
    "/keys",
    operation_id="createKey",
    summary="Make an API key",
    tags=_TAGS,
    status_code=201,
    opt={"scope": "write"},
    responses=documented(408, 409, 413),
)
async def create(
    request: Request[Any, Any, Any], pool: asyncpg.Pool, data: NewApiKey
) -> Response[MadeApiKey]:
    """Make a key. The answer holds it, and is the only one that ever does.

    Where none was made before, every request needs a key from then on, this machine's own too; the
    first one has scope `write`. At most 1,000 are valid at the same time. An answer that is lost
    is not told again: the same request gets 409, as the name is taken; revoke that key then.
    """
    await check_body(request, NewApiKey)
    caller = caller_of(request)
    if caller is None and request.app.state.access.insecure:
        # Whoever came first could lock all others out.
        raise Problem(
            403,
            "With --insecure the first key is made by `storewatch keys create` alone, as everybody "
            "is served until there is one.",
            slug="key-needed",
        )
    try:
        made, key = await create_key_for(pool, caller, data.name, data.scope)
    except NameRefused:
        raise refused(
            "name", "has a character that cannot be printed, or none that can", "body"
        ) from None
    except NameTaken as error:
        raise Problem(409, str(error), slug="key-exists") from None
    except TooManyKeys as error:
        raise Problem(409, str(error), slug="too-many-keys") from None
    except NoWriteKeyLeft as error:
        raise Problem(409, str(error), slug="no-write-key-left") from None
    except NotAllowedAnyMore:
        raise key_not_valid() from None
    log.info("made the key %s… of scope %s, %s", made.prefix, made.scope, _asked_by(caller))
    shown = msgspec.structs.asdict(_shown(made, caller))
    return Response(MadeApiKey(**shown, key=key), headers={"Cache-Control": "no-store"})


@delete(
    "/keys/{key_id:int}",
    operation_id="revokeKey",
    summary="Revoke an API key",
    tags=_TAGS,
    status_code=204,
    opt={"scope": "write"},
    responses=documented(404, 409),
)
async def revoke(request: Request[Any, Any, Any], pool: asyncpg.Pool, key_id: KeyId) -> None:
    """Make a key invalid, for good: every instance refuses it within two seconds.

    It may be the key that asks. The last one of scope `write` is not revoked here, but by
    `storewatch keys revoke`. What is revoked already is answered by 204 again.
    """
    caller = caller_of(request)
    try:
        key = await revoke_key_for(pool, caller, key_id)
    except NoWriteKeyLeft as error:
        raise Problem(409, str(error), slug="no-write-key-left") from None
    except NotAllowedAnyMore:
        raise key_not_valid() from None
    if key is None:
        raise Problem(404, "There never was a key with this id.", slug="key-not-found")
    log.info("revoked the key %s…, %s", key.prefix, _asked_by(caller))


ROUTES = [get_keys, create, revoke]


def _asked_by(caller: Key | None) -> str:
    return "asked without a key" if caller is None else f"asked by {caller.prefix}…"


def _shown(key: Key, caller: Key | None) -> ApiKey:
    known = {name: getattr(key, name) for name in key.__struct_fields__}
    return ApiKey(**known, current=caller is not None and caller.id == key.id)
