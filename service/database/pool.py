"""The way into the database: find it, bring its tables up to date, hand out connections.

Every wait for the database ends: for a connection of the pool, for a new one, for a statement, for
a lock. asyncpg itself waits without a bound for all but a new connection.

DatabaseUnavailable is defined beside the private PostgreSQL; import it from here.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import asyncpg
from asyncpg.pool import PoolAcquireContext

from service.database.embedded import DatabaseUnavailable, embedded_postgres
from service.database.migrations import is_current, migrate

__all__ = [
    "COMMAND",
    "REQUESTS",
    "WORK",
    "DatabaseUnavailable",
    "Waits",
    "migrate",
    "open_pool",
    "pool_of",
    "prepared_database",
    "transaction",
]

logger = logging.getLogger("storewatch.database")

Connected = TypeVar("Connected")

OLDEST_POSTGRESQL = 15

_SESSION = {"application_name": "storewatch", "timezone": "UTC", "jit": "off"}
# A pool that is closed waits this long for connections that are in use, then drops them.
_CLOSE_SECONDS = 1.0
_CONNECT_SECONDS = 5.0
# Between attempts to connect to a server that may still be starting.
_CONNECT_PAUSE = 0.5
# Failures that pass by themselves while a server starts or its network comes up.
_MAY_PASS = (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError)
#: How a statement fails when the server stops, restarts or is cut off: the statement is not at
#: fault, and may succeed later.
DATABASE_AWAY = (
    ConnectionError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that has just ended: `cannot switch to state 15`
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # the database was told to allow no connections
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,  # with something that is not ours
    asyncpg.QueryCanceledError,  # by `statement_timeout`
    asyncpg.IdleInTransactionSessionTimeoutError,
)
#: Every way in which a statement, or the connection to the database, fails. This is what "the
#: database failed" means everywhere.
DATABASE_FAILED = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_UNREADABLE = (
    "DATABASE_URL cannot be read. Its form is postgresql://user:password@host:5432/database, "
    "with %40 for @, %2F for /, %3A for : and %23 for # in the password."
)


#: Large feeds that a process stores at the same time, and as many small ones.
FEEDS_AT_ONCE = 2


@dataclass(frozen=True)
class Waits:
    """How long to wait for the database, seconds; 0: as long as it takes.

    Attributes:
        connection: for a free connection of the pool
        answer: for the answer to a statement; after that the connection is dropped
        lock: how long the server waits for a lock
        statement: how long the server works on a statement; it would go on without its client
        idle: how long the server waits for the next statement of a transaction; after that it
            frees the locks of an instance that is frozen
        turn: for others who store or delete what a feed says, too
    """

    connection: float
    answer: float
    lock: float
    statement: float
    idle: float
    turn: float

    @property
    def of_session(self) -> dict[str, str]:
        """The server's part, as settings of a session."""
        return {
            "lock_timeout": f"{self.lock:g}s",
            "statement_timeout": f"{self.statement:g}s",
            "idle_in_transaction_session_timeout": f"{self.idle:g}s",
        }


#: Short statements: for somebody who waits for the answer, and for the queue and live polls.
REQUESTS = Waits(connection=5, answer=10, lock=5, statement=12, idle=20, turn=10)
#: What reports are made of: a statement reads a page of stores, or their polls.
READING = Waits(connection=10, answer=60, lock=5, statement=0, idle=60, turn=10)
#: Feeds: one statement may store millions of rows.
WORK = Waits(connection=10, answer=600, lock=5, statement=0, idle=60, turn=10)
#: The same for a command: whoever started it would wait rather than start it again.
COMMAND = replace(WORK, connection=30, lock=60, turn=0)


class _Pool(asyncpg.Pool):  # type: ignore[misc] # asyncpg has no types
    """A pool in which every wait for a connection ends.

    Attributes:
        waits: how long to wait for what
        large_feeds: held by those in this process that store a large feed, or delete polls
        small_feeds: held by those that store a small one
    """

    def __init__(self, url: str, waits: Waits, size: int, *, plain: bool) -> None:
        super().__init__(
            url,
            min_size=0,  # to restore more, asyncpg would log a stack a second while nobody answers
            init_size=1,
            max_size=size,
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            loop=None,
            timeout=_CONNECT_SECONDS,
            command_timeout=waits.answer,
            reset=_nothing if plain else None,
            server_settings=_SESSION | waits.of_session,
        )
        self.waits = waits
        self.large_feeds = asyncio.Semaphore(FEEDS_AT_ONCE)
        self.small_feeds = asyncio.Semaphore(FEEDS_AT_ONCE)

    def acquire(self, *, timeout: float | None = None) -> Any:
        """A connection; TimeoutError if none is free in time. Releasing it has the same bound."""
        return _Acquired(self, self.waits.connection if timeout is None else timeout)


