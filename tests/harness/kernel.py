"""The kernel as the tests call it: stores as plain rows in, totals and CSV out."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from compute.axis import DAY_MS, PER_MS
from compute.batch import Question, StoreBatch, batch_totals
from compute.business_hours import pack_hours
from compute.polls import pack_polls
from compute.report_rows import ReportRows, report_rows
from compute.timeline import STATES, timeline
from compute.uptime import Interpolation
from tests.harness.reference import Store

Total = tuple[Fraction, Fraction, Fraction]
Segment = tuple[Fraction, Fraction, str]


def kernel_totals(
    stores: Sequence[Store], as_of: int, interpolation: Interpolation, max_gap: int
) -> list[dict[str, Total]]:
    """Per store: up, down and unknown milliseconds of each window."""
    question = Question(as_of, interpolation, max_gap, False)
    found = batch_totals(_batch(stores, question), question)
    measures = (found.up, found.down, found.unknown)
    return [
        {
            window: (
                Fraction(int(measures[0][store, column]), PER_MS),
                Fraction(int(measures[1][store, column]), PER_MS),
                Fraction(int(measures[2][store, column]), PER_MS),
            )
            for column, window in enumerate(("hour", "day", "week"))
        }
        for store in range(len(stores))
    ]


def kernel_window(
    stores: Sequence[Store], as_of: int, interpolation: Interpolation, max_gap: int, length: int
) -> tuple[list[Total], list[list[Segment]]]:
    """Per store: up, down and unknown milliseconds of one window, and the window's segments."""
    question = Question(as_of, interpolation, max_gap, windows=(length,))
    batch = _batch(stores, question)
    found = batch_totals(batch, question)
    sums = np.stack([found.up[:, 0], found.down[:, 0], found.unknown[:, 0]], axis=1)
    parts = timeline(batch, question)
    segments: list[list[Segment]] = [[] for _ in stores]
    columns = (parts.store, parts.start, parts.end, parts.state)
    for store, start, end, state in zip(*(column.tolist() for column in columns), strict=True):
        segments[store].append((Fraction(start, PER_MS), Fraction(end, PER_MS), STATES[state]))
    totals = [
        (Fraction(up, PER_MS), Fraction(down, PER_MS), Fraction(unknown, PER_MS))
        for up, down, unknown in sums.tolist()
    ]
    return totals, segments


def kernel_rows(
    stores: Sequence[Store], as_of: int, interpolation: Interpolation, max_gap: int
) -> ReportRows:
    """All that a report tells of some stores, in the order given."""
    question = Question(as_of, interpolation, max_gap)
    return report_rows(_batch(stores, question), question)


def kernel_csv(
    stores: Sequence[Store],
    as_of: int,
    interpolation: Interpolation,
    max_gap: int,
    include_unknown: bool,
) -> str:
    """The report's rows, without the header, in byte order of the ids."""
    in_order = sorted(stores, key=lambda store: store.store_id.encode())
    question = Question(as_of, interpolation, max_gap, include_unknown)
    return report_rows(_batch(in_order, question), question).csv.decode()


def _batch(stores: Sequence[Store], question: Question) -> StoreBatch:
    ids = [store.store_id.encode() for store in stores]
    hours = [
        pack_hours(*np.array(store.hours, dtype=np.int64).reshape(-1, 3).T) for store in stores
    ]
    zone_names = tuple(sorted({store.timezone for store in stores if store.timezone}))
    first, last = question.days
    polls = [
        (place, instant << 1 | active)
        for place, store in enumerate(stores)
        for instant, active in store.polls
        if first <= instant // DAY_MS <= last
    ]
    columns = np.array(polls, dtype=np.int64).reshape(-1, 2)
    days = pack_polls(columns[:, 0], columns[:, 1])
    return StoreBatch(
        store_ids=b"".join(ids),
        id_size=np.array([len(store_id) for store_id in ids], dtype=np.int64),
        hours=b"".join(hours),
        hours_rows=np.array([len(packed) // 8 for packed in hours], dtype=np.int64),
        zone=np.array(
            [zone_names.index(store.timezone) if store.timezone else -1 for store in stores],
            dtype=np.int64,
        ),
        zone_names=zone_names,
        polls=days.packed,
        poll_store=days.store,
        poll_day=days.day,
        poll_size=days.size,
    )
