"""API keys: made once, kept as a hash, looked up on every request.

A key is 256 random bits, which nobody can guess by trying. So one round of SHA-256 protects it as
well as a slow password hash would, and costs a request nothing.
"""

import asyncio
import contextlib
import hashlib
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Literal

import asyncpg
import msgspec

from service.database import locks
from service.database.pool import DATABASE_FAILED, Database, transaction

log = logging.getLogger("storewatch.keys")

Scope = Literal["read", "write"]

_MARK = "sw_"
_KEY_BYTES = 32
#: What every key looks like: so many bytes are 43 characters of base64.
_SHAPE = re.compile(_MARK + "[A-Za-z0-9_-]{43}", re.ASCII)
_SHOWN = len(_MARK) + 6  # of 46 characters: enough to recognise it, far from enough to guess it
LONGEST_NAME = 100
#: Keys that are valid at the same time; over HTTP no more are made. All of them are kept in memory.
MOST_KEYS = 1000
#: The name of the key that STOREWATCH_KEY_FILE holds.
NAME_OF_FILE = "key file"

#: It takes at most this many seconds until every instance refuses a revoked key, and until every
#: instance asks for a key once the first one is made.
_RELOAD_SECONDS = 2.0
#: Keys are not loaded more often than this, whoever asks, so that guessing makes no load.
_BETWEEN_LOADS_SECONDS = 0.2
#: Requests wait this long for the keys to be loaded; after that, the keys loaded last count.
_PATIENCE = 1.0
#: The use of a key is noted at most this often.
_LAST_USED_SECONDS = 60.0


class KeyRefused(Exception):  # noqa: N818
    """What was asked of the keys cannot be done; the message says why."""


class NameRefused(KeyRefused):
    """A key cannot have this name."""


class NameTaken(KeyRefused):
    """A key that is valid has this name."""


class TooManyKeys(KeyRefused):
    """As many keys are valid as may be."""


class NoWriteKeyLeft(KeyRefused):
    """No key that is valid would have scope write, so that nobody could make another one."""


class NotAllowedAnyMore(KeyRefused):
    """Who asks was allowed to until a moment ago: the key was revoked, or a first one was made."""


class Key(msgspec.Struct, frozen=True):
    """What is known of a key; the key itself is not."""

    id: int
    name: str
    prefix: str
    scope: Scope
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


async def create_key(database: Database, name: str, scope: Scope) -> tuple[Key, str]:
    """Make a key. It cannot be read again later.

    Returns:
        what is known of it, and the key itself

    Raises:
        NameRefused: the name is not allowed
        NameTaken: a key that is not revoked has it
    """
    if not name.isprintable() or not name.strip() or len(name) > LONGEST_NAME:
        raise NameRefused(
            f"A key's name must have 1 to {LONGEST_NAME} printable characters: {name!r}."
        )
    key = _MARK + secrets.token_urlsafe(_KEY_BYTES)
    try:
        return await _insert(database, name, key, scope), key
    except asyncpg.UniqueViolationError:
        raise NameTaken(
            f"There is already a key named {name}. Revoke it first, or use another name."
        ) from None


async def _insert(database: Database, name: str, key: str, scope: Scope) -> Key:
    row = await database.fetchrow(
        """
        insert into api_key (name, prefix, sha256, scope) values ($1, $2, $3, $4)
        returning id, name, prefix, scope, created_at, last_used_at, revoked_at
        """,
        *(name, key[:_SHOWN], _hash(key), scope),
    )
    return Key(*row)


async def any_key(database: Database) -> bool:
    """Whether there ever was a key, including keys that are revoked now."""
    return bool(await database.fetchval("select exists (select from api_key)"))


async def create_first_key(pool: asyncpg.Pool) -> str | None:
    """Make a key of scope write if there never was one; None: there was, or now is.

    Of several instances that start together, only one makes it.
    """
    async with _alone(pool) as connection:
        if await any_key(connection):
            return None
        return (await create_key(connection, "first", "write"))[1]


