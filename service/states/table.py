"""What the database keeps of states: the last look, how each store was then, and what changed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import asyncpg
import msgspec
import numpy as np

from compute.axis import Ints
from compute.outages import NO_INSTANT
from compute.standing import NOT_KNOWN, Flags, Standing, nothing_known
from compute.states import NO_STATE
from service.database.pool import Database
from service.states.look import Look
from service.stores.packed import from_array_send

#: What is notified when states have changed.
CHANNEL = "storewatch_states"
#: How far back was looked for what is known of a store: not at all, as it was left out at the last
#: look; some days; as far as anything is looked at.
LEFT_OUT, SOME_DAYS, ALL_DAYS = range(3)
#: How long changes are kept, milliseconds, and how many.
KEPT_MS, KEPT = 24 * 3_600_000, 1_000_000
#: Rows that one statement writes or deletes.
_ROWS = 20_000


class Turn(msgspec.Struct, frozen=True):
    """What whoever looks next finds. Instants are milliseconds since 1970-01-01 UTC.

    Attributes:
        as_of: of the last look; None: there was none
        full_at: of the last look at all stores
        next_at: when all stores are looked at again
    """

    as_of: int | None
    full_at: int | None
    next_at: int


async def database_clock(connection: Database) -> int:
    """The database's clock, the same for all instances: milliseconds since 1970-01-01 UTC."""
    return int(
        await connection.fetchval(
            "select floor(extract(epoch from clock_timestamp()) * 1000)::bigint"
        )
    )


async def read_turn(connection: Database) -> Turn:
    """The last look, as far as looks are committed."""
    return Turn(*await connection.fetchrow("select as_of, full_at, next_at from state_round"))


async def take_turn(connection: asyncpg.Connection, *, wait: bool) -> Turn | None:
    """Be the only one who looks, until the transaction ends; None: somebody else is.

    Args:
        connection: in a transaction
        wait: whether to wait for the other
    """
    select = "select as_of, full_at, next_at from state_round for update"
    row = await connection.fetchrow(select if wait else f"{select} skip locked")
    return None if row is None else Turn(*row)


async def end_turn(
    connection: asyncpg.Connection, as_of: int, next_at: int | None, *, changed: bool
) -> None:
    """Note a look; its transaction may then be committed.

    Args:
        connection: that took the turn
        as_of: of the look, milliseconds since 1970-01-01 UTC
        next_at: when all stores are looked at again; None: it was a look at some
        changed: whether there is something new to tell
    """
    await connection.execute(
        """
        update state_round set
            as_of = $1, looks = looks + 1, next_at = coalesce($2::bigint, next_at),
            full_at = case when $2::bigint is null then full_at else $1 end
        """,
        as_of,
        next_at,
    )
    if changed:
        await connection.execute("select pg_notify($1, '')", CHANNEL)


async def take_doubts(connection: asyncpg.Connection) -> bool:
    """Whether what was known may be wrong. What was noted of that goes with the transaction.

    What is being noted anew right now stays for the next look.
    """
    doubts = await connection.fetchval(
        """
        with gone as (
            delete from state_doubt where id in (select id from state_doubt for update skip locked)
        )
        select count(*) from state_doubt
        """
    )
    return bool(doubts)


@dataclass(frozen=True)
class Known:
    """How stores were when they were looked at last.

    Attributes:
        store: int64[n], their numbers in the database, ascending
        standing: of each; `at` is the last instant at which it is known to have been so
        depth: int64[n], `LEFT_OUT`, `SOME_DAYS` or `ALL_DAYS`
    """

    store: Ints
    standing: Standing
    depth: Ints

    def of(self, stores: Ints) -> "Known":
        """The same of some stores, in their order; `NO_STATE` where nothing is known."""
        if np.array_equal(self.store, stores):  # as they mostly are, of all stores
            return self
        place = np.searchsorted(self.store, stores)
        there = np.append(self.store, -1)[place] == stores
        found = nothing_known(len(stores)).with_rows(there, self.standing.of(place[there]))
        depth = np.full(len(stores), SOME_DAYS)
        depth[there] = self.depth[place[there]]
        return Known(stores, found, depth)

    @property
    def to_go_on(self) -> Standing:
        """Of each what may be told on: nothing of those that were left out."""
        state = np.where(self.depth == LEFT_OUT, NO_STATE, self.standing.state)
        return replace(self.standing, state=state)


