"""The `storewatch` command.

Each command imports what it needs by itself, and only then: imports are most of a small one's time.
"""

import functools
import gc
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import click

from service.reports.max_gap import DEFAULT_MAX_GAP, MAX_GAP_BOUNDS, parse_max_gap
from service.signals import Ending

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import asyncpg
    from rich.progress import Progress as ProgressBar
    from rich.progress import TaskID

    from compute.feed_header import Feed
    from service.feeds.history import Ingested
    from service.output_file import Output
    from service.reports.options import ReportOptions
    from service.reports.pipeline import Progress
    from service.settings import Settings
    from service.workers.pool import Workers

F = TypeVar("F", bound=Callable[..., Any])
Form: TypeAlias = Literal["csv", "ndjson", "parquet"]

_READ_BYTES = 1 << 20
#: A feed of more bytes is worth workers; one block of text is of as many.
_FEW_BYTES = 4 << 20

#: Thresholds of the garbage collector. A command makes many objects as it imports, and no cycles:
#: by default all of them are looked through again and again, a seventh of a small one's time.
_SELDOM = (50_000, 50, 50)

_ending = Ending()


class _Failed(click.ClickException):
    """Something other than the input is wrong: exit status 1."""


Parsed = TypeVar("Parsed")


class _Refused(click.ClickException):
    """The input is wrong: exit status 2."""

    exit_code = 2


def _command(function: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """Run an async command; errors that a user can act on become messages without a stack trace."""

    @functools.wraps(function)
    def run(*args: object, **kwargs: object) -> None:
        try:
            _ending.run(function(*args, **kwargs))
        except (click.ClickException, click.Abort, BrokenPipeError):  # click tells these
            raise
        except Exception as error:
            told = _in_words(error)
            if told is None:
                raise
            raise told from error
        finally:
            gc.freeze()  # Python, as it ends, would look through all modules for cycles

    return run


def _in_words(error: Exception) -> click.ClickException | None:
    """The message for a failure that a user can act on; None: it is a fault of the program."""
    import asyncpg

    from compute.feed_faults import FeedRefused
    from compute.groups import GroupsRefused
    from compute.windows import WindowRefused
    from compute.zones import ZoneUnknown
    from service.database.pool import DATABASE_FAILED, DatabaseUnavailable
    from service.keys import KeyRefused
    from service.output_file import OutputFailed
    from service.reports.group_tables import SheetsNotInstalled
    from service.reports.parquet import NoParquet
    from service.reports.pipeline import NoPolls
    from service.settings import SettingsInvalid
    from service.storage import StorageFailed
    from service.workers.pool import WorkerDied

    if isinstance(error, WindowRefused):
        return _Refused(f"--window {error}.")
    in_its_own_words = (
        DatabaseUnavailable,
        NoParquet,
        NoPolls,
        OutputFailed,
        SheetsNotInstalled,
        StorageFailed,
        WorkerDied,
        ZoneUnknown,
        OSError,
    )
    if isinstance(error, (FeedRefused, GroupsRefused, KeyRefused, SettingsInvalid)):
        return _Refused(str(error))
    if isinstance(error, TimeoutError):
        return _Failed("The database did not answer in time.")
    if isinstance(error, asyncpg.DiskFullError):
        return _Failed(f"The disk of the database is full: {error}")
    if isinstance(error, in_its_own_words):
        return _Failed(str(error))
    if isinstance(error, DATABASE_FAILED):
        return _Failed(f"The database failed: {error}.")
    return None


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="storewatch")
def main() -> None:
    """How long each store was up and down within its business hours.

    The database is PostgreSQL at DATABASE_URL or, without one, an embedded server with its data
    under STOREWATCH_HOME. All settings are environment variables; the README lists them.
    """
    gc.set_threshold(*_SELDOM)
    _ending.listen()


@main.command()
@click.option(
    "--host", show_default="STOREWATCH_HOST, else 127.0.0.1", help="Address to listen on."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    show_default="STOREWATCH_PORT, else 8000",
    help="Port to listen on; 0: any free port.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Serve every program, at any address, until an API key is made.",
)
def serve(host: str | None, port: int | None, insecure: bool) -> None:
    """Serve the HTTP API and the dashboard, and run the reports that are asked for.

    Until an API key is made, only this machine itself is served. If the address to listen on is not
    a loopback address, the first start makes a key and shows it.
    """
    from service.logs import start_logging
    from service.server import run_server

    start_logging()
    settings = _settings()
    host = settings.host if host is None else host
    port = settings.port if port is None else port
    _check_address(host, port)
    _ending.quiet = True  # the server ends in order by itself, and says so in its log
    run_server(settings, host, port, insecure=insecure)


