"""Changes of states, for whoever follows them: read in pages from the table, woken by the database.

Nothing is kept for those who follow: each reads on from where it is, as fast as it can take it.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

import asyncpg
import msgspec

from service.database.listening import Streams
from service.database.pool import Database
from service.stores.selection import Selection

#: Changes that are read at a time, whether they are wanted or not.
_PAGE = 2000


class Change(msgspec.Struct, frozen=True):
    """A store's state at a look was another one than at the look before.

    Attributes:
        id: its own; later changes have greater ones
        store_id: the store
        before: index into `compute.timeline.STATES`
        state: the same
        since: milliseconds since 1970-01-01 UTC; None: not known
        as_of: of the look, milliseconds since 1970-01-01 UTC
    """

    id: int
    store_id: str
    before: int
    state: int
    since: int | None
    as_of: int


class Page(msgspec.Struct, frozen=True):
    """Some changes in their order.

    Attributes:
        changes: those that are wanted
        last: id of the last one that was looked at
        full: whether there may be more
        forgotten: id of the newest change that is no longer kept; 0: all are
    """

    changes: list[Change]
    last: int
    full: bool
    forgotten: int


class StateEvents:
    """Wakes those who follow changes of states.

    Args:
        pool: the database
        streams: counts them
    """

    def __init__(self, pool: asyncpg.Pool, streams: Streams) -> None:
        self._pool, self._streams = pool, streams
        self._waiting: set[asyncio.Event] = set()
        self._reads: dict[tuple[int, tuple[int, ...], Selection], asyncio.Task[Page]] = {}

    @contextlib.contextmanager
    def changes(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever there may be changes, and when the service ends."""
        with self._streams.open() as event:
            self._waiting.add(event)
            try:
                yield event
            finally:
                self._waiting.discard(event)

    async def read(self, after: int, states: tuple[int, ...], wanted: Selection) -> Page:
        """As `read_changes`, once for all who wait for the same at the same time."""
        key = (after, states, wanted)
        task = self._reads.get(key)
        if task is None:
            task = asyncio.create_task(read_changes(self._pool, *key))
            self._reads[key] = task
            task.add_done_callback(lambda done: self._have_read(key, done))
        return await asyncio.shield(task)

    def _have_read(
        self, key: tuple[int, tuple[int, ...], Selection], done: "asyncio.Task[Page]"
    ) -> None:
        if self._reads.get(key) is done:
            del self._reads[key]
        if not done.cancelled():
            done.exception()  # all who waited may have gone, and asyncio would log a stack

    def heard(self, _payload: str) -> None:
        """There are changes."""
        self.catch_up()

    def catch_up(self) -> None:
        """There may be changes, which what is being read may lack."""
        self._reads.clear()
        for event in self._waiting:
            event.set()


async def kept_changes(connection: Database) -> tuple[int, int]:
    """Ids of the newest change that is no longer kept, and of the newest of all; 0: there is none.

    They are what they are after some look; later ones may have been made meanwhile.
    """
    row = await connection.fetchrow(
        """
        select forgotten, greatest(coalesce((select max(id) from state_change), 0), forgotten)
        from state_round
        """
    )
    return row[0], row[1]


async def read_changes(
    connection: Database, after: int, states: Sequence[int], wanted: Selection
) -> Page:
    """The changes that come next.

    Args:
        connection: where to ask
        after: id of the change before
        states: only changes to one of these; none: to any
        wanted: only of stores with these tags; those that were deleted have none
    """
    _, tags, without = wanted.arguments
    row = await connection.fetchrow(
        """
        with page as materialized (
            select * from state_change where id > $1 order by id limit $2
        ), chosen as (
            select page.id, page.store_id, before, state, since, as_of
            from page left join store on store.id = page.store
            where (cardinality($3::smallint[]) = 0 or state = any ($3))
                and ($4::jsonb is null or store.tags @> $4)
                and not coalesce(store.tags ?| $5::text[], false)
        )
        select (select forgotten from state_round) as forgotten,
               (select count(*) from page) as looked_at,
               (select coalesce(max(id), $1) from page) as last,
               (select coalesce(json_agg(chosen order by id), '[]') from chosen)::text as changes
        """,
        *(after, _PAGE, states, tags, without),
    )
    changes = msgspec.json.decode(row["changes"], type=list[Change])
    return Page(changes, row["last"], row["looked_at"] == _PAGE, row["forgotten"])
