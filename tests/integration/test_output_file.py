"""`report --out`: what it writes to, what it leaves as it was, and how it fails."""

import os
import pwd
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.harness.database import add_many_stores, polls_locked
from tests.harness.processes import COMMAND, PATIENCE, command_environment, storewatch

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has others' files")


class Reporter:
    """A database with stores, a folder, and `storewatch report` in it."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.database_url, self.folder = database_url, folder
        self.expected = b""

    def run(self, out: str | Path) -> "subprocess.CompletedProcess[bytes]":
        return storewatch("report", "--out", out, database_url=self.database_url, home=self.folder)

    def start(self, out: str | Path) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [*COMMAND, "report", "--out", str(out)],
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=command_environment(self.database_url, self.folder, {}),
        )

    def writes(self, out: str | Path) -> None:
        done = self.run(out)
        assert (done.returncode, done.stderr) == (0, b"")

    def refusal(self, out: str | Path, status: int = 1) -> str:
        done = self.run(out)
        assert done.returncode == status
        told = done.stderr.decode()
        assert "Traceback" not in told
        assert "Errno" not in told
        return told

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture(scope="module")
def many_stores(module_database_url: str) -> tuple[str, bytes]:
    return module_database_url, add_many_stores(module_database_url, 5000)


@pytest.fixture
def reporter(many_stores: tuple[str, bytes], public_folder: Path) -> Reporter:
    database_url, expected = many_stores
    reporter = Reporter(database_url, public_folder)
    reporter.expected = expected
    return reporter


def test_a_new_file_has_the_permissions_that_the_umask_leaves(reporter: Reporter) -> None:
    before = os.umask(0o027)
    try:
        reporter.writes("x.csv")
    finally:
        os.umask(before)
    assert (reporter.folder / "x.csv").read_bytes() == reporter.expected
    assert stat.S_IMODE((reporter.folder / "x.csv").stat().st_mode) == 0o640
    assert reporter.names() == {"x.csv"}


@pytest.mark.parametrize("name", ["x" * 255, "-x", "ä b\nc"])
def test_any_name_will_do(reporter: Reporter, name: str) -> None:
    reporter.writes(f"./{name}")
    assert (reporter.folder / name).read_bytes() == reporter.expected


def test_a_file_keeps_its_permissions(reporter: Reporter) -> None:
    file = reporter.folder / "x.csv"
    file.write_text("before")
    file.chmod(0o600)
    reporter.writes("x.csv")
    assert file.read_bytes() == reporter.expected
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@needs_root
def test_a_file_keeps_its_owner_and_group(reporter: Reporter) -> None:
    file = reporter.folder / "x.csv"
    file.write_text("before")
    os.chown(file, pwd.getpwnam("nobody").pw_uid, 12345)
    reporter.writes("x.csv")
    assert file.read_bytes() == reporter.expected
    assert (file.stat().st_uid, file.stat().st_gid) == (pwd.getpwnam("nobody").pw_uid, 12345)


@pytest.mark.parametrize("before", ["before", None], ids=["to a file", "dangling"])
def test_a_link_stays_and_leads_to_the_report(reporter: Reporter, before: str | None) -> None:
    elsewhere = reporter.folder / "elsewhere"
    elsewhere.mkdir()
    if before:
        (elsewhere / "x.csv").write_text(before)
    (reporter.folder / "link").symlink_to("elsewhere/x.csv")
    reporter.writes("link")
    assert os.readlink(reporter.folder / "link") == "elsewhere/x.csv"
    assert (elsewhere / "x.csv").read_bytes() == reporter.expected
    assert [path.name for path in elsewhere.iterdir()] == ["x.csv"]


@needs_root
def test_a_device_stays_a_device(reporter: Reporter) -> None:
    device = reporter.folder / "null"
    os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    reporter.writes("null")
    assert stat.S_ISCHR(device.stat().st_mode)
    assert reporter.names() == {"null"}


def test_standard_output_by_its_path_is_appended_to_where_it_is(reporter: Reporter) -> None:
    file = reporter.folder / "all.csv"
    file.write_bytes(b"before\n")
    with file.open("ab") as end:
        done = subprocess.run(
            [*COMMAND, "report", "--out", "/dev/stdout"],
            stdout=end,
            cwd=reporter.folder,
            env=command_environment(reporter.database_url, reporter.folder, {}),
        )
    assert done.returncode == 0
    assert file.read_bytes() == b"before\n" + reporter.expected


def test_a_fifo_waits_for_its_reader_and_gives_it_the_report(reporter: Reporter) -> None:
    fifo = reporter.folder / "fifo"
    os.mkfifo(fifo)
    command = reporter.start("fifo")
    assert fifo.read_bytes() == reporter.expected
    _, told = command.communicate(timeout=PATIENCE)
    assert (command.returncode, told) == (0, b"")
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_reader_of_a_fifo_that_goes_away_ends_the_command_without_a_word(
    reporter: Reporter,
) -> None:
    fifo = reporter.folder / "fifo"
    os.mkfifo(fifo)
    command = reporter.start("fifo")
    with fifo.open("rb") as reader:
        assert reader.read(6) == b"store_"
    _, told = command.communicate(timeout=PATIENCE)
    assert (command.returncode, told) == (1, b"")


def test_reports_at_the_same_time_to_one_file_do_not_mix(reporter: Reporter) -> None:
    with polls_locked(reporter.database_url):
        commands = [reporter.start("x.csv") for _ in range(3)]
        threading.Event().wait(1)  # long enough for each to have begun
    for command in commands:
        _, told = command.communicate(timeout=PATIENCE)
        assert (command.returncode, told) == (0, b"")
    assert (reporter.folder / "x.csv").read_bytes() == reporter.expected
    assert reporter.names() == {"x.csv"}


def test_nothing_is_left_of_a_report_that_fails(reporter: Reporter) -> None:
    (reporter.folder / "x.csv").write_text("before")
    failed = storewatch(
        *("report", "--out", "x.csv"), database_url="postgresql://[", home=reporter.folder
    )
    assert failed.returncode == 1
    assert reporter.names() == {"x.csv"}
    assert (reporter.folder / "x.csv").read_text() == "before"


def test_what_cannot_be_written_is_told_in_words(reporter: Reporter) -> None:
    (reporter.folder / "file").touch()
    (reporter.folder / "loop").symlink_to("loop")
    assert "Invalid value for --out: is empty" in reporter.refusal("", 2)
    assert "is a directory" in reporter.refusal(".", 2)
    assert "Error: no/x.csv cannot be written: there is no folder" in reporter.refusal("no/x.csv")
    assert "cannot be written: Not a directory" in reporter.refusal("file/x.csv")
    assert "Too many levels of symbolic links" in reporter.refusal("loop")
    assert "File name too long" in reporter.refusal("x" * 256)
    assert reporter.names() == {"file", "loop"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_full_disk_is_told_in_words(reporter: Reporter) -> None:
    assert reporter.refusal("/dev/full") == (
        "Error: /dev/full cannot be written: No space left on device\n"
    )


# As another account than root, who may write everything; that one might not reach this Python.
WRITE = """
import asyncio, os, pwd
from service.output_file import OutputFailed, open_output

if os.geteuid() == 0:
    os.setgid(pwd.getpwnam("nobody").pw_gid)
    os.setuid(pwd.getpwnam("nobody").pw_uid)

async def write():
    async with open_output("x.csv") as file:
        file.write(b"after")

try:
    asyncio.run(write())
except OutputFailed as error:
    print(error)
"""


def test_a_file_that_may_not_be_written_is_not_replaced(public_folder: Path) -> None:
    file = public_folder / "x.csv"
    file.write_text("before")
    file.chmod(0o444)
    public_folder.chmod(0o777)
    done = subprocess.run([sys.executable, "-c", WRITE], cwd=public_folder, capture_output=True)
    assert done.stdout == b"x.csv cannot be written: Permission denied\n", done.stderr
    assert file.read_text() == "before"
    assert [path.name for path in public_folder.iterdir()] == ["x.csv"]
