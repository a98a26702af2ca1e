"""The kernel as the tests call it: stores as plain rows in, totals and CSV out."""

import json
from collections.abc import Sequence
from datetime import date
from fractions import Fraction

import numpy as np

from compute.axis import DAY_MS, PER_MS, Ints
from compute.batch import Question, StoreBatch, batch_totals
from compute.business_hours import EMPTY_WEEK, pack_hours
from compute.outages import NO_INSTANT, Outages, outages, outages_in, question_about
from compute.packed_rows import (
    DATED_WEEKS,
    EXCLUSIONS,
    NEVER,
    SPECIAL_HOURS,
    PackedRows,
    PackedTexts,
    pack_dated_weeks,
    pack_exclusions,
    pack_special_hours,
)
from compute.polls import pack_polls
from compute.report_rows import ReportRows, report_rows
from compute.states import states
from compute.targets import NO_TARGET, SCALE
from compute.timeline import STATES, timeline
from compute.uptime import Interpolation
from compute.windows import Window, instants_of, resolve_windows
from tests.harness.reference import Interval, Outage, Parts, Store, Totals

Segment = tuple[Fraction, Fraction, str]
#: State, since when (None: for longer than was looked, or ever), newest poll: instant and active.
Now = tuple[str, Fraction | None, tuple[int, bool] | None]


def kernel_parts(stores: Sequence[Store], question: Question) -> list[list[Parts]]:
    """Per store and window: up, down, unknown and excluded milliseconds."""
    found = batch_totals(batch_of(stores, question), question)
    parts = np.stack([found.up, found.down, found.unknown, found.excluded], axis=2)
    return [
        [
            (
                Fraction(up, PER_MS),
                Fraction(down, PER_MS),
                Fraction(unknown, PER_MS),
                Fraction(excluded, PER_MS),
            )
            for up, down, unknown, excluded in of_store
        ]
        for of_store in parts.tolist()
    ]


def kernel_totals(
    stores: Sequence[Store], as_of: int, interpolation: Interpolation, max_gap: int
) -> list[Totals]:
    """The same of the windows of the default report."""
    parts = kernel_parts(stores, Question(as_of, interpolation, max_gap))
    names = ("hour", "day", "week")
    return [dict(zip(names, of_store, strict=True)) for of_store in parts]


def kernel_windows(
    stores: Sequence[Store],
    texts: Sequence[str],
    as_of: int,
    interpolation: Interpolation,
    max_gap: int,
    calendar: str | None = None,
) -> list[Totals]:
    """The same of windows that are named by their texts."""
    windows = resolve_windows(texts, as_of, calendar)
    question = Question(as_of, interpolation, max_gap, windows=windows)
    names = [window.name for window in windows]
    return [dict(zip(names, parts, strict=True)) for parts in kernel_parts(stores, question)]


def kernel_instants(
    texts: Sequence[str], as_of: int, calendar: str | None, zone: str
) -> dict[str, Interval]:
    """The windows by their names, in order, as instants in one zone, cut at `as_of`."""
    windows = resolve_windows(texts, as_of, calendar)
    return {window.name: instants_of(window, zone, as_of) for window in windows}


def kernel_window(
    stores: Sequence[Store], as_of: int, interpolation: Interpolation, max_gap: int, length: int
) -> tuple[list[Parts], list[list[Segment]]]:
    """Per store: the parts of the time before `as_of`, and its segments."""
    window = Window("asked", "asked", instants=(as_of - length, as_of))
    question = Question(as_of, interpolation, max_gap, windows=(window,))
    totals = [of_store[0] for of_store in kernel_parts(stores, question)]
    return totals, kernel_segments(stores, question)


def kernel_segments(stores: Sequence[Store], question: Question) -> list[list[Segment]]:
    """Per store: the segments of the question's last window, milliseconds."""
    parts = timeline(batch_of(stores, question), question)
    segments: list[list[Segment]] = [[] for _ in stores]
    columns = (parts.store, parts.start, parts.end, parts.state)
    for store, start, end, state in zip(*(column.tolist() for column in columns), strict=True):
        segments[store].append((Fraction(start, PER_MS), Fraction(end, PER_MS), STATES[state]))
    return segments


def kernel_states(stores: Sequence[Store], as_of: int, max_gap: int, look_back: int) -> list[Now]:
    """How each store is at an instant."""
    question = question_about(as_of, max_gap, look_back)
    found = states(batch_of(stores, question), question)
    columns = found.state.tolist(), found.since.tolist(), found.newest_poll.tolist()
    return [
        (
            STATES[state],
            _instant(since),
            None if poll == NO_INSTANT else (poll >> 1, bool(poll & 1)),
        )
        for state, since, poll in zip(*columns, strict=True)
    ]


def kernel_durations(
    stores: Sequence[Store], as_of: int, max_gap: int, look_back: int
) -> list[tuple[Fraction, Fraction]]:
    """`down_for` and `silent_for` of each store at an instant, milliseconds."""
    question = question_about(as_of, max_gap, look_back)
    found = states(batch_of(stores, question), question)
    columns = found.down_for.tolist(), found.silent_for.tolist()
    return [
        (Fraction(down, PER_MS), Fraction(silent, PER_MS))
        for down, silent in zip(*columns, strict=True)
    ]


def kernel_outages(
    stores: Sequence[Store], as_of: int, max_gap: int, look_back: int
) -> list[list[Outage]]:
    """The outages of each store up to an instant."""
    question = question_about(as_of, max_gap, look_back)
    return _told(outages(batch_of(stores, question), question), len(stores))


