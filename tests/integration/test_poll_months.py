"""Polls by months: months are made ahead, and old ones go as a whole, whatever happens between."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from pyarrow import parquet

from compute.instants import date_on, day_of
from service.database import locks
from service.database.migrations import migrate
from service.feeds.poll_months import see_to_months
from tests.harness.database import another_transaction, ask, waiting_for_locks
from tests.harness.processes import eventually, storewatch
from tests.harness.service import Service, running_service

FOR_EVER = timedelta()
Scenario = Callable[[asyncpg.Connection], Awaitable[None]]


def run(database_url: str, scenario: Scenario) -> None:
    """Run a scenario on a migrated database."""

    async def connected() -> None:
        async with connection_to(database_url) as connection:
            await migrate(connection)
            await scenario(connection)

    asyncio.run(connected())


@asynccontextmanager
async def connection_to(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, server_settings={"timezone": "UTC"})
    try:
        yield connection
    finally:
        await connection.close()


async def months(connection: asyncpg.Connection) -> dict[str, str]:
    """The partitions of polls, by name, and from which date to which each is."""
    rows = await connection.fetch(
        """
        select relname, pg_get_expr(relpartbound, pg_class.oid) as bound
        from pg_inherits join pg_class on pg_class.oid = inhrelid
        where inhparent = 'poll_day'::regclass order by relname
        """
    )
    told = {}
    for name, bound in rows:
        words = bound.replace("(", "").replace(")", "").split()
        days = [str(date_on(int(day))) if day.isdigit() else "" for day in (words[3], words[5])]
        told[name] = "/".join(days)
    return told


async def next_begin(connection: asyncpg.Connection) -> datetime:
    """Where the last partition begins."""
    begin = (await months(connection))["poll_day_after"].rstrip("/")
    return datetime.fromisoformat(begin).replace(tzinfo=UTC)


async def add_poll(connection: asyncpg.Connection, instant: datetime) -> None:
    """A poll at a midnight, of a store of its own."""
    await connection.execute(
        """
        with added as (insert into store (store_id) values ($1) returning id)
        insert into poll_day (store, day, polls) select id, $2, '\\x01000000' from added
        """,
        f"{instant:%Y-%m-%d}",
        day_of(instant.date()),
    )
    await connection.execute("select note_newest_poll($1)", instant)


async def polled(connection: asyncpg.Connection) -> list[str]:
    """The stores that have polls, which are named by their date."""
    return [
        store
        for (store,) in await connection.fetch(
            "select store_id from store join poll_day on store = id order by 1"
        )
    ]


def test_months_are_made_when_few_lie_ahead_and_polls_lie_in_theirs(database_url: str) -> None:
    async def scenario(connection: asyncpg.Connection) -> None:
        begin = await next_begin(connection)
        before = await months(connection)
        await see_to_months(connection, FOR_EVER, begin - timedelta(days=93))
        assert await months(connection) == before
        await see_to_months(connection, FOR_EVER, begin - timedelta(days=80))
        after = await months(connection)
        assert len(after) == len(before) + 12
        assert await next_begin(connection) == begin.replace(year=begin.year + 1)
        await add_poll(connection, begin + timedelta(days=31))
        [(partition, options)] = await connection.fetch(
            "select relname, array_to_string(reloptions, ' ') "
            "from poll_day join pg_class on pg_class.oid = poll_day.tableoid"
        )
        assert partition == f"poll_day_{begin + timedelta(days=31):%Y_%m}"
        assert options == "fillfactor=90"

    run(database_url, scenario)


def test_polls_that_came_later_than_all_months_stay_where_they_are(database_url: str) -> None:
    async def scenario(connection: asyncpg.Connection) -> None:
        begin = await next_begin(connection)
        late = begin + timedelta(days=400)
        await add_poll(connection, begin)
        await add_poll(connection, late)
        await see_to_months(connection, FOR_EVER, begin + timedelta(days=10))
        assert await polled(connection) == [f"{begin:%Y-%m-%d}", f"{late:%Y-%m-%d}"]
        told = await months(connection)
        assert await next_begin(connection) > late + timedelta(days=365)
        first, beyond = told[f"poll_day_{begin:%Y_%m}"].split("/")
        assert first == f"{begin:%Y-%m-%d}"
        assert beyond > f"{late + timedelta(days=27):%Y-%m-%d}"
        # Again there is nothing to do.
        await see_to_months(connection, FOR_EVER, begin + timedelta(days=10))
        assert await months(connection) == told

    run(database_url, scenario)


DEATHS = {
    "while it waits to detach the last partition": "pending",
    "when the last partition is detached": "detached",
    "when the last partition is detached, and a poll came before": "detached with a poll",
}


@pytest.mark.parametrize("death", DEATHS.values(), ids=DEATHS)
def test_who_died_in_the_middle_is_taken_over_from(database_url: str, death: str) -> None:
    async def scenario(connection: asyncpg.Connection) -> None:
        begin = await next_begin(connection)
        if death == "detached with a poll":
            await add_poll(connection, begin)
        detach = "alter table poll_day detach partition poll_day_after concurrently"
        if death == "pending":
            async with connection_to(database_url) as reader, reader.transaction():
                await reader.execute("lock table only poll_day in access share mode")
                await connection.execute("set statement_timeout = '100ms'")
                with pytest.raises(asyncpg.QueryCanceledError):
                    await connection.execute(detach)
        else:
            await connection.execute(detach)
        soon = begin - timedelta(days=80)
        await see_to_months(connection, FOR_EVER, soon)
        if death == "detached with a poll":
            assert await polled(connection) == [f"{begin:%Y-%m-%d}"]
            await see_to_months(connection, FOR_EVER, soon)
            assert await polled(connection) == [f"{begin:%Y-%m-%d}"]
        assert await next_begin(connection) >= begin + timedelta(days=365)

    run(database_url, scenario)


def test_whole_months_go_when_reports_have_been_told(database_url: str) -> None:
    async def scenario(connection: asyncpg.Connection) -> None:
        begin = await next_begin(connection)  # after the first partition, and three months
        await see_to_months(connection, FOR_EVER, begin - timedelta(days=80))
        days = [begin - timedelta(days=500), begin + timedelta(days=9), begin + timedelta(days=40)]
        for day in days:
            await add_poll(connection, day)
        kept_for = timedelta(days=50)
        now = begin + timedelta(days=27) + kept_for

        async def told() -> tuple[int | None, int]:
            return tuple(
                await connection.fetchrow("select since_day, cardinality(going) from polls_kept")
            )

        await see_to_months(connection, FOR_EVER, now)
        assert await told() == (None, 0)
        await see_to_months(connection, kept_for, now)
        assert await told() == (day_of(begin.date()), 4)
        assert len(await polled(connection)) == 3
        # Somebody thinks better of it.
        await see_to_months(connection, FOR_EVER, now)
        assert await told() == (None, 0)
        for _ in range(2):
            await see_to_months(connection, kept_for, now)
        assert await polled(connection) == [f"{day:%Y-%m-%d}" for day in days[1:]]
        assert await told() == (day_of(begin.date()), 0)
        tables = "select count(*) from pg_tables where tablename ~ '^poll_day_'"
        assert await connection.fetchval(tables) == len(await months(connection))

    run(database_url, scenario)


def test_who_died_before_it_dropped_a_month_is_taken_over_from(database_url: str) -> None:
    async def scenario(connection: asyncpg.Connection) -> None:
        end = (await months(connection))["poll_day_before"].strip("/")
        now = datetime.fromisoformat(end).replace(tzinfo=UTC)
        await add_poll(connection, now - timedelta(days=500))
        kept_for = timedelta(days=40)
        now += kept_for
        await see_to_months(connection, kept_for, now)
        detach = "alter table poll_day detach partition poll_day_before concurrently"
        await connection.execute(detach)
        await see_to_months(connection, kept_for, now)
        assert await connection.fetchval("select to_regclass('poll_day_before')") is None
        assert await connection.fetchval("select going from polls_kept") == []
        # It was the newest of all polls.
        assert await connection.fetchval("select instant from newest_poll") is None
        assert await connection.fetchval("select count(*) from state_doubt") == 1

    run(database_url, scenario)


def test_while_one_sees_to_months_another_does_nothing(database_url: str) -> None:
    async def scenario(connection: asyncpg.Connection) -> None:
        begin = await next_begin(connection)
        before = await months(connection)
        soon = begin - timedelta(days=80)
        async with connection_to(database_url) as other, connection_to(database_url) as reader:
            async with reader.transaction():
                await reader.execute("lock table only poll_day in access share mode")
                first = asyncio.create_task(see_to_months(other, FOR_EVER, soon))
                pending = "select count(*) from pg_inherits where inhdetachpending"
                while await connection.fetchval(pending) == 0:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await see_to_months(connection, FOR_EVER, soon)
                assert await connection.fetchval(pending) == 1
                # Nobody waits behind it.
                await add_poll(connection, begin - timedelta(days=100))
                assert len(await polled(connection)) == 1
            await first
        assert len(await months(connection)) == len(before) + 12

    run(database_url, scenario)


# What users see when polls of before 2023 are kept no longer; those of before December are gone.
KEPT_FROM = "2023-01-01"
PARQUET = "application/vnd.apache.parquet"
HOURLY = [f"{KEPT_FROM}T{hour:02}:00:00Z" for hour in range(3)]


def poll(instant: str) -> dict[str, str]:
    return {"store_id": "s", "status": "active", "timestamp_utc": instant}


@pytest.fixture(scope="module")
def later_service(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service that keeps no polls of before 2023, and has some of its first hours."""

    async def scenario(connection: asyncpg.Connection) -> None:
        begin = day_of(datetime.fromisoformat(KEPT_FROM).date())
        end = (await months(connection))["poll_day_before"].strip("/")
        await connection.execute("drop table poll_day_before")
        beyond = day_of(datetime.fromisoformat(end).date())
        for first, end_ in ((begin - 31, begin), (begin, beyond)):
            await connection.execute("select add_poll_days($1, $2)", first, end_)

    run(module_database_url, scenario)
    days = (datetime.now(UTC) - datetime.fromisoformat(f"{KEPT_FROM}T00:00Z")).days
    with running_service(
        module_database_url,
        tmp_path_factory.mktemp("service"),
        STOREWATCH_POLL_TTL=f"{days}d",
    ) as service:
        told = "select since_day, going from polls_kept where since_day is not null"
        eventually(lambda: ask(module_database_url, told))
        assert ask(module_database_url, told) == [(19_358, ["poll_day_2022_12"])]
        assert (
            service.ask("POST", "/polls", json=[poll(hour) for hour in HOURLY]).json()["new"] == 3
        )
        yield service


