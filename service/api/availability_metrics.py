"""Availability as metrics: that of stores by one tag, as the last report by this tag has it.

What is shown comes from the database, so all instances on it show the same.
"""

import asyncio
import logging
from uuid import UUID

import asyncpg
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from service.database.pool import DATABASE_FAILED

log = logging.getLogger("storewatch.metrics")

#: Most values of the tag times windows of the report.
MOST_SERIES = 1000
#: They are left out if the database takes longer than this, seconds.
_PATIENCE = 3.0
_STATES = ("up", "down", "unknown", "excluded")


class AvailabilityMetrics:
    """Availability by a tag.

    Args:
        tag: its key, or `timezone`; empty: there are no such metrics
    """

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._registry = CollectorRegistry()
        self._shown: UUID | None = None
        self._was_refused = False
        by = ["tag", "value", "window"]
        self._ratio = self._gauge(
            "ratio", "Uptime of the known time of the stores with a value of the tag.", by
        )
        self._seconds = self._gauge(
            "seconds", "Business time of the stores with a value of the tag.", [*by, "state"]
        )
        self._as_of = self._gauge("as_of_timestamp_seconds", "`as_of` of the report.", ["tag"])
        self._refused = self._gauge(
            "refused", f"1: there are more than {MOST_SERIES:,} values times windows.", ["tag"]
        )

    def _gauge(self, name: str, told: str, labels: list[str]) -> Gauge:
        return Gauge(f"storewatch_availability_{name}", told, labels, registry=self._registry)

    async def text(self, pool: asyncpg.Pool) -> str:
        """The metrics in the text format of Prometheus; without the database, none."""
        if not self._tag:
            return ""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._follow(pool)
        except DATABASE_FAILED:
            return ""
        return generate_latest(self._registry).decode()

    async def _follow(self, pool: asyncpg.Pool) -> None:
        """Show the newest report, unless that is what is shown."""
        newest = await pool.fetchrow(
            """
            select id, as_of from report
            where group_by = array[$1::text] and state = 'completed'
                and named_stores is null and tags is null
            order by as_of desc, finished_at desc limit 1
            """,
            self._tag,
        )
        if newest is None:
            self._clear()
            self._shown = None
            self._tell(False)
            return
        if newest["id"] == self._shown:
            return
        rows = await pool.fetch(
            """
            select tag_values[1] as value, window_name, availability, uptime_seconds,
                   downtime_seconds, unknown_seconds, excluded_seconds
            from report_group_result where report_id = $1 limit $2
            """,
            newest["id"],
            MOST_SERIES + 1,
        )
        # From here on nobody else has a turn: who asks meanwhile sees all of one report.
        self._clear()
        self._shown = newest["id"]
        refused = len(rows) > MOST_SERIES
        self._tell(refused)
        if refused:
            return
        self._as_of.labels(self._tag).set(newest["as_of"].timestamp())
        for value, window, availability, *seconds in rows:
            labels = (self._tag, value, window)
            if availability is not None:
                self._ratio.labels(*labels).set(availability)
            for state, length in zip(_STATES, seconds, strict=True):
                self._seconds.labels(*labels, state).set(length)

    def _clear(self) -> None:
        for gauge in (self._ratio, self._seconds, self._as_of):
            gauge.clear()

    def _tell(self, refused: bool) -> None:
        if refused and not self._was_refused:
            log.warning(
                "/metrics leaves out availability by %s: the values of this tag times the windows "
                "of the last report by it are more than %d. Ask for reports over fewer windows, or "
                "set STOREWATCH_METRICS_TAG to a tag with fewer values",
                self._tag,
                MOST_SERIES,
            )
        self._was_refused = refused
        self._refused.labels(self._tag).set(refused)
