"""Availability by a tag on `/metrics`: of which report, how much of it, and what without one."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.harness.database import ask, table_locked
from tests.harness.processes import eventually
from tests.harness.service import Service, running_service

REGION = {"STOREWATCH_METRICS_TAG": "region"}
AS_OF = datetime(2024, 3, 11, 12, tzinfo=UTC)
HOUR = 7_200_000  # half-milliseconds
DOCUMENT = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()


@pytest.fixture(scope="module")
def running(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("service")
    with running_service(module_database_url, home, **REGION) as service:
        yield service


@pytest.fixture
def service(running: Service, module_database_url: str) -> Service:
    """A service without reports."""
    ask(module_database_url, "delete from report")
    return running


def add_report(
    database_url: str,
    values: Sequence[str],
    *,
    as_of: datetime = AS_OF,
    group_by: Sequence[str] = ("region",),
    state: str = "completed",
    named: Sequence[str] | None = None,
    tags: Sequence[str] | None = None,
    windows: int = 1,
    up: int = HOUR,
    down: int = HOUR,
) -> str:
    """A report with a group for each value, as one that was made; its id."""
    [(report_id,)] = ask(
        database_url,
        """
        insert into report (id, state, interpolation, max_gap, include_unknown, as_of, finished_at,
                            windows, unit, window_names, group_by, stores, tags)
        values (gen_random_uuid(), $1, 'nearest', '24 hours', false, $2, now(), $3, 'hours', $3, $4,
                $5, $6)
        returning id::text
        """,
        state,
        as_of,
        [f"last_{number}h" for number in range(1, windows + 1)],
        group_by,
        named,
        tags,
    )
    ask(
        database_url,
        """
        insert into report_group (report, place, tag_values, stores, totals, worst_ids)
        select $1::uuid, place, array_fill(value, array[$6::integer]), 1, of_windows, '{}'
        from unnest($2::text[]) with ordinality as one (value, place),
             lateral (
                 select array_agg(array[$4::bigint, $5, 2, 4, 1, 0, 0, 0, 0, 0]) as of_windows
                 from generate_series(1, $3::integer)
             ) as told
        """,
        report_id,
        values,
        windows,
        up,
        down,
        len(group_by),
    )
    return str(report_id)


def shown(service: Service) -> dict[str, float]:
    """The metrics of availability, by name and labels without `tag`."""
    answer = service.get("/metrics")
    assert answer.status_code == 200
    found = {}
    for line in answer.text.splitlines():
        if not line.startswith("storewatch_availability_"):
            continue
        name, _, value = line.removeprefix("storewatch_availability_").rpartition(" ")
        assert 'tag="region"' in name
        found[re.sub(r'tag="region",|\{tag="region"\}', "", name)] = float(value)
    return found


def regions(service: Service) -> dict[str, float]:
    """The ratio of each value, of a report of one window."""
    return {
        value: ratio
        for name, ratio in shown(service).items()
        for value in re.findall(r'^ratio\{value="(.*)",window="last_1h"\}$', name)
    }


def test_it_is_that_of_the_groups_in_each_window(
    service: Service, module_database_url: str
) -> None:
    add_report(module_database_url, ["", "west"], windows=2, up=3 * HOUR)
    found = shown(service)
    for value in ("", "west"):
        for window in ("last_1h", "last_2h"):
            labels = f'value="{value}",window="{window}"'
            assert found.pop(f"ratio{{{labels}}}") == 0.75
            seconds = {
                state: found.pop(f'seconds{{state="{state}",{labels}}}')
                for state in ("up", "down", "unknown", "excluded")
            }
            assert seconds == {"up": 10_800, "down": 3600, "unknown": 0.001, "excluded": 0.002}
    assert found == {"as_of_timestamp_seconds": AS_OF.timestamp(), "refused": 0}


def test_where_nothing_is_known_there_is_no_ratio(
    service: Service, module_database_url: str
) -> None:
    add_report(module_database_url, ["west"], up=0, down=0)
    assert regions(service) == {}
    assert shown(service)['seconds{state="up",value="west",window="last_1h"}'] == 0


def test_it_is_of_the_newest_report_over_all_stores_by_this_tag_alone(
    service: Service, module_database_url: str
) -> None:
    assert shown(service) == {"refused": 0}
    add_report(module_database_url, ["old"], as_of=AS_OF - timedelta(hours=1))
    assert regions(service) == {"old": 0.5}
    newest = add_report(module_database_url, ["new", "west"])
    later = AS_OF + timedelta(hours=1)
    add_report(module_database_url, ["no"], as_of=later, group_by=["brand"])
    add_report(module_database_url, ["no"], as_of=later, group_by=["region", "brand"])
    add_report(module_database_url, ["no"], as_of=later, state="expired")
    add_report(module_database_url, ["no"], as_of=later, state="running")
    add_report(module_database_url, ["no"], as_of=later, named=["s1"])
    add_report(module_database_url, ["no"], as_of=later, tags=["brand:x"])
    add_report(module_database_url, ["no"], as_of=AS_OF - timedelta(days=1))
    assert regions(service) == {"new": 0.5, "west": 0.5}
    # What is gone is not shown any more, though it was read before.
    ask(module_database_url, "update report set state = 'expired' where id = $1::uuid", newest)
    assert regions(service) == {"old": 0.5}
    ask(module_database_url, "delete from report where as_of < $1", AS_OF)
    assert shown(service) == {"refused": 0}


def test_two_instances_show_the_same(database_url: str, tmp_path: Path) -> None:
    with (
        running_service(database_url, tmp_path / "a", **REGION) as first,
        running_service(database_url, tmp_path / "b", **REGION) as second,
    ):
        for value in ("one", "two"):
            ask(database_url, "delete from report")
            add_report(database_url, [value])
            assert shown(first) == shown(second)
            assert regions(first) == {value: 0.5}


def test_a_thousand_series_are_shown_and_one_more_shows_none_and_is_told_once(
    service: Service, module_database_url: str
) -> None:
    values = [f"r{number}" for number in range(500)]
    add_report(module_database_url, values, windows=2)
    assert len(shown(service)) == 1000 + 4000 + 2
    for minutes in (1, 2):
        later = AS_OF + timedelta(minutes=minutes)
        add_report(module_database_url, [*values, "more"], windows=2, as_of=later)
        assert shown(service) == {"refused": 1}
    assert service.log.count("/metrics leaves out availability by region") == 1
    add_report(module_database_url, ["west"], as_of=AS_OF + timedelta(minutes=3))
    assert regions(service) == {"west": 0.5}
    assert shown(service)["refused"] == 0


def test_without_the_setting_there_is_nothing_of_it(database_url: str, tmp_path: Path) -> None:
    with running_service(database_url, tmp_path) as service:
        add_report(database_url, ["west"])
        assert "storewatch_availability" not in service.get("/metrics").text


def test_while_the_database_does_not_answer_the_other_metrics_are_shown(
    service: Service, module_database_url: str
) -> None:
    add_report(module_database_url, ["west"])
    assert regions(service) == {"west": 0.5}
    with table_locked(module_database_url, "report"):
        assert shown(service) == {}
        assert "storewatch_worker_processes" in service.get("/metrics").text
    assert regions(service) == {"west": 0.5}


def test_the_newest_report_is_found_by_an_index(database_url: str, tmp_path: Path) -> None:
    add_report(database_url, ["west"])
    # The planner takes it where there are many reports, as after some days of one a minute.
    ask(
        database_url,
        """
        insert into report (id, state, interpolation, max_gap, include_unknown, as_of, finished_at)
        select gen_random_uuid(), 'completed', 'nearest', '24 hours', false, $1, now()
        from generate_series(1, 5000)
        """,
        AS_OF,
    )
    ask(database_url, "analyze report")
    with running_service(database_url, tmp_path, **REGION) as service:

        def used() -> bool:
            assert regions(service) == {"west": 0.5}
            scans = (
                "select idx_scan from pg_stat_user_indexes where indexrelname = 'report_by_group'"
            )
            return ask(database_url, scans) != [(0,)]

        eventually(used)


def test_the_document_names_the_metrics(service: Service, module_database_url: str) -> None:
    add_report(module_database_url, ["west"])
    names = set(re.findall(r"^(storewatch_availability_\w+)", service.get("/metrics").text, re.M))
    assert names == set(re.findall(r"^\| `(storewatch_availability_\w+)` \|", DOCUMENT, re.M))
