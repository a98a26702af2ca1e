"""`make bench`: storewatch beside what a user would write instead, in one run, in turns.

Each command prints medians and ratios; tests/bench/README.md tells the story.
"""

import asyncio
import csv
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from operator import truediv
from pathlib import Path

import asyncpg
import click
import httpx
import psutil

from compute.instants import milliseconds_of
from compute.windows import resolve_windows
from service.feeds.ingest import FeedFile, ingest
from service.feeds.made_up import FeedFiles
from service.feeds.spool import spool_folder
from service.reports.options import ReportOptions
from service.reports.pipeline import Progress, write_report
from service.workers.pool import Workers
from tests.bench import cluster, live, millions, pages, queryable, stages, states, storage, subject
from tests.bench.measure import PeakMemory, console, held_by, in_turns, show
from tests.harness.feeds import ingest as ingest_command
from tests.harness.service import Service, running_service

HOURS = 10  # files of the hourly append
#: A month, half of the next one, and what speaks into the first of its days.
_DAYS_OF_WINDOWS = 45


_FEED = click.option(
    "--feed",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with three files, plain or gzip, instead of made-up stores.",
)


@click.group(invoke_without_command=True)
@click.option("--folder", default=".bench", show_default=True, type=click.Path(path_type=Path))
@click.pass_context
def main(context: click.Context, folder: Path) -> None:
    """Measure. Without a command: compare, at 14,000 stores."""
    folder = folder.absolute()
    folder.mkdir(exist_ok=True)
    context.obj = folder
    if context.invoked_subcommand is None:
        context.invoke(compare)


@main.command()
@click.option("--stores", default=14_000, show_default=True)
@_FEED
@click.option("--rounds", default=7, show_default=True)
@click.option("--load-rounds", default=3, show_default=True)
@click.pass_obj
def compare(folder: Path, stores: int, feed: Path | None, rounds: int, load_rounds: int) -> None:
    """The same report, and loading the same files, by storewatch, DuckDB and Polars."""
    from tests.bench import duckdb_rival, polars_rival  # only here: needs the extra `bench`

    files = subject.given(folder, feed) if feed else subject.made_up(folder, stores)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, ExitStack() as stack:
        place = Path(scratch)
        place.chmod(0o755)
        home = place / "storewatch"
        service = stack.enter_context(running_service(None, home))
        client = stack.enter_context(httpx.Client(base_url=service.base_url))
        rivals = {"DuckDB": duckdb_rival.load, "Polars": polars_rival.load}
        _compare_loads(place, home, files, rivals, load_rounds)

        duckdb = stack.enter_context(duckdb_rival.opened(place / "duckdb"))
        polars = stack.enter_context(polars_rival.opened(place / "polars"))
        results = {
            "storewatch": subject.report(service, client),
            "DuckDB": place / "duckdb.csv",
            "Polars": place / "polars.csv",
        }
        duckdb(results["DuckDB"])
        polars(results["Polars"])
        _compare_cells(results)
        taken = in_turns(
            {
                "storewatch": partial(_report, service, client),
                "DuckDB": lambda: duckdb(results["DuckDB"]),
                "Polars": lambda: polars(results["Polars"]),
            },
            rounds,
        )
        show("Report, from trigger to finished CSV, warm", taken, against="DuckDB")
        with PeakMemory(service.pid) as memory:  # not while times are taken: to look costs time
            for _ in range(rounds):
                subject.report(service, client)
        console.print(f"storewatch, all processes together: at most {memory.mebibytes:.0f} MiB")


def _report(
    service: Service, client: httpx.Client, options: Mapping[str, object] | None = None
) -> None:
    subject.report(service, client, options)


