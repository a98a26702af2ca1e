"""Reports whose ids are escaped for spreadsheets, and versions that do not know of that."""

from pathlib import Path

from tests.harness.database import ask, polls_locked
from tests.harness.processes import eventually, storewatch
from tests.harness.reports import completed, create
from tests.harness.service import running_service

POLLS = b"""store_id,status,timestamp_utc
=1+1,active,2024-01-01T00:00:00Z
-7,active,2024-01-01T00:00:00Z
7,active,2024-01-01T00:00:00Z
"""

# How version 0.1 takes a report.
_TAKE = """
    update report set state = 'running', run = run + 1, attempts = attempts + 1,
        leased_until = now() + interval '10 seconds', started_at = now(), stores_done = 0,
        error = null
    where id = (
        select id from report
        where state = 'queued' or state = 'running' and leased_until < now()
        order by created_at limit 1 for update skip locked
    )
    returning id::text
"""


def test_ids_are_escaped_when_that_is_asked_for_and_else_never(
    database_url: str, tmp_path: Path
) -> None:
    place = {"database_url": database_url, "home": tmp_path}
    assert storewatch("ingest", "--polls", "-", stdin=POLLS, **place).returncode == 0  # type: ignore[arg-type]
    with running_service(database_url, tmp_path) as service:
        for body, ids in (
            ({}, ["-7", "7", "=1+1"]),
            ({"escape_formulas": False}, ["-7", "7", "=1+1"]),
            ({"escape_formulas": True}, ["'-7", "7", "'=1+1"]),
            ({"escape_formulas": True, "stores": ["-7"]}, ["'-7"]),
        ):
            path = completed(service, body)
            _, *rows = service.get(f"{path}/csv").text.splitlines()
            assert [row.partition(",")[0] for row in rows] == ids
            asked = service.get(path).json()["options"]["escape_formulas"]
            assert asked is body.get("escape_formulas", False)
            # The rest is of the ids as they are.
            summary = service.get(f"{path}/summary").text
            assert "'" not in summary
    for flags, first in ((("--escape-formulas",), "'-7"), ((), "-7")):
        done = storewatch("report", *flags, **place)  # type: ignore[arg-type]
        assert done.stdout.decode().splitlines()[1].partition(",")[0] == first


def test_a_version_that_does_not_know_of_it_never_takes_such_a_report(
    database_url: str, tmp_path: Path
) -> None:
    one = {"STOREWATCH_CONCURRENT_REPORTS": "1"}
    with running_service(database_url, tmp_path, **one) as service, polls_locked(database_url):
        escaped = create(service, {"as_of": "2024-01-01T00:00:00Z", "escape_formulas": True})
        path = escaped.headers["Location"]
        eventually(lambda: service.get(path).json()["status"] == "running")
        waiting = create(service, {"escape_formulas": True}).headers["Location"]
        plain = create(service).json()["id"]
        # Neither one that waits, nor one whose instance died; one that waits behind it is next.
        overdue = "update report set leased_until = now() - interval '1 second' where id = $1::uuid"
        ask(database_url, overdue, path.removeprefix("/reports/"))
        for _ in range(2):
            assert ask(database_url, _TAKE) == []
        assert service.get(waiting).json()["status"] == "queued"
        service.ask("POST", f"{waiting}/cancel")
        service.ask("POST", f"{path}/cancel")
        taken = ask(database_url, _TAKE)
    assert taken in ([(plain,)], [])  # the service itself may have been faster