async def _nothing(connection: asyncpg.Connection) -> None:
    """What becomes of a session that nobody has changed."""


class _Acquired(PoolAcquireContext):  # type: ignore[misc] # asyncpg has no types
    """A connection until the block ends; if that is because of no answer, none is used again.

    A network that swallows what is sent has swallowed it of all connections that were open, and
    each would have to be waited for in its turn.
    """

    async def __aexit__(self, *error: Any) -> None:
        if error[0] is TimeoutError:
            drop(self.connection)
            await self.pool.expire_connections()
        await super().__aexit__(*error)


@asynccontextmanager
async def pool_of(
    url: str, waits: Waits, size: int, patience: float = 0, *, plain: bool = False
) -> AsyncIterator[asyncpg.Pool]:
    """Connections to a database, at most `size` of them.

    Args:
        url: of the database
        waits: how long to wait for what
        size: how many there are at most
        patience: seconds for which to try again while nothing answers
        plain: whether all who use them leave the session as it was: no setting, lock or channel
            that outlives a transaction. Else it is set back each time that a connection is given
            back, which is a round trip.

    Raises DatabaseUnavailable if it cannot be reached, also not for `patience` seconds.
    """
    pool = await _patiently(lambda: _Pool(url, waits, size, plain=plain), _address(url), patience)
    try:
        yield pool
    finally:
        with suppress(TimeoutError):  # connections that are not given back are dropped
            await asyncio.wait_for(pool.close(), _CLOSE_SECONDS)


def drop(connection: asyncpg.Connection) -> None:
    """End a connection without waiting for the database, as a rollback would."""
    with suppress(asyncpg.InterfaceError):  # it has ended, and left the pool
        connection.terminate()


def is_open(connection: asyncpg.Connection) -> bool:
    """Whether a connection is open, as far as is known."""
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # it has ended, and left the pool
        return False


@asynccontextmanager
async def transaction(pool: asyncpg.Pool, **options: Any) -> AsyncIterator[asyncpg.Connection]:
    """A connection in a transaction, committed if the block ends without an exception.

    asyncpg's own transactions roll back otherwise, and so wait again for a server that does not
    answer. Here the connection is dropped instead, unless the exception came from the server.

    Args:
        pool: of connections
        options: as `asyncpg.Connection.transaction` takes them
    """
    async with pool.acquire() as connection:
        begun = connection.transaction(**options)
        try:
            # It may have died while nobody used it.
            async with asyncio.timeout(pool.waits.connection):
                await begun.start()
        except BaseException:
            drop(connection)  # there is nothing to roll back
            raise
        try:
            yield connection
        except asyncpg.PostgresError:
            await begun.rollback()
            raise
        except BaseException:
            drop(connection)
            raise
        else:
            await begun.commit()


@asynccontextmanager
async def prepared_database(
    database_url: str | None, home: Path, *, own: bool, connections: int, patience: float = 30
) -> AsyncIterator[str]:
    """The database, migrated and with room for our connections; yields its URL.

    Args:
        database_url: of a PostgreSQL; None for the private one with its data in `home`
        home: the service's folder
        own: as in `embedded_postgres`: True for the service, False for a command
        connections: how many this process opens at most
        patience: seconds for which to try again while nothing answers at `database_url`

    Raises:
        DatabaseUnavailable: it cannot be reached or used
    """
    async with _server(database_url, home, own, connections) as url:
        await _prepare(url, connections, patience)
        yield url


