"""Reports that come by themselves: when, once, made up once, paused, run now, refused in words.

No test waits for a time of a plan: it moves the next one into the past.
"""

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.database import locks
from tests.harness.database import (
    another_transaction,
    ask,
    database_away,
    polls_locked,
    waiting_for_locks,
)
from tests.harness.processes import eventually
from tests.harness.service import Service, problem, running_service

#: Fires so rarely that no test meets it.
RARELY = "0 6 29 2 *"


def make(service: Service, cron: str = RARELY, **more: Any) -> dict[str, Any]:
    """Make a schedule with a name of its own; as it is told."""
    body = {"name": str(uuid4()), "cron": cron, "timezone": "UTC", **more}
    answer = service.ask("POST", "/schedules", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"/schedules/{made['id']}"
    return made


def path_of(made: dict[str, Any]) -> str:
    return f"/schedules/{made['id']}"


def told(service: Service, made: dict[str, Any]) -> dict[str, Any]:
    answer = service.get(path_of(made))
    assert answer.status_code == 200, answer.text
    known: dict[str, Any] = answer.json()
    return known


def change(service: Service, made: dict[str, Any], **more: Any) -> httpx.Response:
    return service.ask("PATCH", path_of(made), json=more)


def move(url: str, made: dict[str, Any], to: datetime) -> None:
    """Let a time of the plan come."""
    ask(url, "update schedule set next_run = $2, due = $2 where id = $1::uuid", made["id"], to)


def fires(url: str, made: dict[str, Any], minutes: int = 1) -> datetime:
    """Let a time of a plan of each minute come that was so many minutes ago."""
    at = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=minutes)
    move(url, made, at)
    return at


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def queued(url: str, made: dict[str, Any]) -> list[datetime]:
    """The times of the plan for which reports were queued."""
    rows = ask(
        url,
        "select scheduled_for from report where schedule_id = $1::uuid order by created_at",
        made["id"],
    )
    return [row[0] for row in rows]


def test_a_schedule_tells_what_it_does_and_when(service: Service) -> None:
    report = {"windows": ["previous-month"], "include_unknown": True, "max_gap": "12h"}
    made = make(service, "0  6 1 * * ", timezone="America/New_York", report=report)
    assert made == told(service, made)
    assert (made["cron"], made["timezone"]) == ("0 6 1 * *", "America/New_York")
    assert (made["as_of"], made["paused"], made["runs"]) == ("scheduled", False, [])
    assert {name: made["report"][name] for name in report} == report
    assert made["next_run"] == made["next_runs"][0]
    assert len(made["next_runs"]) == 5
    assert made["last_run"] is made["last_error"] is None
    months = [instant(text).month for text in made["next_runs"]]
    assert [(month - months[0]) % 12 for month in months] == [0, 1, 2, 3, 4]


def test_schedules_are_listed_by_name_page_by_page(service: Service) -> None:
    start = str(uuid4())
    names = [f"{start} {letter}" for letter in "bac"]
    for name in names:
        make(service, name=name)
    found: list[dict[str, Any]] = []
    page = service.get("/schedules", params={"limit": 2})
    while True:
        found += page.json()["items"]
        if page.json()["next_cursor"] is None:
            break
        assert 'rel="next"' in page.headers["Link"]
        query = {"limit": 2, "cursor": page.json()["next_cursor"]}
        page = service.get("/schedules", params=query)
    listed = [one["name"] for one in found]
    assert listed == sorted(listed)
    assert [name for name in listed if name.startswith(start)] == sorted(names)
    assert not {"report", "runs", "next_runs"} & found[0].keys()


def test_a_time_that_comes_queues_one_report_as_of_that_time(
    service: Service, module_database_url: str
) -> None:
    made = make(service, "* * * * *", report={"include_unknown": True})
    change(service, made, cron=RARELY)
    at = instant("2024-02-29T06:00:00Z")
    move(module_database_url, made, at)
    eventually(lambda: told(service, made)["runs"] != [])
    known = told(service, made)
    [run] = known["runs"]
    assert instant(run["scheduled_for"]) == instant(known["last_run"]) == at
    assert instant(known["next_run"]) > datetime.now(UTC)
    report = service.get(f"/reports/{run['report_id']}").json()
    assert report["options"]["include_unknown"]
    assert instant(report["as_of"]) == instant(report["options"]["as_of"]) == at
    assert (report["schedule_id"], report["scheduled_for"]) == (made["id"], run["scheduled_for"])
    eventually(lambda: told(service, made)["runs"][0]["status"] == "completed")


