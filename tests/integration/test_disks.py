"""Disks that are full, read-only or gone: told in words, and nothing half is kept or served."""

import asyncio
import gzip
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.reports.files import FolderFiles, storage_problem
from tests.harness.database import add_many_stores, ask
from tests.harness.processes import eventually, storewatch
from tests.harness.service import Service, problem, running_service

KIND = "/problems/"
POLLS = "store_id,status,timestamp_utc\n"
ONE = f"{POLLS}s1,active,2023-01-22 12:09:39.388884 UTC\n"
CSV = {"Content-Type": "text/csv"}


@pytest.fixture
def disk(public_folder: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    folder = public_folder / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


def fill(disk: Path) -> Path:
    """Take all the room there is; the file that does."""
    filler = disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        return filler


def remount(disk: Path, options: str) -> None:
    command = ["mount", "-o", f"remount,{options}", str(disk)]
    subprocess.run(command, check=True)


def finished(service: Service) -> str:
    """Ask for a report and wait until it has ended; its path."""
    path: str = service.ask("POST", "/reports").headers["Location"]
    eventually(lambda: service.get(path).json()["status"] in ("completed", "failed"))
    return path


def test_a_report_fails_in_words_while_the_reports_folder_does_not_take_its_file(
    database_url: str, tmp_path: Path, disk: Path
) -> None:
    expected = add_many_stores(database_url, 1000)
    folder = disk / "reports"
    with running_service(database_url, tmp_path, STOREWATCH_REPORTS=str(folder)) as service:

        def failed(error: str, log: str) -> None:
            report = service.get(finished(service)).json()
            assert (report["status"], report["error"]) == ("failed", error)
            assert f"{error} ({folder}: {log})" in service.log
            assert list(folder.glob("*")) == []

        filler = fill(disk)
        failed("the disk of the reports folder is full", "No space left on device")
        filler.unlink()
        remount(disk, "ro")
        failed("the reports folder is read-only", "Read-only file system")
        remount(disk, "rw")
        folder.rename(disk / "elsewhere")
        failed("the reports folder is not there", "No such file or directory")
        assert not folder.exists()  # or another disk would fill unseen
        (disk / "elsewhere").rename(folder)
        assert service.get(f"{finished(service)}/csv").content == expected
        assert "Traceback" not in service.log


def test_while_the_reports_folder_is_away_its_files_are_neither_gone_nor_deleted(
    database_url: str, tmp_path: Path
) -> None:
    expected = add_many_stores(database_url, 10)
    with running_service(database_url, tmp_path) as service:
        path = finished(service)
        service.reports.rename(tmp_path / "elsewhere")
        for answer in (service.get(f"{path}/csv"), service.ask("DELETE", path)):
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
            told = problem(answer)
            assert told["type"] == f"{KIND}storage-unavailable"
            assert told["detail"].startswith("The reports folder is not there.")
            assert str(tmp_path) not in answer.text
        assert str(service.reports) in service.log
        (tmp_path / "elsewhere").rename(service.reports)
        assert service.get(f"{path}/csv").content == expected
        assert service.ask("DELETE", path).status_code == 204
        assert service.files() == []


def test_a_file_that_ends_early_is_not_served_as_if_it_were_whole(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 10)
    with running_service(database_url, tmp_path) as service:
        path = finished(service)
        service.csv(path.removeprefix("/reports/")).write_bytes(b"")
        for coding in ("identity", "gzip"):
            answer = service.get(f"{path}/csv", headers={"Accept-Encoding": coding})
            assert answer.status_code == 410


def many_polls() -> bytes:
    """A feed that is small on its way, and larger than the disk when it is set aside."""
    rows = "".join(f"s{number},active,2023-01-22 12:00:00 UTC\n" for number in range(120_000))
    return gzip.compress(f"{POLLS}{rows}".encode())


def test_a_feed_that_cannot_be_set_aside_is_refused_in_words_and_nothing_of_it_is_stored(
    database_url: str, tmp_path: Path, disk: Path
) -> None:
    feed = many_polls()
    with running_service(database_url, tmp_path, STOREWATCH_HOME=str(disk)) as service:
        answer = service.ask("POST", "/polls", content=feed, headers=CSV)
        assert answer.status_code == 507
        told = problem(answer)
        assert told["type"] == f"{KIND}storage-full"
        assert "The disk of the folder in which feeds are set aside is full." in told["detail"]
        assert str(disk) not in answer.text
        assert f"({disk}/spool: No space left on device)" in service.log
        assert ask(database_url, "select * from store") == []
        assert list((disk / "spool").iterdir()) == []
        (disk / "spool").rmdir()
        answer = service.ask("POST", "/polls", content=ONE, headers=CSV)
        assert answer.status_code == 503
        assert problem(answer)["type"] == f"{KIND}storage-unavailable"
        (disk / "spool").mkdir()
        assert service.ask("POST", "/polls", content=ONE, headers=CSV).json()["new"] == 1
        assert "Traceback" not in service.log
        # A few rows of JSON need no disk of the service's own.
        fill(disk)
        row = {"store_id": "s2", "status": "active", "timestamp_utc": "2023-01-22T12:00:00Z"}
        assert service.ask("POST", "/polls", json=[row]).json()["new"] == 1


def test_the_command_names_the_folder_and_says_what_is_wrong_with_it(
    database_url: str, disk: Path
) -> None:
    feed = many_polls()
    told = storewatch("ingest", "--polls", "-", stdin=feed, database_url=database_url, home=disk)
    assert told.returncode == 1
    error = "the disk of the folder in which feeds are set aside is full"
    message = " ".join(told.stderr.decode().split())
    assert f"Error: {error} ({disk}/spool: No space left on device)" in message
    assert "Traceback" not in message
    assert ask(database_url, "select * from store") == []


def test_a_full_disk_of_the_database_is_told_in_words(
    database_url: str, postgres_server: str, tmp_path: Path, disk: Path
) -> None:
    [(data,)] = ask(postgres_server, "select current_setting('data_directory')")
    if not Path(data).exists():
        pytest.skip("the database is on another machine")
    owner = Path(data).stat()
    os.chown(disk, owner.st_uid, owner.st_gid)
    with running_service(database_url, tmp_path) as service:
        ask(postgres_server, f"create tablespace small location '{disk}'")
        try:
            ask(database_url, "alter table poll_day_before set tablespace small")
            answer = service.ask("POST", "/polls", content=many_polls(), headers=CSV)
            assert answer.status_code == 507
            told = problem(answer)
            assert told["type"] == f"{KIND}storage-full"
            assert told["detail"].startswith("The disk of the database is full.")
            assert ask(database_url, "select * from store") == []
            command = ("ingest", "--polls", "-")
            done = storewatch(
                *command, stdin=many_polls(), database_url=database_url, home=tmp_path
            )
            assert done.returncode == 1
            assert done.stderr.decode().startswith("Error: The disk of the database is full: ")
        finally:
            ask(database_url, "alter table poll_day_before set tablespace pg_default")
            ask(postgres_server, "drop tablespace small")


def test_readiness_is_told_why_no_report_can_be_written(disk: Path) -> None:
    folder = disk / "reports"
    files = FolderFiles(folder)

    def told() -> str | None:
        return asyncio.run(storage_problem(files))

    assert told() is None
    assert list(folder.iterdir()) == []
    filler = fill(disk)
    assert told() == "the disk of the reports folder is full"
    filler.unlink()
    remount(disk, "ro")
    assert told() == "the reports folder is read-only"
    remount(disk, "rw")
    folder.rmdir()
    assert told() == "the reports folder is not there"
    assert not folder.exists()
    folder.mkdir()
    assert told() is None


def test_a_reports_folder_that_cannot_be_made_ends_the_start_with_a_sentence(
    database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "reports").write_bytes(b"")
    failed = storewatch("serve", "--port", "0", database_url=database_url, home=tmp_path)
    assert failed.returncode == 3
    log = failed.stderr.decode()
    assert f"the reports folder does not work ({tmp_path}/reports: File exists)" in log
    assert "Traceback" not in log


def test_a_report_is_delivered_when_the_disk_that_was_full_has_room_again(
    database_url: str, tmp_path: Path, disk: Path
) -> None:
    expected = add_many_stores(database_url, 1000)
    with running_service(database_url, tmp_path, STOREWATCH_DELIVER_TO=str(disk)) as service:
        body = {"name": "a", "cron": "0 6 29 2 *", "timezone": "UTC", "deliver_to": str(disk)}
        body |= {"as_of": "newest_poll"}
        path = service.ask("POST", "/schedules", json=body).headers["Location"]
        filler = fill(disk)
        report = service.ask("POST", f"{path}/run").headers["Location"]
        eventually(lambda: service.get(report).json()["delivery"]["error"] is not None)
        error = service.get(report).json()["delivery"]["error"]
        assert error == "the disk of the folder to deliver to is full"
        assert [file for file in disk.rglob("*") if file.is_file()] == [filler]
        filler.unlink()
        ask(database_url, "update delivery set due = now()")
        eventually(lambda: service.get(report).json()["delivery"]["status"] == "delivered")
        [file] = service.get(report).json()["delivery"]["files"]
        assert Path(file).read_bytes() == expected
