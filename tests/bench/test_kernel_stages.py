"""Each stage of the kernel alone, over one batch of made-up stores with a week of hourly polls.

    python -m pytest tests/bench --benchmark-enable

measures; without the option each runs once, to see that it still runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from compute.axis import DAY_MS, Ints
from compute.batch import Question, StoreBatch
from compute.business_hours import business_time, pack_weeks
from compute.csv_rows import csv_rows
from compute.feed_header import read_header
from compute.feed_rows import FeedRows, parse_csv
from compute.intervals import Intervals
from compute.packed_rows import PackedRows
from compute.polls import WORD, merge_polls, observed_positions, pack_polls, unpack_polls
from compute.report_rows import ReportRows, report_rows
from compute.uptime import Runs, Totals, observe, runs, totals
from service.feeds.made_up import FeedFiles, poll_columns, store_ids, write_feed
from tests.bench.subject import NEWEST

STORES = 600  # about as many polls as a batch of a report has


@dataclass(frozen=True)
class Stages:
    """A batch, and what each stage makes of it."""

    question: Question
    batch: StoreBatch
    store: Ints
    poll: Ints
    positions: Ints
    open_time: Intervals
    observations: Ints
    observed: Runs
    sums: Totals

    @property
    def bounds(self) -> Ints:
        return self.question.bounds(self.batch.zone, self.batch.zone_names)


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> FeedFiles:
    return write_feed(tmp_path_factory.mktemp("feed"), stores=STORES, newest=NEWEST)


@pytest.fixture(scope="module")
def stages(feed: FeedFiles) -> Stages:
    question = Question(int(NEWEST.timestamp() * 1000), "nearest", DAY_MS)
    parts = list(poll_columns(STORES, newest=NEWEST))
    store = np.concatenate([part[0] for part in parts]).astype(np.int64)
    poll = np.concatenate([part[1] << 1 | part[2] for part in parts])
    batch = _batch(question, store, poll, feed)
    axis = question.axis
    positions = observed_positions(
        axis, batch.polls, batch.poll_store, batch.poll_day, batch.poll_size
    )
    open_time = business_time(axis, batch.hours, batch.zone, batch.zone_names)
    observations = observe(positions, open_time)
    observed = runs(observations, axis, "nearest")
    bounds = question.bounds(batch.zone, batch.zone_names)
    sums = totals(observed, open_time, open_time, axis, bounds)
    return Stages(question, batch, store, poll, positions, open_time, observations, observed, sums)


def _batch(question: Question, store: Ints, poll: Ints, feed: FeedFiles) -> StoreBatch:
    ids = store_ids(STORES).tolist()
    number = {store_id.decode(): place for place, store_id in enumerate(ids)}

    def stores_of(rows: FeedRows) -> Ints:
        return np.array([number[name] for name in rows.store_ids])[rows.store]

    weeks = [b""] * STORES
    hours, zones = (
        _parse("business_hours", feed.business_hours),
        _parse("timezones", feed.timezones),
    )
    for place, week in zip(*pack_weeks(stores_of(hours), hours.value), strict=True):
        weeks[place] = week
    zone = np.full(STORES, -1)
    zone[stores_of(zones)] = zones.value
    ((first_day, last_day),) = question.day_ranges
    days = pack_polls(store, poll)
    bounds = pairwise([0, *np.cumsum(days.size).tolist()])
    packed = [days.packed[begin:end] for begin, end in bounds]
    wanted = (days.day >= first_day) & (days.day <= last_day)
    return StoreBatch(
        store_ids=b"".join(ids),
        id_size=np.array([len(store_id) for store_id in ids]),
        hours=PackedRows(b"".join(weeks), np.array([len(week) // 8 for week in weeks])),
        zone=zone,
        zone_names=tuple(zones.names),
        polls=b"".join(row for row, keep in zip(packed, wanted, strict=True) if keep),
        poll_store=days.store[wanted],
        poll_day=days.day[wanted],
        poll_size=days.size[wanted],
    )


def _parse(kind: Any, file: Path) -> FeedRows:
    header, _, rows = file.read_bytes().partition(b"\n")
    return parse_csv(kind, read_header(kind, "", header), rows, 2)


def test_parse_polls(benchmark: BenchmarkFixture, feed: FeedFiles) -> None:
    header, _, rows = feed.polls.read_bytes().partition(b"\n")
    parsed = benchmark(parse_csv, "polls", read_header("polls", "", header), rows, 2)
    assert len(parsed.value) == rows.count(b"\n")


def test_pack_polls(benchmark: BenchmarkFixture, stages: Stages) -> None:
    shuffled = np.random.default_rng(1).permutation(len(stages.poll))
    packed = benchmark(pack_polls, stages.store[shuffled], stages.poll[shuffled])
    assert packed.size.sum() == len(stages.poll) * WORD.itemsize


def test_merge_polls_of_one_more_hour(benchmark: BenchmarkFixture, stages: Stages) -> None:
    newest = stages.poll >> 1 >= stages.question.as_of - 3_600_000
    stored = pack_polls(stages.store[~newest], stages.poll[~newest])
    arrived = unpack_polls(pack_polls(stages.store[newest], stages.poll[newest]))
    assert benchmark(merge_polls, stored, *arrived).counts.tolist() == [[newest.sum(), 0, 0]]


def test_decode_polls(benchmark: BenchmarkFixture, stages: Stages) -> None:
    batch = stages.batch
    days = (batch.polls, batch.poll_store, batch.poll_day, batch.poll_size)
    assert len(benchmark(observed_positions, stages.question.axis, *days))


def test_business_time(benchmark: BenchmarkFixture, stages: Stages) -> None:
    batch = stages.batch
    hours = (batch.hours, batch.zone, batch.zone_names)
    assert len(benchmark(business_time, stages.question.axis, *hours).start)


def test_observations(benchmark: BenchmarkFixture, stages: Stages) -> None:
    assert len(benchmark(observe, stages.positions, stages.open_time))


@pytest.mark.parametrize("interpolation", ["nearest", "previous"])
def test_runs(benchmark: BenchmarkFixture, stages: Stages, interpolation: str) -> None:
    assert len(benchmark(runs, stages.observations, stages.question.axis, interpolation).start)


def test_totals(benchmark: BenchmarkFixture, stages: Stages) -> None:
    sums: Callable[..., Totals] = totals
    spans = (
        stages.observed,
        stages.open_time,
        stages.open_time,
        stages.question.axis,
        stages.bounds,
    )
    assert benchmark(sums, *spans).up.sum() > 0


def test_csv_rows(benchmark: BenchmarkFixture, stages: Stages) -> None:
    batch = stages.batch
    rows = benchmark(csv_rows, batch.store_ids, batch.id_size, stages.sums, False)
    assert rows.count(b"\n") == STORES


def test_the_whole_batch(benchmark: BenchmarkFixture, stages: Stages) -> None:
    rows: ReportRows = benchmark(report_rows, stages.batch, stages.question)
    assert rows.csv.count(b"\n") == rows.together.stores == STORES