def _check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on before a database or a key is made."""
    import socket

    try:
        for family, kind, _, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
    except OSError as error:
        raise _Refused(
            f"Cannot listen on {host}, port {port}: {error.strerror or error}. --host and "
            "STOREWATCH_HOST take an address or a name of this machine, --port and "
            "STOREWATCH_PORT a port that is free."
        ) from error


@main.group()
def keys() -> None:
    """Make, list and revoke API keys."""


@keys.command("create")
@click.argument("name")
@click.option(
    "--scope",
    default="write",
    show_default=True,
    type=click.Choice(["read", "write"]),
    help="What the key allows; write includes read.",
)
@_command
async def create(name: str, scope: Any) -> None:
    """Make an API key and show it. It cannot be shown again."""
    from service.keys import create_key

    async with _database() as pool:
        _, key = await create_key(pool, name, scope)
    click.echo(
        f"The key {name}, scope {scope}. Only its hash is kept: it cannot be shown again.", err=True
    )
    click.echo(key)


@keys.command("list")
@_command
async def list_() -> None:
    """List every key that was ever made, without the keys themselves."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from service.keys import list_keys

    async with _database() as pool:
        made = await list_keys(pool)
    table = Table("name", "key", "scope", "created", "last used", "revoked", box=None)
    for key in made:
        instants = (key.created_at, key.last_used_at, key.revoked_at)
        told = (f"{instant:%Y-%m-%d %H:%M}" if instant else "-" for instant in instants)
        table.add_row(Text(key.name), f"{key.prefix}…", key.scope, *told)
    Console().print(table)


@keys.command("revoke")
@click.argument("name")
@_command
async def revoke(name: str) -> None:
    """Revoke a key for good, by its name or by its first characters as `list` shows them.

    Every instance refuses it within two seconds.
    """
    from service.keys import revoke_key

    async with _database() as pool:
        key = await revoke_key(pool, name)
    click.echo(f"The key {key.name} ({key.prefix}…) is revoked.", err=True)


def _database() -> "AbstractAsyncContextManager[asyncpg.Pool]":
    from service.database.pool import open_pool

    settings = _settings()
    return open_pool(settings.database_url, settings.home, own=False, max_size=1)


_FEED = click.Path(exists=True, dir_okay=False, allow_dash=True)


@main.command()
@click.option("--timezones", "timezones", type=_FEED, multiple=True, help="store_id,timezone")
@click.option(
    "--business-hours",
    "business_hours",
    type=_FEED,
    multiple=True,
    help="store_id,day,start_time_local,end_time_local[,valid_from]",
)
@click.option(
    "--special-hours",
    "special_hours",
    type=_FEED,
    multiple=True,
    help="store_id,date,start_time_local,end_time_local[,closed,reason]",
)
@click.option(
    "--exclusions", "exclusions", type=_FEED, multiple=True, help="store_id,from,to[,reason]"
)
@click.option(
    "--stores",
    "stores",
    type=_FEED,
    multiple=True,
    help="store_id[,name,target]; every further column is a tag",
)
@click.option("--polls", "polls", type=_FEED, multiple=True, help="store_id,status,timestamp_utc")
@_command
async def ingest(**files: tuple[str, ...]) -> None:
    """Load feeds: CSV files, plain, gzip or zstd, or - for standard input.

    Each option may be repeated. Its files, each with its own header, are one feed in the given
    order, so the business hours of a store may be spread over several files.

    A feed with anything wrong in it is refused as a whole, and the exit status is 2. The other
    feeds are still loaded.
    """
    if not any(files.values()):
        raise click.UsageError(
            "nothing to load: give --polls, --business-hours, --timezones, --special-hours, "
            "--exclusions or --stores"
        )
    if sum(names.count("-") for names in files.values()) > 1:
        raise click.UsageError("standard input can be read once: give - to one option alone")
    await _ingest(_settings(), files)