def test_of_what_was_missed_the_latest_is_made_up_once(
    service: Service, module_database_url: str
) -> None:
    made = make(service, "0 6 * * *", timezone="Europe/Berlin")
    known = told(service, made)
    last = instant(known["next_run"]) - timedelta(days=1)
    week = last - timedelta(days=7)
    move(module_database_url, made, week.replace(hour=instant(known["next_run"]).hour))
    eventually(lambda: told(service, made)["last_run"] is not None)
    other = make(service, "* * * * *")  # one that comes later has been seen to after it
    fires(module_database_url, other)
    eventually(lambda: queued(module_database_url, other) != [])
    [at] = queued(module_database_url, made)
    assert abs(at - last) <= timedelta(hours=1)  # clocks may have changed in that night
    assert abs(at.astimezone(UTC) - datetime.now(UTC)) < timedelta(hours=26)
    assert told(service, made)["next_run"] == known["next_run"]
    change(service, other, paused=True)


def test_a_month_is_that_of_the_plans_zone(service: Service, module_database_url: str) -> None:
    at = instant("2026-10-31T23:00:00Z")  # the first of November begins in Berlin
    report = {"windows": ["previous-month", "days:this-day", "30d"]}
    made = make(service, "0 0 29 2 *", timezone="Europe/Berlin", report=report)
    named = make(
        service,
        "0 0 29 2 *",
        timezone="Europe/Berlin",
        report={"windows": ["previous-month"], "calendar": "UTC"},
    )
    for one in (made, named):
        move(module_database_url, one, at)
    eventually(lambda: told(service, made)["runs"] and told(service, named)["runs"])

    def windows(one: dict[str, Any]) -> list[str]:
        [run] = told(service, one)["runs"]
        options = service.get(f"/reports/{run['report_id']}").json()["options"]
        found: list[str] = options["windows"]
        return found

    assert windows(made) == ["2026-10", "days:2026-11-01", "30d"]
    assert windows(named) == ["previous-month"]


def test_it_may_end_at_the_newest_poll_instead(service: Service, module_database_url: str) -> None:
    made = make(service, as_of="newest_poll")
    move(module_database_url, made, instant("2024-02-29T06:00:00Z"))
    eventually(lambda: told(service, made)["runs"] != [])
    [run] = told(service, made)["runs"]
    assert service.get(f"/reports/{run['report_id']}").json()["options"]["as_of"] is None


def test_a_paused_schedule_waits_and_makes_nothing_up(
    service: Service, module_database_url: str
) -> None:
    made = make(service, "0 0 * * *")
    paused = change(service, made, paused=True)
    assert paused.status_code == 200
    assert paused.json()["paused"]
    assert (paused.json()["next_run"], paused.json()["next_runs"]) == (None, [])
    [due] = ask(module_database_url, "select due from schedule where id = $1::uuid", made["id"])
    assert due == (None,)
    goes_on = change(service, made, paused=False).json()
    assert instant(goes_on["next_run"]) > datetime.now(UTC)
    assert goes_on["next_runs"] == made["next_runs"]
    assert queued(module_database_url, made) == []


def test_a_schedule_made_paused_does_nothing_until_it_is_told(service: Service) -> None:
    made = make(service, paused=True)
    assert made["next_run"] is None
    assert change(service, made, paused=False).json()["next_run"] is not None


def test_it_is_run_now_also_while_it_is_paused(service: Service) -> None:
    made = make(service, paused=True, report={"windows": ["this-day"]})
    before = datetime.now(UTC)
    answer = service.ask("POST", f"{path_of(made)}/run")
    assert answer.status_code == 202, answer.text
    report = answer.json()
    assert answer.headers["Location"] == f"/reports/{report['id']}"
    assert (report["schedule_id"], report["scheduled_for"]) == (made["id"], None)
    assert before - timedelta(seconds=5) <= instant(report["as_of"]) <= datetime.now(UTC)
    known = told(service, made)
    [run] = known["runs"]
    assert (run["report_id"], run["scheduled_for"]) == (report["id"], None)
    assert known["last_run"] is known["next_run"] is None


