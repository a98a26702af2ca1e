"""One report, from the database to the CSV: read → compute → write, with progress."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Literal, Protocol

import asyncpg
import msgspec
import numpy as np

from compute.batch import Question, StoreBatch
from compute.business_hours import HOURS
from compute.csv_rows import header
from compute.fingerprint import Fingerprint
from compute.packed_rows import DATED_WEEKS, NO_ROWS, SPECIAL_HOURS, PackedRows
from compute.packed_totals import VERSION
from compute.polls import WORD
from compute.report_rows import ReportRows, report_rows
from compute.roll_up import RollUp, no_stores
from compute.windows import resolve_windows
from compute.zones import ZoneUnknown, zone_names
from service import counts
from service.reports.options import ReportOptions
from service.stores.exclusions import Exclusions
from service.stores.packed import indexes_of
from service.stores.selection import with_tags
from service.stores.snapshot import Snapshot, StoreColumns, snapshot
from service.workers.pool import Workers
from service.workers.stream import stream


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
    """

    stores_done: int
    stores_total: int
    as_of: int
    roll_up: RollUp
    fingerprint: bytes | None = None


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

    Returns:
        the last progress

    Raises:
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
        progress = Progress(0, total, as_of, no_stores(len(question.windows)))
        on_progress(progress)
        zones = await stored.zone_names()
        excluded = await stored.exclusions_between(*question.stretch)
        lacking = [number for number, name in zones.items() if name not in zone_names()]
        if lacking and (lost := await stored.stores_in(lacking, wanted)):
            raise ZoneUnknown(lost)

        fingerprint = Fingerprint()

        async def compute(page: StoreColumns) -> tuple[StoreBatch, ReportRows]:
            with timed("read"):
                batch = await read_batch(stored, page, zones, question, excluded)
            counts.REPORTED["polls"] += len(batch.polls) // WORD.itemsize
            with timed("compute"):
                rows = await workers.run(report_rows, batch, question)
            return replace(batch, polls=b""), rows  # until it is its turn, it waits without them

        def write_all(batch: StoreBatch, rows: ReportRows) -> None:
            fingerprint.add(batch)
            file.write(rows.csv)
            if totals is not None:
                totals.write(rows.totals)

        async def write(computed: tuple[StoreBatch, ReportRows]) -> float:
            nonlocal progress
            batch, rows = computed
            await asyncio.to_thread(write_all, batch, rows)
            together = rows.together
            roll_up = progress.roll_up + together
            progress = Progress(roll_up.stores, total, as_of, roll_up)
            on_progress(progress)
            counts.REPORTED["stores"] += together.stores
            return together.stores

        file.write(
            header(options.include_unknown, options.include_excluded, windows=question.windows)
        )
        if totals is not None:
            totals.write(VERSION)
        days = sum(last - first + 1 for first, last in question.day_ranges)
        await stream(workers, stored.pages(wanted, days), compute, write)
        return msgspec.structs.replace(progress, fingerprint=fingerprint.value)


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
    )


async def read_batch(
    stored: Snapshot,
    page: StoreColumns,
    zones: Mapping[int, str],
    question: Question,
    excluded: Exclusions,
) -> StoreBatch:
    """A page of stores with their polls, as the kernel takes it.

    Args:
        stored: where to read
        page: the stores
        zones: names by number; only those of the page's stores go on
        question: whose days' polls matter
        excluded: what touches the question's time
    """
    used, zone = np.unique(page.timezone, return_inverse=True)
    if used[0] == 0:  # none given
        used, zone = used[1:], zone - 1
    polls = await stored.polls(page.id, question.day_ranges)
    return StoreBatch(
        store_ids=page.store_ids,
        id_size=page.id_size,
        hours=PackedRows(page.hours, page.hours_size // HOURS.itemsize),
        zone=zone,
        zone_names=tuple(zones[number] for number in used.tolist()),
        polls=polls.packed,
        poll_store=indexes_of(page.id, polls.store),
        poll_day=polls.day,
        poll_size=polls.size,
        dated_weeks=PackedRows(page.dated_weeks, page.dated_weeks_size // DATED_WEEKS.itemsize),
        special_hours=PackedRows(
            page.special_hours, page.special_hours_size // SPECIAL_HOURS.itemsize
        ),
        exclusions=await stored.covering(excluded, page) if excluded else NO_ROWS,
    )
