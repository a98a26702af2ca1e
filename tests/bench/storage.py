"""What live polls do to a partition of `poll_day`: its growth, dead rows, the log, and reports.

Polls arrive in the order of their time and are stored by the service's own step, some at a time, as
fast as it goes. What the server does by the clock is done by the simulated one: a checkpoint every
five minutes, and every minute a vacuum where autovacuum would find enough dead rows. So the numbers
do not depend on how fast the machine is, only on how many polls are stored at a time. What it costs
to note the newest poll is left out: it is known from the start.
"""

import io
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import numpy as np

from compute.axis import Ints
from compute.feed_rows import FeedRows
from compute.instants import instant_of
from service.feeds.made_up import store_ids
from service.feeds.poll_line import PollLine
from service.reports.options import ReportOptions
from service.reports.pipeline import Progress, write_report
from service.workers.pool import Workers
from tests.bench import subject
from tests.bench.measure import console

_MINUTE_MS = 60_000
#: The server's defaults: `checkpoint_timeout`, `autovacuum_naptime` is a minute, and a table is
#: vacuumed when so many of its rows are dead.
_CHECKPOINT_MINUTES = 5
_VACUUM_ROWS, _VACUUM_SHARE = 50, 0.2
#: An hour before midnight: a simulated day has both rows that grow and rows that are new.
_NEWEST = subject.NEWEST.replace(hour=23)
_FIRST = int(_NEWEST.timestamp() * 1000) + 1
_JITTER_MS = 2_000
_KINDS = ("plain", "main", "extended", "external")


@dataclass(frozen=True)
class Choice:
    """Settings of `poll_day` to try; None: as the migrations leave it.

    Attributes:
        fillfactor: percent
        storage: of the column `polls`
        toast_tuple_target: bytes
        vacuum_share: `autovacuum_vacuum_scale_factor`
    """

    fillfactor: int | None = None
    storage: str | None = None
    toast_tuple_target: int | None = None
    vacuum_share: float = _VACUUM_SHARE

    @staticmethod
    def read(text: str) -> "Choice":
        """A choice as an option gives it: `fillfactor=70 storage=main`.

        Raises:
            ValueError: it cannot be understood
        """
        given = dict(word.split("=", 1) for word in text.split())
        storage = given.pop("storage", None)
        if storage not in (None, *_KINDS):
            raise ValueError(f"storage is one of {', '.join(_KINDS)}")
        fillfactor, target = (
            given.pop(name, None) for name in ("fillfactor", "toast_tuple_target")
        )
        share = given.pop("vacuum_share", None)
        if given:
            raise ValueError(f"unknown: {', '.join(given)}")
        return Choice(
            None if fillfactor is None else int(fillfactor),
            storage,
            None if target is None else int(target),
            _VACUUM_SHARE if share is None else float(share),
        )

    def __str__(self) -> str:
        words = [
            f"{name}={value}"
            for name, value in vars(self).items()
            if value is not None and (name, value) != ("vacuum_share", _VACUUM_SHARE)
        ]
        return " ".join(words) or "as it is"

    async def apply(self, pool: asyncpg.Pool) -> None:
        """Set an empty `poll_day` so."""
        if self.fillfactor is not None:
            await pool.execute(f"alter table poll_day set (fillfactor = {self.fillfactor:d})")
        if self.toast_tuple_target is not None:
            await pool.execute(
                f"alter table poll_day set (toast_tuple_target = {self.toast_tuple_target:d})"
            )
        if self.storage is not None:
            await pool.execute(f"alter table poll_day alter polls set storage {self.storage}")


@dataclass
class Vacuums:
    """Vacuums of one table.

    Attributes:
        count: how many there were
        seconds: they took together
        most_dead: rows, that were found before one
    """

    count: int = 0
    seconds: float = 0.0
    most_dead: int = 0


@dataclass(frozen=True)
class State:
    """Sizes (bytes) and counts of `poll_day` and the log at one time."""

    heap: int
    toast: int
    index: int
    dead: int
    updated: int
    hot: int
    wal: int
    images: int

    @staticmethod
    async def read(pool: asyncpg.Pool) -> "State":
        await pool.execute("select pg_stat_force_next_flush()")
        row = await pool.fetchrow(
            """
            select pg_relation_size(relid) as heap,
                   pg_total_relation_size(reltoastrelid) as toast,
                   pg_indexes_size(relid) as index,
                   n_dead_tup as dead, n_tup_upd as updated, n_tup_hot_upd as hot,
                   pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint as wal,
                   (select wal_fpi from pg_stat_wal) as images
            from pg_stat_user_tables join pg_class on pg_class.oid = relid
            where relid = 'poll_day'::regclass
            """
        )
        return State(**dict(row))