def test_a_change_of_the_plan_counts_from_now_and_any_other_leaves_it(
    service: Service, module_database_url: str
) -> None:
    made = make(service, "0 6 1 * *")
    later = instant("2999-01-01T06:00:00Z")
    move(module_database_url, made, later)
    renamed = change(service, made, name=str(uuid4()), report={"include_unknown": True})
    assert instant(renamed.json()["next_run"]) == later
    assert renamed.json()["report"]["include_unknown"]
    changed = change(service, made, cron="0 7 1 * *").json()
    assert datetime.now(UTC) < instant(changed["next_run"]) < later
    assert changed["report"] == renamed.json()["report"]


def test_if_match_keeps_a_change_from_overwriting_another(
    service: Service, module_database_url: str
) -> None:
    made = make(service)
    path = path_of(made)
    tag = service.get(path).headers["ETag"]
    service.ask("POST", f"{path}/run")
    assert service.get(path).headers["ETag"] == tag  # a run changes nothing that was set
    headers = {"If-Match": tag}
    changed = service.ask("PATCH", path, json={"cron": "0 7 29 2 *"}, headers=headers)
    assert changed.status_code == 200
    assert changed.headers["ETag"] == service.get(path).headers["ETag"] != tag
    for refused in (
        service.ask("PATCH", path, json={"paused": True}, headers=headers),
        service.ask("DELETE", path, headers=headers),
    ):
        assert problem(refused)["type"] == "/problems/precondition-failed"
    assert not told(service, made)["paused"]
    headers = {"If-Match": changed.headers["ETag"]}
    assert service.ask("DELETE", path, headers=headers).status_code == 204


def test_a_deleted_schedule_is_gone_and_its_reports_stay(service: Service) -> None:
    made = make(service)
    report = service.ask("POST", f"{path_of(made)}/run").json()["id"]
    assert service.ask("DELETE", path_of(made)).status_code == 204
    for method, path in (
        ("GET", path_of(made)),
        ("DELETE", path_of(made)),
        ("PATCH", path_of(made)),
        ("POST", f"{path_of(made)}/run"),
    ):
        answer = service.ask(method, path, json={} if method == "PATCH" else None)
        assert problem(answer)["type"] == "/problems/schedule-not-found"
    assert service.get(f"/reports/{report}").json()["schedule_id"] == made["id"]


def test_a_name_is_given_once(service: Service) -> None:
    made, other = make(service), make(service)
    body = {"name": made["name"], "cron": RARELY, "timezone": "UTC"}
    for answer in (
        service.ask("POST", "/schedules", json=body),
        change(service, other, name=made["name"]),
    ):
        assert problem(answer)["type"] == "/problems/schedule-exists"
    assert change(service, made, name=made["name"]).status_code == 200


@pytest.mark.parametrize(
    ("members", "field", "words"),
    [
        ({"cron": "0 0 30 2 *"}, "cron", "bad day-of-month"),
        ({"cron": "*/5 * * * * *"}, "cron", "no field of seconds"),
        ({"cron": "* * */20 * 1L"}, "cron", "never fires"),
        ({"cron": "0 0 31 2,4 *"}, "cron", "bad day-of-month"),
        ({"timezone": "Mars/Olympus"}, "timezone", "not a time zone"),
        ({"name": "a\tb"}, "name", "cannot be printed"),
        ({"name": " a"}, "name", "white space"),
        ({"report": {"as_of": "2026-01-01T00:00:00Z"}}, "report.as_of", "leave it out"),
        ({"report": {"windows": ["last-month"]}}, "report.windows", "is not a window"),
        ({"report": {"windows": ["2001"]}}, "report.windows", "before as_of"),
        ({"report": {"max_gap": "30s"}}, "report.max_gap", "1m"),
        ({"report": {"stores": ["no such store"]}}, "report.stores", "no feed has named"),
        ({"report": {"colour": "red"}}, "report", "colour"),
        ({"as_of": "yesterday"}, "as_of", "yesterday"),
        ({"deliver_to": "s3://bucket/x"}, "deliver_to", "until the setting STOREWATCH_DELIVER_TO"),
        ({"colour": "red"}, "", "colour"),
    ],
    ids=[
        "no-such-day",
        "seconds",
        "never",
        "never-in-two-months",
        "zone",
        "tab",
        "space",
        "as-of",
        "no-window",
        "old-window",
        "gap",
        "unknown-store",
        "unknown-option",
        "unknown-as-of",
        "deliveries-not-allowed",
        "unknown-member",
    ],
)
def test_what_could_never_run_is_refused_in_words(
    service: Service, members: dict[str, Any], field: str, words: str
) -> None:
    body = {"name": str(uuid4()), "cron": RARELY, "timezone": "UTC", **members}
    made = make(service)
    for answer in (
        service.ask("POST", "/schedules", json=body),
        change(service, made, **members),
    ):
        assert answer.status_code == 422, answer.text
        [error] = problem(answer)["errors"]
        assert error["source"] == "body"
        assert field == error.get("field", field)
        assert words in error["problem"]
    assert told(service, made) == made


