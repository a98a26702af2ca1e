"""Finished reports by SQL: the views that docs/sql.md describes, who may read them, how long."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from service.feeds.made_up import FeedFiles
from tests.harness.database import add_many_stores, ask, table_locked, waiting_for_locks
from tests.harness.feeds import ingest
from tests.harness.processes import eventually
from tests.harness.reports import completed, create
from tests.harness.service import Service, running_service

DOCUMENT = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()
VIEWS = ("report_result", "report_group_result", "report_store_result")
TABLES = ("report_group", "report_store_batch", "report_store_totals")
SECONDS = ("uptime", "downtime", "unknown", "excluded", "business_time")
_SUMS = "uptime_seconds, downtime_seconds, unknown_seconds, excluded_seconds, business_seconds"
_TARGETS = (
    "stores_met, stores_missed, stores_unknown, budget_allowed_seconds, budget_used_seconds, "
    "budget_left_seconds"
)
#: What is known of some stores.
KNOWN = {"name": 'Señor "O\'Neil"', "tags": {"region": "wést", "a": "{}"}, "target": "0.995"}
#: Stores that do not go into the database in one part.
MANY = 20_000
#: Half a day before the default windows end, a range, and one longer than four bytes can count.
WINDOWS = ["12h", "30d", "2024-W11", "2024-03-01T12:00Z/2024-03-08T12:00Z"]
NAMES = ["last_12h", "last_30d", "2024_W11", "range_1"]


@pytest.fixture(scope="module")
def url(module_database_url: str, feed: FeedFiles, tmp_path_factory: pytest.TempPathFactory) -> str:
    ingest(feed, database_url=module_database_url, home=tmp_path_factory.mktemp("home"))
    return module_database_url


@pytest.fixture(scope="module")
def service(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(url, tmp_path_factory.mktemp("service")) as service:
        # A name of text that is no number, and quotes, and letters of several bytes.
        row = {"status": "active", "timestamp_utc": "2024-03-11T12:00:00Z"}
        rows = [{"store_id": one, **row} for one in ('"Zoë",\\', "店舗")]
        assert service.ask("POST", "/polls", json=rows).status_code == 200
        known = [{"store_id": one["store_id"], **KNOWN} for one in rows]
        assert service.ask("POST", "/stores", json=known).status_code == 200
        yield service


def id_of(path: str) -> str:
    return path.removeprefix("/reports/")


def told(windows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Windows as the API tells them, without their names."""
    return [(*(one[part] for part in SECONDS), one["availability"]) for one in windows]


