"""`make soak`: a mixed load on several instances, faults at random, and what held in the end.

tests/soak/README.md tells what it does and how to read what it prints.
"""

import asyncio
import random
import shutil
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import click
import httpx
from rich.console import Console
from rich.table import Table

from service.database.embedded import embedded_postgres
from service.feeds.made_up import NEWEST, FeedFiles, store_ids, write_feed
from tests.harness.feeds import ingest
from tests.soak import invariants
from tests.soak.client import Answers, Strikes
from tests.soak.disk import small_disk
from tests.soak.faults import Faults
from tests.soak.findings import Findings, Invariant
from tests.soak.instances import Instance
from tests.soak.ledger import Ledger
from tests.soak.load import World, run_clients
from tests.soak.proxy import Proxy

_FROZEN_STORES = 300
_DISK_MEBIBYTES = 64
_SHOWN = 12
# Four worker processes are more than enough for such small reports, and leave memory in sight.
_ENVIRONMENT = {"STOREWATCH_WORKERS": "4", "STOREWATCH_REPORT_TTL": "5m"}
console = Console(width=110, highlight=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", default=10.0, show_default=True, help="How long to load and to strike.")
@click.option("--seed", type=int, help="Of all choices.  [default: a random one]")
@click.option("--instances", default=2, show_default=True, type=click.IntRange(1, 3))
@click.option(
    "--rate", default=20.0, show_default=True, help="Pieces of work a second, all clients together."
)
@click.option("--no-faults", is_flag=True, help="Only the load.")
@click.option(
    "--database-url",
    help="A PostgreSQL server whose superuser this names; the soak makes a database of its own "
    "there.  [default: an embedded one]",
)
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="Folder to copy the logs to."
)
def main(
    minutes: float,
    seed: int | None,
    instances: int,
    rate: float,
    no_faults: bool,
    database_url: str | None,
    keep: Path | None,
) -> None:
    """Load several instances of the service, strike them with faults, and check what must hold."""
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    console.print(f"seed {seed}: {minutes:g} minutes, {instances} instances, {rate:g} a second")
    with tempfile.TemporaryDirectory(prefix="storewatch-soak-") as folder:
        place = Path(folder)
        place.chmod(0o755)  # the account of an embedded server has to get there
        try:
            held = asyncio.run(
                _soak(place, minutes, seed, instances, rate, not no_faults, database_url)
            )
        except asyncio.CancelledError:
            console.print("interrupted: nothing was checked")
            held = False
        finally:
            if keep:
                _keep_logs(place, keep)
    sys.exit(0 if held else 1)