@asynccontextmanager
async def open_pool(
    database_url: str | None, home: Path, *, own: bool, max_size: int = 10, patience: float = 30
) -> AsyncIterator[asyncpg.Pool]:
    """As `prepared_database`, for a command: yields its connections, which are of one kind.

    The first one is also what looks whether there is anything to prepare.
    """
    async with (
        _server(database_url, home, own, max_size) as url,
        pool_of(url, COMMAND, max_size, patience) as pool,
    ):
        async with pool.acquire() as connection:
            await _check(connection, _address(url), max_size)
            current = await is_current(connection)
        if not current:  # over a connection without bounds: a migration may take long
            await _prepare(url, max_size, patience)
        yield pool


@asynccontextmanager
async def _server(
    database_url: str | None, home: Path, own: bool, connections: int
) -> AsyncIterator[str]:
    """The URL of the server that is used, which runs or is told to be elsewhere."""
    if database_url is not None:
        yield database_url
        return
    async with embedded_postgres(home, own=own, connections=connections) as url:
        yield url


async def _prepare(url: str, connections: int, patience: float) -> None:
    address = _address(url)
    connection = await _patiently(
        lambda: asyncpg.connect(url, timeout=_CONNECT_SECONDS, server_settings=_SESSION),
        address,
        patience,
    )
    try:
        await _check(connection, address, connections)
        await migrate(connection)
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseUnavailable(
            f"{address}: {error}. The user of DATABASE_URL has to create tables: "
            "make it the owner of the database (alter database ... owner to ...)."
        ) from error
    except asyncpg.LockNotAvailableError as error:  # a migration says what is in its way
        raise DatabaseUnavailable(f"{address}: {error}.") from error
    finally:
        await connection.close(timeout=_CLOSE_SECONDS)


async def _check(connection: asyncpg.Connection, address: str, connections: int) -> None:
    """Refuse a server that is too old, or has too little room."""
    server = connection.get_server_version()
    if server.major < OLDEST_POSTGRESQL:
        raise DatabaseUnavailable(
            f"{address} is PostgreSQL {server.major}: "
            f"storewatch needs {OLDEST_POSTGRESQL} or newer."
        )
    await _check_room(connection, address, connections)


async def _check_room(connection: asyncpg.Connection, address: str, connections: int) -> None:
    """Refuse a server that allows too few connections: reports would wait for each other."""
    room = await connection.fetchval(
        """
        select current_setting('max_connections')::integer
            - current_setting('superuser_reserved_connections')::integer
        """
    )
    if connections > room:
        raise DatabaseUnavailable(
            f"{address} allows {room} connections, but this instance may need {connections}: raise "
            "max_connections, or lower STOREWATCH_CONCURRENT_REPORTS."
        )


async def _patiently(
    connect: Callable[[], Awaitable[Connected]], address: str, patience: float
) -> Connected:
    """Connect; while nothing answers at the address, try again for so many seconds."""
    said = False
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return await connect()
        except _MAY_PASS as error:
            reason = str(error) or "it does not answer"
            if asyncio.get_running_loop().time() > deadline:
                raise DatabaseUnavailable(
                    f"Cannot reach {address}: {reason}. "
                    "Is DATABASE_URL right, and is PostgreSQL running there?"
                ) from error
            if not said:
                logger.warning("Cannot reach %s yet (%s): trying again.", address, reason)
                said = True
            await asyncio.sleep(_CONNECT_PAUSE)
        except asyncpg.PostgresError as error:  # user, password or database; names no password
            raise DatabaseUnavailable(f"{address} refuses DATABASE_URL: {error}.") from error
        except asyncpg.ClientConfigurationError as error:
            raise DatabaseUnavailable(f"DATABASE_URL cannot be used: {error}.") from error
        except (ValueError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            raise DatabaseUnavailable(_UNREADABLE) from None  # the error may quote the password


def _address(url: str) -> str:
    """Name the server of a URL, for messages. Raises DatabaseUnavailable if the URL is not one."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise DatabaseUnavailable(_UNREADABLE) from None
    # A URL has one @, before the host. A second one belongs to a password with an unescaped @ or /,
    # and part of that password would be taken for the host or the database, and shown in messages.
    unescaped_password = parts.netloc.count("@") > 1 or "@" in parts.path + parts.fragment
    if parts.scheme not in ("postgresql", "postgres") or unescaped_password:
        raise DatabaseUnavailable(_UNREADABLE)
    return f"PostgreSQL at {parts.netloc.rpartition('@')[2] or 'its local socket'}"


#: Whatever executes statements.
Database: TypeAlias = "asyncpg.Connection | asyncpg.Pool"
