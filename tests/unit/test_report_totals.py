"""Totals that are kept open: columns within a bound, few files, and none that is closed in use."""

import asyncio
import gc
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest

from compute.packed_totals import VERSION, pack_totals
from compute.store_tags import zone_column
from compute.uptime import Totals
from service.reports.files import FolderFiles, NoSuchFile
from service.reports.queue import Report
from service.reports.totals import NoTotals, ReportTotals

STORES, WINDOWS = 100, 5


def written(folder: Path, number: int) -> tuple[UUID, int]:
    """A file of totals that are all `number`: the report's id, and its bytes."""
    part = np.full((STORES, WINDOWS), number)
    totals = Totals(up=part, down=part, unknown=part, excluded=part)
    size = np.full(STORES, 3)
    ids = b"".join(b"%03d" % store for store in range(STORES))
    packed = VERSION + pack_totals(ids, size, zone_column(np.full(STORES, -1), ()), totals, 1)
    report_id = uuid4()
    (folder / f"{report_id}.1.totals").write_bytes(packed)
    return report_id, len(packed)


def report_of(report_id: UUID, size: int | None) -> Report:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    none = dict.fromkeys(Report.__struct_fields__)
    known = {
        "id": report_id,
        "file_name": f"{report_id}.1.csv",
        "totals_size": size,
        "created_at": now,
        "read_at": now,
        "max_gap": timedelta(days=1),
    }
    return Report(**{**none, **known})  # type: ignore[arg-type]


def open_files() -> int:
    """How many files of totals are open, also of those that are removed."""
    gc.collect()
    links = Path("/proc/self/fd").iterdir()
    return sum(".totals" in os.path.realpath(link) for link in links)


def test_reports_side_by_side_are_never_mistaken_for_each_other(tmp_path: Path) -> None:
    async def run() -> None:
        opened = ReportTotals(
            FolderFiles(tmp_path),
            kept=4 * STORES * 4 * 2,
            most_open=2,  # columns, and reports
        )
        reports = [report_of(*written(tmp_path, number)) for number in range(100)]
        # One is used all the time, while others come and go.
        first = await opened.of(reports[0])
        for number, report in enumerate(reports):
            stores = await opened.of(report)
            for window in range(WINDOWS):
                assert (stores.window(window).down == number).all()
                assert (first.window(window).up == 0).all()
            (tmp_path / report.totals_file).unlink()  # what is open is still read
            assert (stores.totals(np.arange(3)).up == number).all()
        assert 2 <= open_files() <= 3  # `first`, `stores`, and what has room
        del first, stores, opened
        assert open_files() <= 1  # asyncio keeps the last future that it waited for

    asyncio.run(run())


def test_a_file_of_another_size_or_without_totals_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        opened = ReportTotals(FolderFiles(tmp_path))
        report_id, size = written(tmp_path, 1)
        for report, error in (
            (report_of(report_id, None), NoTotals),
            (report_of(report_id, size + 1), NoSuchFile),
            (report_of(uuid4(), size), NoSuchFile),
        ):
            with pytest.raises(error):
                await opened.of(report)
        stores = await opened.of(report_of(report_id, size))
        os.truncate(tmp_path / f"{report_id}.1.totals", size - 1)
        assert (stores.window(0).up == 1).all()
        with pytest.raises(NoSuchFile):
            stores.window(WINDOWS - 1)

    asyncio.run(run())
