"""Delivers the files of completed reports, a few at a time, whichever instance does it.

Each file is first made in an unnamed one on this machine, then put where it goes; a `.json` with
what is said of the report comes last, so that who finds it finds all. What was put by an attempt
that failed later is replaced by the next one with the same.
"""

import asyncio
import contextlib
import gzip
import hashlib
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from tempfile import TemporaryFile
from typing import IO

import asyncpg
import msgspec

from compute.instants import milliseconds_of
from service.background import end
from service.database.pool import DATABASE_FAILED
from service.deliveries.names import file_stem, folder_name
from service.deliveries.places import Place, PlaceRefused, open_place
from service.deliveries.table import (
    Delivery,
    DeliveryFormat,
    claim_delivery,
    forget_deliveries,
    hand_back,
    note_delivered,
    note_failed,
    renew_lease,
)
from service.failures import first_failure
from service.logs import about_report
from service.reports.files import NoSuchFile, ReportFiles
from service.reports.formats import rows_as
from service.reports.parquet import NoParquet
from service.reports.queue import Report, read_report
from service.reports.totals import NoTotals, ReportTotals
from service.reports.windows import told_windows
from service.storage import StorageFailed

log = logging.getLogger("storewatch.deliveries")

#: Deliveries that an instance makes at the same time: a place that hangs holds up few others.
_AT_ONCE = 4
_LOOK_SECONDS = 1.0
_RENEW_SECONDS = 2.0
_FORGET_SECONDS = 60.0
#: The database has this long to answer while something is delivered; when the instance ends, less.
_ANSWER_SECONDS, _LET_GO_SECONDS = 5.0, 1.0
#: So often in a row an instance may take a delivery and die.
_MOST_BROKEN_OFF = 10

_MEDIA_TYPES: dict[DeliveryFormat, str] = {
    "csv": "text/csv",
    "csv.gz": "application/gzip",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}


class _NeverDelivered(Exception):  # noqa: N818 - read by a person as a sentence
    """There is nothing to deliver, and never will be."""


class _LeaseLost(Exception):  # noqa: N818
    """Another instance has taken the delivery."""


class _File(msgspec.Struct, frozen=True):
    """A delivered file, as the `.json` beside it tells."""

    name: str
    size: int
    sha256: str


