"""One batch of stores, as the database keeps them → rows of the report: what a worker runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from compute.batch import Question, StoreBatch, seen
from compute.csv_rows import csv_rows
from compute.down_by_hour import down_by_hour
from compute.fingerprint import BatchPrint, batch_print
from compute.groups import GroupParts, store_parts
from compute.packed_totals import pack_totals
from compute.roll_up import RollUp, no_stores, roll_up
from compute.store_tags import tag_columns, zone_column
from compute.targets import in_force, judged
from compute.uptime import totals


@dataclass(frozen=True)
class ReportRows:
    """Some stores, as the report tells of them: a batch, or several that follow each other.

    Attributes:
        csv: the CSV's rows, in the order of the stores
        totals: the same stores' exact totals, packed
        together: their roll-up
        prints: what the fingerprint takes of each batch
        parts: what groups are made of, of each batch; empty: the report has none
    """

    csv: bytes
    totals: bytes
    together: RollUp
    prints: tuple[BatchPrint, ...]
    parts: tuple[GroupParts, ...]


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
    targets = reached = None
    if question.target is not None or len(batch.targets):
        targets = in_force(batch.targets, len(batch.id_size), question.target)
        reached = judged(each.up, each.down, targets)
    tags = tag_columns(batch.tags, len(batch.id_size))
    zone = zone_column(batch.zone, batch.zone_names)
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
            zone,
            each,
            int((bounds[..., 1] - bounds[..., 0]).max(initial=0)),
            names=batch.names,
            tags=tags,
            target=targets,
        ),
        together=roll_up(batch.store_ids, batch.id_size, each, by_hour, reached),
        prints=(batch_print(batch),),
        parts=(
            store_parts(
                question.group_by,
                tags,
                zone,
                each,
                reached,
                store_ids=batch.store_ids,
                id_size=batch.id_size,
            ),
        )
        if question.group_by
        else (),
    )


def joined(rows: Sequence[ReportRows], windows: int) -> ReportRows:
    """Rows that follow each other as one; `windows` as `no_stores` takes it."""
    return ReportRows(
        csv=b"".join(one.csv for one in rows),
        totals=b"".join(one.totals for one in rows),
        together=sum((one.together for one in rows), no_stores(windows)),
        prints=tuple(each for one in rows for each in one.prints),
        parts=tuple(each for one in rows for each in one.parts),
    )
