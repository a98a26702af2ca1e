"""What must hold when it is quiet again: the database, the files, the numbers, the logs."""

import asyncio
import hashlib
import json
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg

from compute.instants import EPOCH
from service.feeds.made_up import FeedFiles
from tests.harness.feeds import read_stores
from tests.harness.processes import storewatch
from tests.harness.reference import HOUR, Store, reference_csv_row
from tests.soak.client import Asking
from tests.soak.findings import Invariant
from tests.soak.instances import Instance, Sample
from tests.soak.ledger import May, Week
from tests.soak.load import QUESTIONS, World

#: How long reports and files may take to come to rest after the last request, seconds.
_QUIET_SECONDS = 60.0
#: What the last third of the samples may have more than the first, medians.
_MORE_MEBIBYTES, _TIMES_MEBIBYTES = 48.0, 1.25
_KEPT_BY_WORKER = 64.0  # MiB, as service/workers/pool.py has it
_MORE_DESCRIPTORS, _MORE_PROCESSES = 40, 4
#: Stores that the slow reference checks, and the most polls of each that it takes in its stride.
_CHECKED_STORES, _CHECKED_POLLS = 12, 300
_MILLISECOND = timedelta(milliseconds=1)
#: The line of a stack that names the exception.
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception|Exit|Problem|Pool|Interrupt)\b")


async def come_to_rest(world: World, database_url: str, reports: Path) -> None:
    """Wait until no report waits or runs, and no file is unfinished."""
    begun = time.monotonic()
    connection = await asyncpg.connect(database_url)
    try:
        while True:
            left = await connection.fetchval(
                "select count(*) from report where state in ('queued', 'running')"
            )
            unfinished = [path.name for path in reports.iterdir() if path.name.startswith(".")]
            if not left and not unfinished:
                return
            if time.monotonic() - begun > _QUIET_SECONDS:
                break
            await asyncio.sleep(0.5)
    finally:
        await connection.close()
    if left:
        what = f"reports still wait or run after {_QUIET_SECONDS:.0f} s of quiet"
        world.findings.add(Invariant.REPORTS, what)
    for name in unfinished:
        world.findings.add(Invariant.FILES, f"an unfinished file is left: {name}")


async def check_rows(world: World, connection: asyncpg.Connection) -> None:
    """The view `poll`, and the stores that there are, against the ledger."""
    ledger, findings = world.ledger, world.findings
    seen: set[tuple[str, int]] = set()
    counts = Counter[str]()
    async with connection.transaction():
        cursor = connection.cursor(
            """
            select store_id, (extract(epoch from instant) * 1000)::bigint, status = 'active'
            from poll where store_id <> all ($1::text[])
            """,
            sorted(world.frozen),
            prefetch=10_000,
        )
        async for store_id, instant, active in cursor:
            if (store_id, instant) in seen:
                findings.add(Invariant.ROWS, f"a poll is there twice: {store_id} {instant}")
            seen.add((store_id, instant))
            may = ledger.polls.get(store_id, {}).get(instant, May.ABSENT)
            value = May.ACTIVE if active else May.INACTIVE
            if not may & value:
                what = f"a poll is there {value.name}, but must be {may!r}: {store_id} {instant}"
                findings.add(Invariant.ROWS, what)
    for store_id, polls in ledger.polls.items():
        for instant, may in polls.items():
            here = (store_id, instant) in seen
            if May.ABSENT in may:
                counts["removed or never answered, and " + ("there" if here else "absent")] += 1
            else:
                counts["acknowledged"] += 1
                if not here:
                    what = f"an acknowledged poll is lost: {store_id} {instant}"
                    findings.add(Invariant.ROWS, what)
    sent = {*ledger.polls, *(store_id for _, store_id in ledger.settings)}
    for (store_id,) in await connection.fetch("select store_id from store"):
        if store_id not in sent and store_id not in world.frozen:
            findings.add(Invariant.ROWS, f"a store is there that no good request named: {store_id}")
    findings.figures[Invariant.ROWS] = _told(counts)