class Courier:
    """Delivers what waits.

    Args:
        pool: the database
        files: of reports
        totals: of the same reports
        allowed: places where it may deliver
        history: how long a delivery of a report that is gone is remembered; 0: for ever
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        files: ReportFiles,
        totals: ReportTotals,
        allowed: Sequence[str],
        history: timedelta,
    ) -> None:
        self._pool, self._files, self._totals = pool, files, totals
        self._allowed, self._history = allowed, history
        # Of its own: a mounted folder that hangs must not take those that the service needs.
        self._threads = ThreadPoolExecutor(_AT_ONCE, "deliveries")
        self._running: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver until the block ends; then hand back what is under way."""
        tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._forget())]
        try:
            yield
        finally:
            await end([*tasks, *self._running])
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while True:
            try:
                while len(self._running) < _AT_ONCE and (
                    delivery := await claim_delivery(self._pool)
                ):
                    with about_report(delivery.report_id):
                        task = asyncio.create_task(self._one(delivery))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
            except DATABASE_FAILED as error:
                log.warning("cannot look for deliveries, will try again: %s", _why(error))
            await asyncio.sleep(_LOOK_SECONDS)

    async def _forget(self) -> None:
        while self._history:
            try:
                await forget_deliveries(self._pool, self._history)
            except DATABASE_FAILED as error:
                log.warning("cannot forget old deliveries, will try again: %s", _why(error))
            await asyncio.sleep(_FORGET_SECONDS)

    async def _one(self, delivery: Delivery) -> None:
        """See to a delivery that was taken, whatever comes of it."""
        try:
            await self._attempt(delivery)
        except asyncio.CancelledError:  # this instance ends
            with contextlib.suppress(*DATABASE_FAILED):
                async with asyncio.timeout(_LET_GO_SECONDS):
                    await asyncio.shield(hand_back(self._pool, delivery))
            raise
        except _LeaseLost:
            log.warning("another instance has taken the delivery")
        except DATABASE_FAILED as error:  # its lease will pass
            log.warning("lost the database while delivering: %s", _why(error))

    async def _attempt(self, delivery: Delivery) -> None:
        if delivery.broken_off > _MOST_BROKEN_OFF:
            told = f"the service died, or lost its database, {_MOST_BROKEN_OFF} times at it"
            await self._failed(delivery, told, for_good=True)
            return
        try:
            files = await self._leased(delivery)
        except (_NeverDelivered, NoTotals) as error:
            told = str(error) or "the report has no totals that this version can read"
            await self._failed(delivery, told, for_good=True)
        except StorageFailed as error:
            log.warning("cannot deliver: %s", error)
            await self._failed(delivery, error.told)
        except PlaceRefused as error:
            await self._failed(delivery, f"{delivery.deliver_to} {error}")
        except NoParquet as error:
            await self._failed(delivery, str(error))
        except (_LeaseLost, *DATABASE_FAILED):
            raise
        except Exception as error:
            log.exception("cannot deliver")
            told = f"the service could not do it ({type(error).__name__}); its log says more"
            await self._failed(delivery, told)
        else:
            if await note_delivered(self._pool, delivery, files):
                log.info("delivered: %s", ", ".join(files))

    async def _failed(self, delivery: Delivery, told: str, *, for_good: bool = False) -> None:
        now = await note_failed(self._pool, delivery, told, for_good=for_good)
        if now is not None and now.due is not None:
            log.warning("not delivered: %s; the next attempt is at %s", told, now.due)
        elif now is not None:
            log.error("not delivered, and given up after %d attempts: %s", now.attempts, told)

    async def _leased(self, delivery: Delivery) -> list[str]:
        """Deliver, and keep the lease meanwhile."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(_RENEW_SECONDS)
                async with asyncio.timeout(_ANSWER_SECONDS):
                    if not await renew_lease(self._pool, delivery):
                        raise _LeaseLost

        try:
            async with asyncio.TaskGroup() as group:
                renewing = group.create_task(renew())
                files = await self._put_all(delivery)
                renewing.cancel()
        except BaseExceptionGroup as failures:
            raise first_failure(failures) from None
        return files

    async def _put_all(self, delivery: Delivery) -> list[str]:
        report = await read_report(self._pool, delivery.report_id)
        if (
            report is None
            or report.state != "completed"
            or report.as_of is None
            or report.file_size is None
        ):
            raise _NeverDelivered(_nothing_left(report))
        place = open_place(
            delivery.deliver_to,
            folder_name(delivery.schedule_name),
            self._allowed,
            f"{report.id}.{delivery.attempts}",
            self._threads,
        )
        stem = file_stem(report.scheduled_for, report.as_of)
        put: list[str] = []
        told: list[_File] = []
        try:
            for wanted in delivery.formats:
                with self._unnamed() as file:
                    await self._write(report, report.file_size, wanted, file)
                    with self._files.unfinished.failing_in_words():
                        one = await asyncio.to_thread(_about, f"{stem}.{wanted}", file)
                    put.append(await place.put(one.name, file, _MEDIA_TYPES[wanted]))
                    told.append(one)
        except NoSuchFile:
            now = await read_report(self._pool, delivery.report_id)
            raise _NeverDelivered(_nothing_left(now)) from None
        await self._put_about(place, f"{stem}.json", delivery, report, told)
        return put

    def _unnamed(self) -> IO[bytes]:
        """A file that is gone when it is closed, or when this instance dies."""
        folder = self._files.unfinished
        with folder.failing_in_words():
            return TemporaryFile(dir=folder.path)

    async def _write(
        self, report: Report, size: int, wanted: DeliveryFormat, file: IO[bytes]
    ) -> None:
        """All stores of a report in a format."""
        if wanted in ("ndjson", "parquet"):
            rows = rows_as(wanted, report, await self._totals.of(report))
            pieces = self._totals.pieces(rows)
        else:
            pieces = self._files.read(report.file, 0, size)
        # Without a name and a time, so that the same rows are the same bytes.
        packed = gzip.GzipFile("", "wb", 6, file, mtime=0) if wanted == "csv.gz" else None
        async for piece in pieces:
            with self._files.unfinished.failing_in_words():
                await asyncio.to_thread((packed or file).write, piece)
        with self._files.unfinished.failing_in_words():
            if packed is not None:
                packed.close()
            file.flush()

    async def _put_about(
        self,
        place: Place,
        name: str,
        delivery: Delivery,
        report: Report,
        files: Sequence[_File],
    ) -> None:
        """What is said of a report beside its files."""
        as_of = report.as_of
        windows = (
            [] if as_of is None else told_windows(report.asked_windows, milliseconds_of(as_of))
        )
        about = {
            "schedule": delivery.schedule_name,
            "schedule_id": delivery.schedule_id,
            "scheduled_for": report.scheduled_for,
            "report_id": report.id,
            "as_of": as_of,
            "windows": windows,
            "stores": report.stores_total,
            "tz_version": report.tz_version,
            "fingerprint": None if report.fingerprint is None else report.fingerprint.hex(),
            "files": files,
        }
        with self._unnamed() as file:
            with self._files.unfinished.failing_in_words():
                file.write(msgspec.json.format(msgspec.json.encode(about), indent=2) + b"\n")
                file.flush()
            await place.put(name, file, "application/json")


def _about(name: str, file: IO[bytes]) -> _File:
    size = file.tell()
    file.seek(0)
    return _File(name, size, hashlib.file_digest(file, "sha256").hexdigest())  # type: ignore[arg-type]


def _nothing_left(report: Report | None) -> str:
    """Why a report that was to be delivered never will be."""
    if report is None:
        return "the report was deleted before it was delivered"
    if report.state == "failed":
        return f"the report failed: {report.error}"
    if report.state == "cancelled":
        return "the report was cancelled"
    return "the report's file was gone before it was delivered"


def _why(error: BaseException) -> object:
    return error or type(error).__name__