async def read_known(
    connection: Database, full_at: int | None, store_ids: Sequence[str] | None = None
) -> Known:
    """What is known of all stores, or of some.

    Args:
        connection: where to ask
        full_at: of the last look at all stores: what is not written anew was the same then
        store_ids: the stores; None: all
    """
    row = await connection.fetchrow(
        """
        select array_send(array_agg(store)) as store,
               array_send(array_agg(greatest(as_of, $2::bigint))) as at,
               array_send(array_agg(state::integer)) as state,
               array_send(array_agg(coalesce(since, $1::bigint))) as since,
               array_send(array_agg(spoken::integer)) as spoken,
               array_send(array_agg(coalesce(spoken_since, $1))) as spoken_since,
               array_send(array_agg(down_for)) as down_for,
               array_send(array_agg(coalesce(newest_poll, $1))) as newest_poll,
               array_send(array_agg(coalesce(silent_for, $3::integer))) as silent_for,
               array_send(array_agg(depth::integer)) as depth
        from (
            select * from store_state
            where $4::text[] is null
                or store in (select id from store where store_id = any ($4::text[]))
            order by store
        ) as known
        """,
        *(NO_INSTANT, full_at, NOT_KNOWN, store_ids),
    )
    long = {"at", "since", "spoken_since", "newest_poll"}
    columns = {
        name: from_array_send(sent, ">i8" if name in long else ">i4") for name, sent in row.items()
    }
    store, depth = columns.pop("store"), columns.pop("depth")
    return Known(store, Standing(**columns), depth)


async def write_known(connection: asyncpg.Connection, known: Known, before: Known) -> None:
    """Write what is known of stores now, as far as that is something else than before.

    Args:
        connection: that took the turn
        known: of some stores
        before: of the same stores
    """
    pairs = zip(known.standing.columns()[1:], before.standing.columns()[1:], strict=True)
    changed = known.depth != before.depth
    for now, then in pairs:
        changed |= now != then
    rows, standing = known.store[changed], known.standing.of(changed)
    columns = (
        rows,
        standing.at,
        standing.state,
        standing.since,
        standing.spoken,
        standing.spoken_since,
        standing.down_for,
        standing.newest_poll,
        standing.silent_for,
        known.depth[changed],
    )
    for first in range(0, len(rows), _ROWS):
        await connection.execute(
            """
            insert into store_state (
                store, as_of, state, since, spoken, spoken_since, down_for, newest_poll, silent_for,
                depth
            )
            select store, as_of, state, nullif(since, $11), spoken, nullif(spoken_since, $11),
                   down_for, nullif(newest_poll, $11), nullif(silent_for, $12), depth
            from unnest(
                $1::integer[], $2::bigint[], $3::smallint[], $4::bigint[], $5::smallint[],
                $6::bigint[], $7::integer[], $8::bigint[], $9::integer[], $10::smallint[]
            ) as known (
                store, as_of, state, since, spoken, spoken_since, down_for, newest_poll, silent_for,
                depth
            )
            on conflict (store) do update set
                as_of = excluded.as_of, state = excluded.state, since = excluded.since,
                spoken = excluded.spoken, spoken_since = excluded.spoken_since,
                down_for = excluded.down_for, newest_poll = excluded.newest_poll,
                silent_for = excluded.silent_for, depth = excluded.depth
            """,
            *(column[first : first + _ROWS].tolist() for column in columns),
            NO_INSTANT,
            NOT_KNOWN,
        )


async def leave_out(connection: asyncpg.Connection, stores: Ints) -> None:
    """Note that stores were left out of a look; they stay as they were."""
    for some in _chunks(stores):
        await connection.execute(
            "update store_state set depth = $2 where store = any ($1::integer[]) and depth <> $2",
            some,
            LEFT_OUT,
        )


async def forget(connection: asyncpg.Connection, stores: Ints) -> None:
    """Remove what is known of stores that are gone."""
    for some in _chunks(stores):
        await connection.execute("delete from store_state where store = any ($1::integer[])", some)


def _chunks(stores: Ints) -> Iterable[list[int]]:
    return (stores[first : first + _ROWS].tolist() for first in range(0, len(stores), _ROWS))


async def write_changes(connection: asyncpg.Connection, look: Look, changed: Flags) -> None:
    """Note those stores of a look whose states have changed, for whoever follows changes."""
    columns = (look.store[changed], look.before[changed], look.state[changed], look.since[changed])
    for first in range(0, len(columns[0]), _ROWS):
        await connection.execute(
            """
            insert into state_change (store, store_id, before, state, since, as_of)
            select store.id, store.store_id, before, state, nullif(since, $6), $5
            from unnest($1::integer[], $2::smallint[], $3::smallint[], $4::bigint[])
                as changed (store, before, state, since)
            join store on store.id = changed.store
            order by store.id
            """,
            *(column[first : first + _ROWS].tolist() for column in columns),
            look.as_of,
            NO_INSTANT,
        )


async def forget_changes(connection: asyncpg.Connection, as_of: int) -> bool:
    """Remove some of the changes that are no longer kept; whether there may be more of them.

    Args:
        connection: that took the turn
        as_of: the present, milliseconds since 1970-01-01 UTC
    """
    last = await connection.fetchval(
        """
        with oldest as materialized (
            select id, as_of from state_change order by id limit $3
        ), gone as (
            delete from state_change using oldest
            where state_change.id = oldest.id
                and (oldest.as_of < $1 or oldest.id <= (select max(id) from state_change) - $2)
            returning state_change.id
        ), noted as (
            update state_round set forgotten = (select max(id) from gone)
            where exists (select from gone)
        )
        select count(*) from gone
        """,
        *(as_of - KEPT_MS, KEPT, _ROWS),
    )
    return int(last) == _ROWS
