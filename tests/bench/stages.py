"""Where the time of a report goes: each stage alone, on one core, and the limit it runs against."""

import pickle
import tempfile
import time
from collections.abc import Callable
from typing import BinaryIO, TypeVar

import asyncpg
import numpy as np
from rich.table import Table

from compute.batch import Question, StoreBatch
from compute.business_hours import business_time
from compute.csv_rows import csv_rows
from compute.polls import observed_positions
from compute.uptime import observe, runs, totals
from service.stores.batches import read_batch
from service.stores.snapshot import snapshot
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


async def show_stages(pool: asyncpg.Pool, rounds: int) -> None:
    """Print each stage's time over all stores, one batch after the other: the best round of each.

    A stage alone takes milliseconds, which anything else on the machine doubles now and then.
    """
    best: dict[str, float] = {}
    for _ in range(rounds):
        stages = Stages()
        polls, written = await _report(pool, stages)
        best = {name: min(best.get(name, s), s) for name, s in stages.seconds.items()}
    bandwidth = _memory_bandwidth()
    # What each stage cannot do without, at the speed of the machine.
    limits = {
        "read stores": ("COPY, binary", await _copy_speed(pool, "store", rounds)),
        "read polls": ("COPY, binary", await _copy_speed(pool, "poll_day_before", rounds)),
        "pickle for the worker": ("copy in memory", (4 * polls + written) / bandwidth),
        "decode polls": ("read 4 bytes, write 8", 12 * polls / bandwidth),
        "kernel: observations": ("read 8 bytes, write 8", 16 * polls / bandwidth),
        "kernel: runs": ("read 8 bytes", 8 * polls / bandwidth),
        "encode CSV": ("copy in memory", 2 * written / bandwidth),
        "write": ("copy in memory", 2 * written / bandwidth),
    }
    table = Table(
        *("stage", "seconds", "ns a poll", "limit", "its seconds", "times"),
        title=f"{polls:,} polls, one stage at a time; memory {bandwidth / 1e9:.1f} GB/s",
    )
    for stage, seconds in best.items():
        what, limit = limits.get(stage, ("", 0.0))
        table.add_row(
            stage,
            f"{seconds:.4f}",
            f"{seconds / polls * 1e9:.1f}",
            what,
            f"{limit:.4f}" if limit else "",
            f"{seconds / limit:.1f}" if limit else "",
        )
    table.add_section()
    table.add_row("sum", f"{sum(best.values()):.4f}")
    console.print(table)


async def _report(pool: asyncpg.Pool, stages: Stages) -> tuple[int, int]:
    """One report, stage by stage. Returns the numbers of polls read and of bytes written."""
    polls = written = 0
    async with snapshot(pool) as store:
        as_of = await store.newest_poll()
        question = Question(as_of or 0, "nearest", 86_400_000, include_unknown=False)
        zones = await store.zone_names()
        excluded = await store.exclusions_between(*question.stretch)
        pages = store.pages()
        with tempfile.TemporaryFile() as file:
            while True:
                begin = time.perf_counter()
                page = await anext(pages, None)
                stages.add("read stores", time.perf_counter() - begin)
                if page is None:
                    return polls, written
                begin = time.perf_counter()
                batch = await read_batch(store, page, zones, question, excluded)
                stages.add("read polls", time.perf_counter() - begin)
                polls += len(batch.polls) // 4
                written += _work(stages, batch, question, file)


def _work(stages: Stages, batch: StoreBatch, question: Question, file: BinaryIO) -> int:
    """What happens to a batch, stage by stage. Returns the number of bytes written."""
    batch = stages.time("pickle for the worker", lambda: pickle.loads(pickle.dumps(batch)))  # noqa: S301 - our own
    axis = question.axis
    polls = stages.time(
        "decode polls",
        lambda: observed_positions(
            axis, batch.polls, batch.poll_store, batch.poll_day, batch.poll_size
        ),
    )
    open_time = stages.time(
        "business hours",
        lambda: business_time(axis, batch.hours, batch.zone, batch.zone_names),
    )
    observations = stages.time("kernel: observations", lambda: observe(polls, open_time))
    observed = stages.time("kernel: runs", lambda: runs(observations, axis, question.interpolation))
    bounds = question.bounds(batch.zone, batch.zone_names)
    sums = stages.time(
        "kernel: totals", lambda: totals(observed, open_time, open_time, axis, bounds)
    )
    rows = stages.time("encode CSV", lambda: csv_rows(batch.store_ids, batch.id_size, sums, False))
    return stages.time("write", lambda: file.write(rows))


async def _copy_speed(pool: asyncpg.Pool, table: str, rounds: int) -> float:
    """Seconds for PostgreSQL to send a table as it is, the best of some rounds."""

    async def drop(_: bytes) -> None: ...

    taken = []
    for _ in range(rounds):
        begin = time.perf_counter()
        await pool.copy_from_table(table, output=drop, format="binary")
        taken.append(time.perf_counter() - begin)
    return min(taken)


def _memory_bandwidth() -> float:
    """Bytes that one core reads and writes in a second, when it only copies."""
    source = np.ones(256 << 20, dtype=np.uint8)
    target = np.empty_like(source)
    best = float("inf")
    for _ in range(4):
        begin = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - begin)
    return 2 * len(source) / best
