"""The metrics that `/metrics` shows. The code that does the work updates them."""

from importlib.metadata import version

from prometheus_client import Counter, Gauge, Histogram, Info

from compute.zones import TZ_VERSION

BUILD = Info("storewatch_build", "Version of storewatch, and release of the tz database.")
BUILD.info({"version": version("storewatch"), "tz_version": TZ_VERSION})

REQUEST_SECONDS = Histogram(
    "storewatch_http_request_seconds",
    "Time from the first byte of a request to the last byte of its response.",
    ["method", "route", "status"],
)
REPORTS = Gauge("storewatch_reports", "Reports in the database, by state.", ["state"])
STORES = Counter("storewatch_stores", "Stores written to reports.")
POLLS = Counter("storewatch_polls", "Polls read for reports.")
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
INGEST_ROWS = Counter("storewatch_ingest_rows", "Rows of feeds that were stored.", ["feed"])
INGEST_REFUSED = Counter("storewatch_ingest_refused", "Feeds that were refused.", ["feed"])
