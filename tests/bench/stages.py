"""Where the time of a report goes: each stage alone, on one core, and the limit it runs against."""

import pickle
import time
from collections.abc import Callable
from typing import TypeVar

import asyncpg
import numpy as np
from rich.table import Table

from compute.business_hours import business_time
from compute.csv_rows import WINDOWS_MS, csv_rows
from compute.polls import observed_positions
from compute.report_rows import Question, StoreBatch
from compute.uptime import observe, runs, totals
from service.pipeline import Zones, read_batch
from service.store import snapshot
from tests.bench.measure import console

R = TypeVar("R")


class Stages:
    """Seconds by stage, added up over batches."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, stage: str, run: Callable[[], R]) -> R:
        """Run something, and book its time on a stage."""
        begin = time.perf_counter()
        result = run()
        self.add(stage, time.perf_counter() - begin)
        return result

    def add(self, stage: str, seconds: float) -> None:
        """Book time on a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0) + seconds


async def show_stages(pool: asyncpg.Pool) -> None:
    """Print each stage's time over all stores, one batch after the other."""
    stages = Stages()
    polls = 0
    sent = 0
    async with snapshot(pool) as store:
        as_of = await store.newest_poll()
        question = Question(as_of or 0, "nearest", 86_400_000, include_unknown=False)
        zones = Zones(await store.zone_names())
        pages = store.pages()
        while True:
            begin = time.perf_counter()
            page = await anext(pages, None)
            stages.add("read stores", time.perf_counter() - begin)
            if page is None:
                break
            begin = time.perf_counter()
            batch = await read_batch(store, page, zones, question)
            stages.add("read polls", time.perf_counter() - begin)
            polls += len(batch.polls) // 4
            sent += len(batch.polls)
            work(stages, batch, question)
    copied = await _copy_speed(pool)
    table = Table("stage", "seconds", "ns a poll", title=f"{polls:,} polls, one core at a time")
    for stage, seconds in stages.seconds.items():
        table.add_row(stage, f"{seconds:.3f}", f"{seconds / polls * 1e9:.1f}")
    table.add_section()
    table.add_row("sum", f"{sum(stages.seconds.values()):.3f}", "")
    table.add_row("limit of read: binary COPY of poll_day", f"{copied:.3f}", "")
    table.add_row("limit of decode: copy the polls in memory", f"{_copy_memory(sent):.3f}", "")
    console.print(table)


def work(stages: Stages, batch: StoreBatch, question: Question) -> bytes:
    """What a worker does with a batch, stage by stage."""
    batch = stages.time("to a worker and back: pickle", lambda: pickle.loads(pickle.dumps(batch)))  # noqa: S301 - our own
    axis = question.axis
    stores = len(batch.id_size)
    polls = stages.time(
        "decode polls",
        lambda: observed_positions(
            axis, batch.polls, batch.poll_store, batch.poll_day, batch.poll_size
        ),
    )
    open_time = stages.time(
        "business hours",
        lambda: business_time(axis, batch.hours, batch.hours_rows, batch.zone, batch.zone_names),
    )
    observations = stages.time("kernel: observations", lambda: observe(polls, open_time))
    observed = stages.time("kernel: runs", lambda: runs(observations, axis, question.interpolation))
    windows = [(question.as_of - length, question.as_of) for length in WINDOWS_MS]
    sums = stages.time("kernel: totals", lambda: totals(observed, open_time, axis, stores, windows))
    rows = stages.time("encode CSV", lambda: csv_rows(batch.store_ids, batch.id_size, sums, False))
    with open("/dev/null", "wb") as nowhere:
        stages.time("write", lambda: nowhere.write(rows))
    return rows


async def _copy_speed(pool: asyncpg.Pool) -> float:
    """Seconds for PostgreSQL to send the table of polls as it is."""

    async def drop(_: bytes) -> None: ...

    begin = time.perf_counter()
    await pool.copy_from_table("poll_day", output=drop, format="binary")
    return time.perf_counter() - begin


def _copy_memory(size: int) -> float:
    source = np.ones(size, dtype=np.uint8)
    target = np.empty_like(source)
    np.copyto(target, source)  # touch the pages first
    begin = time.perf_counter()
    np.copyto(target, source)
    return time.perf_counter() - begin
