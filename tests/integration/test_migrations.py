"""Opening the database: what is migrated, by how many at once, and what is refused, in words."""

import asyncio
import shutil
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import asyncpg
import pytest

from compute.groups import StoreDown
from service.database import locks, pool
from service.database import migrations as database
from service.database.migrations import migrate
from service.database.pool import DatabaseUnavailable, open_pool
from service.reports.groups import read_groups
from tests.harness.database import run_migrate
from tests.harness.service import running_service

HOME = Path("/nowhere")  # of no use to open_pool when it is given a URL

# Connects, says so, and migrates when told to.
PROCESS = """
import asyncio, sys
import asyncpg
from service.database import locks
from service.database.migrations import migrate

async def main():
    connection = await asyncpg.connect(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    await migrate(connection)
    await connection.close()

asyncio.run(main())
"""


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    """The DSN of an empty database: here it is migrated by what is tested."""
    return empty_database_url


@pytest.fixture
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the migrations, to be changed by the test."""
    folder = tmp_path / "migrations"
    shutil.copytree(database.MIGRATIONS, folder)
    monkeypatch.setattr(database, "MIGRATIONS", folder)
    return folder


async def fetch(url: str, sql: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


def names_in(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.sql"))


def applied(url: str) -> list[str]:
    rows = asyncio.run(fetch(url, "select name from schema_migration order by version"))
    return [str(name) for (name,) in rows]


def test_an_empty_database_gets_every_migration(database_url: str) -> None:
    asyncio.run(run_migrate(database_url))
    assert applied(database_url) == names_in(database.MIGRATIONS)
    assert asyncio.run(fetch(database_url, "select count(*) from store")) == [(0,)]


def test_the_second_time_changes_nothing(database_url: str) -> None:
    everything = "select * from schema_migration order by version"
    asyncio.run(run_migrate(database_url))
    first = asyncio.run(fetch(database_url, everything))
    asyncio.run(run_migrate(database_url))
    assert asyncio.run(fetch(database_url, everything)) == first


def test_only_what_is_new_is_applied(database_url: str, migrations: Path) -> None:
    asyncio.run(run_migrate(database_url))
    (migrations / "9001_one_more.sql").write_text("create table one_more (); create table two ();")
    asyncio.run(run_migrate(database_url))
    assert applied(database_url) == names_in(migrations)
    assert asyncio.run(fetch(database_url, "select to_regclass('two')::text")) == [("two",)]


def test_three_processes_that_start_together_on_an_empty_database_all_succeed(
    database_url: str,
) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROCESS, database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=database.MIGRATIONS.parent,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60) for process in processes] == [("", "")] * 3
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert applied(database_url) == names_in(database.MIGRATIONS)


def test_who_comes_while_another_migrates_waits_without_blocking(database_url: str) -> None:
    async def scenario() -> None:
        other = await asyncpg.connect(database_url)
        await other.execute("select pg_advisory_lock($1)", locks.MIGRATIONS)
        waiting = asyncio.create_task(run_migrate(database_url))
        tries = (
            "select count(*) from pg_stat_activity where datname = current_database() "
            "and query like '%pg_try_advisory_lock%' and state = 'idle' and pid <> pg_backend_pid()"
        )
        while await other.fetchval(tries) == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert not waiting.done()
        assert await other.fetchval("select to_regclass('store')") is None
        await other.execute("select pg_advisory_unlock($1)", locks.MIGRATIONS)
        await waiting
        assert await other.fetchval("select to_regclass('store')") == "store"
        await other.close()

    asyncio.run(scenario())


def test_a_migration_that_fails_leaves_nothing_and_can_be_repaired(
    database_url: str, migrations: Path
) -> None:
    broken = migrations / "9001_broken.sql"
    broken.write_text("create table half_done (); select 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        asyncio.run(run_migrate(database_url))
    assert "9001_broken" not in applied(database_url)
    assert asyncio.run(fetch(database_url, "select to_regclass('half_done')::text")) == [(None,)]
    broken.write_text("create table half_done ();")
    asyncio.run(run_migrate(database_url))
    assert applied(database_url) == names_in(migrations)


def test_a_migration_changed_after_it_was_applied_is_refused(
    database_url: str, migrations: Path
) -> None:
    asyncio.run(run_migrate(database_url))
    (first, *_) = sorted(migrations.iterdir())
    first.write_text(first.read_text() + "\n-- changed\n")
    with pytest.raises(DatabaseUnavailable, match=f"Migration {first.stem} was changed after"):
        asyncio.run(run_migrate(database_url))


def test_a_database_newer_than_this_build_is_refused(database_url: str, migrations: Path) -> None:
    newer = migrations / "9001_from_the_future.sql"
    newer.write_text("create table future ();")
    asyncio.run(run_migrate(database_url))
    newer.unlink()
    with pytest.raises(
        DatabaseUnavailable, match=r"newer than .* it has had migration 9001_from_the_f"
    ):
        asyncio.run(run_migrate(database_url))


@pytest.mark.parametrize("name", ["2_no_zeros.sql", "0001_second_of_its_number.sql", "0002.sql"])
def test_a_migration_without_a_number_of_its_own_is_refused(
    database_url: str, migrations: Path, name: str
) -> None:
    (migrations / name).write_text("select 1;")
    with pytest.raises(ValueError, match="or the number is taken"):
        asyncio.run(run_migrate(database_url))


async def settings_of_a_pool(url: str | None, home: Path) -> tuple[object, ...]:
    async with open_pool(url, home, own=False) as pool:
        assert await pool.fetchval("select count(*) from store") == 0
        names = ("application_name", "timezone", "jit")
        return tuple([await pool.fetchval("select current_setting($1)", name) for name in names])


def test_a_pool_is_of_a_migrated_database_and_says_who_we_are(database_url: str) -> None:
    settings = asyncio.run(settings_of_a_pool(database_url, HOME))
    assert settings == ("storewatch", "UTC", "off")


def test_without_a_url_the_database_is_private(public_folder: Path) -> None:
    assert asyncio.run(settings_of_a_pool(None, public_folder)) == ("storewatch", "UTC", "off")
    assert (public_folder / "postgresql" / "data" / "PG_VERSION").exists()


async def enter(url: str) -> None:
    async with open_pool(url, HOME, own=False, patience=0):
        pass


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A socket with a port of this machine where nobody listens yet."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


def test_a_server_that_is_not_there_is_named_without_the_password(silent: socket.socket) -> None:
    port = silent.getsockname()[1]
    with pytest.raises(DatabaseUnavailable) as raised:
        asyncio.run(enter(f"postgresql://somebody:s3cret@127.0.0.1:{port}/somewhere"))
    assert f"Cannot reach PostgreSQL at 127.0.0.1:{port}" in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_a_server_that_comes_later_is_waited_for(
    database_url: str, silent: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    parts = urlsplit(database_url)
    account = parts.netloc.rpartition("@")[0] or "postgres"
    url = f"postgresql://{account}@127.0.0.1:{silent.getsockname()[1]}{parts.path}"

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def to_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if folder := parse_qs(parts.query).get("host"):
            server = await asyncio.open_unix_connection(f"{folder[0]}/.s.PGSQL.5432")
        else:
            server = await asyncio.open_connection(parts.hostname, parts.port or 5432)
        await asyncio.gather(forward(reader, server[1]), forward(server[0], writer))

    async def scenario() -> None:
        opening = asyncio.create_task(settings_of_a_pool(url, HOME))
        while "trying again" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        silent.listen()
        async with await asyncio.start_server(to_server, sock=silent):
            assert await opening == ("storewatch", "UTC", "off")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cret/more@h/d",
        "postgresql://u:s3cret#more@h/d",
        "postgresql://u:1/s3cret@h/d",
        "postgresql://u:s3cret@more@h/d",
        "postgres:u:s3cret@h/d",
        "mysql://u:s3cret@h/d",
        "postgresql://u:s3cret@[::1/d",
        "s3cret",
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(DatabaseUnavailable) as raised:
        asyncio.run(enter(url))
    assert "DATABASE_URL cannot be read" in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


def test_an_unknown_database_is_told_at_once(database_url: str) -> None:
    url = urlsplit(database_url)._replace(path="/storewatch_no_such_database").geturl()
    with pytest.raises(DatabaseUnavailable, match='"storewatch_no_such_database" does not exist'):
        asyncio.run(enter(url))


def as_user(url: str, user: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:s3cret@{parts.netloc.rpartition('@')[2]}").geturl()


def test_an_unknown_user_is_told_at_once_without_the_password(database_url: str) -> None:
    with pytest.raises(DatabaseUnavailable) as raised:
        asyncio.run(enter(as_user(database_url, "storewatch_nobody")))
    assert "refuses DATABASE_URL" in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_a_user_that_cannot_make_tables_is_told_what_to_do(database_url: str) -> None:
    user = f"storewatch_test_{uuid4().hex[:16]}"
    asyncio.run(fetch(database_url, f"create role {user} login password 's3cret'"))
    try:
        with pytest.raises(DatabaseUnavailable, match="make it the owner of the database"):
            asyncio.run(enter(as_user(database_url, user)))
    finally:
        asyncio.run(fetch(database_url, f"drop role {user}"))


def test_a_server_too_old_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "OLDEST_POSTGRESQL", 1000)
    with pytest.raises(DatabaseUnavailable, match="storewatch needs 1000 or newer"):
        asyncio.run(enter(database_url))


def test_an_older_version_beside_this_one_reads_the_newest_poll_and_adds_none(
    database_url: str, migrations: Path
) -> None:
    later = sorted(migrations.glob("*.sql"))[10:]
    texts = {file: file.read_text() for file in later}
    for file in later:
        file.unlink()
    asyncio.run(run_migrate(database_url))
    insert = """
        insert into newest_poll as known (instant) values ('2023-01-22 12:00Z')
        on conflict (only_row) do update set instant = excluded.instant
        where known.instant < excluded.instant returning 1
    """
    assert asyncio.run(fetch(database_url, insert)) == [(1,)]
    for file, text in texts.items():
        file.write_text(text)
    asyncio.run(run_migrate(database_url))
    known = "select instant = '2023-01-22 12:00Z' from newest_poll"
    assert asyncio.run(fetch(database_url, known)) == [(True,)]
    with pytest.raises(asyncpg.PostgresError):
        asyncio.run(fetch(database_url, insert))
    assert asyncio.run(fetch(database_url, known)) == [(True,)]


def test_what_the_last_release_stored_means_the_same(
    database_url: str, migrations: Path, tmp_path: Path
) -> None:
    later = sorted(migrations.glob("*.sql"))[10:]
    texts = {file: file.read_text() for file in later}
    for file in later:
        file.unlink()
    asyncio.run(run_migrate(database_url))
    # Monday 2023-01-23, 09:00 to 17:00 in Chicago; polled active at 10:00 and inactive at 12:00.
    week = b"".join(part.to_bytes(4, "little") for part in (32_400_000, 61_200_000))
    polls = b"".join(
        (hour * 3_600_000 << 1 | active).to_bytes(4, "little")
        for hour, active in ((16, 1), (18, 0))
    )
    statements = f"""
        insert into timezone (name) values ('Asia/Tokyo');
        insert into store (store_id, business_hours) values ('open', '\\x{week.hex()}');
        insert into store (store_id, timezone) select 'tokyo', id from timezone;
        insert into poll_day (store, day, polls)
            select id, 19380, '\\x{polls.hex()}' from store;
        insert into newest_poll (instant) values ('2023-01-23 23:00Z');
        insert into report (id, state, as_of, interpolation, max_gap, include_unknown, summary,
                            stores_done, stores_total, started_at, finished_at)
            values ('00000000-0000-0000-0000-000000000007', 'expired', '2023-01-23 23:00Z',
                    'nearest', '24 hours', false,
                    '{{"stores": 1, "sums": [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
                       "by_availability": [0], "without": 0, "most_downtime": [["s", 7, 8, 9]]}}',
                    1, 1, now(), now());
    """  # noqa: S608 - all of it is made here
    asyncio.run(run_statements(database_url, statements))
    for file, text in texts.items():
        file.write_text(text)
    with running_service(database_url, tmp_path) as service:
        rows = service.report().decode().splitlines()
        assert rows[1] == "open,0.00,2.00,2.00,60.00,6.00,6.00"
        assert rows[2].startswith("tokyo,0.00,")
        week_of_old = "/reports/00000000-0000-0000-0000-000000000007"
        [*_, last] = service.get(f"{week_of_old}/summary").json()["windows"]
        assert (last["window"], last["excluded"]) == ("week", 0)
        assert service.get(week_of_old).json()["windows"][2]["from"] == "2023-01-16T23:00:00Z"
        # An instance of that release may still be there: what it stores counts here.
        taken = "update store set business_hours = (select business_hours from store where "
        taken += "store_id = 'open') where store_id = 'tokyo'"
        asyncio.run(run_statements(database_url, taken))
        assert service.get("/stores/tokyo").json()["business_hours"][0]["day"] == 0


async def run_statements(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


def test_groups_that_an_older_form_kept_are_told_the_same(
    database_url: str, migrations: Path
) -> None:
    later = [file for file in migrations.iterdir() if file.name >= "0021"]
    kept = {file: file.read_text() for file in later}
    for file in later:
        file.unlink()
    asyncio.run(run_migrate(database_url))
    told = """
        select tag_values, window_number, uptime_seconds, downtime_seconds, unknown_seconds,
               excluded_seconds, stores_met, stores_missed, stores_unknown, budget_allowed_seconds,
               budget_used_seconds
        from report_group_result order by tag_values, window_number
    """

    async def run() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            report_id = await connection.fetchval(
                """
                insert into report (id, as_of, interpolation, max_gap, include_unknown, state,
                                    group_by)
                values (gen_random_uuid(), now(), 'nearest', '1 day', false, 'completed', '{a}')
                returning id
                """
            )
            await connection.execute(
                """
                insert into report_group (report, place, tag_values, stores, up, down, unknown,
                                          excluded, met, missed, without, used, allowed, worst)
                values ($1, 0, '{""}', 2, '{7, 8}', '{3, 0}', '{5, 6}', '{1, 2}', '{1, 0}',
                        '{0, 0}', '{1, 2}', '{9, 10}', '{11.5, 12.00000001}',
                        '[[["s1", 5, 2], ["s,2", 6, 1]], []]'),
                       ($1, 1, '{x}', 1, '{0, 0}', '{0, 0}', '{0, 0}', '{0, 0}', '{0, 0}', '{0, 0}',
                        '{0, 0}', '{0, 0}', '{0, 0}', '[[], []]')
                """,
                report_id,
            )
            before = await connection.fetch(told)
            for file, text in kept.items():
                file.write_text(text)
            await migrate(connection)
            assert await connection.fetch(told) == before
            groups = await read_groups(connection, report_id, [0, 1])
        finally:
            await connection.close()
        worst = [StoreDown("s1", 5, 2), StoreDown("s,2", 6, 1)]
        assert [group.worst for group in groups] == [[worst, []], [[], []]]
        assert groups[0].allowed == [1_150_000_000, 1_200_000_001]

    asyncio.run(run())


# Statements of the version before partitions, as it sends them.
_OF_OLDER = (
    "lock table store, timezone, poll_day, newest_poll, exclusion in access share mode",
    "select polls from poll_day where store = 1 for update skip locked",
    """
    insert into poll_day (store, day, polls) values (1, 19380, '\\x01000000')
    on conflict (store, day) do update set polls = excluded.polls where false
    """,
    """
    insert into poll_day (store, day, polls) values (1, 19380, '\\x0100000003000000')
    on conflict (store, day) do update set polls = excluded.polls
    """,
    """
    update poll_day set polls = kept.polls
    from unnest('{1}'::integer[], '{19380}'::integer[], array['\\x01000000'::bytea])
        as kept (store, day, polls)
    where poll_day.store = kept.store and poll_day.day = kept.day
    """,
    "select append_polls('{open}', '{19380}', array['\\x05000000'::bytea], '{2023-01-23}', 7)",
    """
    select coalesce(sum(length(polls)), 0) / 4
    from poll_day tablesample system (
        least(100, 100.0 * 67108864 / (select greatest(pg_relation_size('poll_day'), 1)))
    )
    """,
    "delete from poll_day where store = 1 and day = 19380",
)


def test_polls_get_months_beside_a_version_that_reads_and_writes_them(
    database_url: str, migrations: Path
) -> None:
    later = {file: file.read_text() for file in migrations.iterdir() if file.name >= "0023"}
    for file in later:
        file.unlink()
    asyncio.run(run_migrate(database_url))
    steps = sorted(later)
    reader = f"storewatch_test_{uuid4().hex[:16]}"

    async def older(url: str) -> None:
        """What an instance of an older version does, without waiting for anybody for long."""
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("set lock_timeout = '5s'")
            async with connection.transaction():
                for statement in _OF_OLDER:
                    await connection.execute(statement)
            await connection.copy_records_to_table("poll_day", records=[(1, 19381, b"\1\0\0\0")])
            await connection.execute("delete from poll_day where day = 19381")
        finally:
            await connection.close()

    async def scenario() -> None:
        connection = await asyncpg.connect(database_url)
        busy = await asyncpg.connect(database_url)
        try:
            await connection.execute(
                f"""
                create role {reader};
                grant select on poll, poll_day to {reader};
                alter table poll_day set (autovacuum_vacuum_scale_factor = 0.02);
                insert into store (store_id) values ('open'), ('far');
                insert into poll_day values (1, 0, '\\x01000000'), (2, 30000, '\\x00000000');
                select note_newest_poll('2052-02-20')
                """  # noqa: S608 - all of it is made here
            )
            before = await connection.fetch("select * from poll order by 1, 2")
            assert len(before) == 2
            # Each of the steps may be the last one of an instance that dies.
            (bounded, checked, parted, *rest) = steps
            bounded.write_text(later[bounded])
            await migrate(connection)
            await older(database_url)
            async with busy.transaction():  # as long as all is read
                await busy.execute(later[checked])
                await older(database_url)
            checked.write_text(later[checked])
            await migrate(connection)
            await older(database_url)
            for file in (parted, *rest):
                file.write_text(later[file])
            async with busy.transaction():
                await busy.execute("select * from poll_day")
                migrating = asyncio.create_task(migrate(connection))
                asleep = "select exists (select from pg_stat_activity where wait_event = 'PgSleep')"
                while not await busy.fetchval(asleep):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await older(database_url)
            await migrating
            await older(database_url)
            assert await connection.fetch("select * from poll order by 1, 2") == before
            options = (
                "select reloptions from pg_class where relname ~ '^poll_day_' and relkind = 'r'"
            )
            for (told,) in await connection.fetch(options):
                assert told == ["fillfactor=90", "autovacuum_vacuum_scale_factor=0.02"]
            await connection.execute(f"set role {reader}")
            assert await connection.fetchval("select count(*) from poll_day, polls_kept") == 2
            assert await connection.fetch("select * from poll order by 1, 2") == before
            await connection.execute(f"reset role; drop owned by {reader}; drop role {reader}")
        finally:
            await busy.close()
            await connection.close()

    asyncio.run(scenario())