def _compare_loads(
    place: Path,
    home: Path,
    files: FeedFiles,
    rivals: Mapping[str, Callable[[FeedFiles, Path], None]],
    rounds: int,
) -> None:
    """Load everything once a round; the service's database keeps what the last round loaded."""

    async def _command(pool: asyncpg.Pool, workers: Workers, files: FeedFiles) -> None:
        await asyncio.to_thread(ingest_command, files, database_url=None, home=home)

    async def run() -> None:
        async with subject.loader(home) as (pool, workers):
            await subject.load(pool, workers, files)  # workers are warm from here
            ours = {"storewatch, its command": _command, "storewatch, running": subject.load}
            taken: dict[str, list[float]] = {name: [] for name in (*ours, *rivals)}
            for turn in range(rounds):
                for name, load in ours.items():
                    await pool.execute(
                        "truncate store, poll_day, newest_poll_row restart identity cascade"
                    )
                    await pool.execute("checkpoint")
                    begin = time.perf_counter()
                    await load(pool, workers, files)
                    taken[name].append(time.perf_counter() - begin)
                for name, rival_load in rivals.items():
                    target = place / (name.lower() if turn == rounds - 1 else f"{name}-{turn}")
                    target.mkdir()
                    begin = time.perf_counter()
                    rival_load(files, target)
                    taken[name].append(time.perf_counter() - begin)
            show("Load, from .csv to durable and queryable", taken, against="DuckDB")

    asyncio.run(run())


def _compare_cells(results: dict[str, Path]) -> None:
    """Stop unless all say the same, cell by cell."""
    tables = {name: list(csv.reader(file.open(newline=""))) for name, file in results.items()}
    ours = tables.pop("storewatch")
    for name, theirs in tables.items():
        if len(ours) != len(theirs):
            raise click.ClickException(f"{name} has {len(theirs)} rows, storewatch {len(ours)}")
        for line, (our_row, their_row) in enumerate(zip(ours, theirs, strict=True), 1):
            if our_row != their_row:
                raise click.ClickException(
                    f"line {line} differs: {name} {their_row}, storewatch {our_row}"
                )
    console.print(f"All agree on {len(ours) - 1:,} stores, cell by cell.")


@main.command()
@click.option("--stores", default=14_000, show_default=True)
@click.pass_obj
def append(folder: Path, stores: int) -> None:
    """One new poll per store, hour after hour, on top of a loaded week."""
    files = subject.made_up(folder, stores)

    async def run() -> list[float]:
        with tempfile.TemporaryDirectory(dir=folder) as home:
            Path(home).chmod(0o755)
            async with subject.loader(Path(home)) as (pool, workers):
                await subject.load(pool, workers, files)
                aside = spool_folder(Path(home))
                ids = [row["store_id"] for row in await pool.fetch("select store_id from store")]
                taken = []
                for polls in subject.hourly_polls(ids, HOURS):
                    begin = time.perf_counter()
                    hour = [FeedFile("", _one(polls))]
                    await ingest(pool, workers, "polls", hour, aside=aside)
                    taken.append(time.perf_counter() - begin)
                return taken

    taken = asyncio.run(run())
    console.print(
        f"Hourly append of {stores:,} polls: median {statistics.median(taken):.3f} s, "
        f"worst {max(taken):.3f} s of {len(taken)}"
    )


async def _one(text: bytes) -> AsyncIterator[bytes]:
    yield text


@main.command()
@click.option("--stores", default="10000,100000,1000000", show_default=True, help="Sizes.")
@click.option("--rounds", default=3, show_default=True)
@click.pass_obj
def scale(folder: Path, stores: str, rounds: int) -> None:
    """Reports over more and more stores, each with a week of polls: time and memory."""
    sizes = sorted(map(int, stores.split(",")))
    polls: dict[int, int] = {}
    memory: dict[int, float] = {}
    report: dict[str, Callable[[], None]] = {}
    with ExitStack() as stack:
        for size in sizes:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
            home.chmod(0o755)
            service = stack.enter_context(running_service(None, home))
            client = stack.enter_context(httpx.Client(base_url=service.base_url, timeout=60))
            polls[size] = asyncio.run(_load_many(home, folder, size))
            report[f"{size:,}"] = partial(_report, service, client)
            with PeakMemory(service.pid) as peak:
                subject.report(service, client)
            memory[size] = peak.mebibytes
        taken = in_turns(report, rounds)
    for size in sizes:
        console.print(
            f"{size:,} stores, {polls[size]:,} polls: "
            f"all processes together at most {memory[size]:.0f} MiB"
        )
    show("Reports by number of stores", taken, against=f"{sizes[0]:,}")
    for small, large in pairwise(sizes):
        ratios = map(truediv, taken[f"{large:,}"], taken[f"{small:,}"])
        console.print(
            f"{small:,} to {large:,}: {large / small:g} times the stores, "
            f"{statistics.median(ratios):.2f} times the time"
        )


