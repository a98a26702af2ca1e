"""How many stores are in which state, as the last look has found it."""

from collections.abc import Mapping

import msgspec

from compute.timeline import STATES
from compute.zones import DEFAULT_TIMEZONE
from service.database.pool import Database

#: Most values of a tag that are told of.
MOST_VALUES = 1000


class TooManyValues(Exception):  # noqa: N818 - read by a person as a sentence
    """A tag has so many values that they are not told of."""


class Counted(msgspec.Struct, frozen=True):
    """Stores that have a value of a tag in common, or all of them.

    Attributes:
        value: what they share; empty: they lack the tag
        stores: how many there are
        by_state: state → how many are in it, all states
    """

    value: str
    stores: int
    by_state: Mapping[str, int]


async def last_look(connection: Database) -> int | None:
    """`as_of` of the last look, milliseconds since 1970-01-01 UTC; None: there was none."""
    as_of: int | None = await connection.fetchval("select as_of from state_round")
    return as_of


async def count_states(connection: Database) -> Counted:
    """All stores by their states."""
    rows = await connection.fetch(
        """
        select '' as value, state, count(*) from store left join store_state on store = store.id
        group by state
        """
    )
    return (_counted(rows) or [Counted("", 0, dict.fromkeys(STATES, 0))])[0]


async def count_looked_at(connection: Database) -> dict[str, int]:
    """How many stores that were looked at are in each state; empty: there was no look."""
    if await last_look(connection) is None:
        return {}
    rows = await connection.fetch("select state, count(*) from store_state group by state")
    counts = dict(map(tuple, rows))
    return {state: counts.get(number, 0) for number, state in enumerate(STATES)}


async def count_states_by(connection: Database, key: str) -> list[Counted]:
    """The stores with each value of a tag, in byte order of the values.

    Args:
        connection: where to ask
        key: of the tag, or `timezone`

    Raises:
        TooManyValues: it has more than `MOST_VALUES`
    """
    # One value more than are told, with all of its states.
    rows = await connection.fetch(
        """
        with valued as (
            select case when $1 = 'timezone' then coalesce(zone.name, $2)
                        else coalesce(tags ->> $1, '') end collate "C" as value,
                   state
            from store
            left join timezone as zone on zone.id = store.timezone
            left join store_state on store_state.store = store.id
        )
        select value, state, count(*) from valued group by value, state order by value limit $3
        """,
        *(key, DEFAULT_TIMEZONE, (MOST_VALUES + 1) * (len(STATES) + 1)),
    )
    counted = _counted(rows)
    if len(counted) > MOST_VALUES:
        raise TooManyValues(f"{key} has more than {MOST_VALUES} values")
    return counted


def _counted(rows: list[tuple[str, int | None, int]]) -> list[Counted]:
    """Rows of value, state and count, in the order of the values; without a state: not seen yet."""
    by_value: dict[str, dict[int | None, int]] = {}
    for value, state, count in rows:
        by_value.setdefault(value, {})[state] = count
    return [
        Counted(
            value,
            sum(counts.values()),
            {state: counts.get(number, 0) for number, state in enumerate(STATES)},
        )
        for value, counts in by_value.items()
    ]
