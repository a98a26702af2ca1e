"""The stores and the question that the kernel gets, and its totals for them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from compute.axis import DAY_MS, Axis, Ints
from compute.business_hours import business_time
from compute.csv_rows import DEFAULT_UNIT, WINDOW_NAMES, WINDOWS_MS, Unit
from compute.exclusions import excluded_time
from compute.intervals import Intervals
from compute.packed_rows import NO_ROWS, NO_TEXTS, PackedRows, PackedTexts
from compute.polls import observed_positions
from compute.uptime import Interpolation, Runs, Totals, observe, runs, totals
from compute.windows import Window, placed, widest
from compute.zones import DEFAULT_TIMEZONE


@dataclass(frozen=True)
class StoreBatch:
    """Stores as the database keeps them, column by column, with the polls of the question's days.

    Attributes:
        store_ids: UTF-8 ids, joined
        id_size: int64[stores], bytes of each id
        hours: weeks without a date, packed as `compute.business_hours` has it
        zone: int64[stores], index into `zone_names`, or -1: none given
        zone_names: IANA names
        polls: packed polls, joined
        poll_store: int64[rows], index of each row's store in this batch
        poll_day: int64[rows], days since 1970-01-01
        poll_size: int64[rows], bytes of each row
        dated_weeks: packed as `compute.packed_rows` has it, like the following
        special_hours: of single dates
        exclusions: those that cover each store, whomever they name
        names: what the stores are called
        tags: of each store a JSON object, key → value, both text
        targets: int64[stores], as `compute.targets` has them, or -1: none of its own; or int64[0]:
            no store has one
        first: how many stores of the report come before these
    """

    store_ids: bytes
    id_size: Ints
    hours: PackedRows
    zone: Ints
    zone_names: tuple[str, ...]
    polls: bytes
    poll_store: Ints
    poll_day: Ints
    poll_size: Ints
    dated_weeks: PackedRows = NO_ROWS
    special_hours: PackedRows = NO_ROWS
    exclusions: PackedRows = NO_ROWS
    names: PackedTexts = NO_TEXTS
    tags: PackedTexts = NO_TEXTS
    targets: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    first: int = 0


@dataclass(frozen=True)
class Question:
    """What a report asks.

    Attributes:
        as_of: where every window ends at the latest, milliseconds since 1970-01-01 UTC; later polls
            are ignored
        interpolation: how to estimate the status between observations
        max_gap: for how long an observation speaks to either side, milliseconds
        include_unknown: whether the CSV shows unknown time
        windows: in the order in which they are told; none: those of the default report
        escape_formulas: whether ids that a spreadsheet takes for formulas are escaped in the CSV
        include_excluded: whether the CSV shows excluded time
        unit: of the CSV, if there are `windows`; that of the default report has its own
        group_by: what the stores of a group have in common, as `compute.groups` takes it; empty:
            there are no groups
        target: of the stores that have none of their own, as `compute.targets` has it; None: none
    """

    as_of: int
    interpolation: Interpolation
    max_gap: int
    include_unknown: bool = False
    windows: tuple[Window, ...] = ()
    escape_formulas: bool = False
    include_excluded: bool = False
    unit: Unit = DEFAULT_UNIT
    group_by: tuple[str, ...] = ()
    target: int | None = None

    @property
    def asked(self) -> tuple[Window, ...]:
        """The windows, also where they are those of the default report."""
        return self.windows or default_windows(self.as_of)

    @property
    def day_ranges(self) -> list[tuple[int, int]]:
        """First and last of the UTC days whose polls can matter, days since 1970-01-01.

        The ranges ascend and are disjoint. There is none if all windows begin after `as_of`.
        """
        return [(start // DAY_MS, (end - 1) // DAY_MS) for start, end in self.axis.parts]

    @property
    def stretch(self) -> tuple[int, int]:
        """What all that matters lies in, half open, milliseconds since 1970-01-01 UTC."""
        return self.axis.origin, self.axis.end

    def lacks_before(self, kept_since: int | None) -> int | None:
        """From when on polls are kept, if earlier ones could matter; None: they could not.

        Args:
            kept_since: milliseconds since 1970-01-01 UTC; None: all are kept
        """
        if kept_since is None or not self.axis.parts or self.axis.origin >= kept_since:
            return None
        return kept_since

    @cached_property
    def axis(self) -> Axis:
        """From the first instant that matters to `as_of`."""
        parts = tuple(self._parts())
        origin = parts[0][0] if parts else self.as_of
        return Axis(origin, self.as_of + 1, self.max_gap, parts)

    def bounds(self, zone: Ints, zone_names: Sequence[str]) -> Ints:
        """The instants that the windows come to for each store.

        Args:
            zone: int64[stores], index into `zone_names`, or -1: none given
            zone_names: IANA names

        Returns:
            int64[windows, stores, 2], from and to, half open, milliseconds since 1970-01-01 UTC

        Raises:
            zoneinfo.ZoneInfoNotFoundError: the tz database lacks a name
        """
        names = (*zone_names, DEFAULT_TIMEZONE)
        return placed(self.asked, names, self.as_of)[:, zone % len(names)]

    def _parts(self) -> list[tuple[int, int]]:
        """Windows with `max_gap` around them, where observations speak into them.

        They ascend, and at least one whole UTC day lies between any two.
        """
        parts: list[tuple[int, int]] = []
        for first, last in sorted(widest(window, self.as_of) for window in self.asked):
            if first >= last:
                continue
            # A poll at `as_of` itself counts.
            start, end = first - self.max_gap, min(last + self.max_gap, self.as_of + 1)
            if parts and start // DAY_MS <= (parts[-1][1] - 1) // DAY_MS + 1:
                parts[-1] = (parts[-1][0], max(parts[-1][1], end))
            else:
                parts.append((start, end))
        return parts


def default_windows(as_of: int) -> tuple[Window, ...]:
    """Those of a report that names none: the last hour, day and week."""
    return tuple(
        Window(f"last_{name}", f"{length // 3_600_000}h", instants=(as_of - length, as_of))
        for name, length in zip(WINDOW_NAMES, WINDOWS_MS, strict=True)
    )


@dataclass(frozen=True)
class Seen:
    """A batch of stores on an axis.

    Attributes:
        axis: that of the question
        stores: how many there are
        business: business time
        counted: business time without what is excluded
        polls: int64[polls], ascending `position | active`: all polls of the question's days
        observed: runs of the observations, which are the polls in counted time
    """

    axis: Axis
    stores: int
    business: Intervals
    counted: Intervals
    polls: Ints
    observed: Runs


def seen(batch: StoreBatch, question: Question) -> Seen:
    """Business time of a batch of stores, what of it counts, and the runs of its observations."""
    axis = question.axis
    business = business_time(
        axis,
        batch.hours,
        batch.zone,
        batch.zone_names,
        batch.dated_weeks,
        batch.special_hours,
    )
    counted = business
    if batch.exclusions.packed:
        counted = business.without(excluded_time(axis, batch.exclusions))
    polls = observed_positions(axis, batch.polls, batch.poll_store, batch.poll_day, batch.poll_size)
    observed = runs(observe(polls, counted), axis, question.interpolation)
    return Seen(axis, len(batch.id_size), business, counted, polls, observed)


def batch_totals(batch: StoreBatch, question: Question) -> Totals:
    """The parts of business time of a batch of stores, int64[stores, windows] each."""
    known = seen(batch, question)
    bounds = question.bounds(batch.zone, batch.zone_names)
    return totals(known.observed, known.business, known.counted, known.axis, bounds)
