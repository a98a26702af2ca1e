"""Reports without a file are forgotten when their time is over; nothing else ever is."""

from pathlib import Path
from uuid import uuid4

import pytest

from service.settings import SettingsInvalid, read_settings
from tests.harness.database import ask
from tests.harness.processes import eventually
from tests.harness.service import Service, running_service


def add_ended(database_url: str, state: str, days_ago: int, count: int = 1) -> list[str]:
    """Reports that ended so long ago; their ids."""
    rows = ask(
        database_url,
        """
        insert into report (id, state, interpolation, max_gap, include_unknown, created_at,
                            finished_at, file_size, file_sha256)
        select gen_random_uuid(), $1, 'nearest', '24 hours', false,
            now() - $2 * interval '1 day', now() - $2 * interval '1 day', 0, ''
        from generate_series(1, $3)
        returning id::text
        """,
        state,
        days_ago,
        count,
    )
    return [report_id for (report_id,) in rows]


def known(service: Service, report_ids: list[str]) -> list[str]:
    return [one for one in report_ids if service.get(f"/reports/{one}").status_code == 200]


def test_a_report_that_failed_was_cancelled_or_expired_is_forgotten_when_its_time_is_over(
    database_url: str, tmp_path: Path
) -> None:
    with running_service(database_url, tmp_path, STOREWATCH_REPORT_TTL="0") as service:
        kept = add_ended(database_url, "completed", 400)
        gone = []
        for state in ("failed", "cancelled", "expired"):
            gone += add_ended(database_url, state, 91)
            kept += add_ended(database_url, state, 89)
        eventually(lambda: known(service, gone) == [])
        assert known(service, kept) == kept
        assert "3 reports forgotten" in service.log


def test_two_instances_forget_many_reports_without_an_error(
    database_url: str, tmp_path: Path
) -> None:
    short = {"STOREWATCH_REPORT_HISTORY": "1d"}
    with running_service(database_url, tmp_path, STOREWATCH_REPORT_HISTORY="0") as keeps:
        old = add_ended(database_url, "failed", 1000, count=1200)
        assert known(keeps, old[:3]) == old[:3]
    with (
        running_service(database_url, tmp_path, **short) as first,
        running_service(database_url, tmp_path, **short) as second,
    ):
        eventually(lambda: ask(database_url, "select count(*) from report") == [(0,)])
        assert "cannot tidy up" not in first.log + second.log


def test_for_ever_is_for_ever(database_url: str, tmp_path: Path) -> None:
    with running_service(database_url, tmp_path, STOREWATCH_REPORT_HISTORY="0") as service:
        old = add_ended(database_url, "failed", 3000)
        # The next round of tidying has come when it has removed this.
        leftover = service.reports / f".{uuid4()}.1"
        leftover.touch()
        eventually(lambda: not leftover.exists())
        leftover.touch()
        eventually(lambda: not leftover.exists())
        assert known(service, old) == old


def test_the_setting_is_a_span_and_ninety_days_by_default() -> None:
    assert read_settings({}).report_history.days == 90
    assert read_settings({"STOREWATCH_REPORT_HISTORY": "0"}).report_history.days == 0
    with pytest.raises(SettingsInvalid, match="STOREWATCH_REPORT_HISTORY=soon"):
        read_settings({"STOREWATCH_REPORT_HISTORY": "soon"})