def completed(service: Service, report: str) -> bool:
    return bool(service.get(report).json()["status"] == "completed")


def test_a_report_says_of_which_time_polls_are_gone_and_knows_nothing_of_it(
    later_service: Service,
) -> None:
    asked = {"as_of": HOURLY[2], "max_gap": "1h", "windows": ["12h"]}
    for as_of, kept_since in ((HOURLY[2], f"{KEPT_FROM}T00:00:00Z"), ("2023-01-02T00:00Z", None)):
        answer = later_service.ask("POST", "/reports", json=asked | {"as_of": as_of}).json()
        assert answer["polls_kept_since"] is None  # it is not made yet
        path = f"/reports/{answer['id']}"
        eventually(partial(completed, later_service, path))
        assert later_service.get(path).json()["polls_kept_since"] == kept_since
        summary = later_service.get(f"{path}/summary").json()
        assert summary["polls_kept_since"] == kept_since
        rows = later_service.get(f"{path}/rows", headers={"Accept": PARQUET}).content
        about = parquet.read_schema(io.BytesIO(rows)).metadata
        told = None if kept_since is None else kept_since.replace("Z", "+00:00").encode()
        assert about.get(b"storewatch.polls_kept_since") == told
        if kept_since:
            [window] = summary["windows"]
            # The poll of midnight speaks for the hour before it, as always.
            assert (window["uptime"], window["unknown"]) == (3 * 3600, 9 * 3600)