def judged(windows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What the API says of targets in windows."""
    stores = ("stores_met", "stores_missed", "stores_unknown")
    return [
        (
            *(one[part] for part in stores),
            *((one["budget"] or {}).get(part) for part in ("allowed", "used", "left")),
        )
        for one in windows
    ]


def add_group(
    database_url: str, report_id: str, values: list[str], place: int = 0, **more: list[int]
) -> None:
    """A group of a report over two windows; `more`: other numbers than those here."""
    numbers = {
        "up": [7_200_001, 20_000],
        "down": [0, 60_000],
        "unknown": [1, 2],
        "excluded": [3, 4],
        "met": [2, 0],
        "missed": [0, 1],
        "without": [1, 2],
        "used": [0, 600],
        "allowed": [36_000, 400],
        "allowed_rest": [0, 0],
        **more,
    }
    ask(
        database_url,
        """
        insert into report_group (report, place, tag_values, stores, totals, worst_ids)
        values ($1::uuid, $2, $3, 3, $4, '{}')
        """,
        report_id,
        place,
        values,
        [list(of_window) for of_window in zip(*numbers.values(), strict=True)],
    )


def left(database_url: str, report_id: str) -> list[str]:
    """The tables in which there is something of a report."""
    return [
        table
        for table in TABLES
        if ask(database_url, f"select from {table} where report = $1::uuid", report_id)
    ]


@pytest.mark.parametrize("windows", [None, WINDOWS], ids=["default", "windows"])
def test_the_views_say_what_the_api_says_of_all_stores_and_of_each(
    service: Service, url: str, windows: list[str] | None
) -> None:
    asked = {"windows": windows, "queryable": True, "group_by": ["region", "timezone"]}
    path = completed(service, asked)
    assert service.get(path).json()["options"]["queryable"] is True
    summary = service.get(f"{path}/summary").json()
    names = NAMES if windows else ["last_hour", "last_day", "last_week"]
    rows = ask(
        url,
        f"""
        select window_name, stores, stores_down, {_SUMS}, availability, {_TARGETS}, as_of
        from report_result where report_id = $1::uuid order by window_number
        """,  # noqa: S608
        id_of(path),
    )
    assert [row[0] for row in rows] == names
    assert {row[1] for row in rows} == {62}
    assert [row[2] for row in rows] == [one["stores_down"] for one in summary["windows"]]
    assert [row[3:9] for row in rows] == told(summary["windows"])
    assert [row[9:15] for row in rows] == judged(summary["windows"])
    assert {row[15].isoformat().replace("+00:00", "Z") for row in rows} == {summary["as_of"]}

    items = service.get(f"{path}/stores?limit=1000").json()["items"]
    stores = ask(
        url,
        f"""
        select store_id, timezone, name, tags, target, window_name, {_SUMS}, availability
        from report_store_result where report_id = $1::uuid order by store_id, window_number
        """,  # noqa: S608
        id_of(path),
    )
    assert len(items) == 62
    assert [(*row[:3], json.loads(row[3])) for row in stores] == [
        tuple(one[part] for part in ("store_id", "timezone", "name", "tags"))
        for one in items
        for _ in names
    ]
    targets = [None if one["target"] is None else float(one["target"]) for one in items]
    assert [row[4] for row in stores] == [target for target in targets for _ in names]
    assert sum(row[4] == 0.995 for row in stores) == 2 * len(names)
    assert [row[5] for row in stores] == names * 62
    assert [row[6:] for row in stores] == [
        window for one in items for window in told(one["windows"])
    ]

    items = service.get(f"{path}/groups?limit=1000").json()["items"]
    groups = ask(
        url,
        f"""
        select tags, stores, window_name, {_SUMS}, availability, {_TARGETS}
        from report_group_result where report_id = $1::uuid order by tag_values, window_number
        """,  # noqa: S608
        id_of(path),
    )
    assert len(items) > 2
    assert [(json.loads(row[0]), row[1]) for row in groups] == [
        (one["values"], one["stores"]) for one in items for _ in names
    ]
    assert [row[2] for row in groups] == names * len(items)
    assert [row[3:9] for row in groups] == [
        window for one in items for window in told(one["windows"])
    ]
    assert [row[9:] for row in groups] == [
        window for one in items for window in judged(one["windows"])
    ]


def test_seconds_are_exact_when_they_are_rounded_to_four_decimals(
    service: Service, url: str
) -> None:
    path = completed(service, {"queryable": True})
    assert ask(
        url,
        """
        select count(*) from (
            select report_id, window_number, sum(round(uptime_seconds::numeric, 4)) as uptime
            from report_store_result where report_id = $1::uuid group by 1, 2
        ) as added
        join report_result using (report_id, window_number)
        where added.uptime = round(uptime_seconds::numeric, 4)
        """,
        id_of(path),
    ) == [(3,)]


def test_only_stores_of_reports_that_ask_for_it_can_be_queried(service: Service, url: str) -> None:
    path = completed(service)
    assert service.get(path).json()["options"]["queryable"] is False
    assert left(url, id_of(path)) == []
    assert ask(url, "select from report_store_result where report_id = $1::uuid", id_of(path)) == []


def test_a_report_of_no_stores_has_no_rows_of_stores(service: Service, url: str) -> None:
    path = completed(service, {"queryable": True, "tags": ["brand:nowhere"]})
    assert left(url, id_of(path)) == []
    assert (
        ask(
            url,
            "select stores, availability, named_tags from report_result where report_id = $1::uuid",
            id_of(path),
        )
        == [(0, None, ["brand:nowhere"])] * 3
    )


def test_a_report_that_an_older_version_completed_has_its_rows_too(
    service: Service, url: str
) -> None:
    path = completed(service)
    before = ask(
        url, "select * from report_result where report_id = $1::uuid order by 10", id_of(path)
    )
    ask(
        url,
        """
        update report set window_names = null, summary = summary - 'excluded' - 'down'
        where id = $1::uuid
        """,
        id_of(path),
    )
    rows = ask(
        url, "select * from report_result where report_id = $1::uuid order by 10", id_of(path)
    )
    assert len(rows) == 3
    without = [(*row[:12], None, *row[13:]) for row in before]
    assert rows == without


def test_groups_are_rows_with_the_tags_as_an_object(service: Service, url: str) -> None:
    report_id = id_of(completed(service, {"windows": ["1h", "1d"]}))
    ask(
        url,
        "update report set group_by = array['region', 'timezone'] where id = $1::uuid",
        report_id,
    )
    ask(url, "delete from report_group where report = $1::uuid", report_id)
    add_group(url, report_id, ["west", "UTC"])
    nobody = {"met": [0, 0], "missed": [0, 0], "without": [0, 0]}
    add_group(url, report_id, ["", "Asia/Tokyo"], 1, up=[0, 5], down=[0, 0], **nobody)
    rows = ask(
        url,
        f"""
        select tag_values, tags, window_name, stores, {_SUMS}, availability, {_TARGETS}
        from report_group_result where report_id = $1::uuid order by tag_values desc, window_number
        """,  # noqa: S608
        report_id,
    )
    west = (["west", "UTC"], json.dumps({"region": "west", "timezone": "UTC"}))
    assert rows[:2] == [
        (
            *(*west, "last_1h", 3, 3600.0005, 0.0, 0.0005, 0.0015, 3600.0025, 1.0),
            *(2, 0, 1, 18.0, 0.0, 18.0),
        ),
        (
            *(*west, "last_1d", 3, 10.0, 30.0, 0.001, 0.002, 40.003, 0.25),
            *(0, 1, 2, 0.2, 0.3, -0.1),
        ),
    ]
    assert [(json.loads(row[1])["region"], row[2], *row[9:]) for row in rows[2:]] == [
        ("", "last_1h", None, *[None] * 6),
        ("", "last_1d", 1.0, *[None] * 6),
    ]


def test_what_targets_say_of_all_stores_is_there_where_a_store_has_one(
    service: Service, url: str
) -> None:
    stores = [one["store_id"] for one in service.get("/stores?limit=2").json()["items"]][1:]
    assert service.get(f"/stores/{stores[0]}").json()["target"] is None
    report_id = id_of(completed(service, {"windows": ["1h", "1d"], "stores": stores}))
    of_report = f"""
        select {_TARGETS} from report_result where report_id = $1::uuid order by window_number
    """  # noqa: S608
    assert ask(url, of_report, report_id) == [(None,) * 6] * 2
    # As they are kept: the last two are whole half-milliseconds, and hundred-millionths of one.
    ask(
        url,
        """
        update report set summary = jsonb_set(
            summary, '{targets}', '[[2, 0, 1, 0, 36000, 0], [0, 3, 0, 2000, 1000, 50000000]]'
        )
        where id = $1::uuid
        """,
        report_id,
    )
    assert ask(url, of_report, report_id) == [
        (2, 0, 1, 18.0, 0.0, 18.0),
        (0, 3, 0, 0.50025, 1.0, -0.49975),
    ]


# How long, and never half.


@contextmanager
def held_up(database_url: str, home: Path) -> Iterator[tuple[Service, str]]:
    """A service that has written a report's files, and waits to copy its stores; the report."""
    with (
        running_service(database_url, home) as service,
        table_locked(database_url, "report_store_totals"),
    ):
        path = create(service, {"queryable": True}).headers["Location"]
        eventually(lambda: waiting_for_locks(database_url) == 1)
        yield service, path


def test_a_deleted_report_leaves_nothing(service: Service, url: str) -> None:
    path = completed(service, {"queryable": True})
    add_group(url, id_of(path), ["west"])
    assert left(url, id_of(path)) == list(TABLES)
    assert service.ask("DELETE", path).status_code == 204
    assert left(url, id_of(path)) == []
    assert ask(url, "select from report_result where report_id = $1::uuid", id_of(path)) == []


def test_an_expired_report_keeps_only_what_it_says_of_all_stores(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 10)
    with running_service(database_url, tmp_path, STOREWATCH_REPORT_TTL="1d") as service:
        path = completed(service, {"queryable": True})
        add_group(database_url, id_of(path), ["west"])
        assert left(database_url, id_of(path)) == list(TABLES)
        ask(database_url, "update report set finished_at = finished_at - interval '2 days'")
        eventually(lambda: service.get(path).json()["status"] == "expired")
        assert left(database_url, id_of(path)) == []
        assert ask(database_url, "select distinct stores from report_result") == [(10,)]


def test_what_is_asked_for_and_what_is_forgotten_is_found_by_an_index(
    url: str, service: Service
) -> None:
    of_views = [
        "select * from VIEW where report_id = $1",
        "select * from VIEW where report_id = $1 and window_name = 'last_day'",
        "select * from VIEW where report_id <> $1 and as_of >= now()",
        "select * from VIEW where report_id <> $1 order by finished_at desc limit 1",
    ]
    statements = [
        "delete from report_store_batch where report = $1",
        "delete from report_store_totals where report = $1 and batch = 1",
        "delete from report_group where report = $1",
        *(one.replace("VIEW", view) for one in of_views for view in VIEWS),
    ]

    async def plans() -> list[str]:
        connection = await asyncpg.connect(url)
        try:
            # The tables are small here: where there is an index it shall be taken all the same.
            for kind in ("seqscan", "sort", "hashjoin", "mergejoin"):
                await connection.execute(f"set enable_{kind} = off")
            return [
                "\n".join(row[0] for row in await connection.fetch(f"explain {one}", uuid4()))
                for one in statements
            ]
        finally:
            await connection.close()

    for statement, plan in zip(statements, asyncio.run(plans()), strict=True):
        assert "Index" in plan, statement
        assert "Seq Scan" not in plan, f"{statement}\n{plan}"


def test_while_its_stores_cannot_be_copied_a_report_is_not_completed_and_then_it_is_whole(
    database_url: str, tmp_path: Path
) -> None:
    expected = add_many_stores(database_url, MANY)
    with running_service(database_url, tmp_path) as service:
        # The first table takes its rows, the second does not, until the wait for a lock is over.
        with table_locked(database_url, "report_store_totals"):
            path = create(service, {"queryable": True}).headers["Location"]
            eventually(lambda: "handed back to the queue" in service.log)
            assert service.get(path).json()["status"] in ("queued", "running")
            assert ask(database_url, "select from report_store_batch") == []
        eventually(lambda: service.get(path).json()["status"] == "completed")
        assert service.get(f"{path}/csv").content == expected
        assert ask(
            database_url, "select count(*), count(distinct store_id) from report_store_result"
        ) == [(3 * MANY, MANY)]
        run = ask(database_url, "select run from report")[0][0]
        eventually(lambda: service.files() == service.files_of(id_of(path), run))


def test_a_report_whose_service_is_killed_while_its_stores_are_copied_is_made_whole_by_the_next(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 1000)
    with held_up(database_url, tmp_path) as (service, path):
        service.kill()
    ask(database_url, "update report set leased_until = now() - interval '1 second'")
    eventually(lambda: ask(database_url, "select from report_store_batch") == [])
    with running_service(database_url, tmp_path) as service:
        eventually(lambda: service.get(path).json()["status"] == "completed")
    assert ask(
        database_url, "select count(*), count(distinct store_id) from report_store_result"
    ) == [(3000, 1000)]


def test_a_report_that_is_cancelled_while_its_stores_are_copied_leaves_nothing(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 1000)
    with held_up(database_url, tmp_path) as (service, path):
        assert service.ask("POST", f"{path}/cancel").status_code == 200
        eventually(lambda: service.files() == [])
        assert service.get(path).json()["status"] == "cancelled"
    eventually(lambda: left(database_url, id_of(path)) == [])


def test_a_disk_of_the_database_that_is_full_fails_the_report_in_words(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, MANY)
    with running_service(database_url, tmp_path) as service:
        ask(
            database_url,
            """
            create function no_room() returns trigger language plpgsql as $$
            begin
                if new.batch > 0 then
                    raise exception 'could not extend file' using errcode = 'disk_full';
                end if;
                return new;
            end
            $$
            """,
        )
        ask(
            database_url,
            """
            create trigger no_room before insert on report_store_totals
            for each row execute function no_room()
            """,
        )
        path = create(service, {"queryable": True}).headers["Location"]
        eventually(lambda: service.get(path).json()["status"] == "failed")
        assert service.get(path).json()["error"] == "the disk of the database is full"
        assert left(database_url, id_of(path)) == []
        eventually(lambda: service.files() == [])
        assert "Traceback" not in service.log


def test_a_report_that_would_be_too_large_to_query_says_so_before_it_is_computed(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 100_001)
    with running_service(database_url, tmp_path) as service:
        windows = [f"{minutes}m" for minutes in range(1, 101)]
        path = create(service, {"queryable": True, "windows": windows}).headers["Location"]
        eventually(lambda: service.get(path).json()["status"] == "failed")
        told = service.get(path).json()
        assert told["error"].startswith(
            "its 100,001 stores in 100 windows would be 10,000,100 rows to query, and 10,000,000 is"
        )
        assert told["progress"]["stores_done"] == 0
        assert "Traceback" not in service.log


def test_an_older_version_leaves_a_queryable_report_to_this_one(service: Service, url: str) -> None:
    taken_by_the_older = """
        update report set state = 'running', run = run + 1, attempts = attempts + 1,
            run_escapes = run + 1, run_windows = run + 1, run_groups = run + 1
        where id = $1::uuid returning id
    """
    queryable = id_of(completed(service, {"queryable": True}))
    plain = id_of(completed(service))
    took = [ask(url, taken_by_the_older, one) for one in (queryable, plain)]
    assert [len(rows) for rows in took] == [0, 1]


# As the document has it.


def test_the_document_has_the_columns_and_types_of_the_views(service: Service, url: str) -> None:
    for view in VIEWS:
        section = DOCUMENT.partition(f"### {view}\n")[2].partition("\n#")[0]
        shown = re.findall(r"^\| `(\w+)` \| ([a-z\[\] ]+) \| .+ \|$", section, re.MULTILINE)
        columns = ask(
            url,
            """
            select attname::text, format_type(atttypid, atttypmod) from pg_attribute
            where attrelid = $1::text::regclass and attnum > 0 order by attnum
            """,
            view,
        )
        assert shown == columns


@pytest.fixture
def role(url: str, service: Service) -> Iterator[str]:
    """A role as the document makes one; the DSN by which it connects."""
    name = f"bi_{uuid4().hex[:12]}"
    lines = re.findall(r"^    ((?:create|alter|grant) .+;)$", DOCUMENT, re.MULTILINE)
    assert len(lines) == 5
    for line in lines:
        ask(url, re.sub(r"\bbi\b", name, line).replace("'…'", "'secret'"))
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    try:
        yield parts._replace(netloc=f"{name}:secret@{host}").geturl()
    finally:
        ask(url, f"drop owned by {name}")
        ask(url, f"drop role {name}")


def test_the_role_of_the_document_reads_the_views_and_nothing_else(
    url: str, service: Service, role: str
) -> None:
    completed(service, {"queryable": True})
    assert ask(role, "select current_user::text") == [(urlsplit(role).username,)]
    for view in VIEWS:
        ask(role, f"select * from {view}")  # noqa: S608
    assert ask(role, "select count(*) > 0 from report_store_result") == [(True,)]

    async def refused(statement: str) -> None:
        connection = await asyncpg.connect(role)
        try:
            # Who only forgot a setting is not kept from anything by it.
            await connection.execute("set default_transaction_read_only = off")
            with pytest.raises(asyncpg.PostgresError) as told:
                await connection.execute(statement)
            assert isinstance(
                told.value,
                asyncpg.InsufficientPrivilegeError
                | asyncpg.ObjectNotInPrerequisiteStateError
                | asyncpg.FeatureNotSupportedError,
            ), statement
        finally:
            await connection.close()

    relations = ask(
        url,
        """
        select relname::text from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'S', 'p', 'm')
        """,
    )
    others = [name for (name,) in relations if name not in VIEWS]
    assert {"report", "report_group", "report_store_batch", "store", "api_key"} <= set(others)
    for name in others:
        asyncio.run(refused(f"select * from {name}"))  # noqa: S608
    for view in VIEWS:
        asyncio.run(refused(f"delete from {view}"))  # noqa: S608
        asyncio.run(refused(f"update {view} set report_id = null"))  # noqa: S608
        asyncio.run(refused(f"insert into {view} (report_id) values (null)"))  # noqa: S608
    asyncio.run(refused("create table mine ()"))


def test_the_queries_of_the_document_run_as_that_role(
    url: str, service: Service, role: str
) -> None:
    report_id = id_of(completed(service, {"queryable": True}))
    ask(url, "update report set group_by = array['region'] where id = $1::uuid", report_id)
    ask(url, "delete from report_group where report = $1::uuid", report_id)
    add_group(url, report_id, ["west"])
    # As Metabase and Grafana fill them in.
    filled = {
        "{{window}}": "'last_day'",
        "$__timeFilter(as_of)": "as_of between '2020-01-01T00:00:00Z' and '2100-01-01T00:00:00Z'",
        "now() - interval '90 days'": "timestamptz '2020-01-01'",
    }
    queries = re.findall(r"```sql\n(.+?)```", DOCUMENT, re.DOTALL)
    assert len(queries) == 4
    for query in queries:
        for macro, value in filled.items():
            query = query.replace(macro, value)
        assert ask(role, query), query
