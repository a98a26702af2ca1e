"""One batch of stores, as the database keeps them → rows of the report: what a worker runs."""

from dataclasses import dataclass

from compute.batch import Question, StoreBatch, open_and_observed
from compute.csv_rows import csv_rows
from compute.down_by_hour import down_by_hour
from compute.packed_totals import pack_totals
from compute.roll_up import RollUp, roll_up
from compute.uptime import totals


@dataclass(frozen=True)
class ReportRows:
    """A batch of stores, as the report tells of it.

    Attributes:
        csv: the CSV's rows, in the batch's order
        totals: the same stores' exact totals, packed
        together: their roll-up
    """

    csv: bytes
    totals: bytes
    together: RollUp


def report_rows(batch: StoreBatch, question: Question) -> ReportRows:
    """What a report over `WINDOWS_MS` tells of a batch of stores."""
    open_time, observed = open_and_observed(batch, question)
    windows = question.stretches
    each = totals(observed, open_time, question.axis, len(batch.id_size), windows)
    by_hour = down_by_hour(
        observed, open_time, question.axis, windows[-1], batch.zone, batch.zone_names
    )
    return ReportRows(
        csv=csv_rows(
            batch.store_ids,
            batch.id_size,
            each,
            question.include_unknown,
            escape_formulas=question.escape_formulas,
        ),
        totals=pack_totals(
            batch.store_ids,
            batch.id_size,
            batch.zone,
            batch.zone_names,
            each,
            max(question.windows),
        ),
        together=roll_up(batch.store_ids, batch.id_size, each, by_hour),
    )