async def adopt_key(pool: asyncpg.Pool, key: str) -> None:
    """Make the key from the key file valid, in place of the one that was in the file before.

    Args:
        pool: the database
        key: as `create_key` would make it

    Raises:
        KeyRefused: it does not look like one, or was revoked
    """
    if not _SHAPE.fullmatch(key):
        raise KeyRefused(
            f"The key in the file is not of the form {_MARK} and 43 letters, digits, - and _."
        )
    async with _alone(pool) as connection:
        known = await connection.fetchrow(
            "select name, revoked_at from api_key where sha256 = $1", _hash(key)
        )
        if known is not None and known["revoked_at"] is not None:
            raise KeyRefused(f"The key in the file was revoked, as {known['name']}: use another.")
        if known is None:
            await connection.execute(
                "update api_key set revoked_at = now() where name = $1 and revoked_at is null",
                NAME_OF_FILE,
            )
            await _insert(connection, NAME_OF_FILE, key, "write")


@contextlib.asynccontextmanager
async def _alone(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    async with transaction(pool) as connection:
        await connection.execute("select pg_advisory_xact_lock($1)", locks.KEYS)
        yield connection


@contextlib.asynccontextmanager
async def _managing(pool: asyncpg.Pool, caller: Key | None) -> AsyncIterator[asyncpg.Connection]:
    """Alone with the keys, for a caller that may manage them now, not only when it was let in.

    Else who stole a key could make another one in the seconds until all know that it is revoked.
    """
    async with _alone(pool) as connection:
        if caller is None:
            allowed = not await any_key(connection)
        else:
            allowed = await connection.fetchval(
                "select exists (select from api_key where id = $1 and revoked_at is null)",
                caller.id,
            )
        if not allowed:
            raise NotAllowedAnyMore
        yield connection


async def create_key_for(
    pool: asyncpg.Pool, caller: Key | None, name: str, scope: Scope
) -> tuple[Key, str]:
    """As `create_key`, for somebody who asks over HTTP.

    Args:
        pool: the database
        caller: the key that asks; None: none was needed
        name: of the new key
        scope: of the new key

    Raises:
        KeyRefused: as `create_key`; or there are too many, or this one could not make others, and
            no other could; or the caller may not any more
    """
    async with _managing(pool, caller) as connection:
        valid, of_write = await connection.fetchrow(
            """
            select count(*), count(*) filter (where scope = 'write')
            from api_key where revoked_at is null
            """
        )
        if valid >= MOST_KEYS:
            raise TooManyKeys(f"{MOST_KEYS} keys are valid, and no more may be: revoke some.")
        if scope == "read" and not of_write:
            raise NoWriteKeyLeft(
                "With a key of scope read alone nobody could load feeds or make another key: make "
                "one of scope write first."
            )
        return await create_key(connection, name, scope)


async def revoke_key_for(pool: asyncpg.Pool, caller: Key | None, number: int) -> Key | None:
    """Make a key invalid, for good, for somebody who asks over HTTP; twice is as good as once.

    Args:
        pool: the database
        caller: the key that asks, which may be the same; None: none was needed
        number: the id of the key

    Returns:
        what was known of it; None: there never was such a key

    Raises:
        NoWriteKeyLeft: it is the last of scope write
        NotAllowedAnyMore: the caller's own was revoked meanwhile
    """
    async with _managing(pool, caller) as connection:
        keys = {key.id: key for key in await list_keys(connection)}
        key = keys.get(number)
        if key is None or key.revoked_at is not None:
            return key
        left = [one for one in keys.values() if one.revoked_at is None and one.id != number]
        if key.scope == "write" and not any(one.scope == "write" for one in left):
            raise NoWriteKeyLeft(
                f"{key.name} is the last key of scope write, without which nobody could load feeds "
                "or make another key: make one first. `storewatch keys revoke` revokes this one "
                "all the same."
            )
        await _revoke(connection, number)
        return key


async def list_keys(database: Database, revoked: int | None = None) -> list[Key]:
    """The keys that were made, the oldest first.

    Args:
        database: where to ask
        revoked: of those that are revoked so many at the most, the last ones; None: all
    """
    rows = await database.fetch(
        """
        select id, name, prefix, scope, created_at, last_used_at, revoked_at
        from api_key
        where revoked_at is null or id in (
            select id from api_key where revoked_at is not null order by revoked_at desc limit $1
        )
        order by id
        """,
        revoked,
    )
    return [Key(*row) for row in rows]


async def revoke_key(pool: asyncpg.Pool, name: str) -> Key:
    """Make a key invalid, for good.

    Args:
        pool: the database
        name: of the key, or its prefix as `list_keys` has it

    Raises:
        KeyRefused: no valid key has it, or several do
    """
    found = [
        key
        for key in await list_keys(pool)
        if key.revoked_at is None and name in (key.name, key.prefix)
    ]
    if len(found) != 1:
        many = "means several keys" if found else "is not the name or prefix of any valid key"
        raise KeyRefused(f"{name} {many}. `storewatch keys list` shows them.")
    await _revoke(pool, found[0].id)
    return found[0]


async def _revoke(database: Database, number: int) -> None:
    await database.execute("update api_key set revoked_at = now() where id = $1", number)


class KeyRing:
    """The valid keys by hash, as requests need them, loaded at most a few seconds ago.

    While the database is away, the keys that were loaded last still count.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._valid: dict[bytes, Key] = {}
        self._any_made: bool | None = None
        self._load: asyncio.Task[None] | None = None
        self._began_at = self._loaded_at = -float("inf")
        self._failed: Exception | None = None
        self._used_at: dict[int, float] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def any_made(self) -> bool:
        """Whether there ever was a key, including keys that are revoked now."""
        await self._refresh()
        return bool(self._any_made)

    async def find(self, given: str) -> Key | None:
        """The key, if it is valid. Notes its use, at most once a minute.

        An unknown key may have been made a moment ago, so the keys are loaded again, once for all
        requests that wait for that. Text that does not look like a key is not looked up.

        Raises:
            any of DATABASE_FAILED: the key is unknown, and the database, which might know it, is
                away
        """
        if not _SHAPE.fullmatch(given):
            return None
        now, sha256 = time.monotonic(), _hash(given)
        await self._refresh()
        while sha256 not in self._valid and self._loaded_at < now:
            await asyncio.shield(self._loading())
        key = self._valid.get(sha256)
        if key is not None:
            self._note_use(key)
        elif self._failed is not None:
            raise self._failed
        return key

    async def _refresh(self) -> None:
        """Load the keys if they are old; use the old ones if the database keeps us waiting.

        Raises:
            any of DATABASE_FAILED: they could not be loaded, and never were
        """
        if time.monotonic() - self._loaded_at < _RELOAD_SECONDS:
            return
        loading = self._loading()
        if self._any_made is None:
            await asyncio.shield(loading)
            if self._failed is not None:
                raise self._failed
        else:
            left = self._began_at + _PATIENCE - time.monotonic()
            await asyncio.wait({loading}, timeout=max(0, left))

    def _loading(self) -> "asyncio.Task[None]":
        """The load that is under way, or a new one: all requests share it."""
        if self._load is None or self._load.done():
            self._began_at = time.monotonic()
            self._load = asyncio.create_task(self._read())
        return self._load

    async def _read(self) -> None:
        await asyncio.sleep(self._loaded_at + _BETWEEN_LOADS_SECONDS - time.monotonic())
        began = time.monotonic()
        try:
            rows = await self._pool.fetch(
                """
                select sha256, id, name, prefix, scope, created_at, last_used_at, revoked_at
                from api_key where revoked_at is null
                """
            )
            any_made = bool(rows) or await any_key(self._pool)
        except DATABASE_FAILED as error:
            self._failed = error
        else:
            self._failed = None
            self._valid = {row[0]: Key(*row[1:]) for row in rows}
            self._any_made = any_made
        self._loaded_at = began

    def _note_use(self, key: Key) -> None:
        """In the background: the request need not wait for it."""
        now = time.monotonic()
        if now - self._used_at.get(key.id, -float("inf")) < _LAST_USED_SECONDS:
            return
        self._used_at[key.id] = now
        noting = asyncio.create_task(self._write_use(key))
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)

    async def _write_use(self, key: Key) -> None:
        try:
            await self._pool.execute(
                "update api_key set last_used_at = now() where id = $1", key.id
            )
        except DATABASE_FAILED as error:
            log.warning("cannot note the use of key %s: %s", key.prefix, error)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