@main.command()
@click.option(
    "--out",
    default="-",
    show_default=True,
    type=click.Path(dir_okay=False, readable=False, allow_dash=True),
    help="Where to write it; - is standard output.",
)
@click.option(
    "--format",
    "form",
    default="csv",
    show_default=True,
    type=click.Choice(["csv", "ndjson", "parquet"]),
    help="ndjson and parquet have exact seconds, names, tags and targets.",
)
@click.option("--as-of", help="End of every window, ISO 8601.  [default: the newest poll]")
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="TEXT",
    help="30d, 2026-10, 2026-W44, this-month, previous-week, days:2026-10 or FROM/TO; may be "
    "repeated.  [default: the last hour, day and week]",
)
@click.option(
    "--calendar",
    metavar="ZONE",
    help="Where calendar periods begin and end.  [default: in the zone of each store]",
)
@click.option(
    "--unit",
    type=click.Choice(["seconds", "minutes", "hours"]),
    help="Of the columns of each --window.  [default: hours]",
)
@click.option(
    "--interpolation",
    default="nearest",
    show_default=True,
    type=click.Choice(["nearest", "previous"]),
    help="Status between two observations: that of the nearest, or of the previous one.",
)
@click.option(
    "--max-gap",
    default=DEFAULT_MAX_GAP,
    show_default=True,
    help=f"For how long an observation speaks to either side, {MAX_GAP_BOUNDS}.",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="KEY:VALUE",
    help="Only stores with this tag, or with KEY: without it; may be repeated.  [default: all]",
)
@click.option(
    "--group-by",
    "group_by",
    multiple=True,
    metavar="KEY",
    help="Group stores by this tag, or by timezone, into --groups; may be repeated.",
)
@click.option(
    "--groups",
    type=click.Path(dir_okay=False, readable=False),
    metavar="FILE",
    help="Where to write the groups: a name that ends in .csv or .xlsx.",
)
@click.option(
    "--target",
    metavar="SHARE",
    help="Which share of the known time stores shall be up, 0.995 or 99.5%, for --groups and the "
    "other formats than csv.  [default: each store's own]",
)
@click.option("--unknown", is_flag=True, help="Add columns of unknown time.")
@click.option("--excluded", is_flag=True, help="Add columns of excluded time.")
@click.option(
    "--escape-formulas",
    is_flag=True,
    help="Put an apostrophe before store ids that a spreadsheet would take for formulas.",
)
@_command
async def report(
    out: str,
    form: Form,
    as_of: str | None,
    windows: tuple[str, ...],
    calendar: str | None,
    unit: Any,
    tags: tuple[str, ...],
    group_by: tuple[str, ...],
    groups: str | None,
    target: str | None,
    interpolation: Any,
    max_gap: str,
    unknown: bool,
    excluded: bool,
    escape_formulas: bool,
) -> None:
    """Compute a report over all stores and write it.

    As ndjson it is a line per store, as parquet a row per store and window. Both are made from a
    file without a name in the folder that TMPDIR names, of some 100 bytes a store.
    """
    from compute.csv_rows import DEFAULT_UNIT
    from compute.feed_values import zone_problem
    from compute.groups import GroupsRefused, check_keys
    from compute.instants import parse_instant
    from compute.targets import target_of
    from service.reports.options import ReportOptions
    from service.stores.selection import with_tags

    if not out:
        raise click.BadParameter("is empty", param_hint="--out")
    if not windows and (calendar or unit):
        raise click.UsageError("--calendar and --unit are for a report with --window")
    for tag in tags:
        _parsed("--tag", lambda text: with_tags([text]), tag)
    if calendar is not None and (problem := zone_problem(calendar)):
        raise click.BadParameter(f"{calendar!r} {problem}", param_hint="--calendar")
    if bool(group_by) is (groups is None):
        raise click.UsageError("--group-by and --groups go together: give both")
    if target is not None and groups is None and form == "csv":
        raise click.UsageError("--target is for --groups, and for --format ndjson or parquet")
    if groups is not None:
        try:
            check_keys(group_by)
        except GroupsRefused as error:
            raise click.BadParameter(str(error), param_hint="--group-by") from error
        _check_groups_file(groups)
    options = ReportOptions(
        as_of=None if as_of is None else _parsed("--as-of", parse_instant, as_of),
        interpolation=interpolation,
        max_gap=_parsed("--max-gap", parse_max_gap, max_gap),
        include_unknown=unknown,
        escape_formulas=escape_formulas,
        include_excluded=excluded,
        windows=windows or None,
        calendar=calendar,
        unit=unit or DEFAULT_UNIT,
        tags=tags or None,
        group_by=group_by or None,
        target=None if target is None else _parsed("--target", target_of, target),
    )
    await _report(_settings(), options, out, form, groups)