async def check_settings(world: World, connection: asyncpg.Connection) -> None:
    """The view `business_hours` and the stores' zones against the ledger."""
    weeks, zones = await _settings(connection)
    for (kind, store_id), may in world.ledger.settings.items():
        is_: Week | str | None
        is_ = tuple(sorted(weeks.get(store_id, ()))) if kind == "hours" else zones.get(store_id)
        if is_ not in may:
            what = f"{store_id}: {kind} are {is_}, not what was acknowledged"
            world.findings.add(Invariant.SETTINGS, what)
    single = sum(len(may) == 1 for may in world.ledger.settings.values())
    world.findings.figures[Invariant.SETTINGS] = (
        f"{single} certain, {len(world.ledger.settings) - single} one of several"
    )


async def check_reports(world: World, connection: asyncpg.Connection, folder: Path) -> None:
    """The table `report` against what was asked for, and the folder against the table."""
    findings = world.findings
    rows = {
        row["id"]: row
        for row in await connection.fetch(
            "select id, state, error, idempotency_key, file_size, file_name, file_sha256, "
            "totals_size from report"
        )
    }
    disk_was_full = any(strike.name.startswith("disk of") for strike in world.strikes)
    for report_id, asked in world.reports.items():
        row = rows.get(report_id)
        if row is None:
            if not asked.deleting:
                findings.add(Invariant.REPORTS, f"a report that was asked for is lost: {report_id}")
        elif asked.deleted:
            findings.add(Invariant.REPORTS, f"a deleted report is there: {report_id}")
    for report_id, row in rows.items():
        if row["idempotency_key"] not in world.keys:
            findings.add(Invariant.REPORTS, f"a report that nobody asked for: {report_id}")
        full = disk_was_full and "is full" in (row["error"] or "")
        if row["state"] == "failed" and not full:
            findings.add(Invariant.REPORTS, f"a report failed: {row['error']}")
        if row["state"] == "cancelled" and not (
            report_id in world.reports
            and (world.reports[report_id].cancelled or world.reports[report_id].deleting)
        ):
            findings.add(Invariant.REPORTS, "a report is cancelled that nobody cancelled")
    files = {path.name: path for path in folder.iterdir()}
    # Reports expire all the while, and then their files go.
    completed = "select id from report where state = 'completed'"
    still = {row["id"] for row in await connection.fetch(completed)}
    for report_id, row in rows.items():
        if row["state"] == "completed":
            path = files.pop(row["file_name"], None)
            if report_id not in still:
                files.pop(row["file_name"].removesuffix("csv") + "totals", None)
                continue
            if path is None:
                findings.add(Invariant.FILES, f"a completed report has no file: {report_id}")
            elif hashlib.sha256(path.read_bytes()).digest() != row["file_sha256"]:
                findings.add(Invariant.FILES, f"a file is not what was completed: {report_id}")
            totals = files.pop(row["file_name"].removesuffix("csv") + "totals", None)
            if totals is None or totals.stat().st_size != row["totals_size"]:
                findings.add(Invariant.FILES, f"a report lacks its stores' totals: {report_id}")
    # What died between file and row may leave one to a report that was then cancelled or failed.
    ended = {str(one) for one, row in rows.items() if row["state"] in ("cancelled", "failed")}
    for name in files:
        if not name.startswith(".") and name.partition(".")[0] not in ended:  # told before
            findings.add(Invariant.FILES, f"a file belongs to no completed report: {name}")
    states = Counter(row["state"] for row in rows.values())
    deleted = sum(asked.deleted for asked in world.reports.values())
    findings.figures[Invariant.REPORTS] = f"{_told(states)}; {deleted} deleted before"
    findings.figures[Invariant.FILES] = f"{states['completed']} files"