def test_days_and_the_trend_say_so_too(later_service: Service) -> None:
    for as_of, kept_since in ((HOURLY[2], f"{KEPT_FROM}T00:00:00Z"), ("2023-02-01T00:00Z", None)):
        path = later_service.ask("POST", "/reports", json={"as_of": as_of}).headers["location"]
        eventually(partial(completed, later_service, path))
        days = later_service.get(f"{path}/days?store_id=s").json()
        assert (days["polls_kept_since"], len(days["items"])) == (kept_since, 1)
        assert (
            later_service.get(f"{path}/trend").json()["items"][-1]["polls_kept_since"] == kept_since
        )


@pytest.mark.parametrize("what", ["availability", "timeline"])
def test_an_answer_about_a_store_says_so_too(later_service: Service, what: str) -> None:
    path = f"/stores/s/{what}?as_of={HOURLY[2]}&max_gap=1h&window="
    assert later_service.get(f"{path}12h").json()["polls_kept_since"] == f"{KEPT_FROM}T00:00:00Z"
    assert later_service.get(f"{path}1h").json()["polls_kept_since"] is None


def test_the_command_says_so_beside_the_report(
    later_service: Service, module_database_url: str, tmp_path: Path
) -> None:
    for as_of, told in (
        (HOURLY[2], b"Polls are kept from 2023-01-01 UTC on"),
        ("2023-03-01T00:00Z", b""),
    ):
        done = storewatch(
            *("report", "--out", "-", "--as-of", as_of),
            database_url=module_database_url,
            home=tmp_path,
        )
        assert done.returncode == 0
        assert told in done.stderr
        assert bool(told) == (b"Polls are kept" in done.stderr)