@main.command()
@_command
async def migrate() -> None:
    """Bring the tables of the database up to date.

    Every start does so. Before an update of several instances, do it once and apart: so no instance
    waits for it, and its end is known.
    """
    async with _database() as pool:
        version = await pool.fetchval("select max(version) from schema_migration")
    click.echo(f"The database is up to date: migration {version}.", err=True)


@main.command("delete-polls")
@click.option("--from", "first", required=True, help="Delete polls from this instant on, ISO 8601.")
@click.option("--to", "end", required=True, help="Keep polls from this instant on, ISO 8601.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@_command
async def delete_polls(first: str, end: str, yes: bool) -> None:
    """Permanently delete the polls of all stores in a stretch of time.

    Use it when a poller's clock was wrong: polls dated in the future move the end of every default
    report into the future.
    """
    from compute.instants import parse_instant
    from service.feeds import poll_removal

    begin, until = _parsed("--from", parse_instant, first), _parsed("--to", parse_instant, end)
    if begin >= until:
        raise click.BadParameter("is not after --from", param_hint="--to")
    async with _database() as pool:
        if not yes:
            most = await poll_removal.count_polls(pool, begin, until)
            click.confirm(f"Permanently delete up to {most} polls?", abort=True, err=True)
        removed = await poll_removal.delete_polls(pool, begin, until)
    newest = removed.newest_poll
    click.echo(
        f"{removed.polls} polls deleted; "
        + ("none are left" if newest is None else f"the newest one left: {newest.isoformat()}"),
        err=True,
    )


@main.command()
@click.option(
    "--folder",
    default="storewatch-demo",
    show_default=True,
    type=click.Path(file_okay=False),
    help="A new or empty folder, or that of an earlier demo.",
)
@click.option(
    "--stores",
    default=500,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="How many stores to make up.",
)
@_command
async def demo(folder: str, stores: int) -> None:
    """Make up a feed, load it and show its report: the whole job, in a folder of its own.

    It uses a private database in that folder, whatever DATABASE_URL says.
    """
    import msgspec

    from service.feeds.made_up import write_feed
    from service.reports.options import ReportOptions

    settings = _settings()
    home = _demo_folder(Path(folder).absolute())
    settings = msgspec.structs.replace(settings, database_url=None, home=home, reports=None)
    click.echo(f"Making up a week of polls of {stores} stores in {home}", err=True)
    feed = write_feed(home, stores=stores)
    files = {
        "timezones": (str(feed.timezones),),
        "business_hours": (str(feed.business_hours),),
        "polls": (str(feed.polls),),
    }
    await _ingest(settings, files)
    out = home / "report.csv"
    await _report(settings, ReportOptions(), str(out))
    with out.open() as rows:
        for _, line in zip(range(6), rows, strict=False):
            click.echo(line, nl=False)
    click.echo(f"\nThe whole report: {out}")


def _demo_folder(folder: Path) -> Path:
    """Make the folder of a demo, or take one that a demo made: no other, whatever is in it."""
    mark = folder / "made-up-by-storewatch-demo"
    folder.mkdir(parents=True, exist_ok=True)
    if not mark.exists() and any(folder.iterdir()):
        raise _Refused(
            f"{folder} has files that no demo made, and a demo might overwrite them. "
            "Give it a folder of its own: storewatch demo --folder NAME"
        )
    mark.touch()
    return folder


def _settings() -> "Settings":
    from service.settings import SettingsInvalid, read_settings

    try:
        return read_settings()
    except SettingsInvalid as error:
        raise _Refused(str(error)) from error


def _parsed(option: str, parse: Callable[[str], Parsed], text: str) -> Parsed:
    try:
        return parse(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} {error}", param_hint=option) from error


async def _ingest(settings: "Settings", files: Mapping[str, tuple[str, ...]]) -> None:
    from service.memory import share_freed_memory
    from service.workers.pool import Workers

    share_freed_memory()
    # Polls last, so that a report in the meantime sees no new store without its zone and hours.
    order: list[Feed] = [
        "timezones",
        "business_hours",
        "special_hours",
        "exclusions",
        "stores",
        "polls",
    ]
    given = {feed: files[feed] for feed in order if files.get(feed)}
    workers = Workers(settings.workers, here=2)  # two feeds are checked at the same time
    try:
        # Polls are parsed in this process, if nothing is odd about them.
        large = any((_size(given[feed]) or 0) > _FEW_BYTES for feed in given if feed != "polls")
        if large:
            workers.begin()
        async with _opened(settings, "service.feeds.ingest") as pool:
            # Beside workers, two would take more memory than a load may.
            refused = await _load(pool, workers, settings.home, given, 1 if large else 2)
    finally:
        workers.close()
    if refused:
        raise _Refused("\n".join(refused))


async def _load(
    pool: "asyncpg.Pool",
    workers: "Workers",
    home: Path,
    files: "Mapping[Feed, tuple[str, ...]]",
    at_once: int,
) -> list[str]:
    """Load feeds and say what became of each; what is wrong with those that are refused."""
    from compute.feed_faults import FeedRefused
    from service.feeds.ingest import FeedFile, ingest_each
    from service.feeds.spool import spool_folder

    refused: list[str] = []
    aside = spool_folder(home)
    with _bar(sys.stderr.isatty()) as bar:
        feeds = [
            (feed, [FeedFile(_name(name), _pieces(name, bar, task)) for name in names])
            for feed, names in files.items()
            for task in [
                bar.add_task(f"Loading {_words(feed)}", total=_size(names)) if bar else None
            ]
        ]
        told = iter(files.items())
        # Workers end when all is parsed, as storing wants their memory.
        async for done in ingest_each(
            *(pool, workers, feeds), aside=aside, at_once=at_once, on_checked=workers.close
        ):
            feed, names = next(told)
            if bar:
                bar.remove_task(bar.task_ids[0])
            if isinstance(done, FeedRefused):
                refused += [*map(str, done.faults), f"{_words(feed)}: {done.summary}"]
            elif bar:
                bar.console.out(_loaded(feed, len(names), done), highlight=False)
            else:
                click.echo(_loaded(feed, len(names), done), err=True)
    return refused


def _loaded(feed: "Feed", files: int, done: "Ingested") -> str:
    """What became of a feed, in one line."""

    def count(number: int, noun: str) -> str:
        return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

    loaded = f"{count(done.rows, 'row')} of {count(done.stores, 'store')}"
    if files > 1:
        loaded += f" in {files} files"
    new = str(done.new) if feed in ("polls", "exclusions") else count(done.new, "store")
    told = (
        f"{_words(feed)}: {loaded}: {new} new, {done.replaced} replaced, {done.unchanged} unchanged"
    )
    if done.removed:
        what = "name, tag or target" if feed == "stores" else "week with a date"
        plural = "names, tags and targets" if feed == "stores" else "weeks with a date"
        told += f", {done.removed} {what if done.removed == 1 else plural} taken away"
    return told


def _words(feed: "Feed") -> str:
    return feed.replace("_", " ")


def _name(file: str) -> str:
    return "standard input" if file == "-" else file


def _size(files: Sequence[str]) -> int | None:
    """Bytes of some files; None: unknown."""
    return None if "-" in files else sum(Path(file).stat().st_size for file in files)


async def _pieces(
    file: str, bar: "ProgressBar | None", task: "TaskID | None"
) -> AsyncIterator[bytes]:
    """The bytes of a file; the bar shows how many were read."""
    import asyncio

    with click.open_file(file, "rb") as source:
        while piece := await asyncio.to_thread(source.read, _READ_BYTES):
            yield piece
            if bar and task is not None:
                bar.advance(task, len(piece))


def _check_groups_file(name: str) -> None:
    """Refuse a file of groups that could not be written, before there is anything to write."""
    from service.reports.group_tables import SheetsNotInstalled, can_be_made

    if not name.endswith((".csv", ".xlsx")):
        raise click.BadParameter("must end in .csv or .xlsx", param_hint="--groups")
    if name.endswith(".xlsx") and not can_be_made():
        raise SheetsNotInstalled


async def _report(
    settings: "Settings",
    options: "ReportOptions",
    out: str,
    form: Form = "csv",
    groups: str | None = None,
) -> None:
    from service.output_file import open_output
    from service.workers.pool import Workers

    if form == "parquet":
        from service.reports.parquet import NoParquet, has_parquet

        if not has_parquet():
            raise NoParquet
    workers = Workers(settings.workers, here=1)
    try:
        async with AsyncExitStack() as opened:
            file = await opened.enter_async_context(open_output(out))
            groups_file = None
            if groups is not None:
                groups_file = await opened.enter_async_context(open_output(groups))
            pool = await opened.enter_async_context(_opened(settings, "service.reports.pipeline"))
            from service.reports.pipeline import write_report

            # If the rows go to a terminal they show the progress, and a bar would cut into them.
            with _bar(sys.stderr.isatty() and not file.isatty(), of_stores=True) as bar:
                task = bar.add_task("Computing") if bar else None

                def show(progress: "Progress") -> None:
                    if bar and task is not None:
                        done, total = progress.stores_done, progress.stores_total
                        bar.update(task, completed=done, total=total)

                if form == "csv":
                    done = await write_report(pool, workers, options, file, show)
                else:
                    totals = opened.enter_context(TemporaryFile())  # noqa: SIM115 - it closes it
                    done = await write_report(pool, workers, options, _Nowhere(), show, totals)
                    await _convert(totals, options, done, file, form)
            if done.polls_kept_since is not None:
                _tell_of_dropped_polls(done.polls_kept_since)
            if groups_file is not None:
                as_sheet = str(groups).endswith(".xlsx")
                _write_groups(groups_file, options, done, as_sheet=as_sheet)
    finally:
        workers.close()


def _tell_of_dropped_polls(kept_since: int) -> None:
    from compute.instants import instant_of

    click.echo(
        f"Polls are kept from {instant_of(kept_since):%Y-%m-%d} UTC on: of the time before, "
        "nothing is known.",
        err=True,
    )


class _Nowhere:
    """Takes the CSV of a report that is written in another form."""

    def write(self, rows: bytes, /) -> None:
        """Forget it."""


def _write_groups(
    file: "Output", options: "ReportOptions", report: "Progress", *, as_sheet: bool
) -> None:
    """Write the groups of a report, as CSV or as a spreadsheet."""
    from tempfile import TemporaryDirectory

    from service.reports.group_tables import GroupSheet, csv_header, csv_rows
    from service.reports.pipeline import question_of
    from service.reports.windows import window_names

    if report.groups is None:
        return
    keys = options.group_by or ()
    windows = list(enumerate(window_names(question_of(options, report.as_of).windows)))
    if not as_sheet:
        file.write(csv_header(keys))
        for some in report.groups.columns():
            file.write(csv_rows(some.groups(), windows, escape_formulas=options.escape_formulas))
        return
    with TemporaryFile() as made, TemporaryDirectory() as folder:
        sheet = GroupSheet(made, folder, keys, windows)
        for some in report.groups.columns():
            sheet.add(some.groups())
        sheet.close()
        made.seek(0)
        while piece := made.read(_READ_BYTES):
            file.write(piece)


async def _convert(
    totals: IO[bytes],
    options: "ReportOptions",
    done: "Progress",
    file: "Output",
    form: Form,
) -> None:
    """Write a finished report in another form than CSV, from the totals of its stores."""
    import asyncio

    from compute.packed_totals import StoreTotals
    from service.reports.parquet import about_report, parquet
    from service.reports.pipeline import question_of
    from service.reports.told_stores import ndjson
    from service.reports.windows import window_names

    totals.flush()

    def read(start: int, length: int) -> bytes:
        return os.pread(totals.fileno(), length, start)

    stores = StoreTotals(read, os.fstat(totals.fileno()).st_size)
    asked = question_of(options, done.as_of).windows
    if form == "ndjson":
        pieces = ndjson(stores, window_names(asked))
    else:
        about = about_report(
            options,
            done.as_of,
            fingerprint=done.fingerprint,
            polls_kept_since=done.polls_kept_since,
        )
        pieces = parquet(stores, asked, done.as_of, about)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        await asyncio.to_thread(file.write, piece)


@asynccontextmanager
async def _opened(settings: "Settings", needed: str) -> "AsyncIterator[asyncpg.Pool]":
    """The database. While it answers, or its server starts, the module needed next is loaded."""
    from service.database.pool import open_pool

    threading.Thread(target=import_module, args=[needed]).start()
    async with open_pool(settings.database_url, settings.home, own=False) as pool:
        yield pool


@contextmanager
def _bar(seen: bool, *, of_stores: bool = False) -> "Iterator[ProgressBar | None]":
    """A bar on the terminal; None if nobody would see it, which saves the time of loading it.

    Args:
        seen: whether standard error is a terminal that may be written to
        of_stores: whether it counts stores; else it counts bytes
    """
    if not seen:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as ProgressBar

    counts = (MofNCompleteColumn(), TextColumn("stores")) if of_stores else (DownloadColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *counts, TimeRemainingColumn())
    console = Console(stderr=True)
    with ProgressBar(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        yield bar


if __name__ == "__main__":
    main()
