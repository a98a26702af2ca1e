"""The tables of this version: the files of `migrations/`, each applied once, in order."""

import asyncio
import hashlib
import logging
import re
from pathlib import Path

import asyncpg

from service.database import locks
from service.database.embedded import DatabaseUnavailable

logger = logging.getLogger("storewatch.database")

#: How often a process tries to take the lock while another applies migrations, which mostly takes
#: less than this, seconds.
_LOCK_SECONDS = 0.1

# The folder is beside this package both in a checkout and in an installation. `importlib.resources`
# would merge every `migrations` folder on the path into one, the current folder's included.
MIGRATIONS = Path(__file__).resolve().parent.parent.parent / "migrations"


async def is_current(connection: asyncpg.Connection) -> bool:
    """Whether this database has had all migrations, so that `migrate` would do nothing.

    Raises DatabaseUnavailable as `migrate` does.
    """
    try:
        applied = await _applied(connection)
    except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError):
        return False  # what is the matter is for `migrate` to tell
    return not _missing(_read_migrations(), applied)


async def migrate(connection: asyncpg.Connection) -> None:
    """Apply the files of `migrations/` that this database has not had, in order, each once.

    Any number of processes may do so at the same time. Raises DatabaseUnavailable if the database
    has had a migration that this build does not have, or has in another form.
    """
    # Try again and again instead of waiting for the lock: a session that waits for one holds a
    # snapshot, and `create index concurrently` in any session waits for every snapshot to end.
    take_lock = "select pg_try_advisory_lock($1)"
    while not await connection.fetchval(take_lock, locks.MIGRATIONS):  # noqa: ASYNC110
        await asyncio.sleep(_LOCK_SECONDS)
    try:
        await _apply(connection, _read_migrations())
    finally:
        await connection.execute("select pg_advisory_unlock($1)", locks.MIGRATIONS)


def _read_migrations() -> dict[int, tuple[str, str]]:
    """Read name and SQL of each migration, by version, ascending."""
    migrations = {}
    for file in sorted(MIGRATIONS.glob("*.sql")):
        if not re.fullmatch(r"\d{4}_\w+\.sql", file.name) or int(file.name[:4]) in migrations:
            raise ValueError(f"{file}: not named NNNN_words.sql, or the number is taken")
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
    for version, (name, sql) in _missing(migrations, await _applied(connection)).items():
        async with connection.transaction():
            await connection.execute(sql)
            await connection.execute(
                "insert into schema_migration (version, name, checksum) values ($1, $2, $3)",
                *(version, name, _checksum(sql)),
            )
        logger.info("Applied migration %s.", name)


async def _applied(connection: asyncpg.Connection) -> dict[int, asyncpg.Record]:
    """What the database has had, by version, ascending."""
    rows = await connection.fetch("select * from schema_migration order by version")
    return {row["version"]: row for row in rows}


def _missing(
    migrations: dict[int, tuple[str, str]], applied: dict[int, asyncpg.Record]
) -> dict[int, tuple[str, str]]:
    """The migrations that a database has not had; DatabaseUnavailable if it has had others."""
    for version, row in applied.items():
        if version not in migrations:
            raise DatabaseUnavailable(
                f"The database is newer than this storewatch: it has had migration {row['name']}, "
                f"but this build ends at {max(migrations):04}. Run the newer storewatch, or give "
                "this one another database."
            )
        name, sql = migrations[version]
        if row["checksum"] != _checksum(sql):
            raise DatabaseUnavailable(
                f"Migration {name} was changed after it was applied to this database, on "
                f"{row['applied_at']:%Y-%m-%d}. Restore the file, and write the "
                "change as a new migration."
            )
    return {
        version: migration for version, migration in migrations.items() if version not in applied
    }


def _checksum(sql: str) -> str:
    return hashlib.sha256(sql.encode()).hexdigest()