async def _load_many(home: Path, folder: Path, stores: int) -> int:
    async with subject.loader(home) as (pool, workers):
        return await subject.load_many(pool, workers, folder, stores)


@main.command()
@click.option("--stores", default=28_000, show_default=True)
@click.option("--rounds", default=9, show_default=True)
@click.option("--one-core", is_flag=True, help="Pin everything, PostgreSQL too, to one core.")
@click.pass_obj
def in_flight(folder: Path, stores: int, rounds: int, one_core: bool) -> None:
    """A report with 1, 2, 4, 8, 16, 60 batches in flight, and with the limit that is measured."""
    if one_core and os.environ.get("STOREWATCH_BENCH_PINNED") is None:
        command = ["taskset", "--cpu-list", "0", sys.executable, "-m", "tests.bench"]
        arguments = ["--folder", str(folder), "in-flight", "--one-core"]
        numbers = ["--stores", str(stores), "--rounds", str(rounds)]
        pinned = {**os.environ, "STOREWATCH_BENCH_PINNED": "1"}
        sys.exit(subprocess.run([*command, *arguments, *numbers], env=pinned).returncode)
    files = subject.made_up(folder, stores)

    async def run() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as home:
            Path(home).chmod(0o755)
            async with subject.loader(Path(home)) as (pool, loading):
                await subject.load(pool, loading, files)
                limits: dict[str, Workers] = {
                    f"{fixed} in flight": Workers(fixed, start=fixed, adapt=False)
                    for fixed in (1, 2, 4, 8, 16, 60)
                }
                limits["adaptive"] = Workers(60)
                limits["adaptive from 1"] = Workers(60, start=1)
                taken: dict[str, list[float]] = {name: [] for name in limits}
                for turn in range(rounds + 1):
                    for name, workers in limits.items():
                        begin = time.perf_counter()
                        await write_report(pool, workers, ReportOptions(), io.BytesIO(), _quiet)
                        if turn:  # the first starts processes
                            taken[name].append(time.perf_counter() - begin)
                best = min(
                    (name for name in taken if not name.startswith("adaptive")),
                    key=lambda name: statistics.median(taken[name]),
                )
                show(f"{stores:,} stores, by batches in flight", taken, against=best)
                for name, workers in limits.items():
                    processes = workers.processes()
                    console.print(
                        f"{name}: {workers.limit} in flight at the end, {len(processes)} processes "
                        f"of together {held_by(map(psutil.Process, processes)):.0f} MiB"
                    )
                    workers.close()

    asyncio.run(run())


def _quiet(_: Progress) -> None: ...


@main.command(name="stages")
@click.option("--stores", default=14_000, show_default=True)
@_FEED
@click.option("--rounds", default=7, show_default=True)
@click.pass_obj
def show_stages(folder: Path, stores: int, feed: Path | None, rounds: int) -> None:
    """Where the time of a report goes, stage by stage, and how far each is from its limit."""
    files = subject.given(folder, feed) if feed else subject.made_up(folder, stores)

    async def run() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as home:
            Path(home).chmod(0o755)
            async with subject.loader(Path(home)) as (pool, workers):
                await subject.load(pool, workers, files)
                await stages.show_stages(pool, rounds)

    asyncio.run(run())