def kernel_outages_in(
    stores: Sequence[Store], window: Window, as_of: int, max_gap: int, look_back: int
) -> list[list[Outage]]:
    """Those that reach into a window."""
    question = question_about(as_of, max_gap, look_back)
    return _told(outages_in(batch_of(stores, question), question, window), len(stores))


def _told(found: Outages, stores: int) -> list[list[Outage]]:
    told: list[list[Outage]] = [[] for _ in range(stores)]
    columns = found.store, found.begin, found.end, found.length, found.then
    for store, begin, end, length, then in zip(*(one.tolist() for one in columns), strict=True):
        told[store].append(
            (
                _instant(begin),
                Fraction(end, PER_MS),
                Fraction(length, PER_MS),
                None if then < 0 else STATES[then],
            )
        )
    return told


def _instant(position: int) -> Fraction | None:
    return None if position == NO_INSTANT else Fraction(position, PER_MS)


def kernel_rows(
    stores: Sequence[Store], as_of: int, interpolation: Interpolation, max_gap: int
) -> ReportRows:
    """All that a report tells of some stores, in the order given."""
    question = Question(as_of, interpolation, max_gap)
    return report_rows(batch_of(stores, question), question)


def kernel_csv(stores: Sequence[Store], question: Question) -> str:
    """The report's rows, without the header, in byte order of the ids."""
    in_order = sorted(stores, key=lambda store: store.store_id.encode())
    return report_rows(batch_of(in_order, question), question).csv.decode()


def batch_of(stores: Sequence[Store], question: Question) -> StoreBatch:
    """The stores as the service reads them: with the polls of the question's days and no others."""
    ids = [store.store_id.encode() for store in stores]
    zone_names = tuple(sorted({store.timezone for store in stores if store.timezone}))
    polls = [
        (place, instant << 1 | active)
        for place, store in enumerate(stores)
        for instant, active in store.polls
        if any(first <= instant // DAY_MS <= last for first, last in question.day_ranges)
    ]
    columns = np.array(polls, dtype=np.int64).reshape(-1, 2)
    days = pack_polls(columns[:, 0], columns[:, 1])
    return StoreBatch(
        store_ids=b"".join(ids),
        id_size=np.array([len(store_id) for store_id in ids], dtype=np.int64),
        hours=_joined([_base_week(store) for store in stores], 8),
        zone=np.array(
            [zone_names.index(store.timezone) if store.timezone else -1 for store in stores],
            dtype=np.int64,
        ),
        zone_names=zone_names,
        polls=days.packed,
        poll_store=days.store,
        poll_day=days.day,
        poll_size=days.size,
        dated_weeks=_joined([_dated_weeks(store) for store in stores], DATED_WEEKS.itemsize),
        special_hours=_joined([_special_hours(store) for store in stores], SPECIAL_HOURS.itemsize),
        exclusions=_joined(
            [pack_exclusions(*_columns(2, list(store.exclusions))) for store in stores],
            EXCLUSIONS.itemsize,
        ),
        tags=packed_tags([dict(store.tags) for store in stores]),
        targets=_targets(stores),
    )


def packed_hours(store: Store) -> tuple[bytes, bytes, bytes]:
    """A store's week without a date, its other weeks and its special hours, as they are kept."""
    return _base_week(store), _dated_weeks(store), _special_hours(store)


def packed_tags(tags: Sequence[dict[str, str]]) -> PackedTexts:
    """Tags as the database gives them: nothing of a store without any."""
    texts = [json.dumps(one, ensure_ascii=False).encode() if one else b"" for one in tags]
    size = np.array([len(text) for text in texts], dtype=np.int64)
    return PackedTexts(b"".join(texts), size)


def _targets(stores: Sequence[Store]) -> Ints:
    """Targets as the database gives them: none at all where no store has one."""
    if all(store.target is None for store in stores):
        return np.empty(0, dtype=np.int64)
    scaled = [NO_TARGET if one.target is None else one.target * SCALE for one in stores]
    return np.array([int(one) for one in scaled], dtype=np.int64)


def _joined(packed: list[bytes], row: int) -> PackedRows:
    rows = np.array([len(one) // row for one in packed], dtype=np.int64)
    return PackedRows(b"".join(packed), rows)


def _columns(count: int, rows: Sequence[tuple[int, ...]]) -> Ints:
    """int64[count, rows]."""
    return np.array(rows, dtype=np.int64).reshape(-1, count).T


def _base_week(store: Store) -> bytes:
    if (None, ()) in store.weeks:
        return EMPTY_WEEK
    return pack_hours(*_columns(3, store.hours))


def _days(day: date) -> int:
    return day.toordinal() - date(1970, 1, 1).toordinal()


def _dated_weeks(store: Store) -> bytes:
    rows = [
        (_days(valid_from), start, end)
        for valid_from, week in store.weeks
        if valid_from is not None
        for start, end in [(day * DAY_MS + start, end) for day, start, end in week]
        or [(NEVER, NEVER)]
    ]
    return pack_dated_weeks(*_columns(3, rows))


def _special_hours(store: Store) -> bytes:
    rows = [
        (_days(day), start, end)
        for day, intervals in store.special
        for start, end in intervals or [(NEVER, NEVER)]
    ]
    return pack_special_hours(*_columns(3, rows))