async def _soak(
    place: Path,
    minutes: float,
    seed: int,
    count: int,
    rate: float,
    with_faults: bool,
    server: str | None,
) -> bool:
    """Whether all held."""
    # The services get a Ctrl-C themselves; what they run on is taken down after them.
    this = asyncio.current_task()
    assert this
    for sent in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sent, this.cancel)
    findings, strikes = Findings(), Strikes()
    answers = Answers(strikes, findings)
    feed = write_feed(place / "feed", stores=_FROZEN_STORES)
    async with AsyncExitStack() as stack:
        if server is None:
            server = await stack.enter_async_context(embedded_postgres(place, own=True))
        url = await _new_database(stack, server)
        disks = {
            name: place / name
            for name in ("reports", "temporary files")
            if stack.enter_context(small_disk(place / name, _DISK_MEBIBYTES))
        }
        if with_faults and not disks:
            console.print("left out: full disks, which take root")
        environment = _ENVIRONMENT | {
            "STOREWATCH_REPORTS": str(place / "reports"),
            "STOREWATCH_CONCURRENT_REPORTS": str(4 // count),  # so that 50 connections are enough
            "TMPDIR": str(place / "temporary files"),
        }
        instances = [
            await _started(stack, number, place, url, environment, findings)
            for number in range(1, count + 1)
        ]
        await asyncio.to_thread(ingest, feed, database_url=url, home=place)
        world = World(
            seed=seed,
            instances=instances,
            answers=answers,
            strikes=strikes,
            findings=findings,
            ledger=Ledger(newest=int(NEWEST.timestamp() * 1000)),
            frozen=frozenset(name.decode() for name in store_ids(_FROZEN_STORES).tolist()),
            can_cancel=await _can_cancel(instances[0]),
            rate=rate,
        )
        faults = Faults(random.Random(seed), instances, url, disks, strikes, findings)
        await _work(world, faults, minutes, with_faults)
        console.print("quiet: the last reports, and what must hold")
        await _check(world, url, place, feed)
    invariants.check_logs(world)
    _show(world, faults)
    return not findings


async def _new_database(stack: AsyncExitStack, server: str) -> str:
    """A database that goes when the stack does."""
    name = f"storewatch_soak_{uuid4().hex[:16]}"
    await _execute(server, f"create database {name}")
    stack.push_async_callback(_execute, server, f"drop database {name} with (force)")
    return urlsplit(server)._replace(path=f"/{name}").geturl()


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def _started(
    stack: AsyncExitStack,
    number: int,
    place: Path,
    url: str,
    environment: dict[str, str],
    findings: Findings,
) -> Instance:
    """An instance with a proxy of its own; both end when the stack does."""
    proxy = Proxy(url)
    await proxy.start()
    stack.callback(proxy.stop)
    instance = Instance(number, place / f"instance-{number}", proxy, environment, findings)
    stack.push_async_callback(instance.end, signal.SIGTERM)
    await instance.start()
    return instance


async def _can_cancel(instance: Instance) -> bool:
    """Whether this version cancels reports by a path of its own."""
    async with httpx.AsyncClient() as client:
        document = await client.get(f"{instance.base_url}/schema/openapi.json")
    return "/reports/{report_id}/cancel" in document.json()["paths"]


async def _work(world: World, faults: Faults, minutes: float, with_faults: bool) -> None:
    """Load and strike for some minutes; at the end whatever was begun is ended."""
    async with asyncio.TaskGroup() as watching:
        watches = [watching.create_task(one.watch()) for one in world.instances]
        async with asyncio.TaskGroup() as working:
            working.create_task(run_clients(world))
            struck = asyncio.Event()
            striking = faults.run(struck) if with_faults else struck.wait()
            strikes = working.create_task(striking)
            await asyncio.sleep(60 * minutes)
            struck.set()
            await strikes
            world.over.set()
        for watch in watches:
            watch.cancel()


async def _check(world: World, url: str, place: Path, feed: FeedFiles) -> None:
    reports = place / "reports"
    await invariants.come_to_rest(world, url, reports)
    connection = await asyncpg.connect(url)
    try:
        await invariants.check_numbers(world, connection, url, place, feed)
        await invariants.check_rows(world, connection)
        await invariants.check_settings(world, connection)
        await invariants.check_reports(world, connection, reports)
    finally:
        await connection.close()
    invariants.check_flatness(world)


def _show(world: World, faults: Faults) -> None:
    answers, findings = world.answers, world.findings
    requests = Table("request", "answers", "slowest s", title="Requests")
    for kind in sorted({kind for kind, _ in answers.counts}):
        told = sorted((status, n) for (of, status), n in answers.counts.items() if of == kind)
        slowest = answers.slowest.get(kind)
        requests.add_row(
            kind,
            ", ".join(f"{n} x {status}" for status, n in told),
            "" if slowest is None else f"{slowest:.1f}",
        )
    console.print(requests)
    struck = Table("fault", "times", title="Faults")
    for kind, times in sorted(faults.counts.items()):
        struck.add_row(kind, str(times))
    console.print(struck)
    findings.figures[Invariant.IN_TIME] = (
        f"{sum(answers.counts.values())} requests, slowest {max(answers.slowest.values()):.1f} s"
    )
    findings.figures[Invariant.RECOVERY] = f"slowest {faults.slowest_recovery:.1f} s"
    held = Table("what must hold", "", "figures", title=f"Invariants, seed {world.seed}")
    for invariant in Invariant:
        verdict = "FAILED" if findings.against(invariant) else "ok"
        held.add_row(invariant.value, verdict, findings.figures.get(invariant, ""))
    console.print(held)
    for invariant in Invariant:
        if against := findings.against(invariant):
            console.print(f"FAILED: {invariant.value}")
            for what, times in against[:_SHOWN]:
                console.print(f"  {times} x {what}", soft_wrap=True, markup=False)
            if len(against) > _SHOWN:
                console.print(f"  and {len(against) - _SHOWN} more kinds")


def _keep_logs(place: Path, keep: Path) -> None:
    for log in place.rglob("*.log"):
        to = keep / log.relative_to(place)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, to)


if __name__ == "__main__":
    main()
