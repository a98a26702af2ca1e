"""The soak itself: it holds on a healthy service, and sees what is wrong in a database."""

import asyncio
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from service.database.migrations import migrate
from tests.harness.database import ask
from tests.harness.processes import PATIENCE
from tests.soak.client import Answers, Strikes
from tests.soak.findings import Findings, Invariant
from tests.soak.invariants import check_reports, check_rows, check_settings
from tests.soak.ledger import Ledger, Row
from tests.soak.load import Asked, World

NOON = 1_700_049_600_000  # a day's noon, milliseconds
DAY = NOON // 86_400_000


def test_a_short_soak_without_faults_holds(postgres_server: str, tmp_path: Path) -> None:
    options = ["--minutes", "0.1", "--seed", "1", "--no-faults", "--database-url", postgres_server]
    soak = subprocess.run(
        [sys.executable, "-m", "tests.soak", *options, "--keep", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
    )
    assert soak.returncode == 0, soak.stdout + soak.stderr
    assert "FAILED" not in soak.stdout
    assert len(list(tmp_path.rglob("serve-*.log"))) == 2


@pytest.fixture
def world(database_url: str) -> World:
    """Nothing was sent yet; the database is empty."""

    async def make() -> None:
        connection = await asyncpg.connect(database_url)
        await migrate(connection)
        await connection.close()

    asyncio.run(make())
    findings, strikes = Findings(), Strikes()
    return World(
        seed=1,
        instances=[],
        answers=Answers(strikes, findings),
        strikes=strikes,
        findings=findings,
        ledger=Ledger(newest=0),
        frozen=frozenset(),
        can_cancel=False,
        rate=1,
    )


def found(world: World, database_url: str, reports: Path) -> dict[Invariant, list[str]]:
    async def check() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await check_rows(world, connection)
            await check_settings(world, connection)
            await check_reports(world, connection, reports)
        finally:
            await connection.close()

    asyncio.run(check())
    seen = {one: [what for what, _ in world.findings.against(one)] for one in Invariant}
    return {one: what for one, what in seen.items() if what}


def store(database_url: str, *minutes: int) -> None:
    """Put a store there with active polls so many minutes after noon."""
    polls = b"".join(((43_200_000 + n * 60_000) << 1 | 1).to_bytes(4, "little") for n in minutes)
    ask(database_url, "insert into store (store_id) values ('s')")
    ask(database_url, "insert into poll_day select id, $1, $2 from store", DAY, polls)


def polls(*minutes: int) -> list[Row]:
    return [Row("s", NOON + n * 60_000, active=True) for n in minutes]


def test_polls_that_were_acknowledged_or_never_answered_are_as_they_must_be(
    world: World, database_url: str, tmp_path: Path
) -> None:
    world.ledger.sending(polls(0, 1, 2, 3))
    world.ledger.stored(polls(0, 1))
    store(database_url, 0, 1, 2)
    assert found(world, database_url, tmp_path) == {}


def test_an_acknowledged_poll_that_is_lost_is_seen(
    world: World, database_url: str, tmp_path: Path
) -> None:
    world.ledger.sending(polls(0, 1))
    world.ledger.stored(polls(0, 1))
    store(database_url, 0)
    [seen] = found(world, database_url, tmp_path)[Invariant.ROWS]
    assert seen == f"an acknowledged poll is lost: s {NOON + 60_000}"


def test_polls_that_are_doubled_or_that_nobody_sent_are_seen(
    world: World, database_url: str, tmp_path: Path
) -> None:
    world.ledger.sending(polls(0))
    world.ledger.stored(polls(0))
    store(database_url, 0, 0, 7)
    doubled, never = found(world, database_url, tmp_path)[Invariant.ROWS]
    assert doubled == f"a poll is there twice: s {NOON}"
    assert str(NOON + 7 * 60_000) in never


def test_a_status_that_was_replaced_and_is_back_is_seen(
    world: World, database_url: str, tmp_path: Path
) -> None:
    [row] = polls(0)
    for active in (True, False):
        row.active = active
        world.ledger.sending([row])
        world.ledger.stored([row])
    store(database_url, 0)
    assert len(found(world, database_url, tmp_path)[Invariant.ROWS]) == 1


def test_hours_and_zones_that_nobody_set_are_seen(
    world: World, database_url: str, tmp_path: Path
) -> None:
    store(database_url)
    for zone in ("Europe/Berlin", "Asia/Kathmandu"):
        world.ledger.setting("zone", "s", zone)
        world.ledger.was_set("zone", "s", zone)
    world.ledger.setting("hours", "s", ((0, 0, 60_000),))
    [seen] = found(world, database_url, tmp_path)[Invariant.SETTINGS]
    assert seen == "s: zone are None, not what was acknowledged"


def test_reports_and_files_that_do_not_belong_together_are_seen(
    world: World, database_url: str, tmp_path: Path
) -> None:
    world.reports[uuid4()] = Asked()
    (tmp_path / f"{uuid4()}.csv").write_text("")
    seen = found(world, database_url, tmp_path)
    assert "a report that was asked for is lost" in seen[Invariant.REPORTS][0]
    assert "a file belongs to no completed report" in seen[Invariant.FILES][0]
