"""The way into the database: find it, bring its tables up to date, hand out connections.

DatabaseUnavailable is defined beside the private PostgreSQL; import it from here.
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from service.embedded import DatabaseUnavailable, embedded_postgres

__all__ = ["DatabaseUnavailable", "migrate", "open_pool"]

logger = logging.getLogger(__name__)

OLDEST_POSTGRESQL = 15
# Beside this package both in a checkout and in an installation. `importlib.resources` would merge
# every `migrations` folder on the path into one, the current folder's included.
MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"

_SESSION = {"application_name": "storewatch", "timezone": "UTC", "jit": "off"}
_MIGRATION_LOCK = int.from_bytes(b"storewat")  # any number that others do not use
# What passes when a server is only starting, or is on its way into the network.
_MAY_PASS = (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError)
#: How a statement fails when the server stops, restarts or is cut off; what it asked may be fine.
DATABASE_AWAY = (
    ConnectionError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # it was told to take no connections
)
_UNREADABLE = (
    "DATABASE_URL cannot be read. It is written postgresql://user:password@host:5432/database, "
    "with %40 for @, %2F for /, %3A for : and %23 for # in the password."
)


@asynccontextmanager
async def open_pool(
    database_url: str | None,
    home: Path,
    *,
    own: bool,
    max_size: int = 10,
    patience: float = 30,
) -> AsyncIterator[asyncpg.Pool]:
    """Connect to the database, migrated, with at most `max_size` connections.

    database_url: of a PostgreSQL; None for the private one with its data in `home`.
    own: as in `embedded_postgres`: True for the service, False for a command.
    patience: seconds to try again while nobody answers at `database_url`.

    Raises DatabaseUnavailable.
    """
    async with AsyncExitStack() as stack:
        url = database_url
        if url is None:
            url = await stack.enter_async_context(embedded_postgres(home, own=own))
        address = _address(url)
        connection = await _connect(url, address, patience)
        try:
            server = connection.get_server_version()
            if server.major < OLDEST_POSTGRESQL:
                raise DatabaseUnavailable(
                    f"{address} is PostgreSQL {server.major}: "
                    f"storewatch needs {OLDEST_POSTGRESQL} or newer."
                )
            await migrate(connection)
        except asyncpg.InsufficientPrivilegeError as error:
            raise DatabaseUnavailable(
                f"{address}: {error}. The user of DATABASE_URL makes its own tables: "
                "let it own the database (alter database ... owner to ...)."
            ) from error
        finally:
            await connection.close()
        yield await stack.enter_async_context(
            asyncpg.create_pool(url, min_size=1, max_size=max_size, server_settings=_SESSION)
        )


async def _connect(url: str, address: str, patience: float) -> asyncpg.Connection:
    said = False
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return await asyncpg.connect(url, timeout=10, server_settings=_SESSION)
        except _MAY_PASS as error:
            reason = str(error) or "it does not answer"
            if asyncio.get_running_loop().time() > deadline:
                raise DatabaseUnavailable(
                    f"Cannot reach {address}: {reason}. "
                    "Is DATABASE_URL right, and does PostgreSQL run there?"
                ) from error
            if not said:
                logger.warning("Cannot reach %s yet (%s): trying again.", address, reason)
                said = True
            await asyncio.sleep(0.5)
        except asyncpg.PostgresError as error:  # user, password or database; names no password
            raise DatabaseUnavailable(f"{address} refuses DATABASE_URL: {error}.") from error
        except asyncpg.ClientConfigurationError as error:
            raise DatabaseUnavailable(f"DATABASE_URL cannot be used: {error}.") from error
        except (ValueError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            raise DatabaseUnavailable(_UNREADABLE) from None  # it may quote the password


def _address(url: str) -> str:
    """Name the server of a URL, for messages. Raises DatabaseUnavailable on what is no such URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise DatabaseUnavailable(_UNREADABLE) from None
    # An @ too many is a password's, which would be taken for hosts or the database and be shown.
    at_too_many = parts.netloc.count("@") > 1 or "@" in parts.path + parts.fragment
    if parts.scheme not in ("postgresql", "postgres") or at_too_many:
        raise DatabaseUnavailable(_UNREADABLE)
    return f"PostgreSQL at {parts.netloc.rpartition('@')[2] or 'its local socket'}"


async def migrate(connection: asyncpg.Connection) -> None:
    """Apply the files of `migrations/` that this database has not had, in order, each once.

    Any number of processes may do so at the same time. Raises DatabaseUnavailable if the database
    had a migration that is not, or is different, in this build.
    """
    # Tried again and again: a session that blocks on a lock holds a snapshot all the while, and
    # `create index concurrently`, wherever it runs, waits for every snapshot to end.
    take_lock = "select pg_try_advisory_lock($1)"
    while not await connection.fetchval(take_lock, _MIGRATION_LOCK):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    try:
        await _apply(connection, _read_migrations())
    finally:
        await connection.execute("select pg_advisory_unlock($1)", _MIGRATION_LOCK)


def _read_migrations() -> dict[int, tuple[str, str]]:
    """Read name and SQL of each migration, by version, ascending."""
    migrations = {}
    for file in sorted(MIGRATIONS.glob("*.sql")):
        if not re.fullmatch(r"\d{4}_\w+\.sql", file.name) or int(file.name[:4]) in migrations:
            raise ValueError(f"{file}: named not NNNN_words.sql, or with another file's number")
        migrations[int(file.name[:4])] = (file.stem, file.read_text(encoding="utf-8"))
    return migrations


async def _apply(connection: asyncpg.Connection, migrations: dict[int, tuple[str, str]]) -> None:
    await connection.execute(
        """
        create table if not exists schema_migration (
            version    integer primary key,
            name       text not null,
            checksum   text not null,  -- SHA-256 of the file
            applied_at timestamptz not null default now()
        )
        """
    )
    applied = {
        row["version"]: row
        for row in await connection.fetch("select * from schema_migration order by version")
    }
    for version, row in applied.items():
        if version not in migrations:
            raise DatabaseUnavailable(
                f"The database is newer than this storewatch: it had migration {row['name']}, "
                f"and this build ends at {max(migrations):04}. Run the newer storewatch, or give "
                "this one another database."
            )
    for version, (name, sql) in migrations.items():
        checksum = hashlib.sha256(sql.encode()).hexdigest()
        if version not in applied:
            async with connection.transaction():
                await connection.execute(sql)
                await connection.execute(
                    "insert into schema_migration (version, name, checksum) values ($1, $2, $3)",
                    *(version, name, checksum),
                )
            logger.info("Applied migration %s.", name)
        elif applied[version]["checksum"] != checksum:
            raise DatabaseUnavailable(
                f"Migration {name} was changed after this database had it, on "
                f"{applied[version]['applied_at']:%Y-%m-%d}. Put the file back as it was, "
                "and write the change as a new migration."
            )
