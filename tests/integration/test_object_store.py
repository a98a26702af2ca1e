"""Reports in an object store: an S3 server in a process of its own, and a network that freezes."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from tests.harness.database import add_many_stores, ask
from tests.harness.object_store import Network, bucket, network_to, objects, s3_server
from tests.harness.processes import eventually
from tests.harness.service import Service, running_service


@pytest.fixture
def s3() -> Iterator[dict[str, str]]:
    """What the environment says of a bucket `reports`, where reports are kept."""
    with s3_server("reports") as environment:
        yield {**environment, "STOREWATCH_REPORTS": "s3://reports/made"}


def test_every_instance_serves_what_one_put_into_the_object_store(
    database_url: str, tmp_path: Path, s3: dict[str, str]
) -> None:
    expected = add_many_stores(database_url, 5000)
    with running_service(database_url, tmp_path / "one", **s3) as makes:
        path = makes.ask("POST", "/reports").headers["Location"]
        eventually(lambda: makes.get(path).json()["status"] == "completed")
        assert list((tmp_path / "one" / "unfinished").iterdir()) == []
    with running_service(database_url, tmp_path / "two", **s3) as serves:
        csv = serves.get(f"{path}/csv")
        assert csv.content == expected
        part = serves.get(f"{path}/csv", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, expected[10:20])
        assert serves.ask("HEAD", f"{path}/csv").status_code == 200
        key = f"made/{path.removeprefix('/reports/')}.1.csv"
        assert bytes(bucket(s3, "reports").get(key).bytes()) == expected
        page = serves.get(f"{path}/stores?sort=-downtime_last_day&limit=2").json()
        assert [one["store_id"] for one in page["items"]] == ["store-000002", "store-000004"]
        lines = serves.get(f"{path}/rows", headers={"Accept": "application/x-ndjson"})
        assert len(lines.content.splitlines()) == page["total"] == 5000
        assert list((tmp_path / "two" / "unfinished").iterdir()) == []  # the copy has no name
        assert serves.ask("DELETE", path).status_code == 204
        assert list(bucket(s3, "reports").list()) == []


def test_a_report_whose_object_is_lost_is_gone(
    database_url: str, tmp_path: Path, s3: dict[str, str]
) -> None:
    add_many_stores(database_url, 10)
    with running_service(database_url, tmp_path, **s3) as service:
        path = service.ask("POST", "/reports").headers["Location"]
        eventually(lambda: service.get(path).json()["status"] == "completed")
        report_id = path.removeprefix("/reports/")
        for kind, shown in (("csv", "csv"), ("totals", "stores")):
            assert service.get(f"{path}/{shown}").status_code == 200
            bucket(s3, "reports").delete(f"made/{report_id}.1.{kind}")
        assert service.get(f"{path}/csv").status_code == 410
        assert service.get(f"{path}/stores").json()["total"] == 10  # it was read before


PLAIN = {"Accept-Encoding": "identity"}


@contextmanager
def uploading(service: Service, network: Network, size: int) -> Iterator[str]:
    """A report of so many bytes, all of which the network has taken, and holds; its path."""
    network.freeze()
    path = service.ask("POST", "/reports").headers["Location"]
    eventually(lambda: network.held > size)
    yield path


def test_what_a_run_uploads_late_never_takes_the_place_of_the_file_of_the_one_that_completed(
    database_url: str, tmp_path: Path, s3: dict[str, str]
) -> None:
    first = add_many_stores(database_url, 100)
    with (
        network_to(s3["AWS_ENDPOINT"]) as network,
        running_service(
            database_url, tmp_path / "one", **{**s3, "AWS_ENDPOINT": network.url}
        ) as slow,
        uploading(slow, network, len(first)) as path,
    ):
        report_id = path.removeprefix("/reports/")
        slow.send(SIGSTOP)
        ask(
            database_url,
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()",
        )
        ask(database_url, "update report set leased_until = now() - interval '1 second'")
        # The same report is another one by now.
        ask(database_url, "delete from store where right(store_id, 1) = '7'")
        with running_service(database_url, tmp_path / "two", **s3) as other:
            eventually(lambda: other.get(path).json()["status"] == "completed")
            completed = other.get(f"{path}/csv", headers=PLAIN)
            network.thaw()
            eventually(lambda: f"made/{report_id}.1.csv" in objects(s3, "reports"))
            served = other.get(f"{path}/csv", headers=PLAIN)
            assert served.content == completed.content
            assert served.headers["ETag"].strip('"') == hashlib.sha256(served.content).hexdigest()
            assert served.content.count(b"\n") == 1 + 90
            # The one that was late sees it, and takes its file away.
            slow.send(SIGCONT)
            eventually(
                lambda: (
                    objects(s3, "reports")
                    == [f"made/{report_id}.2.{kind}" for kind in ("csv", "totals")]
                )
            )
            assert other.ask("DELETE", path).status_code == 204
            assert objects(s3, "reports") == []


def test_a_report_whose_upload_hangs_stays_its_runs_own_and_can_be_cancelled_at_once(
    database_url: str, tmp_path: Path, s3: dict[str, str]
) -> None:
    expected = add_many_stores(database_url, 100)
    one = {"STOREWATCH_CONCURRENT_REPORTS": "1"}
    with (
        network_to(s3["AWS_ENDPOINT"]) as network,
        running_service(
            database_url, tmp_path, **{**s3, **one, "AWS_ENDPOINT": network.url}
        ) as service,
    ):
        with uploading(service, network, len(expected)) as path:
            leased = ask(database_url, "select leased_until from report")
            eventually(lambda: ask(database_url, "select leased_until from report") > leased)
            in_transaction = "select count(*) from pg_stat_activity where state like 'idle in%'"
            assert ask(database_url, in_transaction) == [(0,)]
            assert service.ask("POST", f"{path}/cancel").status_code == 200
            eventually(lambda: "report cancelled" in service.log)
        network.thaw()
        path = service.ask("POST", "/reports").headers["Location"]
        eventually(lambda: service.get(path).json()["status"] == "completed")
        assert service.get(f"{path}/csv").content == expected


def test_a_report_that_the_object_store_does_not_take_fails_in_words(
    database_url: str, tmp_path: Path, s3: dict[str, str]
) -> None:
    add_many_stores(database_url, 10)
    nowhere = {**s3, "STOREWATCH_REPORTS": "s3://no-such-bucket/made"}
    with running_service(database_url, tmp_path, **nowhere) as service:
        path = service.ask("POST", "/reports").headers["Location"]
        eventually(lambda: service.get(path).json()["status"] == "failed")
        told = "the object store has no such bucket or container"
        assert service.get(path).json()["error"] == told
        assert "s3://no-such-bucket/made" in service.log
        assert "Traceback" not in service.log


def test_a_file_of_version_0_1_is_served_expired_and_deleted_under_its_old_name(
    database_url: str, tmp_path: Path, s3: dict[str, str]
) -> None:
    expected = add_many_stores(database_url, 10)
    with running_service(database_url, tmp_path, **s3) as service:
        path = service.ask("POST", "/reports").headers["Location"]
        eventually(lambda: service.get(path).json()["status"] == "completed")
        report_id = path.removeprefix("/reports/")
        bucket(s3, "reports").rename(f"made/{report_id}.1.csv", f"made/{report_id}.csv")
        bucket(s3, "reports").delete(f"made/{report_id}.1.totals")
        ask(database_url, "update report set file_name = null, totals_size = null")
        assert service.get(f"{path}/csv").content == expected
        assert service.ask("DELETE", path).status_code == 204
        assert objects(s3, "reports") == []
