"""Polls that a wrong clock dated are taken away again, and `as_of` goes back to where it was."""

from pathlib import Path

import pytest

from tests.harness.database import ask
from tests.harness.processes import storewatch
from tests.harness.service import Service, problem

HEADER = "store_id,status,timestamp_utc\n"
#: Of two stores, over a night; the last but two and what follows have a wrong clock.
POLLS = (
    "a,active,2023-01-22 22:00:00 UTC\n"
    "b,inactive,2023-01-22 23:59:59.999 UTC\n"
    "a,inactive,2023-01-23 00:00:00 UTC\n"
    "b,active,2023-01-23 01:00:00 UTC\n"
    "a,active,2023-01-23 01:00:00.001 UTC\n"
    "b,active,2023-01-24 12:00:00 UTC\n"
    "b,active,2023-01-25 00:00:00 UTC\n"
)


@pytest.fixture
def service(empty_service: Service) -> Service:
    """A service with these polls and no others."""
    everything = {"from": "1970-01-01T00:00:00Z", "to": "9998-12-31T00:00:00Z"}
    assert empty_service.ask("DELETE", "/polls", params=everything).status_code == 200
    csv = {"Content-Type": "text/csv"}
    loaded = empty_service.ask("POST", "/polls", content=HEADER + POLLS, headers=csv)
    assert loaded.json()["new"] == len(POLLS.splitlines())
    return empty_service


def left(database_url: str) -> str:
    """The polls that there are, as rows of a feed."""
    rows = ask(
        database_url,
        "select store_id || ',' || status || ',' || to_char(instant, 'YYYY-MM-DD HH24:MI:SS.MS') "
        "from poll order by instant, store_id",
    )
    return "".join(f"{row} UTC\n" for (row,) in rows).replace(".000 UTC", " UTC")


def rows(*numbers: int) -> str:
    return "".join(POLLS.splitlines(keepends=True)[number] for number in numbers)


@pytest.mark.parametrize(
    ("first", "end", "kept", "newest"),
    [
        ("2023-01-23T01:00:00.001Z", "2300-01-01T00:00Z", (0, 1, 2, 3), "2023-01-23T01:00:00Z"),
        (
            "2023-01-22T23:59:59.999Z",
            "2023-01-23T01:00:00Z",
            (0, 3, 4, 5, 6),
            "2023-01-25T00:00:00Z",
        ),
        ("2023-01-23T00:00:00Z", "2023-01-25T00:00:00Z", (0, 1, 6), "2023-01-25T00:00:00Z"),
        ("2023-01-23T00:00:00Z", "2023-01-25T00:00:00.001Z", (0, 1), "2023-01-22T23:59:59.999000Z"),
        ("2023-01-22T23:00:00Z", "2023-01-22T23:30:00Z", range(7), "2023-01-25T00:00:00Z"),
        ("1970-01-01T00:00:00Z", "9998-12-31T00:00:00Z", (), None),
    ],
)
def test_exactly_the_polls_of_that_time_go_and_the_newest_is_found_again(
    service: Service,
    module_database_url: str,
    first: str,
    end: str,
    kept: tuple[int, ...],
    newest: str | None,
) -> None:
    asked = {"params": {"from": first, "to": end}}
    answer = service.ask("DELETE", "/polls", **asked)
    assert answer.status_code == 200
    assert answer.json() == {"polls": 7 - len(kept), "newest_poll": newest}
    assert left(module_database_url) == rows(*kept)
    again = service.ask("DELETE", "/polls", **asked)
    assert again.json() == {"polls": 0, "newest_poll": newest}
    assert left(module_database_url) == rows(*kept)


def test_a_default_report_ends_where_the_newest_right_poll_is(service: Service) -> None:
    wrong = service.report()
    service.ask("DELETE", "/polls?from=2023-01-23T02:00:00Z&to=2024-01-01T00:00:00Z")
    right = service.report()
    assert right != wrong
    report_id = service.get("/reports?limit=1").json()["items"][0]["id"]
    assert service.get(f"/reports/{report_id}").json()["as_of"] == "2023-01-23T01:00:00.001000Z"


def test_polls_can_be_loaded_again_after_they_were_deleted(
    service: Service, module_database_url: str
) -> None:
    service.ask("DELETE", "/polls?from=2023-01-23T01:00:00Z&to=2023-01-25T12:00:00Z")
    answer = service.ask(
        "POST", "/polls", content=HEADER + POLLS, headers={"Content-Type": "text/csv"}
    )
    assert (answer.json()["new"], answer.json()["unchanged"]) == (4, 3)
    assert left(module_database_url) == POLLS


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=2023-01-23T00:00:00Z", "to"),
        ("to=2023-01-23T00:00:00Z", "from"),
        ("from=2023-01-23T00:00:00Z&to=2023-01-23T00:00:00Z", "to"),
        ("from=yesterday&to=2023-01-23T00:00:00Z", "from"),
        ("from=2023-01-23T00:00:00Z&to=9999-01-01T00:00:00Z", "to"),
    ],
)
def test_a_stretch_of_time_that_is_none_deletes_nothing(
    service: Service, module_database_url: str, query: str, field: str
) -> None:
    answer = service.ask("DELETE", f"/polls?{query}")
    assert answer.status_code == 422
    assert field in problem(answer)["detail"]
    assert left(module_database_url) == POLLS


def test_the_command_asks_first(module_database_url: str, service: Service, tmp_path: Path) -> None:
    command = ("delete-polls", "--from", "2023-01-23T01:00:00.001Z", "--to", "2300-01-01T00:00:00Z")
    refused = storewatch(*command, database_url=module_database_url, home=tmp_path, stdin=b"n\n")
    assert refused.returncode == 1
    assert b"delete up to 5 polls" in refused.stderr
    assert left(module_database_url) == POLLS
    done = storewatch(*command, "--yes", database_url=module_database_url, home=tmp_path)
    assert done.returncode == 0
    assert done.stderr.decode() == (
        "3 polls deleted; the newest one left: 2023-01-23T01:00:00+00:00\n"
    )
    assert left(module_database_url) == rows(0, 1, 2, 3)
    wrong = storewatch(
        *("delete-polls", "--from", "2023-01-24", "--to", "2023-01-23"),
        database_url=module_database_url,
        home=tmp_path,
    )
    assert wrong.returncode == 2