OLD = "2022-11-30T23:59:59Z"
REFUSED = (
    "the poll of store 's' at 2022-11-30 23:59:59 UTC is too old: polls are kept from 2023-01-01"
)


@pytest.mark.parametrize(
    "instants",
    [[OLD], [HOURLY[1], "2023-04-05T06:07:08Z", OLD]],
    ids=["alone", "with others of the request"],
)
@pytest.mark.parametrize("form", ["json", "csv"])
def test_polls_from_before_are_refused_in_words_and_with_them_all_of_their_request(
    later_service: Service, module_database_url: str, instants: list[str], form: str
) -> None:
    if form == "json":
        answer = later_service.ask("POST", "/polls", json=[poll(one) for one in instants])
    else:
        # So many that they do not stand in line with single ones.
        rows = "".join(f"s,active,{one}\n" for one in instants)
        rows += "".join(f"s,active,2023-05-06T00:00:00.{one:03}Z\n" for one in range(1000)) * 11
        answer = later_service.ask(
            "POST",
            "/polls",
            content=f"store_id,status,timestamp_utc\n{rows}",
            headers={"Content-Type": "text/csv"},
        )
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("feed-refused")
    [error] = answer.json()["errors"]
    assert error["problem"].startswith(REFUSED)
    assert ask(module_database_url, "select count(*) from poll") == [(3,)]


def test_others_in_the_line_are_stored_beside_a_poll_that_is_too_old(
    later_service: Service, module_database_url: str
) -> None:
    deleting = f"select pg_advisory_xact_lock({locks.STORE_A_FEED})"
    with ThreadPoolExecutor() as senders, another_transaction(module_database_url, deleting):
        sent = [
            senders.submit(later_service.ask, "POST", "/polls", json=[poll(instant)])
            for instant in ("2023-06-01T00:00:00Z", OLD, "2023-06-02T00:00:00Z")
        ]
        eventually(lambda: waiting_for_locks(module_database_url) > 0)
    assert [one.result().status_code for one in sent] == [200, 422, 200]
    ask(module_database_url, "delete from poll_day where day > 19500")