@dataclass(frozen=True)
class Outcome:
    """What live polls did with one choice.

    Attributes:
        polls: live ones
        a_group: seconds to store those of one transaction
        before: as it was
        after: as it is
        vacuums: of the table and of its TOAST
    """

    polls: int
    a_group: float
    before: State
    after: State
    vacuums: tuple[Vacuums, Vacuums]


async def measure(
    folder: Path,
    choices: list[Choice],
    *,
    stores: int,
    every: int,
    minutes: int,
    group: int,
    rounds: int,
) -> None:
    """Simulate live polls with each choice, and print what it did.

    Args:
        folder: for the database
        choices: to try, one after the other
        stores: made-up ones, with a week of hourly polls
        every: minutes between the polls of a store
        minutes: of live polls
        group: polls that are stored in one transaction
        rounds: of reports
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        home = Path(scratch)
        home.chmod(0o755)
        async with subject.loader(home) as (pool, workers):
            await subject.load_many(pool, workers, folder, stores, _NEWEST)
            await pool.execute("create table loaded (like poll_day including all)")
            await pool.execute("insert into loaded table poll_day")
            options = await pool.fetchval(
                "select array_to_string(reloptions, ', ') from pg_class "
                "where relname = 'poll_day_before'"
            )
            console.print(
                f"{stores:,} stores, a poll every {every} min, for {minutes} min, "
                f"{group} polls a transaction"
            )
            _row(*_COLUMNS)
            _row(*["---"] * len(_COLUMNS))
            # Whichever choice comes first, reports end at the same instant.
            end = _FIRST + minutes * _MINUTE_MS
            await pool.execute("select note_newest_poll($1)", instant_of(end))
            for choice in choices:
                await pool.execute("drop table poll_day cascade")
                await _make(pool, "poll_day", options)
                await choice.apply(pool)
                await _fill(pool, "poll_day", "loaded")
                await pool.execute("checkpoint", timeout=600)
                polls = _live_polls(stores, every, minutes)
                outcome = await _simulate(pool, choice, stores, polls, group)
                report = await _reports(pool, workers, options, end, rounds)
                _show(choice, outcome, report)


async def _make(pool: asyncpg.Pool, name: str, options: str | None) -> None:
    """An empty table as the migrations make a partition of `poll_day`, with its options."""
    await pool.execute(f"create table {name} (like loaded including all)")
    if options:
        await pool.execute(f"alter table {name} set ({options})")
    await pool.execute(f"alter table {name} set (autovacuum_enabled = off)")
    await pool.execute(f"alter table {name} set (toast.autovacuum_enabled = off)")


async def _fill(pool: asyncpg.Pool, name: str, source: str) -> None:
    """Fill a table as a load does: in the order of its key."""
    # Not `create table as`: to update rows in place, pages need the room that `fillfactor` leaves.
    await pool.execute(
        f"insert into {name} select * from {source} order by store, day",  # noqa: S608 - our names
        timeout=3600,
    )
    await pool.execute(f"vacuum analyze {name}", timeout=3600)


def _live_polls(stores: int, every: int, minutes: int) -> Iterator[tuple[Ints, Ints]]:
    """Stores and polls that arrive, a minute at a time, in order of their instants.

    A store is polled at its own moment of each interval, or up to two seconds later.
    """
    chance = np.random.default_rng(1)
    moment = chance.integers(0, every * _MINUTE_MS - _JITTER_MS, stores)
    for interval in range(0, minutes, every):
        instant = _FIRST + interval * _MINUTE_MS + moment
        instant += chance.integers(0, _JITTER_MS, stores)
        poll = instant << 1 | (chance.random(stores) < 0.9)
        order = np.argsort(instant)
        for minute in range(interval, interval + every):
            at = _FIRST + minute * _MINUTE_MS
            some = order[slice(*np.searchsorted(instant[order], [at, at + _MINUTE_MS]))]
            yield some, poll[some]


async def _simulate(
    pool: asyncpg.Pool,
    choice: Choice,
    stores: int,
    polls: Iterator[tuple[Ints, Ints]],
    group: int,
) -> Outcome:
    """Store live polls, and do meanwhile what the server does by the clock."""
    ids = [store_id.decode() for store_id in store_ids(stores).tolist()]
    before, had = await State.read(pool), await _count(pool)
    vacuums = Vacuums(), Vacuums()
    stored, seconds = 0, 0.0
    line = PollLine(pool)
    async with line.running():
        for minute, (store, poll) in enumerate(polls, 1):
            begin = time.perf_counter()
            for start in range(0, len(store), group):
                await _store(line, ids, store[start : start + group], poll[start : start + group])
            seconds += time.perf_counter() - begin
            stored += len(store)
            await _vacuum_when_due(pool, choice, *vacuums)
            if minute % _CHECKPOINT_MINUTES == 0:
                await pool.execute("checkpoint", timeout=600)
    after = await State.read(pool)
    if await _count(pool) != had + stored:
        raise RuntimeError("polls are lost")
    return Outcome(stored, seconds / (stored / group), before, after, vacuums)


async def _store(line: PollLine, ids: list[str], store: Ints, poll: Ints) -> None:
    named, index = np.unique(store, return_inverse=True)
    rows = FeedRows([ids[number] for number in named.tolist()], index, poll)
    await line.store(rows)


async def _count(pool: asyncpg.Pool) -> int:
    return int(await pool.fetchval("select sum(length(polls)) / 4 from poll_day"))


async def _vacuum_when_due(
    pool: asyncpg.Pool, choice: Choice, of_table: Vacuums, of_toast: Vacuums
) -> None:
    """Do what autovacuum does once a minute, with its pauses; the next polls wait for it."""
    await pool.execute("select pg_stat_force_next_flush()")
    # Those of the same connection are there only in a later statement.
    found = await pool.fetch(
        """
        select relid::regclass::text as name, n_dead_tup as dead, greatest(reltuples, 0) as rows,
               relkind = 't' as is_toast
        from pg_stat_all_tables join pg_class on pg_class.oid = relid
        where relid = 'poll_day'::regclass
           or relid = (select reltoastrelid from pg_class where oid = 'poll_day'::regclass)
        """
    )
    for name, dead, rows, is_toast in found:
        if dead <= _VACUUM_ROWS + choice.vacuum_share * rows:
            continue
        kind = of_toast if is_toast else of_table
        begin = time.perf_counter()
        async with pool.acquire() as connection:
            await connection.execute("set vacuum_cost_delay = '2ms'")
            await connection.execute(f"vacuum (process_toast {is_toast}) {name}", timeout=3600)
            await connection.execute("reset vacuum_cost_delay")
        kind.count += 1
        kind.seconds += time.perf_counter() - begin
        kind.most_dead = max(kind.most_dead, dead)


async def _reports(
    pool: asyncpg.Pool, workers: Workers, options: str | None, as_of: int, rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of reports over the table as it is, and over a fresh one, in turns.

    The fresh one is as the migrations make it, with the same polls in the order of a load.
    """
    await _make(pool, "fresh", options)
    await _fill(pool, "fresh", "poll_day")
    asked = ReportOptions(as_of=as_of)
    worn: list[float] = []
    fresh: list[float] = []
    for turn in range(rounds + 1):
        for taken, other in (worn, "fresh"), (fresh, "worn"):
            begin = time.perf_counter()
            await write_report(pool, workers, asked, io.BytesIO(), _quiet)
            if turn:  # the first starts processes
                taken.append(time.perf_counter() - begin)
            this = "worn" if other == "fresh" else "fresh"
            await pool.execute(f"alter table poll_day rename to {this}")
            await pool.execute(f"alter table {other} rename to poll_day")
    await pool.execute("drop table fresh")
    return worn, fresh