def test_what_cannot_be_asked_for_any_more_is_told_and_the_plan_goes_on(
    service: Service, module_database_url: str
) -> None:
    store = str(uuid4())
    service.ask("PUT", f"/stores/{store}/timezone", json={"timezone": "UTC"})
    made = make(service, report={"stores": [store]})
    assert service.ask("DELETE", f"/stores/{store}").status_code in (200, 204)
    move(module_database_url, made, instant("2024-02-29T06:00:00Z"))
    eventually(lambda: told(service, made)["last_error"] is not None)
    known = told(service, made)
    assert "No feed has named 1 of the stores" in known["last_error"]
    assert "2024-02-29T06:00Z" in known["last_error"]
    assert instant(known["next_run"]) > datetime.now(UTC)
    assert (known["last_run"], known["runs"]) == (None, [])
    run = service.ask("POST", f"{path_of(made)}/run")
    assert problem(run)["type"] == "/problems/schedule-refused"
    assert change(service, made, paused=True).status_code == 200  # pausing asks for nothing
    mended = change(service, made, paused=False, report={}).json()
    assert mended["last_error"] is None


def test_a_schedule_that_this_version_cannot_read_holds_up_no_other(
    service: Service, module_database_url: str
) -> None:
    zone, option, cron = make(service), make(service), make(service)
    other = make(service)
    for made, column, value in (
        (zone, "timezone", "Mars/Olympus"),
        (cron, "cron", "at noon"),
        (option, "report", '{"colour": "red"}'),
    ):
        ask(
            module_database_url,
            """
            update schedule set timezone = case $2 when 'timezone' then $3 else timezone end,
                cron = case $2 when 'cron' then $3 else cron end,
                report = case $2 when 'report' then $3::json else report end
            where id = $1::uuid
            """,
            made["id"],
            column,
            value,
        )
    for made in (zone, cron, option, other):
        move(module_database_url, made, instant("2024-02-29T06:00:00Z"))
    eventually(lambda: told(service, other)["runs"] != [])
    wrong = (zone, cron, option)
    eventually(lambda: all(told(service, made)["last_error"] for made in wrong))
    for made, words in (
        (zone, "lacks the zone Mars/Olympus"),
        (cron, "five fields"),
        (option, "cannot read what it asks for"),
    ):
        assert words in told(service, made)["last_error"]
        assert told(service, made)["runs"] == []
        service.ask("DELETE", path_of(made))


def test_there_are_at_most_a_thousand(empty_service: Service, module_database_url: str) -> None:
    [(known,)] = ask(module_database_url, "select count(*) from schedule")
    ask(
        module_database_url,
        """
        insert into schedule (id, name, cron, timezone, as_of, report, paused)
        select gen_random_uuid(), 'filler ' || n, '0 6 1 * *', 'UTC', 'scheduled', '{}', true
        from generate_series(1, 1000 - $1::bigint) as n
        """,
        known,
    )
    body = {"name": "one more", "cron": RARELY, "timezone": "UTC"}
    answer = empty_service.ask("POST", "/schedules", json=body)
    assert problem(answer)["type"] == "/problems/too-many-schedules"
    ask(module_database_url, "delete from schedule where name like 'filler %'")