@main.command()
@click.option("--stores", default=14_000, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.pass_obj
def windows(folder: Path, stores: int, rounds: int) -> None:
    """Reports over other windows, beside DuckDB; and a day of long ago."""
    from tests.bench import duckdb_rival  # only here: needs the extra `bench`

    files = subject.made_up(folder, stores, days=_DAYS_OF_WINDOWS)
    as_of = milliseconds_of(subject.NEWEST)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, ExitStack() as stack:
        place = Path(scratch)
        place.chmod(0o755)
        home = place / "storewatch"
        service = stack.enter_context(running_service(None, home))
        client = stack.enter_context(httpx.Client(base_url=service.base_url))
        ingest_command(files, database_url=None, home=home)
        (place / "duckdb").mkdir()
        duckdb_rival.load(files, place / "duckdb")
        for texts in (["30d"], ["days:2024-05"]):
            asked = {"windows": texts, "calendar": "UTC"}
            with duckdb_rival.opened_for_windows(
                place / "duckdb", resolve_windows(texts, as_of, "UTC"), as_of
            ) as duckdb:
                results = {
                    "storewatch": subject.report(service, client, asked),
                    "DuckDB": place / "duckdb.csv",
                }
                duckdb(results["DuckDB"])
                _compare_cells(results)
                taken = in_turns(
                    {
                        "storewatch": partial(_report, service, client, asked),
                        "DuckDB": partial(duckdb, results["DuckDB"]),
                    },
                    rounds,
                )
            show(f"Report over {texts[0]}, {stores:,} stores", taken, against="DuckDB")
        days = {
            f"the day {text}": partial(_report, service, client, {"windows": [text]})
            for text in ("2024-06-12", "2024-05-01")
        }
        last = {"the last hour, day and week": partial(_report, service, client)}
        show(
            "A day now, and long ago", in_turns({**last, **days}, rounds), against=next(iter(last))
        )


@main.command()
@click.option("--stores", default=100_000, show_default=True)
@click.option("--groups", "count", default=5_000, show_default=True, help="How many there are.")
@click.option("--rounds", default=15, show_default=True)
@click.pass_obj
def groups(folder: Path, stores: int, count: int, rounds: int) -> None:
    """A report by groups, also with a target, beside the same report without."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch, ExitStack() as stack:
        home = Path(scratch)
        home.chmod(0o755)
        service = stack.enter_context(running_service(None, home))
        client = stack.enter_context(httpx.Client(base_url=service.base_url, timeout=60))
        asyncio.run(_load_tagged(home, folder, stores, count))
        by = {"group_by": ["brand", "city"]}
        reports = {
            "without": partial(_report, service, client, {}),
            "by groups": partial(_report, service, client, by),
            "by groups, with a target": partial(_report, service, client, by | {"target": "0.995"}),
        }
        in_turns(reports, 2)  # workers are warm from here
        taken = in_turns(reports, rounds)
        show(f"{stores:,} stores in {count:,} groups", taken, against="without")
        for name, report in reports.items():
            with PeakMemory(service.pid) as memory:
                report()
            console.print(f"{name}: all processes together at most {memory.mebibytes:.0f} MiB")


async def _load_tagged(home: Path, folder: Path, stores: int, groups: int) -> None:
    """Made-up stores with a week of polls, each in one of many groups at random."""
    async with subject.loader(home) as (pool, workers):
        await subject.load_many(pool, workers, folder, stores)
        await pool.execute(
            """
            update store set name = 'Store ' || id, tags = jsonb_build_object(
                'brand', 'brand ' || number / 100, 'city', 'city ' || number % 100, 'kind', 'shop'
            )
            from (select id as store, abs(hashint4(id)) % $1 as number from store) as chosen
            where id = store
            """,
            groups,
            timeout=600,
        )
        await pool.execute("vacuum (full, analyze) store", timeout=600)


@main.command(name="cluster")
@click.option("--stores", default=100_000, show_default=True)
@click.option("--rounds", default=7, show_default=True)
@click.pass_obj
def show_cluster(folder: Path, stores: int, rounds: int) -> None:
    """A report by a cluster on this machine, and by an instance's own workers."""
    cluster.measure(folder, stores=stores, rounds=rounds)


@main.command(name="large")
@click.option("--stores", default=10_000_000, show_default=True)
@click.pass_obj
def show_large(folder: Path, stores: int) -> None:
    """One report over very many stores with a day of polls, by own workers and by a cluster."""
    millions.measure(folder, stores=stores)


@main.command(name="queryable")
@click.option("--stores", default=14_000, show_default=True)
@click.option("--rounds", default=9, show_default=True)
@click.option("--window", "windows", multiple=True, help="May be repeated.  [default: the three]")
@click.pass_obj
def show_queryable(folder: Path, stores: int, rounds: int, windows: tuple[str, ...]) -> None:
    """Reports whose stores can be queried by SQL, beside others; and queries."""
    queryable.measure(folder, stores=stores, rounds=rounds, windows=list(windows))


@main.command(name="states")
@click.option("--stores", default=14_000, show_default=True)
@click.option("--rounds", default=9, show_default=True)
@click.pass_obj
def show_states(folder: Path, stores: int, rounds: int) -> None:
    """Looks at all stores to tell their states, and at those with polls."""
    states.measure(folder, stores=stores, rounds=rounds)


@main.command(name="live")
@click.option("--stores", default=14_000, show_default=True)
@click.option("--connections", default="1,16,128,512", show_default=True, help="Numbers of them.")
@click.option("--seconds", default=5.0, show_default=True, help="Of a phase.")
@click.option("--rounds", default=3, show_default=True)
@click.option(
    "--bulk-polls",
    default=20_000_000,
    show_default=True,
    help="Older polls, about, that are loaded beside single ones; 0: none.",
)
@click.pass_obj
def show_live(
    folder: Path, stores: int, connections: str, seconds: float, rounds: int, bulk_polls: int
) -> None:
    """Single polls, one a request, beside a row per poll; then beside reports, reads and a load."""
    numbers = list(map(int, connections.split(",")))
    live.measure(
        folder,
        stores=stores,
        connections=numbers,
        seconds=seconds,
        rounds=rounds,
        bulk_polls=bulk_polls,
    )


@main.command(name="pages")
@click.option("--stores", default=1_000_000, show_default=True)
@click.option("--rounds", default=20, show_default=True, help="Pages of each kind after the first.")
@click.option("--windows", default=0, show_default=True, help="How many; 0: the default three.")
@click.option("--every-option", is_flag=True, help="Also groups, windows, SQL and all columns.")
@click.pass_obj
def show_pages(folder: Path, stores: int, rounds: int, windows: int, every_option: bool) -> None:
    """Pages and downloads of a finished report over many stores with names, tags and targets."""
    pages.measure(folder, stores=stores, rounds=rounds, windows=windows, every_option=every_option)


@main.command(name="storage")
@click.option("--stores", default=1_400, show_default=True)
@click.option("--every", default=1, show_default=True, help="Minutes between a store's polls.")
@click.option("--minutes", default=24 * 60, show_default=True, help="Of live polls.")
@click.option("--group", default=100, show_default=True, help="Polls stored at a time.")
@click.option(
    "--try",
    "choices",
    multiple=True,
    help="Settings of poll_day, such as 'fillfactor=70 storage=main toast_tuple_target=8160 "
    "vacuum_share=0.05'; may be repeated. Without one: as it is.",
)
@click.option("--rounds", default=7, show_default=True, help="Of reports.")
@click.pass_obj
def show_storage(
    folder: Path,
    stores: int,
    every: int,
    minutes: int,
    group: int,
    choices: tuple[str, ...],
    rounds: int,
) -> None:
    """What live polls do to the table of polls: its growth, the log, and reports afterwards."""
    try:
        tried = [storage.Choice.read(text) for text in choices or ("",)]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--try") from None
    asyncio.run(
        storage.measure(
            folder,
            tried,
            stores=stores,
            every=every,
            minutes=minutes,
            group=group,
            rounds=rounds,
        )
    )


if __name__ == "__main__":
    main()
