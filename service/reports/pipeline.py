"""One report, from the database to the CSV: read → compute → write, with progress."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal, Protocol

import asyncpg
import msgspec

from compute.batch import Question
from compute.csv_rows import header
from compute.fingerprint import Fingerprint
from compute.groups import GroupSums
from compute.packed_totals import VERSION
from compute.polls import WORD
from compute.report_rows import ReportRows, report_rows
from compute.roll_up import RollUp, no_stores
from compute.windows import resolve_windows
from service import counts
from service.cluster.part import Part
from service.reports.options import ReportOptions
from service.stores.batches import known_zones, read_batch
from service.stores.selection import with_tags
from service.stores.snapshot import StoreColumns, Stretch, snapshot
from service.workers.pool import Workers
from service.workers.stream import stream

if TYPE_CHECKING:
    from service.cluster.client import Cluster  # needs the extra `cluster`


class NoPolls(Exception):  # noqa: N818
    """A report without `as_of` ends at the newest poll, and there is none."""

    def __str__(self) -> str:
        return "there are no polls yet: load some, or give the report an as_of"


class Progress(msgspec.Struct, frozen=True):
    """How far a report is.

    Attributes:
        stores_done: stores written
        stores_total: stores of the report
        as_of: the end of every window, milliseconds since 1970-01-01 UTC
        roll_up: of the stores written
        fingerprint: of what the report was made of; None until all is written
        groups: of the stores written; None: the report has none, or not all is written
        polls_kept_since: milliseconds since 1970-01-01 UTC; None: all are kept, or all that matter
    """

    stores_done: int
    stores_total: int
    as_of: int
    roll_up: RollUp
    fingerprint: bytes | None = None
    groups: GroupSums | None = None
    polls_kept_since: int | None = None


class Writable(Protocol):
    """What takes a file's bytes."""

    def write(self, rows: bytes, /) -> object:
        """Append them."""


async def write_report(
    pool: asyncpg.Pool,
    workers: Workers,
    options: ReportOptions,
    file: Writable,
    on_progress: Callable[[Progress], None],
    totals: Writable | None = None,
    timed: Callable[[Literal["read", "compute"]], AbstractContextManager[object]] = nullcontext,
    cluster: "Cluster | None" = None,
    server: int = 0,
) -> Progress:
    """Compute a report over the stores as they are now, and write its CSV.

    Args:
        pool: the database
        workers: compute the rows
        options: what is asked
        file: gets the CSV; nothing else may write to it
        on_progress: called after each batch
        totals: gets the exact totals of each store, as `compute.packed_totals` has them; nothing
            else may write to it
        timed: gives what surrounds the reading of a batch, and its computing
        cluster: reads and computes instead of `workers`; None: they do
        server: which one `pool` is of, for the cluster: 0: the primary, else which replica

    Returns:
        the last progress

    Raises:
        ClusterAway: the cluster is
        GroupsRefused: it has too many groups
        NoPolls: `as_of` was left out, and there is no poll
        WindowRefused: as `question_of` does
        WorkerDied: a batch killed its worker, even when it ran alone
        ZoneUnknown: the tz database lacks the zone of one of the stores
    """
    async with snapshot(pool) as stored:
        as_of = options.as_of if options.as_of is not None else await stored.newest_poll()
        if as_of is None:
            raise NoPolls
        question = question_of(options, as_of)
        wanted = with_tags(options.tags or (), options.stores)
        total = await stored.count_stores(wanted)
        kept_since = question.lacks_before(await stored.polls_kept_since())
        progress = Progress(0, total, as_of, no_stores(len(question.windows)))
        on_progress(progress)
        zones = await known_zones(stored, wanted)
        excluded = await stored.exclusions_between(*question.stretch)

        fingerprint = Fingerprint()
        groups = None
        if question.group_by:
            groups = GroupSums(len(question.group_by), len(question.asked))

        async def compute(page: StoreColumns) -> ReportRows:
            with timed("read"):
                batch = await read_batch(stored, page, zones, question, excluded)
            counts.REPORTED["polls"] += len(batch.polls) // WORD.itemsize
            with timed("compute"):
                return await workers.run(report_rows, batch, question)

        def write_all(rows: ReportRows) -> None:
            file.write(rows.csv)
            if totals is not None:
                totals.write(rows.totals)
            for each in rows.prints:
                fingerprint.add(each)
            if groups is not None:
                for parts in rows.parts:
                    groups.add(parts)

        async def write(rows: ReportRows) -> float:
            nonlocal progress
            await asyncio.to_thread(write_all, rows)
            roll_up = progress.roll_up + rows.together
            progress = Progress(roll_up.stores, total, as_of, roll_up)
            on_progress(progress)
            counts.REPORTED["stores"] += rows.together.stores
            return rows.together.stores

        file.write(
            header(options.include_unknown, options.include_excluded, windows=question.windows)
        )
        if totals is not None:
            totals.write(VERSION)
        if cluster is not None:

            async def make(stretch: Stretch) -> ReportRows:
                made = await cluster.make(Part(stored.exported, stretch, wanted, question, server))
                counts.REPORTED["polls"] += made.polls
                return made.rows

            size = cluster.stores_per_part(total, len(question.asked))
            parts = stored.parts(size, wanted)
            await stream(cluster, parts, make, write)
        else:
            days = sum(last - first + 1 for first, last in question.day_ranges)
            described = totals is not None or groups is not None
            pages = stored.pages(wanted, days, described=described)
            await stream(workers, pages, compute, write)
        if groups is not None:
            await asyncio.to_thread(groups.add_up)
        return msgspec.structs.replace(
            progress, fingerprint=fingerprint.value, groups=groups, polls_kept_since=kept_since
        )


def question_of(options: ReportOptions, as_of: int) -> Question:
    """What a report asks of each batch of stores.

    Args:
        options: of the report
        as_of: milliseconds since 1970-01-01 UTC

    Raises:
        WindowRefused: a window goes beyond the limits, which depend on `as_of`
    """
    texts = options.windows or ()
    return Question(
        as_of,
        options.interpolation,
        options.max_gap,
        options.include_unknown,
        windows=resolve_windows(texts, as_of, options.calendar) if texts else (),
        escape_formulas=options.escape_formulas,
        include_excluded=options.include_excluded,
        unit=options.unit,
        group_by=options.group_by or (),
        target=options.target,
    )