def test_a_full_queue_is_told_and_tried_again(database_url: str, tmp_path: Path) -> None:
    few = {"STOREWATCH_QUEUED_REPORTS": "1", "STOREWATCH_CONCURRENT_REPORTS": "1"}
    with running_service(database_url, tmp_path, **few) as service:
        service.ask("PUT", "/stores/a/timezone", json={"timezone": "UTC"})
        made = make(service, as_of="scheduled")
        with polls_locked(database_url):
            as_of = {"as_of": "2024-01-01T00:00:00Z"}
            first = service.ask("POST", "/reports", json=as_of).headers["Location"]
            eventually(lambda: service.get(first).json()["status"] == "running")
            assert service.ask("POST", "/reports", json=as_of).status_code == 202
            move(database_url, made, instant("2024-02-29T06:00:00Z"))
            eventually(lambda: told(service, made)["last_error"] is not None)
            assert "1 reports are waiting" in told(service, made)["last_error"]
            assert problem(service.ask("POST", f"{path_of(made)}/run"))["status"] == 429
            assert queued(database_url, made) == []
        eventually(lambda: service.get(first).json()["status"] == "completed")
        ask(database_url, "update schedule set due = next_run")
        eventually(lambda: queued(database_url, made) == [instant("2024-02-29T06:00:00Z")])
        assert told(service, made)["last_error"] is None


@pytest.mark.parametrize("is_killed", [False, True], ids=["both-live", "one-is-killed"])
def test_two_instances_queue_each_time_once_also_if_one_is_killed_in_the_middle(
    database_url: str, tmp_path: Path, is_killed: bool
) -> None:
    shared = {"STOREWATCH_REPORTS": str(tmp_path / "reports")}
    with (
        running_service(database_url, tmp_path, **shared) as second,
        running_service(database_url, tmp_path, **shared) as survivor,
    ):
        plans = [make(survivor) for _ in range(30)]
        at = instant("2024-02-29T06:00:00Z")
        # Each instance waits here, with a schedule taken.
        sql = f"select pg_advisory_xact_lock({locks.ADD_REPORTS})"
        with another_transaction(database_url, sql):
            for made in plans:
                move(database_url, made, at)
            eventually(lambda: waiting_for_locks(database_url) == 2)
            if is_killed:
                second.kill()
        eventually(lambda: all(queued(database_url, made) for made in plans))
        other = make(survivor)  # whatever else was due has been seen to before it
        move(database_url, other, datetime.now(UTC))
        eventually(lambda: queued(database_url, other) != [])
        assert all(queued(database_url, made) == [at] for made in plans)
        for made in plans:
            known = told(survivor, made)
            assert instant(known["last_run"]) == at
            assert instant(known["next_run"]) > datetime.now(UTC)
            assert known["last_error"] is None


def test_a_time_that_came_while_nobody_was_there_is_made_up_by_who_comes(
    database_url: str, tmp_path: Path
) -> None:
    with running_service(database_url, tmp_path) as service:
        made = make(service, "0 * * * *")
        service.stop(signal.SIGTERM)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    move(database_url, made, hour - timedelta(days=7))
    with running_service(database_url, tmp_path) as service:
        eventually(lambda: told(service, made)["last_run"] is not None)
        [at] = queued(database_url, made)
        assert hour <= at <= hour + timedelta(hours=1)


def test_schedules_go_on_when_the_database_comes_back(
    database_url: str, postgres_server: str, tmp_path: Path
) -> None:
    with running_service(database_url, tmp_path) as service:
        made = make(service)
        with database_away(database_url, postgres_server):
            eventually(lambda: "cannot look for schedules" in service.log)
        move(database_url, made, instant("2024-02-29T06:00:00Z"))
        eventually(lambda: queued(database_url, made) != [])


def test_who_may_read_sees_schedules_and_changes_none(database_url: str, tmp_path: Path) -> None:
    with running_service(database_url, tmp_path) as service:
        made = make(service)
        writes = service.ask("POST", "/keys", json={"name": "w", "scope": "write"}).json()["key"]
        headers = {"X-API-Key": writes}
        body = {"name": "r", "scope": "read"}
        reads = service.ask("POST", "/keys", json=body, headers=headers).json()["key"]
        headers = {"X-API-Key": reads}
        assert service.get("/schedules", headers=headers).status_code == 200
        assert service.get(path_of(made), headers=headers).status_code == 200
        for method, path, sent in (
            ("POST", "/schedules", {"name": "n", "cron": RARELY, "timezone": "UTC"}),
            ("PATCH", path_of(made), {"paused": True}),
            ("DELETE", path_of(made), None),
            ("POST", f"{path_of(made)}/run", None),
        ):
            answer = service.ask(method, path, json=sent, headers=headers)
            assert problem(answer)["type"] == "/problems/scope-too-small"
