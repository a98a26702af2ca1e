"""One batch of stores, as the database keeps them → rows of the report: what a worker runs."""

from dataclasses import dataclass

from compute.batch import Question, StoreBatch, seen
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
    """What a report tells of a batch of stores.

    Of the default report alone it tells downtime by the hour of the week, and conditions.
    """
    known = seen(batch, question)
    bounds = question.bounds(batch.zone, batch.zone_names)
    each = totals(known.observed, known.business, known.counted, known.axis, bounds)
    week = None if question.windows else question.asked[-1].instants
    by_hour = (
        None
        if week is None
        else down_by_hour(
            known.observed, known.counted, known.axis, week, batch.zone, batch.zone_names
        )
    )
    return ReportRows(
        csv=csv_rows(
            batch.store_ids,
            batch.id_size,
            each,
            question.include_unknown,
            include_excluded=question.include_excluded,
            unit=question.unit if question.windows else None,
            escape_formulas=question.escape_formulas,
        ),
        totals=pack_totals(
            batch.store_ids,
            batch.id_size,
            batch.zone,
            batch.zone_names,
            each,
            int((bounds[..., 1] - bounds[..., 0]).max(initial=0)),
        ),
        together=roll_up(batch.store_ids, batch.id_size, each, by_hour),
    )
