"""The stores and the question that the kernel gets, and its totals for them."""

from dataclasses import dataclass

from compute.axis import DAY_MS, Axis, Ints
from compute.business_hours import BusinessTime, business_time
from compute.csv_rows import WINDOWS_MS
from compute.polls import observed_positions
from compute.uptime import Interpolation, Runs, Totals, observe, runs, totals


@dataclass(frozen=True)
class StoreBatch:
    """Stores as the database keeps them, column by column, with the polls of `Question.days`.

    Attributes:
        store_ids: UTF-8 ids, joined
        id_size: int64[stores], bytes of each id
        hours: packed business hours, joined
        hours_rows: int64[stores], rows of hours of each store
        zone: int64[stores], index into `zone_names`, or -1: none given
        zone_names: IANA names
        polls: packed polls, joined
        poll_store: int64[rows], index of each row's store in this batch
        poll_day: int64[rows], days since 1970-01-01
        poll_size: int64[rows], bytes of each row
    """

    store_ids: bytes
    id_size: Ints
    hours: bytes
    hours_rows: Ints
    zone: Ints
    zone_names: tuple[str, ...]
    polls: bytes
    poll_store: Ints
    poll_day: Ints
    poll_size: Ints


@dataclass(frozen=True)
class Question:
    """What a report asks.

    Attributes:
        as_of: the end of every window, milliseconds since 1970-01-01 UTC; later polls are ignored
        interpolation: how to estimate the status between observations
        max_gap: for how long an observation speaks to either side, milliseconds
        include_unknown: whether the CSV shows unknown time
        windows: how far each window reaches back from `as_of`, milliseconds
        escape_formulas: whether ids that a spreadsheet takes for formulas are escaped in the CSV
    """

    as_of: int
    interpolation: Interpolation
    max_gap: int
    include_unknown: bool = False
    windows: tuple[int, ...] = WINDOWS_MS
    escape_formulas: bool = False

    @property
    def days(self) -> tuple[int, int]:
        """First and last UTC day whose polls can matter, days since 1970-01-01."""
        return self.axis.origin // DAY_MS, self.as_of // DAY_MS

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """The windows, half-open, milliseconds since 1970-01-01 UTC."""
        return [(self.as_of - length, self.as_of) for length in self.windows]

    @property
    def axis(self) -> Axis:
        """The longest window, and `max_gap` before it, where observations speak into it."""
        return Axis(self.as_of - max(self.windows) - self.max_gap, self.as_of + 1, self.max_gap)


def open_and_observed(batch: StoreBatch, question: Question) -> tuple[BusinessTime, Runs]:
    """Business time of a batch of stores, and the runs of its observations."""
    axis = question.axis
    open_time = business_time(axis, batch.hours, batch.hours_rows, batch.zone, batch.zone_names)
    polls = observed_positions(axis, batch.polls, batch.poll_store, batch.poll_day, batch.poll_size)
    return open_time, runs(observe(polls, open_time), axis, question.interpolation)


def batch_totals(batch: StoreBatch, question: Question) -> Totals:
    """Uptime, downtime and unknown of a batch of stores, int64[stores, windows]."""
    open_time, observed = open_and_observed(batch, question)
    return totals(observed, open_time, question.axis, len(batch.id_size), question.stretches)
