"""A zone that this instance's tz database lacks, let in by another version of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from compute.zones import TZ_VERSION
from tests.harness.database import ask
from tests.harness.processes import storewatch
from tests.harness.service import Service, problem, running_service

POLLS = """store_id,status,timestamp_utc
old-1,active,2023-01-22 12:00:00 UTC
old-2,active,2023-01-22 12:00:00 UTC
ours,active,2023-01-22 12:00:00 UTC
"""
ZONES = "store_id,timezone_str\nold-1,Asia/Tokyo\nold-2,Asia/Tokyo\nours,Europe/Berlin\n"


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    for option, text in (("--timezones", ZONES), ("--polls", POLLS)):
        done = storewatch(
            *("ingest", option, "-"),
            database_url=database_url,
            home=tmp_path,
            stdin=text.encode(),
        )
        assert done.returncode == 0, done.stderr.decode()
    # What a newer instance would have written.
    ask(database_url, "update timezone set name = 'Asia/New_Tokyo' where name = 'Asia/Tokyo'")
    with running_service(database_url, tmp_path) as service:
        yield service


def finished(service: Service, **options: object) -> dict[str, object]:
    report_id = service.ask("POST", "/reports", json=options).json()["id"]
    service.wait_for(report_id)
    details: dict[str, object] = service.get(f"/reports/{report_id}").json()
    return details


def test_a_report_of_other_stores_is_made_all_the_same(service: Service) -> None:
    report = finished(service, stores=["ours"])
    assert report["status"] == "completed"
    assert report["tz_version"] == TZ_VERSION


def test_a_report_of_such_stores_names_zone_stores_and_cure(
    service: Service, database_url: str, tmp_path: Path
) -> None:
    report = finished(service)
    assert report["status"] == "failed"
    told = (
        f"the tz database of this instance, version {TZ_VERSION}, lacks Asia/New_Tokyo (2 stores, "
        "such as 'old-1'): update the package tzdata, run a newer storewatch, or give those "
        "stores another zone"
    )
    assert report["error"] == told
    assert "Traceback" not in service.log
    done = storewatch("report", database_url=database_url, home=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().strip() == f"Error: {told}"


def test_the_cure_helps(service: Service) -> None:
    for store in ("old-1", "old-2"):
        answer = service.ask("PUT", f"/stores/{store}/timezone", json={"timezone": "Asia/Tokyo"})
        assert answer.status_code == 200
    assert finished(service)["status"] == "completed"


def test_one_such_store_is_answered_in_words_and_the_others_as_ever(service: Service) -> None:
    for what in ("availability", "timeline"):
        answer = service.get(f"/stores/old-1/{what}")
        assert answer.status_code == 409
        assert "lacks Asia/New_Tokyo (1 store, such as 'old-1')" in problem(answer)["detail"]
        assert service.get(f"/stores/ours/{what}").status_code == 200
    assert service.get("/stores/old-1").json()["timezone"] == "Asia/New_Tokyo"


def test_the_version_of_the_tz_database_is_told_where_people_look(service: Service) -> None:
    assert service.get("/health/ready").json()["tz_version"] == TZ_VERSION
    assert f'tz_version="{TZ_VERSION}"' in service.get("/metrics").text
    waiting = service.ask("POST", "/reports").json()
    assert waiting["tz_version"] is None