async def check_numbers(
    world: World, connection: asyncpg.Connection, database_url: str, home: Path, feed: FeedFiles
) -> None:
    """Reports against ones that are made alone, and a part of those against the slow reference."""
    findings = world.findings
    for question in QUESTIONS:
        lines = (await _alone(database_url, home, question.arguments())).decode().splitlines()
        lines = [line for line in lines if line.partition(",")[0] in world.frozen | {"store_id"}]
        for kept in world.csvs.get(question, set()):
            if not set(kept) <= set(lines) or kept[0] != lines[0]:
                other = sorted(set(kept) - set(lines))
                what = f"a report of {question.as_of} differs from one made alone: {other[:2]}"
                findings.add(Invariant.NUMBERS, what)
    alone = await _alone(database_url, home, [])
    for instance in world.instances:
        if await _report_of(world, instance) != alone:
            findings.add(Invariant.NUMBERS, f"the last report of {instance} differs from one alone")
    checked = await _against_reference(world, connection, alone, feed, database_url, home)
    different = sum(map(len, world.csvs.values()))
    findings.figures[Invariant.NUMBERS] = (
        f"{different} of data that stands still, the last of each instance, "
        f"{checked} lines by the slow reference"
    )


async def _against_reference(
    world: World,
    connection: asyncpg.Connection,
    alone: bytes,
    feed: FeedFiles,
    database_url: str,
    home: Path,
) -> int:
    """Hold some lines of the default report, and of one question, to the slow reference."""
    as_of = await connection.fetchval("select max(instant) from poll")
    lines = alone.decode().splitlines()
    stores = await _some_stores(world, connection)
    for store in stores:
        line = reference_csv_row(store, _to_milliseconds(as_of), "nearest", 24 * HOUR, False)
        if line not in lines:
            world.findings.add(Invariant.NUMBERS, f"the reference says otherwise: {line}")
    question = QUESTIONS[1]
    lines = (await _alone(database_url, home, question.arguments())).decode().splitlines()
    frozen = read_stores(feed)[:_CHECKED_STORES]
    at = _to_milliseconds(datetime.fromisoformat(question.as_of))
    for store in frozen:
        line = reference_csv_row(store, at, "previous", 2 * HOUR, question.unknown)
        if line not in lines:
            world.findings.add(Invariant.NUMBERS, f"the reference says otherwise: {line}")
    return len(stores) + len(frozen)


