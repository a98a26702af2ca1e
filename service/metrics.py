"""The metrics that `/metrics` shows.

The code that serves updates them. What commands do too is counted in `service.counts`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Literal

from prometheus_client import REGISTRY, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from compute.zones import TZ_VERSION
from service import counts

BUILD = Info("storewatch_build", "Version of storewatch, and release of the tz database.")
BUILD.info({"version": version("storewatch"), "tz_version": TZ_VERSION})

REQUEST_SECONDS = Histogram(
    "storewatch_http_request_seconds",
    "Time from the first byte of a request to the last byte of its response.",
    ["method", "route", "status"],
)
REPORTS = Gauge("storewatch_reports", "Reports in the database, by state.", ["state"])
DELIVERIES = Gauge(
    "storewatch_deliveries", "Deliveries of reports that are remembered, by state.", ["state"]
)
STORES = Gauge("storewatch_stores_by_state", "Stores by their state at the last look.", ["state"])
BATCH_SECONDS = Histogram(
    "storewatch_batch_seconds",
    "Time to read one batch of a report, and to have it computed (including the wait).",
    ["step"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
BATCHES_LIMIT = Gauge(
    "storewatch_batches_in_flight_limit",
    "Batches that may be in flight now; it follows the throughput.",
)
BATCHES_IN_FLIGHT = Gauge("storewatch_batches_in_flight", "Batches that are in flight.")
BATCHES_WAITING = Gauge(
    "storewatch_batches_waiting", "Batches of reports and feeds that wait to be in flight."
)
WORKERS = Gauge("storewatch_worker_processes", "Live worker processes.")
CONNECTIONS = Gauge(
    "storewatch_database_connections", "Open connections to the database.", ["state"]
)


def time_of_batch(step: Literal["read", "compute"]) -> AbstractContextManager[object]:
    """Around that step of a batch."""
    return BATCH_SECONDS.labels(step).time()


class _Counts(Collector):
    def collect(self) -> Iterator[Metric]:
        """What is counted in `service.counts`, as it is now."""
        for name, told in (("stores", "Stores written to"), ("polls", "Polls read for")):
            value = counts.REPORTED[name]
            yield CounterMetricFamily(f"storewatch_{name}", f"{told} reports.", value)
        for name, told, count in (
            ("rows", "Rows of feeds that were stored.", counts.INGEST_ROWS),
            ("refused", "Feeds that were refused.", counts.INGEST_REFUSED),
        ):
            family = CounterMetricFamily(f"storewatch_ingest_{name}", told, labels=["feed"])
            for feed, value in count.items():
                family.add_metric([feed], value)
            yield family


REGISTRY.register(_Counts())