def _quiet(_: Progress) -> None: ...


_MB = 1_000_000
_COLUMNS = (
    "choice",
    "WAL, B a poll",
    "page images a poll",
    "HOT",
    "heap, MB",
    "TOAST, MB",
    "index, MB",
    "dead rows at the end",
    "vacuums: number, time, most dead rows",
    "of TOAST",
    "ms a transaction",
    "report, s",
    "to fresh",
)


def _row(*cells: str) -> None:
    """A row of a table in Markdown, at once: each takes minutes."""
    console.print(f"| {' | '.join(cells)} |", soft_wrap=True, highlight=False)


def _show(choice: Choice, outcome: Outcome, report: tuple[list[float], list[float]]) -> None:
    before, after, polls = outcome.before, outcome.after, outcome.polls
    updated = after.updated - before.updated
    ratios = [worn / fresh for worn, fresh in zip(*report, strict=True)]
    _row(
        str(choice),
        f"{(after.wal - before.wal) / polls:,.0f}",
        f"{(after.images - before.images) / polls:.3f}",
        f"{(after.hot - before.hot) / updated:.0%}" if updated else "",
        *(
            f"{getattr(before, name) / _MB:.1f} → {getattr(after, name) / _MB:.1f}"
            for name in ("heap", "toast", "index")
        ),
        f"{after.dead:,}",
        *(f"{kind.count}, {kind.seconds:.1f} s, {kind.most_dead:,}" for kind in outcome.vacuums),
        f"{1000 * outcome.a_group:.1f}",
        f"{statistics.median(report[0]):.3f}",
        f"{statistics.median(ratios):.2f}",
    )