async def _alone(database_url: str, home: Path, arguments: Sequence[str]) -> bytes:
    done = await asyncio.to_thread(
        storewatch, "report", *arguments, database_url=database_url, home=home
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


async def _report_of(world: World, instance: Instance) -> bytes | None:
    """A default report that is asked of one instance; whoever makes it, it is one of them."""
    asking = Asking(random.Random(world.seed), [instance], world.answers, world.findings)
    async with asking.http:
        key = f"the last of {instance}"
        world.keys.add(key)
        answer = await asking.ask(
            "ask for a report",
            "POST",
            "/reports",
            expected=(202,),
            headers={"Idempotency-Key": key},
        )
        if answer is None:
            return None
        path = f"/reports/{UUID(answer.response.json()['id'])}"
        begun = time.monotonic()
        while time.monotonic() - begun < _QUIET_SECONDS:
            told = await asking.ask("a report", "GET", path)
            if told and told.response.json()["status"] == "completed":
                got = await asking.ask("CSV", "GET", f"{path}/csv")
                return got.response.content if got else None
            await asyncio.sleep(0.2)
    return None


async def _some_stores(world: World, connection: asyncpg.Connection) -> list[Store]:
    """Some stores of the clients, as the database's views show them."""
    few = [store for store, polls in world.ledger.polls.items() if len(polls) <= _CHECKED_POLLS]
    ids = [*few[:_CHECKED_STORES], *(store for _, store in world.ledger.settings)][
        : 2 * _CHECKED_STORES
    ]
    polls = await connection.fetch(
        """
        select store_id, (extract(epoch from instant) * 1000)::bigint, status = 'active'
        from poll where store_id = any ($1::text[])
        """,
        ids,
    )
    weeks, zones = await _settings(connection)
    named = await connection.fetch(
        "select store_id from store where store_id = any ($1::text[])", ids
    )
    return [
        Store(
            store_id,
            tuple((instant, active) for of, instant, active in polls if of == store_id),
            tuple(weeks.get(store_id, ())),
            zones.get(store_id),
        )
        for (store_id,) in named
    ]


async def _settings(
    connection: asyncpg.Connection,
) -> tuple[dict[str, list[tuple[int, int, int]]], dict[str, str]]:
    """Weeks and zones of all stores that have any."""
    weeks: dict[str, list[tuple[int, int, int]]] = {}
    for store_id, weekday, start, end in await connection.fetch(
        "select store_id, weekday, start_local, end_local from business_hours"
    ):
        row = (weekday, start // _MILLISECOND, end // _MILLISECOND)
        weeks.setdefault(store_id, []).append(row)
    zones = await connection.fetch(
        """
        select store.store_id, timezone.name
        from store join timezone on timezone.id = store.timezone
        """
    )
    return weeks, dict(zones)


def check_flatness(world: World) -> None:
    """The first third of each instance's samples against the last."""
    told: list[str] = []
    for instance in world.instances:
        third = len(instance.samples) // 3
        if third < 2:
            told.append(f"{instance}: too few samples")
            continue
        first, last = _median(instance.samples[:third]), _median(instance.samples[-third:])
        told.append(
            f"{instance}: {first.main_mebibytes:.0f} to {last.main_mebibytes:.0f} MiB, its largest "
            f"worker {first.largest_mebibytes:.0f} to {last.largest_mebibytes:.0f} MiB, "
            f"{first.descriptors} to {last.descriptors} descriptors, "
            f"{first.processes} to {last.processes} processes"
        )
        most = Sample(
            _TIMES_MEBIBYTES * first.main_mebibytes + _MORE_MEBIBYTES,
            # The data grow, and batches with them: a worker keeps what it once needed, up to this.
            first.largest_mebibytes + _KEPT_BY_WORKER,
            first.descriptors + _MORE_DESCRIPTORS,
            first.processes + _MORE_PROCESSES,
        )
        if any(is_ > may for is_, may in zip(last, most, strict=True)):
            world.findings.add(Invariant.FLAT, f"{told[-1]}: more than {most}")
    world.findings.figures[Invariant.FLAT] = "; ".join(told)


def _median(samples: Sequence[Sample]) -> Sample:
    columns = zip(*samples, strict=True)
    main, largest, descriptors, processes = (statistics.median_high(column) for column in columns)
    return Sample(main, largest, int(descriptors), int(processes))


def check_logs(world: World) -> None:
    """Whatever logged a stack; what was struck is no excuse for one."""
    levels = Counter[str]()
    for instance in world.instances:
        for log in sorted(instance.home.glob("serve-*.log")):
            raw: list[str] = []
            for line in log.read_text(errors="replace").splitlines():
                if not line.startswith("{"):
                    raw.append(line)
                    continue
                record = json.loads(line)
                levels[record["level"]] += 1
                if "exception" in record:
                    told = f"{record['message']}: {_gist(record['exception'])}"
                    world.findings.add(Invariant.LOGS, told)
            for stack in re.split(r"^Traceback", "\n".join(raw), flags=re.MULTILINE)[1:]:
                ends = re.search(r"^\w.*(?:\n|$)", stack.partition("\n")[2], flags=re.MULTILINE)
                world.findings.add(
                    Invariant.LOGS,
                    f"not by the log: {_gist(stack[: ends.end()] if ends else stack)}",
                )
    world.findings.figures[Invariant.LOGS] = _told(levels)


def _gist(stack: str) -> str:
    """Where in our code, and what."""
    ours = re.findall(r'File "[^"]*/((?:service|compute)/[^"]+)", line (\d+)', stack)
    where = ":".join(ours[-1]) if ours else "not in our code"
    lines = [line.strip(" |+-") for line in stack.splitlines()]
    what = [line for line in lines if _EXCEPTION.match(line)] or [line for line in lines if line]
    return f"{what[-1][:200]} ({where})"


def _to_milliseconds(instant: datetime) -> int:
    return (instant - EPOCH) // _MILLISECOND


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
